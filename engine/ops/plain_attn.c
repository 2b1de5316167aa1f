/* On the CPU: matrix products of tiles in f32. */
#include "plain_attn.h"

#include <math.h>

#include "gemm.h"

/* ---- text ---- */

typedef struct text_job {
    prxi_stream *s;
    const prxi_text_attn *a;
} text_job;

static void text_head(void *cookie, int64_t h, int thread)
{
    const text_job *job = cookie;
    const prxi_text_attn *a = job->a;
    const int64_t n = a->n, d = a->head_dim;
    float *sc = a->scores + (size_t)thread * (size_t)(n * n);
    prxi_sgemm(1, n, n, d, 1.0f, a->q + h * d, a->ld, a->k + h * d, a->ld, sc, n, a->isa);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            sc[i * n + j] += a->table[a->bucket[j - i + n - 1] * a->heads + h];
    a->act->softmax(job->s, n, n, sc, n);
    prxi_sgemm(0, n, d, n, 1.0f, sc, n, a->v + h * d, a->ld, a->out + h * d, a->ldo, a->isa);
}

static void text(prxi_stream *s, const prxi_text_attn *a)
{
    text_job job = { s, a };
    prxi_parallel_for(s, a->heads, text_head, &job);
}

/* ---- wide ---- */

enum { KEYS = 256, CHANNELS = 64, CHUNK = 8 };

typedef struct wide_job {
    const prxi_wide_attn *a;
    int64_t q0, queries;
} wide_job;

static void scores_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const wide_job *j = cookie;
    const prxi_wide_attn *a = j->a;
    const int64_t begin = i * KEYS, keys = a->n - begin < KEYS ? a->n - begin : KEYS;
    prxi_sgemm(1, j->queries, keys, a->channels, 1.0f / sqrtf((float)a->channels), a->qkv + j->q0 * a->ld, a->ld,
               a->qkv + begin * a->ld + a->channels, a->ld, a->scores + begin, a->n, a->isa);
}

static void values_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const wide_job *j = cookie;
    const prxi_wide_attn *a = j->a;
    const int64_t begin = i * CHANNELS, count = a->channels - begin < CHANNELS ? a->channels - begin : CHANNELS;
    prxi_sgemm(0, j->queries, count, a->n, 1.0f, a->scores, a->n, a->qkv + 2 * a->channels + begin, a->ld, a->sums + begin,
               a->channels, a->isa);
}

static void store_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const wide_job *j = cookie;
    const prxi_wide_attn *a = j->a;
    const int64_t end = (i + 1) * CHUNK < j->queries ? (i + 1) * CHUNK : j->queries;
    for (int64_t q = i * CHUNK; q < end; q++)
        for (int64_t c = 0; c < a->pitch; c++)
            prxi_store(a->out, a->type, (size_t)((j->q0 + q) * a->pitch + c), c < a->channels ? a->sums[q * a->channels + c] : 0.0f);
}

static void wide(prxi_stream *s, const prxi_wide_attn *a)
{
    wide_job j = { a, 0, 0 };
    for (; j.q0 < a->n && !prxi_stream_error(s) && !(s->cancel && atomic_load(s->cancel)); j.q0 += PRXI_WIDE_TILE) {
        j.queries = a->n - j.q0 < PRXI_WIDE_TILE ? a->n - j.q0 : PRXI_WIDE_TILE;
        prxi_parallel_for(s, (a->n + KEYS - 1) / KEYS, scores_task, &j);
        a->act->softmax(s, j.queries, a->n, a->scores, a->n);
        prxi_parallel_for(s, (a->channels + CHANNELS - 1) / CHANNELS, values_task, &j);
        prxi_parallel_for(s, (j.queries + CHUNK - 1) / CHUNK, store_task, &j);
    }
}

void prxi_plain_attn_init(prxi_plain_attn_ops *t)
{
    *t = (prxi_plain_attn_ops) { text, wide };
}
