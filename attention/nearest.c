/* Clustering products on the attention tiles: points take the place of queries, centroids that of keys, and the start
 * value of a score is -|c|^2 / 2, so that the largest score marks the nearest centroid. */
#include <math.h>
#include <stdlib.h>

#include "attention/tile.h"

enum {
    TASK_VECS = 15,     /* point vectors of a task, a multiple of PRXI_TILE_VECS */
    SUM_DIMS = 64       /* dimensions of a summing task: splits a head without touching the order of its sums */
};

typedef struct nearest_job {
    prxi_stream *s;
    const prxi_nearest_args *a;
    const prxi_tile_ops *ops;
    size_t d, pairs;            /* padded */
    unsigned char *packed;      /* [heads][pairs][2][d] */
    float *bias;                /* [heads][2 * pairs] */
    int32_t *order;             /* [pairs] 0 1 2 ... */
    unsigned char *scratch;     /* [threads] */
    size_t scratch_size;
} nearest_job;

typedef struct nearest_work {
    unsigned char *q;
    float *s, *top, *best;
    int32_t *arg;
} nearest_work;

static size_t lay_out(const nearest_job *j, unsigned char *base, nearest_work *w)
{
    const size_t tile = PRXI_TILE_VECS * (size_t)j->ops->lanes;
    const size_t q = prxi_carve_size(tile * j->d * j->ops->elem), line = prxi_carve_size(tile * 4);
    const size_t s = prxi_carve_size(tile * 2 * PRXI_TILE_PAIRS * 4), pair = prxi_carve_size(2 * j->d * j->ops->elem);
    const size_t size = q > pair ? q : pair;
    if (base) {
        w->q = base;
        w->s = (float *)(void *)(base + size);
        w->top = (float *)(void *)(base + size + s);
        w->best = (float *)(void *)(base + size + s + line);
        w->arg = (int32_t *)(void *)(base + size + s + 2 * line);
    }
    return size + s + 3 * line;
}

static void pack_centroids(void *cookie, int64_t i, int thread)
{
    const nearest_job *j = cookie;
    const prxi_nearest_args *a = j->a;
    const size_t head = (size_t)i, es = prxi_dtype_size(j->ops->dtype), dim = (size_t)a->head_dim;
    const unsigned char *from = (const unsigned char *)a->centroids + head * (size_t)a->k * dim * es;
    unsigned char *unused = j->scratch + (size_t)thread * j->scratch_size;
    for (size_t p = 0; p < j->pairs; p++) {
        const void *rows[4] = { NULL, NULL, NULL, NULL };
        for (size_t x = 0; x < 2; x++) {
            const size_t c = 2 * p + x;
            float norm = 0.0f;
            if (c < (size_t)a->k)
                rows[x] = rows[2 + x] = from + c * dim * es;
            for (size_t t = 0; rows[x] && t < dim; t++) {
                const float v = prxi_load(rows[x], j->ops->dtype, t);
                norm += v * v;
            }
            j->bias[head * 2 * j->pairs + c] = !rows[x] ? -INFINITY : a->products ? 0.0f : -0.5f * norm;
        }
        j->ops->pack_pair(j->packed + (head * j->pairs + p) * 2 * j->d * j->ops->elem, unused, rows, a->head_dim,
                          (int)j->d);
    }
}

static void give_products(const nearest_job *j, const prxi_tile *t, size_t row, size_t points, size_t first)
{
    const size_t width = (size_t)t->vecs * (size_t)j->ops->lanes, k = (size_t)j->a->k;
    for (size_t i = 0; i < points; i++)
        for (size_t c = 0; c < 2 * (size_t)t->pairs && first + c < k; c++)
            j->a->products[(row + i) * k + first + c] = t->s[c * width + i];
}

/* `points` points of one head, at most a tile, from point `at`. */
static void run_tile(const nearest_job *j, const nearest_work *w, size_t head, size_t at, size_t points)
{
    const prxi_nearest_args *a = j->a;
    const size_t es = prxi_dtype_size(j->ops->dtype), lanes = (size_t)j->ops->lanes;
    const unsigned char *x = (const unsigned char *)a->x + head * (size_t)a->head_dim * es;
    const void *rows[PRXI_TILE_VECS * 16];
    prxi_tile t = { .vecs = (int)((points + lanes - 1) / lanes), .d = (int)j->d, .q = w->q, .s = w->s, .top = w->top };
    for (size_t i = 0; i < (size_t)t.vecs * lanes; i++) {
        rows[i] = i < points ? x + (at + i) * (size_t)a->ldx * es : NULL;
        w->best[i] = -INFINITY;
        w->arg[i] = 0;
    }
    j->ops->pack_q(w->q, rows, t.vecs, a->head_dim, (int)j->d);
    t.k = t.v = j->packed + head * j->pairs * 2 * j->d * j->ops->elem;
    for (size_t p = 0; p < j->pairs; p += PRXI_TILE_PAIRS) {
        t.pairs = j->pairs - p < PRXI_TILE_PAIRS ? (int)(j->pairs - p) : PRXI_TILE_PAIRS;
        t.pair = t.next = j->order + p;
        t.bias = j->bias + head * 2 * j->pairs + 2 * p;
        j->ops->scores(&t);
        if (a->products)
            give_products(j, &t, head * (size_t)a->n + at, points, 2 * p);
        else
            j->ops->argmax(&t, (int32_t)(2 * p), w->best, w->arg);
    }
    if (!a->products)
        memcpy(a->labels + head * (size_t)a->n + at, w->arg, points * sizeof *w->arg);
}

