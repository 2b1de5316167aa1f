/* Elementwise ops: activations, conversions, latent updates. Arrays are contiguous; dst may equal a source. */
#ifndef PRXI_ACT_H
#define PRXI_ACT_H

#include "engine/core/dtype.h"
#include "engine/core/stream.h"

typedef struct prxi_act_ops {
    /* y = gelu_tanh(a) * b (b NULL: gelu_tanh(a)); silu; dtype-indexed, f32 inside. */
    void (*gelu_mul[PRXI_COMPUTE_DTYPES])(prxi_stream *s, int64_t n, const void *a, const void *b, void *y);
    void (*silu[PRXI_COMPUTE_DTYPES])(prxi_stream *s, int64_t n, const void *x, void *y);
    /* dst[i] = a[i] + b[i]; dst = a - b: cache residuals. f32 inside, one rounding. */
    void (*add[PRXI_COMPUTE_DTYPES])(prxi_stream *s, int64_t n, const void *a, const void *b, void *y);
    void (*sub[PRXI_COMPUTE_DTYPES])(prxi_stream *s, int64_t n, const void *a, const void *b, void *y);
    void (*f32_to_bf16)(prxi_stream *s, int64_t n, const float *x, prxi_bf16 *y);
    void (*bf16_to_f32)(prxi_stream *s, int64_t n, const prxi_bf16 *x, float *y);
    void (*f16_to_f32)(prxi_stream *s, int64_t n, const uint16_t *x, float *y);
    /* Softmax over each row in place, f32: row max subtracted, sums in f32. */
    void (*softmax)(prxi_stream *s, int64_t rows, int64_t n, float *x, int64_t ld);
} prxi_act_ops;

void prxi_act_init_ref(prxi_act_ops *t);
void prxi_act_init_x86(prxi_act_ops *t, uint32_t isa);

#endif
