/* The outside of the DiT, in C: loops over rows of the token grid. */
#include "engine/ops/outer.h"

typedef struct patch_job {
    const prxi_patch_args *a;
    prxi_dtype type;
    int64_t grid_h, grid_w;
} patch_job;

static patch_job open_job(const prxi_patch_args *a, prxi_dtype type)
{
    return (patch_job) { a, type, a->height / a->patch[1], a->width / a->patch[2] };
}

/* Token row `row` of the grid (one t, y) of patches. */
static void gather_row(void *cookie, int64_t row, int thread)
{
    (void)thread;
    const patch_job *job = cookie;
    const prxi_patch_args *a = job->a;
    const int *p = a->patch;
    const int64_t H = a->height, W = a->width, t = row / job->grid_h, y = row % job->grid_h;
    const float *in = a->in;
    size_t o = (size_t)(row * job->grid_w) * (size_t)(a->channels * p[0] * p[1] * p[2]);
    for (int64_t x = 0; x < job->grid_w; x++)
        for (int64_t c = 0; c < a->channels; c++)
            for (int i = 0; i < p[0]; i++)
                for (int b = 0; b < p[1]; b++) {
                    const float *src = in + ((c * a->frames + t * p[0] + i) * H + y * p[1] + b) * W + x * p[2];
                    for (int e = 0; e < p[2]; e++)
                        prxi_store(a->out, job->type, o++, src[e]);
                }
}

/* The inverse for rows with the channel fastest. */
static void scatter_row(void *cookie, int64_t row, int thread)
{
    (void)thread;
    const patch_job *job = cookie;
    const prxi_patch_args *a = job->a;
    const int *p = a->patch;
    const int64_t H = a->height, W = a->width, t = row / job->grid_h, y = row % job->grid_h;
    const float *src = (const float *)a->in + row * job->grid_w * a->channels * p[0] * p[1] * p[2];
    float *out = a->out;
    for (int64_t x = 0; x < job->grid_w; x++)
        for (int i = 0; i < p[0]; i++)
            for (int b = 0; b < p[1]; b++)
                for (int e = 0; e < p[2]; e++)
                    for (int64_t c = 0; c < a->channels; c++)
                        out[((c * a->frames + t * p[0] + i) * H + y * p[1] + b) * W + x * p[2] + e] = *src++;
}

static void patchify(prxi_stream *s, const prxi_patch_args *a, prxi_dtype type)
{
    patch_job job = open_job(a, type);
    prxi_parallel_for(s, a->frames / a->patch[0] * job.grid_h, gather_row, &job);
}

static void patchify_f32(prxi_stream *s, const prxi_patch_args *a)
{
    patchify(s, a, PRXI_F32);
}

static void patchify_bf16(prxi_stream *s, const prxi_patch_args *a)
{
    patchify(s, a, PRXI_BF16);
}

static void unpatchify(prxi_stream *s, const prxi_patch_args *a)
{
    patch_job job = open_job(a, PRXI_F32);
    prxi_parallel_for(s, a->frames / a->patch[0] * job.grid_h, scatter_row, &job);
}

static void modulate(prxi_stream *s, const prxi_modulate_args *a)
{
    (void)s;
    for (int row = 0; row < a->rows; row++)
        for (int64_t i = row * a->dim; i < (row + 1) * a->dim; i++) {
            const float v = a->table[i] + a->vec[i % a->period];
            a->out[i] = a->ones >> row & 1u ? v + 1.0f : v;
        }
}

void prxi_outer_init_ref(prxi_outer_ops *t)
{
    t->patchify[PRXI_F32] = patchify_f32;
    t->patchify[PRXI_BF16] = patchify_bf16;
    t->unpatchify = unpatchify;
    t->modulate = modulate;
}
