/* Pictures of the VAE on the CPU, a task a row or a piece of one. */
#include "engine/ops/frame.h"

#include <string.h>

enum { NORM_PIECE = 64 };       /* pixels of a task */

typedef struct norm_job {
    const prxi_frame_norm *a;
    int64_t pieces;
} norm_job;

static void norm_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const norm_job *j = cookie;
    const prxi_frame_norm *a = j->a;
    const prxi_dtype t = a->type;
    const int64_t row = a->begin + i / j->pieces, x = a->width * (i % j->pieces) / j->pieces;
    const int64_t end = a->width * (i % j->pieces + 1) / j->pieces, pitch = prxi_conv_pitch(a->channels);
    const size_t at = (size_t)(x * pitch) * prxi_dtype_size(t);
    unsigned char *out = prxi_plane_row(&a->out, row) + at;
    a->conv->rms_silu[t](end - x, a->channels, prxi_plane_row(&a->x, row) + at, pitch, a->gamma, a->silu, out, pitch);
    if (pitch != a->channels)
        for (int64_t p = 0; p < end - x; p++)
            prxi_store(out, t, (size_t)(p * pitch + a->channels), 0.0f);
}

static void norm(prxi_stream *s, const prxi_frame_norm *a)
{
    norm_job j = { a, (a->width + NORM_PIECE - 1) / NORM_PIECE };
    if (a->end > a->begin)
        prxi_parallel_for(s, (a->end - a->begin) * j.pieces, norm_task, &j);
}

static void clear(prxi_stream *s, const prxi_frame_clear *a)
{
    (void)s;
    for (int64_t r = a->begin; r <= a->end; r++)
        memset(a->plane.base + r * a->plane.pitch - a->pixel, 0, a->pixel);
}

static void copy(prxi_stream *s, const prxi_frame_copy *a)
{
    (void)s;
    for (int64_t r = 0; r < a->rows; r++)
        memcpy(prxi_plane_row(&a->to, r), prxi_plane_row(&a->from, r), a->bytes);
}

static void dup_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const prxi_frame_dup *a = cookie;
    const int64_t y = a->begin + i, in_pitch = prxi_conv_pitch(a->channels), out_pitch = prxi_conv_pitch(a->up_channels);
    const int repeats = a->up_channels * a->times * 4 / a->channels;
    const unsigned char *in = prxi_plane_row(&a->x, y / 2);
    unsigned char *row = prxi_plane_row(&a->up, y);
    for (int64_t x = 0; x < a->width; x++) {
        const size_t src = (size_t)(x / 2 * in_pitch), dst = (size_t)(x * out_pitch);
        for (int o = 0; o < a->up_channels; o++) {
            const int q = ((o * a->times + a->sub) * 2 + (int)(y % 2)) * 2 + (int)(x % 2);
            prxi_store(row, a->type, dst + (size_t)o,
                       prxi_load(row, a->type, dst + (size_t)o) + prxi_load(in, a->type, src + (size_t)(q / repeats)));
        }
    }
}

static void dup(prxi_stream *s, const prxi_frame_dup *a)
{
    prxi_frame_dup job = *a;
    prxi_parallel_for(s, a->end - a->begin, dup_task, &job);
}

static void latent_task(void *cookie, int64_t y, int thread)
{
    (void)thread;
    const prxi_frame_latent *a = cookie;
    const int n = a->channels;
    unsigned char *out = prxi_plane_row(&a->out, y);
    float z[PRXI_FRAME_LATENT];
    for (int64_t x = 0; x < a->width; x++) {
        for (int i = 0; i < n; i++)
            z[i] = a->z[i * a->plane_step + y * a->row_step + x] / a->inv_std[i] + a->mean[i];
        for (int o = 0; o < n; o++) {
            float sum = a->bias[o];
            for (int i = 0; i < n; i++)
                sum += a->weight[o * n + i] * z[i];
            prxi_store(out, a->type, (size_t)(x * prxi_conv_pitch(n) + o), sum);
        }
    }
}

static void latent(prxi_stream *s, const prxi_frame_latent *a)
{
    prxi_frame_latent job = *a;
    prxi_parallel_for(s, a->height, latent_task, &job);
}

static void carry_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const prxi_frame_carry *a = cookie;
    const int64_t y = a->begin + i, co = a->channels;
    const float *t = (const float *)(const void *)prxi_plane_row(&a->taps, y);
    for (int64_t x = 0; x < a->width; x++)
        for (int64_t o = 0; o < co; o++) {
            const float *tap = t + x * a->pitch + o;
            const int64_t at = (y * a->width + x) * co + o;
            a->raw[at] = a->next[at] + tap[2 * co] + a->bias[o];
            a->next[at] = a->after[at] + tap[co];
            a->after[at] = tap[0];
        }
}

static void carry(prxi_stream *s, const prxi_frame_carry *a)
{
    prxi_frame_carry job = *a;
    prxi_parallel_for(s, a->end - a->begin, carry_task, &job);
}

/* Channel (c * p + b) * p + r of a patch is pixel (row r, column b): the column is the slower index. */
static void rgb_task(void *cookie, int64_t y, int thread)
{
    (void)thread;
    const prxi_frame_rgb *a = cookie;
    const int p = a->patch, n = 3 * p * p;
    const float *row = a->raw + y * a->width * n;
    for (int r = 0; r < p; r++) {
        float *out = a->rgb + (y * p + r) * a->width * p * 3;
        for (int64_t x = 0; x < a->width; x++)
            for (int b = 0; b < p; b++)
                for (int c = 0; c < 3; c++) {
                    const float u = row[x * n + (c * p + b) * p + r] * 0.5f + 0.5f;
                    *out++ = u < 0.0f ? 0.0f : u > 1.0f ? 1.0f : u;
                }
    }
}

static void rgb(prxi_stream *s, const prxi_frame_rgb *a)
{
    prxi_frame_rgb job = *a;
    prxi_parallel_for(s, a->height, rgb_task, &job);
}

void prxi_frame_init_ref(prxi_frame_ops *t)
{
    *t = (prxi_frame_ops) { norm, clear, copy, dup, latent, carry, rgb };
}
