/* Normalisation: one table, a slot per activation dtype (PRXI_F32, PRXI_BF16). Statistics and products in f32, one
 * rounding at the store. Rows are independent: same bytes for any thread count. */
#ifndef PRXI_NORM_H
#define PRXI_NORM_H

#include "engine/core/dtype.h"
#include "engine/core/stream.h"

/* x = x + o * gate (x rounded to its dtype; skipped when o is NULL; gate NULL is 1);
 * out = LayerNorm(x) * mul + add, LayerNorm with biased variance and eps, taken from the rounded x
 * (skipped when out is NULL). mul NULL is 1, add NULL is 0. AdaLN passes mul = 1 + scale.
 * All of x, o, out: [rows, dim] contiguous, same dtype. out may equal o; neither may overlap x. */
typedef struct prxi_ln_args {
    int64_t rows, dim;
    void *x;
    const void *o;
    const float *gate, *mul, *add;    /* [dim] f32 */
    float eps;
    void *out;
} prxi_ln_args;

/* out = x / sqrt(mean(x^2) + eps) * weight over dim, then, if rope is given, rotation of interleaved pairs inside each head:
 * y0 = x0 cos - x1 sin, y1 = x0 sin + x1 cos with (cos, sin) = rope[row % rope_rows][pair]. x and out may be equal.
 * Row strides in elements. */
typedef struct prxi_rms_args {
    int64_t rows, dim;
    const void *x;
    int64_t ldx;
    const float *weight;              /* [dim] f32 */
    float eps;
    const float *rope;                /* [rope_rows, head_dim/2, 2] f32, or NULL */
    int64_t rope_rows;
    int head_dim;
    void *out;
    int64_t ldo;
} prxi_rms_args;

typedef void (*prxi_ln_fn)(prxi_stream *s, const prxi_ln_args *a);
typedef void (*prxi_rms_fn)(prxi_stream *s, const prxi_rms_args *a);
/* layernorm in bf16, with the result in 8 bits: q [rows, dim] and scale [rows] as prxi_device.quantise would make them of out, which is
 * not written. dim is a multiple of 4. */
typedef void (*prxi_ln_eight_fn)(prxi_stream *s, const prxi_ln_args *a, void *q, float *scale);

typedef struct prxi_norm_ops {
    prxi_ln_fn layernorm[PRXI_COMPUTE_DTYPES];
    prxi_rms_fn rmsnorm[PRXI_COMPUTE_DTYPES];
    prxi_ln_eight_fn layernorm_eight;       /* of devices alone; NULL: nothing here multiplies such rows */
} prxi_norm_ops;

void prxi_norm_init_ref(prxi_norm_ops *t);
void prxi_norm_init_x86(prxi_norm_ops *t, uint32_t isa);    /* overwrites what the mask allows */

#endif
