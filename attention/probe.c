/* What a block list costs: a few queries against all keys and against the keys that the list keeps for them. */
#include <math.h>

#include "attention/attention.h"

typedef struct probe_job {
    prxi_stream *s;
    const prxi_attn_args *a;
    const prxi_block_list *list;
    int samples;
    size_t row, es;             /* elements of a gathered row, bytes of one */
    unsigned char *q, *dense, *sparse;      /* [samples][heads][d], where q, k and v are */
    float *lse_dense, *lse_sparse;          /* [heads][samples], behind them */
    unsigned char *room;        /* a copy of those five for the host, when they are on a device */
    size_t bytes;               /* of all five */
    int32_t *sample_of;         /* [q_len] or -1 */
    int32_t *block_of;          /* [heads][samples] */
    int32_t *q_start, *k_start, *cols;
    int64_t *row_ptr;
} probe_job;

static int64_t token_of(const probe_job *j, int i)
{
    return (2 * (int64_t)i + 1) * j->a->q_len / (2 * (int64_t)j->samples);
}

static void gather(probe_job *j)
{
    for (int64_t i = 0; i < j->a->q_len; i++)
        j->sample_of[i] = -1;
    for (int i = 0; i < j->samples; i++) {
        const int64_t t = token_of(j, i);
        j->sample_of[t] = i;
        prxi_stream_copy(j->s, j->q + (size_t)i * j->row * j->es, (const unsigned char *)j->a->q + (size_t)(t * j->a->ldq) * j->es,
                         j->row * j->es);
    }
}

/* The query block of each sample in each head; returns the columns of all of them. */
static int64_t locate(probe_job *j)
{
    const prxi_block_list *b = j->list;
    int64_t cols = 0;
    for (int h = 0; h < j->a->heads; h++) {
        const size_t t = b->per_head ? (size_t)h : 0;
        const int32_t *qs = b->q_start + t * (size_t)(b->nq + 1);
        const int64_t *rp = b->row_ptr + t * (size_t)(b->nq + 1);
        const int32_t *perm = b->q_perm ? b->q_perm + (size_t)h * (size_t)j->a->q_len : NULL;
        for (int i = 0; i < b->nq; i++)
            for (int32_t x = qs[i]; x < qs[i + 1]; x++) {
                const int32_t sample = j->sample_of[perm ? perm[x] : x];
                if (sample < 0)
                    continue;
                j->block_of[(size_t)h * (size_t)j->samples + (size_t)sample] = i;
                cols += rp[i + 1] - rp[i];
            }
    }
    return cols;
}

/* One block row per sample. */
static prxi_block_list sample_list(probe_job *j)
{
    const prxi_block_list *b = j->list;
    const size_t samples = (size_t)j->samples, nk = (size_t)b->nk + 1;
    int64_t at = 0;
    for (size_t h = 0; h < (size_t)j->a->heads; h++) {
        const size_t t = b->per_head ? h : 0;
        const int64_t *rp = b->row_ptr + t * (size_t)(b->nq + 1);
        memcpy(j->k_start + h * nk, b->k_start + t * nk, nk * sizeof *j->k_start);
        for (size_t i = 0; i <= samples; i++) {
            j->q_start[h * (samples + 1) + i] = (int32_t)i;
            j->row_ptr[h * (samples + 1) + i] = at;
            if (i == samples)
                break;
            const int32_t block = j->block_of[h * samples + i];
            for (int64_t x = rp[block]; x < rp[block + 1]; x++)
                j->cols[at++] = b->cols[x];
        }
    }
    return (prxi_block_list) { .per_head = 1, .nq = j->samples, .nk = b->nk, .q_start = j->q_start, .k_start = j->k_start,
                               .row_ptr = j->row_ptr, .cols = j->cols, .k_perm = b->k_perm };
}

static void measure(const probe_job *j, prxi_dtype type, prxi_attn_probe *out)
{
    const size_t n = (size_t)j->samples * j->row, pairs = (size_t)j->samples * (size_t)j->a->heads;
    const unsigned char *here = prxi_stream_here(j->s, j->q, j->bytes, j->room), *dense = here + (j->dense - j->q);
    const float *lse = (const float *)(const void *)(here + ((unsigned char *)j->lse_dense - j->q));
    double mass = 0, off = 0, length = 0;
    if (prxi_stream_error(j->s))
        return;
    for (size_t i = 0; i < pairs; i++)
        mass += exp((double)lse[pairs + i] - (double)lse[i]);
    for (size_t i = 0; i < n; i++) {
        const double x = (double)prxi_load(dense, type, i), y = (double)prxi_load(dense, type, n + i);
        off += (x - y) * (x - y);
        length += x * x;
    }
    out->recall = mass / (double)pairs;
    out->error = length > 0 ? sqrt(off / length) : 0.0;
}

