/* Reference attention: one query at a time, online softmax in f32 (Milakov and Gimelshein 2018), keys in list order. */
#include "attention/tile.h"

#include <math.h>

typedef struct row_job {
    prxi_stream *s;
    const prxi_attn_args *a;
    const prxi_block_list *b;
    prxi_dtype type;
    float *acc;             /* [threads][head_dim] */
} row_job;

typedef struct running {
    float m, l;
    float *acc;
} running;

static void add_key(const row_job *j, running *r, size_t q_at, int head, size_t key)
{
    const prxi_attn_args *a = j->a;
    const size_t column = (size_t)head * (size_t)a->head_dim;
    const size_t k_at = key * (size_t)a->ldk + column, v_at = key * (size_t)a->ldv + column;
    float dot = 0.0f;
    for (size_t i = 0; i < (size_t)a->head_dim; i++)
        dot += prxi_load(a->q, j->type, q_at + i) * prxi_load(a->k, j->type, k_at + i);
    dot *= a->scale;
    if ((int64_t)key == a->kv_len - 1)
        dot += a->tail_bias;
    if (dot > r->m) {
        const float alpha = expf(r->m - dot);
        for (int i = 0; i < a->head_dim; i++)
            r->acc[i] *= alpha;
        r->l *= alpha;
        r->m = dot;
    }
    const float p = expf(dot - r->m);
    r->l += p;
    for (size_t i = 0; i < (size_t)a->head_dim; i++)
        r->acc[i] += p * prxi_load(a->v, j->type, v_at + i);
}

/* One query of one block row. */
static void run_query(const row_job *j, int head, int block, size_t query, float *acc)
{
    const prxi_attn_args *a = j->a;
    const prxi_block_list *b = j->b;
    const size_t h = b->per_head ? (size_t)head : 0;
    const int32_t *ks = b->k_start + h * (size_t)(b->nk + 1);
    const int64_t *rp = b->row_ptr + h * (size_t)(b->nq + 1);
    const int32_t *perm = b->k_perm ? b->k_perm + (size_t)head * (size_t)a->kv_len : NULL;
    const size_t column = (size_t)head * (size_t)a->head_dim;
    running r = { -INFINITY, 0.0f, acc };
    memset(acc, 0, (size_t)a->head_dim * sizeof *acc);
    for (int64_t c = rp[block]; c < rp[block + 1]; c++)
        for (int32_t t = ks[b->cols[c]]; t < ks[b->cols[c] + 1]; t++)
            add_key(j, &r, query * (size_t)a->ldq + column, head, (size_t)(perm ? perm[t] : t));
    const float inv = r.l != 0.0f ? 1.0f / r.l : 0.0f;
    for (size_t i = 0; i < (size_t)a->head_dim; i++)
        prxi_store(a->o, j->type, query * (size_t)a->ldo + column + i, acc[i] * inv);
    if (a->lse)
        a->lse[(size_t)head * (size_t)a->q_len + query] = r.l > 0.0f ? r.m + logf(r.l) : -INFINITY;
}

static void run_block(void *cookie, int64_t i, int thread)
{
    const row_job *j = cookie;
    const prxi_block_list *b = j->b;
    const int head = (int)(i / b->nq), block = (int)(i % b->nq);
    const int32_t *qs = b->q_start + (b->per_head ? (size_t)head * (size_t)(b->nq + 1) : 0);
    const int32_t *perm = b->q_perm ? b->q_perm + (size_t)head * (size_t)j->a->q_len : NULL;
    for (int32_t t = qs[block]; t < qs[block + 1]; t++)
        run_query(j, head, block, (size_t)(perm ? perm[t] : t), j->acc + (size_t)thread * (size_t)j->a->head_dim);
}

static void run(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype type)
{
    row_job j = { .s = s, .a = a, .b = b, .type = type };
    if (prxi_stream_error(s) || a->heads <= 0 || a->q_len <= 0 || b->nq <= 0)
        return;
    j.acc = prxi_calloc(s->ctx->mem, PRXI_MEM_SCRATCH, (size_t)s->n_threads, (size_t)a->head_dim * sizeof *j.acc);
    if (!j.acc) {
        prxi_stream_fail(s, PRX_ENOMEM, "attention", "no memory for the row in work");
        return;
    }
    prxi_parallel_for(s, (int64_t)a->heads * b->nq, run_block, &j);
    prxi_free(s->ctx->mem, j.acc);
}

static void run_dense(prxi_stream *s, const prxi_attn_args *a, prxi_dtype type)
{
    const int32_t q_start[2] = { 0, (int32_t)a->q_len }, k_start[2] = { 0, (int32_t)a->kv_len }, cols[1] = { 0 };
    const int64_t row_ptr[2] = { 0, 1 };
    const prxi_block_list all = { .nq = 1, .nk = 1, .q_start = q_start, .k_start = k_start, .row_ptr = row_ptr,
                                  .cols = cols };
    run(s, a, &all, type);
}

void prxi_attn_ref_dense_f32(prxi_stream *s, const prxi_attn_args *a)
{
    run_dense(s, a, PRXI_F32);
}

void prxi_attn_ref_dense_bf16(prxi_stream *s, const prxi_attn_args *a)
{
    run_dense(s, a, PRXI_BF16);
}

void prxi_attn_ref_blocks_f32(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b)
{
    run(s, a, b, PRXI_F32);
}

void prxi_attn_ref_blocks_bf16(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b)
{
    run(s, a, b, PRXI_BF16);
}

void prxi_attn_init_ref(prxi_attn_ops *t)
{
    prxi_attn_init_ref_nearest(t);
    t->dense[PRXI_F32] = prxi_attn_ref_dense_f32;
    t->dense[PRXI_BF16] = prxi_attn_ref_dense_bf16;
    t->blocks[PRXI_F32] = prxi_attn_ref_blocks_f32;
    t->blocks[PRXI_BF16] = prxi_attn_ref_blocks_bf16;
}
