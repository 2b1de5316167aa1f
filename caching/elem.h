/* Elements of cached tensors in runs: loaded to double, stored back with one rounding. Cache kernels are bound by memory, so the
 * wide arithmetic is free, and the same code serves f32 and bf16 states and the f64 of the oracle tests. */
#ifndef PRXI_ELEM_H
#define PRXI_ELEM_H

#include "engine/core/dtype.h"

/* Elements of one run: what a task loads at a time. */
#define PRXI_ELEM_RUN 512

static inline void prxi_elem_load(prxi_dtype t, const void *p, size_t at, int n, double *out)
{
    if (t == PRXI_F32)
        for (int i = 0; i < n; i++)
            out[i] = ((const float *)p)[at + (size_t)i];
    else if (t == PRXI_BF16)
        for (int i = 0; i < n; i++)
            out[i] = prxi_bf16_to_f32(((const prxi_bf16 *)p)[at + (size_t)i]);
    else
        memcpy(out, (const double *)p + at, (size_t)n * sizeof *out);
}

static inline void prxi_elem_store(prxi_dtype t, void *p, size_t at, int n, const double *in)
{
    if (t == PRXI_F32)
        for (int i = 0; i < n; i++)
            ((float *)p)[at + (size_t)i] = (float)in[i];
    else if (t == PRXI_BF16)
        for (int i = 0; i < n; i++)
            ((prxi_bf16 *)p)[at + (size_t)i] = prxi_f32_to_bf16((float)in[i]);
    else
        memcpy((double *)p + at, in, (size_t)n * sizeof *in);
}

#endif