static void run(probe_job *j, const prxi_attn_ops *ops, prxi_dtype type, prxi_attn_probe *out)
{
    prxi_attn_args a = *j->a;
    const prxi_block_list list = sample_list(j);
    a.q_len = j->samples;
    a.room = 0;
    a.q = j->q;
    a.ldq = a.ldo = (int64_t)j->row;
    a.o = j->dense;
    a.lse = j->lse_dense;
    ops->dense[type](j->s, &a);
    a.o = j->sparse;
    a.lse = j->lse_sparse;
    ops->blocks[type](j->s, &a, &list);
    if (!prxi_stream_error(j->s) && !(j->s->cancel && atomic_load(j->s->cancel)))
        measure(j, type, out);
}

/* The five tensors in one block of memory. */
static int open_rows(probe_job *j)
{
    const size_t n = (size_t)j->samples, rows = (n * j->row * j->es + 63) & ~(size_t)63, lse = (size_t)j->a->heads * n;
    prxi_ctx *c = j->s->ctx;
    j->bytes = prxi_add(prxi_mul(3, rows), 2 * lse * sizeof(float));
    j->q = prxi_device_alloc(c, j->s->device, PRXI_MEM_SCRATCH, j->bytes);
    j->room = j->s->device ? prxi_alloc(c->mem, PRXI_MEM_SCRATCH, j->bytes) : NULL;
    if (!j->q || (j->s->device && !j->room))
        return 0;
    j->dense = j->q + rows;
    j->sparse = j->dense + n * j->row * j->es;
    j->lse_dense = (float *)(void *)(j->q + 3 * rows);
    j->lse_sparse = j->lse_dense + lse;
    return 1;
}

static void probe(prxi_stream *s, const prxi_attn_ops *ops, prxi_dtype type, const prxi_attn_args *a, const prxi_block_list *list,
                  int samples, prxi_attn_probe *out)
{
    prxi_mem *m = s->ctx->mem;
    probe_job j = { .s = s, .a = a, .list = list, .samples = samples < a->q_len ? samples : (int)a->q_len,
                    .row = (size_t)a->heads * (size_t)a->head_dim, .es = prxi_dtype_size(type) };
    const size_t n = (size_t)j.samples, heads = (size_t)a->heads;
    j.sample_of = prxi_alloc(m, PRXI_MEM_SCRATCH, (size_t)a->q_len * sizeof(int32_t));
    j.block_of = prxi_calloc(m, PRXI_MEM_SCRATCH, heads * n, sizeof(int32_t));
    j.q_start = prxi_alloc(m, PRXI_MEM_SCRATCH, heads * (n + 1) * sizeof(int32_t));
    j.k_start = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(heads, ((size_t)list->nk + 1) * sizeof(int32_t)));
    j.row_ptr = prxi_alloc(m, PRXI_MEM_SCRATCH, heads * (n + 1) * sizeof(int64_t));
    if (j.sample_of && j.block_of && j.q_start && j.k_start && j.row_ptr && open_rows(&j)) {
        gather(&j);
        j.cols = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul((size_t)locate(&j) + 1, sizeof(int32_t)));
    }
    if (j.cols)
        run(&j, ops, type, out);
    else
        prxi_stream_fail(s, PRX_ENOMEM, "attention probe", "no memory for the sampled rows");
    void *const all[] = { j.room, j.sample_of, j.block_of, j.q_start, j.k_start, j.row_ptr, j.cols };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        prxi_free(m, all[i]);
    prxi_device_free(s->ctx, s->device, j.q);
}

void prxi_attn_probe_list(prxi_stream *s, const prxi_attn_ops *ops, prxi_dtype type, const prxi_attn_args *a,
                          const prxi_block_list *list, int samples, prxi_attn_probe *out)
{
    prxi_block_list here = *list;
    void *memory = NULL;
    *out = (prxi_attn_probe) { NAN, NAN };
    if (prxi_stream_error(s) || samples <= 0 || a->q_len <= 0)
        return;
    if (list->device)
        prxi_attn_fetch_list(s, a, list, &here, &memory);
    if (!prxi_stream_error(s))
        probe(s, ops, type, a, &here, samples, out);
    prxi_free(s->ctx->mem, memory);
}