static size_t chunks_of(const nearest_job *j)
{
    const size_t most = TASK_VECS * (size_t)j->ops->lanes;
    return ((size_t)j->a->n + most - 1) / most;
}

static void run_points(void *cookie, int64_t i, int thread)
{
    const nearest_job *j = cookie;
    const size_t chunks = chunks_of(j), lanes = (size_t)j->ops->lanes, n = (size_t)j->a->n;
    const size_t head = (size_t)i / chunks, begin = (size_t)i % chunks * TASK_VECS * lanes;
    const size_t end = begin + TASK_VECS * lanes < n ? begin + TASK_VECS * lanes : n;
    nearest_work w;
    if (prxi_stream_error(j->s) || (j->s->cancel && atomic_load(j->s->cancel)))
        return;
    lay_out(j, j->scratch + (size_t)thread * j->scratch_size, &w);
    for (size_t at = begin; at < end; at += PRXI_TILE_VECS * lanes)
        run_tile(j, &w, head, at, end - at < PRXI_TILE_VECS * lanes ? end - at : PRXI_TILE_VECS * lanes);
}

void prxi_tiled_nearest(prxi_stream *s, const prxi_nearest_args *a, const prxi_tile_ops *ops)
{
    prxi_mem *m = s->ctx->mem;
    nearest_job j = { .s = s, .a = a, .ops = ops, .d = ((size_t)a->head_dim + 7) / 8 * 8 };
    if (prxi_stream_error(s) || a->heads <= 0 || a->n <= 0 || a->k <= 0)
        return;
    j.pairs = ((size_t)a->k + 2 * PRXI_TILE_STEP - 1) / (2 * PRXI_TILE_STEP) * PRXI_TILE_STEP;
    j.scratch_size = lay_out(&j, NULL, NULL);
    const size_t heads = (size_t)a->heads, all = prxi_mul(heads, j.pairs);
    j.packed = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(all, 2 * j.d * ops->elem));
    j.bias = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(all, 2 * sizeof *j.bias));
    j.order = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(j.pairs, sizeof *j.order));
    j.scratch = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul((size_t)s->n_threads, j.scratch_size));
    if (j.packed && j.bias && j.order && j.scratch) {
        for (size_t i = 0; i < j.pairs; i++)
            j.order[i] = (int32_t)i;
        prxi_parallel_for(s, a->heads, pack_centroids, &j);
        prxi_parallel_for(s, (int64_t)(heads * chunks_of(&j)), run_points, &j);
    } else {
        prxi_stream_fail(s, PRX_ENOMEM, "clustering", "no memory for packed centroids");
    }
    prxi_free(m, j.scratch);
    prxi_free(m, j.order);
    prxi_free(m, j.bias);
    prxi_free(m, j.packed);
}

/* ---- sums by label ---- */

typedef struct gather_job {
    const prxi_nearest_args *a;
    const prxi_tile_ops *ops;
    int parts;
} gather_job;

static void sum_part(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const gather_job *j = cookie;
    const prxi_nearest_args *a = j->a;
    const size_t h = (size_t)(i / j->parts), part = (size_t)(i % j->parts), d = (size_t)a->head_dim, k = (size_t)a->k;
    const size_t es = prxi_dtype_size(j->ops->dtype), first = part * SUM_DIMS;
    const int n = (int)(d - first < SUM_DIMS ? d - first : SUM_DIMS);
    const unsigned char *x = (const unsigned char *)a->x + (h * d + first) * es;
    const int32_t *labels = a->labels + h * (size_t)a->n;
    float *sums = a->sums + h * k * d + first;
    int32_t *counts = a->counts + h * k;
    for (size_t c = 0; c < k; c++)
        memset(sums + c * d, 0, (size_t)n * sizeof *sums);
    for (size_t p = 0; p < (size_t)a->n; p++)
        j->ops->add_row(sums + (size_t)labels[p] * d, x + p * (size_t)a->ldx * es, n);
    if (part)
        return;
    memset(counts, 0, k * sizeof *counts);
    for (size_t p = 0; p < (size_t)a->n; p++)
        counts[labels[p]]++;
}

void prxi_tiled_gather(prxi_stream *s, const prxi_nearest_args *a, const prxi_tile_ops *ops)
{
    gather_job j = { a, ops, (a->head_dim + SUM_DIMS - 1) / SUM_DIMS };
    if (!prxi_stream_error(s))
        prxi_parallel_for(s, (int64_t)a->heads * j.parts, sum_part, &j);
}
