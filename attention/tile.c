/* Driver of the tiled attention kernels: packs the keys and values of a group of heads once, cuts the query blocks into
 * tasks, hands them out longest first, and runs an online softmax (Milakov and Gimelshein 2018; FlashAttention) over
 * the key tiles of each. A task sees its keys in a fixed order, so the result does not depend on the threads. */
#include "attention/tile.h"

#include <math.h>
#include <stdlib.h>

enum {
    GROUP_BYTES = 24 << 20, /* packed keys and values of the heads in flight, at least one head */
    TASK_VECS = 15,         /* query vectors of a task: keys are read from memory once per task */
    PACK_PAIRS = 256        /* key pairs of a packing task */
};

typedef struct task {
    int64_t cost;
    int32_t head, block;    /* head within the group */
    int32_t begin, count;   /* queries, as positions in block order */
} task;

typedef struct job {
    prxi_stream *s;
    const prxi_attn_args *a;
    const prxi_block_list *b;
    const prxi_tile_ops *ops;
    int d;                  /* padded head size */
    int head0, heads, group;
    size_t pairs;           /* most key pairs of a head */
    unsigned char *k, *v;   /* [group][pairs][2][d] */
    int32_t *start;         /* [group][nk + 1] first pair of a key block */
    int32_t *token;         /* [group][2 * pairs] token of a packed key, -1 for none */
    task *tasks;
    int64_t n_tasks;
    size_t max_tasks;
    unsigned char *scratch;
    size_t scratch_size;    /* per thread */
} job;

/* What a thread works in; every pointer 64-byte aligned. */
typedef struct work {
    unsigned char *q;
    float *o, *m, *l, *s, *top, *alpha, *bias[2];
    unsigned char *p;
    int32_t *pair[2];       /* of the tile that runs and of the one after it */
} work;

/* Vectors of the next tile: by threes, but 4 as 2 + 2, since one vector alone leaves the multipliers waiting. */
static int next_vecs(int left)
{
    return left == 4 ? 2 : left > PRXI_TILE_VECS ? PRXI_TILE_VECS : left;
}

static const int32_t *table(const job *j, const int32_t *t, int head, int n)
{
    return j->b->per_head ? t + (size_t)head * (size_t)(n + 1) : t;
}

static const int64_t *rows_of(const job *j, int head)
{
    return j->b->per_head ? j->b->row_ptr + (size_t)head * (size_t)(j->b->nq + 1) : j->b->row_ptr;
}

static size_t take(size_t *at, size_t bytes)
{
    const size_t here = *at;
    *at += prxi_carve_size(bytes);
    return here;
}

/* Lays the work areas out from base; returns their size. */
static size_t lay_out(const job *j, unsigned char *base, work *w)
{
    const size_t lanes = (size_t)j->ops->lanes, wide = TASK_VECS * lanes, tile = PRXI_TILE_VECS * lanes;
    const size_t d = (size_t)j->d, keys = 2 * PRXI_TILE_PAIRS;
    size_t at = 0;
    const size_t q = take(&at, wide * d * j->ops->elem), o = take(&at, wide * d * 4), m = take(&at, wide * 4),
                 l = take(&at, wide * 4), s = take(&at, tile * keys * 4), p = take(&at, tile * keys * j->ops->elem),
                 top = take(&at, tile * 4), alpha = take(&at, tile * 4), bias = take(&at, 2 * keys * 4),
                 pair = take(&at, 2 * PRXI_TILE_PAIRS * sizeof(int32_t));
    if (base) {
        *w = (work) { .q = base + q, .p = base + p };
        w->o = (float *)(void *)(base + o);
        w->m = (float *)(void *)(base + m);
        w->l = (float *)(void *)(base + l);
        w->s = (float *)(void *)(base + s);
        w->top = (float *)(void *)(base + top);
        w->alpha = (float *)(void *)(base + alpha);
        for (size_t i = 0; i < 2; i++) {
            w->bias[i] = (float *)(void *)(base + bias) + i * keys;
            w->pair[i] = (int32_t *)(void *)(base + pair) + i * PRXI_TILE_PAIRS;
        }
    }
    return at;
}

/* ---- keys ---- */

static size_t count_pairs(const job *j, int head)
{
    const int32_t *ks = table(j, j->b->k_start, head, j->b->nk);
    size_t pairs = 0;
    for (int i = 0; i < j->b->nk; i++)
        pairs += (size_t)(ks[i + 1] - ks[i] + 1) / 2;
    return pairs;
}

