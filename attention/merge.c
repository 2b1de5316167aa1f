/* Two partial results over disjoint keys become one: each is weighted by its share of the softmax sum, which the log-sum-exp
 * values give. */
#include <math.h>

#include "attention/attention.h"

typedef struct merge_job {
    prxi_dtype type;
    int heads, head_dim;
    int64_t n;
    void *o;
    int64_t ldo;
    float *lse;
    const void *o2;
    int64_t ldo2;
    const float *lse2;
} merge_job;

static void merge_token(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const merge_job *j = cookie;
    for (int h = 0; h < j->heads; h++) {
        float *a = &j->lse[(size_t)h * (size_t)j->n + (size_t)i];
        const float b = j->lse2[(size_t)h * (size_t)j->n + (size_t)i], top = *a > b ? *a : b;
        if (top == -INFINITY)       /* no keys on either side: zeros stay */
            continue;
        const float wa = expf(*a - top), wb = expf(b - top), sum = wa + wb;
        const size_t at = (size_t)i * (size_t)j->ldo + (size_t)h * (size_t)j->head_dim;
        const size_t at2 = (size_t)i * (size_t)j->ldo2 + (size_t)h * (size_t)j->head_dim;
        for (size_t x = 0; x < (size_t)j->head_dim; x++)
            prxi_store(j->o, j->type, at + x,
                       (wa * prxi_load(j->o, j->type, at + x) + wb * prxi_load(j->o2, j->type, at2 + x)) / sum);
        *a = top + logf(sum);
    }
}

void prxi_attn_merge(prxi_stream *s, prxi_dtype type, int heads, int head_dim, int64_t n, void *o, int64_t ldo, float *lse,
                     const void *o2, int64_t ldo2, const float *lse2)
{
    merge_job j = { type, heads, head_dim, n, o, ldo, lse, o2, ldo2, lse2 };
    if (!prxi_stream_error(s))
        prxi_parallel_for(s, n, merge_token, &j);
}
