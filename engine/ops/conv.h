/* Convolutions and resampling of the VAE, channels last. The owner of conv.c extends this table. */
#ifndef PRXI_CONV_H
#define PRXI_CONV_H

#include "engine/core/dtype.h"
#include "engine/core/stream.h"

typedef struct prxi_conv_ops {
    /* out = silu(x / max(|x|_2, 1e-12) * sqrt(dim) * gamma) per position over channels (silu optional); f32 inside. */
    void (*rms_silu[PRXI_COMPUTE_DTYPES])(prxi_stream *s, int64_t rows, int64_t dim, const void *x, const float *gamma,
                                          int silu, void *out);
} prxi_conv_ops;

void prxi_conv_init_ref(prxi_conv_ops *t);
void prxi_conv_init_x86(prxi_conv_ops *t, uint32_t isa);

#endif