/* Every block starts a new pair, so that a tile never touches a key that its query block does not keep. */
static void place_keys(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const job *j = cookie;
    const prxi_block_list *b = j->b;
    const int head = j->head0 + (int)i;
    const int32_t *ks = table(j, b->k_start, head, b->nk);
    const int32_t *perm = b->k_perm ? b->k_perm + (size_t)head * (size_t)j->a->kv_len : NULL;
    int32_t *start = j->start + (size_t)i * (size_t)(b->nk + 1);
    int32_t *token = j->token + (size_t)i * 2 * j->pairs;
    int32_t at = 0;
    for (int x = 0; x < b->nk; x++) {
        start[x] = at / 2;
        for (int32_t t = ks[x]; t < ks[x + 1]; t++)
            token[at++] = perm ? perm[t] : t;
        if (at & 1)
            token[at++] = -1;
    }
    start[b->nk] = at / 2;
}

static int64_t pack_chunks(const job *j)
{
    return (int64_t)((j->pairs + PACK_PAIRS - 1) / PACK_PAIRS);
}

static void pack_keys(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const job *j = cookie;
    const prxi_attn_args *a = j->a;
    const int64_t chunks = pack_chunks(j);
    const size_t local = (size_t)(i / chunks), head = (size_t)j->head0 + local;
    const size_t es = prxi_dtype_size(j->ops->dtype), step = 2 * (size_t)j->d * j->ops->elem;
    const int32_t *token = j->token + local * 2 * j->pairs;
    const size_t end_of_head = (size_t)j->start[(local + 1) * (size_t)(j->b->nk + 1) - 1];
    const size_t column = head * (size_t)a->head_dim * es;
    const unsigned char *k = (const unsigned char *)a->k + column, *v = (const unsigned char *)a->v + column;
    size_t begin = (size_t)(i % chunks) * PACK_PAIRS, end = begin + PACK_PAIRS;
    if (end > end_of_head)
        end = end_of_head;
    for (; begin < end; begin++) {
        const void *rows[4] = { NULL, NULL, NULL, NULL };
        for (size_t x = 0; x < 2; x++) {
            const int32_t t = token[2 * begin + x];
            if (t >= 0) {
                rows[x] = k + (size_t)t * (size_t)a->ldk * es;
                rows[2 + x] = v + (size_t)t * (size_t)a->ldv * es;
            }
        }
        const size_t to = (local * j->pairs + begin) * step;
        j->ops->pack_pair(j->k + to, j->v + to, rows, a->head_dim, j->d);
    }
}

/* ---- tasks ---- */

static int64_t kept_pairs(const job *j, int local, int block)
{
    const int64_t *rp = rows_of(j, j->head0 + local);
    const int32_t *start = j->start + (size_t)local * (size_t)(j->b->nk + 1);
    int64_t n = 0;
    for (int64_t c = rp[block]; c < rp[block + 1]; c++)
        n += start[j->b->cols[c] + 1] - start[j->b->cols[c]];
    return n;
}

static int parts_of(const job *j, int64_t queries)
{
    const int64_t most = (int64_t)TASK_VECS * j->ops->lanes;
    return (int)((queries + most - 1) / most);
}

/* Near-equal parts, each a multiple of the vector but the last. */
static void add_tasks(job *j, int local, int block)
{
    const int32_t *qs = table(j, j->b->q_start, j->head0 + local, j->b->nq);
    const int64_t queries = qs[block + 1] - qs[block], lanes = j->ops->lanes, vecs = (queries + lanes - 1) / lanes;
    const int parts = parts_of(j, queries);
    const int64_t pairs = queries ? kept_pairs(j, local, block) : 0;
    int64_t done = 0;
    for (int p = 0; p < parts; p++) {
        const int64_t upto = vecs * (p + 1) / parts;
        const int64_t begin = done * lanes, end = upto * lanes < queries ? upto * lanes : queries;
        j->tasks[j->n_tasks++] = (task) { (pairs + 1) * (upto - done), local, block, (int32_t)(qs[block] + begin),
                                          (int32_t)(end - begin) };
        done = upto;
    }
}

