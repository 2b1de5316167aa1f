/* Reference clustering products: nearest centroid, sums by label. */
#include <math.h>

#include "attention/tile.h"

typedef struct point_job {
    const prxi_nearest_args *a;
    prxi_dtype type;
} point_job;

static float product(const prxi_nearest_args *a, prxi_dtype type, size_t x_at, size_t c_at)
{
    float dot = 0.0f;
    for (size_t i = 0; i < (size_t)a->head_dim; i++)
        dot += prxi_load(a->x, type, x_at + i) * prxi_load(a->centroids, type, c_at + i);
    return dot;
}

static void one_point(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const point_job *j = cookie;
    const prxi_nearest_args *a = j->a;
    const size_t d = (size_t)a->head_dim, head = (size_t)(i / a->n), k = (size_t)a->k;
    const size_t x_at = (size_t)(i % a->n) * (size_t)a->ldx + head * d;
    float best = -INFINITY;
    int32_t label = 0;
    for (size_t c = 0; c < k; c++) {
        const size_t c_at = (head * k + c) * d;
        float score = product(a, j->type, x_at, c_at);
        if (a->products) {
            a->products[(size_t)i * k + c] = score;
            continue;
        }
        float norm = 0.0f;
        for (size_t x = 0; x < d; x++) {
            const float v = prxi_load(a->centroids, j->type, c_at + x);
            norm += v * v;
        }
        score -= 0.5f * norm;
        if (score > best) {
            best = score;
            label = (int32_t)c;
        }
    }
    if (!a->products)
        a->labels[i] = label;
}

static void one_head(void *cookie, int64_t head, int thread)
{
    (void)thread;
    const point_job *j = cookie;
    const prxi_nearest_args *a = j->a;
    const size_t d = (size_t)a->head_dim, k = (size_t)a->k, h = (size_t)head;
    memset(a->sums + h * k * d, 0, k * d * sizeof *a->sums);
    memset(a->counts + h * k, 0, k * sizeof *a->counts);
    for (size_t i = 0; i < (size_t)a->n; i++) {
        const size_t c = h * k + (size_t)a->labels[h * (size_t)a->n + i];
        a->counts[c]++;
        for (size_t x = 0; x < d; x++)
            a->sums[c * d + x] += prxi_load(a->x, j->type, i * (size_t)a->ldx + h * d + x);
    }
}

static void nearest_f32(prxi_stream *s, const prxi_nearest_args *a)
{
    point_job j = { a, PRXI_F32 };
    prxi_parallel_for(s, a->heads * a->n, one_point, &j);
}

static void nearest_bf16(prxi_stream *s, const prxi_nearest_args *a)
{
    point_job j = { a, PRXI_BF16 };
    prxi_parallel_for(s, a->heads * a->n, one_point, &j);
}

static void gather_f32(prxi_stream *s, const prxi_nearest_args *a)
{
    point_job j = { a, PRXI_F32 };
    prxi_parallel_for(s, a->heads, one_head, &j);
}

static void gather_bf16(prxi_stream *s, const prxi_nearest_args *a)
{
    point_job j = { a, PRXI_BF16 };
    prxi_parallel_for(s, a->heads, one_head, &j);
}

void prxi_attn_init_ref_nearest(prxi_attn_ops *t)
{
    t->nearest[PRXI_F32] = nearest_f32;
    t->nearest[PRXI_BF16] = nearest_bf16;
    t->gather[PRXI_F32] = gather_f32;
    t->gather[PRXI_BF16] = gather_bf16;
}
