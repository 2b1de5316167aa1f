/* The outside of the DiT: latents to rows of patches and back, and the vectors of the modulation. */
#ifndef PRXI_OUTER_H
#define PRXI_OUTER_H

#include "engine/core/dtype.h"
#include "engine/core/stream.h"

/* Tokens are ordered (t, y, x) of the grid frames / patch[0] x height / patch[1] x width / patch[2], all divisible. */
typedef struct prxi_patch_args {
    int channels, frames, height, width, patch[3];
    const void *in;
    void *out;
} prxi_patch_args;

/* out[i] = table[i] + vec[i % period] + (bit i / dim of ones is set ? 1 : 0), i < rows * dim. */
typedef struct prxi_modulate_args {
    int rows;
    int64_t dim, period;
    const float *table, *vec;
    uint32_t ones;
    float *out;
} prxi_modulate_args;

typedef struct prxi_outer_ops {
    /* Latents f32 [channels, frames, height, width] to rows of the compute type, values ordered (channel, pt, ph, pw). */
    void (*patchify[PRXI_COMPUTE_DTYPES])(prxi_stream *s, const prxi_patch_args *a);
    /* f32 rows of values ordered (pt, ph, pw, channel), channel fastest, to latents f32. */
    void (*unpatchify)(prxi_stream *s, const prxi_patch_args *a);
    void (*modulate)(prxi_stream *s, const prxi_modulate_args *a);
} prxi_outer_ops;

void prxi_outer_init_ref(prxi_outer_ops *t);

#endif