static int longest_first(const void *x, const void *y)
{
    const task *a = x, *b = y;
    if (a->cost != b->cost)
        return a->cost > b->cost ? -1 : 1;
    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

/* Where a task is in its keys: before `pair`, one of the pairs of block *col. */
typedef struct walk {
    const int32_t *start, *k_start, *col, *end;
    const int32_t *token;   /* NULL: no key starts from anything but 0 */
    int32_t pair, last;
    float tail;             /* what the score of the last token starts from */
} walk;

static walk begin_walk(const job *j, const task *t)
{
    const prxi_block_list *b = j->b;
    const int64_t *rp = rows_of(j, j->head0 + t->head);
    walk x = { .start = j->start + (size_t)t->head * (size_t)(b->nk + 1), .k_start = table(j, b->k_start, j->head0 + t->head, b->nk),
               .col = b->cols + rp[t->block], .end = b->cols + rp[t->block + 1], .last = (int32_t)(j->a->kv_len - 1),
               .tail = j->a->tail_bias / j->a->scale };
    if (j->a->tail_bias != 0.0f)
        x.token = j->token + (size_t)t->head * 2 * j->pairs;
    if (x.col < x.end)
        x.pair = x.start[*x.col];
    return x;
}

/* Up to `most` pairs of the block: which, and what their scores start from. A block of odd length ends in half a pair. */
static int take_pairs(walk *x, int most, int32_t *pair, float *bias)
{
    const int32_t stop = x->start[*x->col + 1], odd = (x->k_start[*x->col + 1] - x->k_start[*x->col]) & 1;
    const int n = stop - x->pair < most ? stop - x->pair : most;
    for (int i = 0; i < n; i++) {
        pair[i] = x->pair + i;
        bias[2 * i] = bias[2 * i + 1] = 0.0f;
    }
    for (int i = 0; x->token && i < 2 * n; i++)
        bias[i] = x->token[2 * x->pair + i] == x->last ? x->tail : 0.0f;
    x->pair += n;
    if (x->pair == stop) {
        if (odd && n)
            bias[2 * n - 1] = -INFINITY;
        if (++x->col < x->end)
            x->pair = x->start[*x->col];
    }
    return n;
}

/* Lists the next tile, filled up to whole steps with masked repeats; returns its pairs. */
static int next_tile(walk *x, int32_t *pair, float *bias)
{
    int n = 0;
    while (x->col < x->end && n < PRXI_TILE_PAIRS)
        n += take_pairs(x, PRXI_TILE_PAIRS - n, pair + n, bias + 2 * n);
    for (; n % PRXI_TILE_STEP; n++) {
        pair[n] = pair[0];
        bias[2 * n] = bias[2 * n + 1] = -INFINITY;
    }
    return n;
}

/* The first vectors of a tile ask memory for the next one: how many tiles of queries come after them is not known. */
static void run_tile(const job *j, const task *t, const work *w, int which, int pairs, int more)
{
    const size_t lanes = (size_t)j->ops->lanes, size = (size_t)t->head * j->pairs * 2 * (size_t)j->d * j->ops->elem;
    const int vecs = (t->count + (int)lanes - 1) / (int)lanes;
    prxi_tile x = { .d = j->d, .pairs = pairs, .c = j->a->scale * 1.44269504f, .pair = w->pair[which], .bias = w->bias[which],
                    .k = j->k + size, .v = j->v + size, .s = w->s, .p = w->p, .top = w->top, .alpha = w->alpha };
    for (int at = 0; at < vecs; at += x.vecs) {
        const size_t first = (size_t)at * lanes;
        x.vecs = next_vecs(vecs - at);
        x.q = w->q + first * (size_t)j->d * j->ops->elem;
        x.o = w->o + first * (size_t)j->d;
        x.m = w->m + first;
        x.l = w->l + first;
        x.next = w->pair[at == 0 && more ? !which : which];
        j->ops->scores(&x);
        j->ops->softmax(&x);
        j->ops->values(&x);
    }
}

static void run_keys(const job *j, const task *t, const work *w)
{
    walk x = begin_walk(j, t);
    int which = 0, pairs = next_tile(&x, w->pair[0], w->bias[0]);
    while (pairs) {
        int32_t *pair = w->pair[!which];
        const int more = next_tile(&x, pair, w->bias[!which]);
        for (int i = more; more && i < pairs; i++)      /* a short last tile: nothing else to ask for */
            pair[i] = pair[0];
        run_tile(j, t, w, which, pairs, more);
        which = !which;
        pairs = more;
    }
}

/* Token of query `i` of the task. */
static size_t query_token(const job *j, const task *t, int i)
{
    const size_t at = (size_t)t->begin + (size_t)i;
    const int32_t *perm = j->b->q_perm;
    return perm ? (size_t)perm[(size_t)(j->head0 + t->head) * (size_t)j->a->q_len + at] : at;
}

static void begin_queries(const job *j, const task *t, const work *w)
{
    const prxi_attn_args *a = j->a;
    const int lanes = j->ops->lanes, vecs = (t->count + lanes - 1) / lanes;
    const size_t es = prxi_dtype_size(j->ops->dtype);
    const unsigned char *q =
        (const unsigned char *)a->q + (size_t)(j->head0 + t->head) * (size_t)a->head_dim * es;
    for (int at = 0, n; at < vecs; at += n) {
        const void *rows[PRXI_TILE_VECS * 16];
        n = next_vecs(vecs - at);
        for (int i = 0; i < n * lanes; i++) {
            const int x = at * lanes + i;
            rows[i] = x < t->count ? q + query_token(j, t, x) * (size_t)a->ldq * es : NULL;
        }
        j->ops->pack_q(w->q + (size_t)(at * lanes) * (size_t)j->d * j->ops->elem, rows, n, a->head_dim, j->d);
    }
    for (int i = 0; i < vecs * lanes; i++) {
        w->m[i] = -INFINITY;
        w->l[i] = 0.0f;
    }
    memset(w->o, 0, (size_t)(vecs * lanes) * (size_t)j->d * 4);
}

static void end_queries(const job *j, const task *t, const work *w)
{
    const prxi_attn_args *a = j->a;
    const int lanes = j->ops->lanes, vecs = (t->count + lanes - 1) / lanes;
    const size_t es = prxi_dtype_size(j->ops->dtype), head = (size_t)(j->head0 + t->head);
    unsigned char *o = (unsigned char *)a->o + head * (size_t)a->head_dim * es;
    prxi_tile x = { .d = j->d };
    for (int at = 0; at < vecs; at += x.vecs) {
        void *rows[PRXI_TILE_VECS * 16];
        const size_t first = (size_t)(at * lanes);
        x.vecs = next_vecs(vecs - at);
        x.o = w->o + first * (size_t)j->d;
        x.l = w->l + first;
        for (int i = 0; i < x.vecs * lanes; i++) {
            const int y = at * lanes + i;
            rows[i] = y < t->count ? o + query_token(j, t, y) * (size_t)a->ldo * es : NULL;
        }
        j->ops->finish(&x, rows, a->head_dim);
    }
    for (int i = 0; a->lse && i < t->count; i++)
        a->lse[head * (size_t)a->q_len + query_token(j, t, i)] =
            w->l[i] > 0.0f ? (w->m[i] + log2f(w->l[i])) * 0.693147181f : -INFINITY;
}

static int stopped(const prxi_stream *s)
{
    return prxi_stream_error(s) || (s->cancel && atomic_load(s->cancel));
}

static void run_task(void *cookie, int64_t i, int thread)
{
    const job *j = cookie;
    const task *t = &j->tasks[i];
    work w;
    if (stopped(j->s))
        return;
    lay_out(j, j->scratch + (size_t)thread * j->scratch_size, &w);
    begin_queries(j, t, &w);
    run_keys(j, t, &w);
    end_queries(j, t, &w);
}

/* ---- the whole ---- */

static void plan_sizes(job *j)
{
    const int heads = j->a->heads;
    const int tables = j->b->per_head ? heads : 1;
    size_t tasks = 0;
    j->pairs = 1;
    for (int h = 0; h < tables; h++) {
        const size_t pairs = count_pairs(j, h);
        const int32_t *qs = table(j, j->b->q_start, h, j->b->nq);
        size_t n = 0;
        for (int i = 0; i < j->b->nq; i++)
            n += (size_t)parts_of(j, qs[i + 1] - qs[i]);
        tasks = n > tasks ? n : tasks;
        j->pairs = pairs > j->pairs ? pairs : j->pairs;
    }
    const size_t head_bytes = prxi_mul(j->pairs, 4 * (size_t)j->d * j->ops->elem);
    const size_t fit = GROUP_BYTES / head_bytes;
    j->group = fit < 1 ? 1 : fit > (size_t)heads ? heads : (int)fit;
    j->max_tasks = prxi_mul(tasks, (size_t)j->group);
}

static int allocate(job *j)
{
    prxi_mem *m = j->s->ctx->mem;
    const size_t group = (size_t)j->group, threads = (size_t)j->s->n_threads;
    const size_t half = prxi_mul(prxi_mul(group, j->pairs), 2 * (size_t)j->d * j->ops->elem);
    j->scratch_size = lay_out(j, NULL, NULL);
    j->k = prxi_alloc(m, PRXI_MEM_SCRATCH, half);
    j->v = j->k ? prxi_alloc(m, PRXI_MEM_SCRATCH, half) : NULL;
    j->start = j->v ? prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(group, ((size_t)j->b->nk + 1) * sizeof(int32_t)))
                    : NULL;
    j->token = j->start ? prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(group, 2 * j->pairs * sizeof(int32_t))) : NULL;
    j->tasks = j->token ? prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(j->max_tasks, sizeof(task))) : NULL;
    j->scratch = j->tasks ? prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(threads, j->scratch_size)) : NULL;
    return j->scratch ? PRX_OK : PRX_ENOMEM;
}

static void release(job *j)
{
    prxi_mem *m = j->s->ctx->mem;
    prxi_free(m, j->scratch);
    prxi_free(m, j->tasks);
    prxi_free(m, j->token);
    prxi_free(m, j->start);
    prxi_free(m, j->v);
    prxi_free(m, j->k);
}

static void run_group(job *j)
{
    prxi_parallel_for(j->s, j->heads, place_keys, j);
    prxi_parallel_for(j->s, j->heads * pack_chunks(j), pack_keys, j);
    j->n_tasks = 0;
    for (int h = 0; h < j->heads; h++)
        for (int i = 0; i < j->b->nq; i++)
            add_tasks(j, h, i);
    qsort(j->tasks, (size_t)j->n_tasks, sizeof *j->tasks, longest_first);
    prxi_parallel_for(j->s, j->n_tasks, run_task, j);
}

void prxi_attn_tiled_blocks(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b,
                            const prxi_tile_ops *ops)
{
    job j = { .s = s, .a = a, .b = b, .ops = ops, .d = (a->head_dim + 7) / 8 * 8 };
    if (stopped(s) || a->heads <= 0 || a->q_len <= 0)
        return;
    if (a->q_len > INT32_MAX / 4 || a->kv_len > INT32_MAX / 4 || b->nk > INT32_MAX / 4) {
        prxi_stream_fail(s, PRX_EINVAL, "attention", "more than 2^29 tokens");
        return;
    }
    if (!(a->scale > 0.0f)) {   /* the tiles take the maximum before they scale */
        if (ops->dtype == PRXI_BF16)
            prxi_attn_ref_blocks_bf16(s, a, b);
        else
            prxi_attn_ref_blocks_f32(s, a, b);
        return;
    }
    plan_sizes(&j);
    if (j.max_tasks == 0)
        return;
    if (allocate(&j) != PRX_OK)
        prxi_stream_fail(s, PRX_ENOMEM, "attention", "no memory for packed keys and tiles");
    for (int h = 0; h < a->heads && !stopped(s); h += j.group) {
        j.head0 = h;
        j.heads = a->heads - h < j.group ? a->heads - h : j.group;
        run_group(&j);
    }
    release(&j);
}

void prxi_attn_tiled_dense(prxi_stream *s, const prxi_attn_args *a, const prxi_tile_ops *ops)
{
    if (a->q_len > INT32_MAX || a->kv_len > INT32_MAX) {
        prxi_stream_fail(s, PRX_EINVAL, "attention", "more than 2^29 tokens");
        return;
    }
    const int32_t q_start[2] = { 0, (int32_t)a->q_len }, k_start[2] = { 0, (int32_t)a->kv_len }, cols[1] = { 0 };
    const int64_t row_ptr[2] = { 0, 1 };
    const prxi_block_list all = { .nq = 1, .nk = 1, .q_start = q_start, .k_start = k_start, .row_ptr = row_ptr,
                                  .cols = cols };
    prxi_attn_tiled_blocks(s, a, &all, ops);
}
