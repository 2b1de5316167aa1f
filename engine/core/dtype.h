/* Element types and their scalar conversions (round to nearest, ties to even; NaN stays NaN). */
#ifndef PRXI_DTYPE_H
#define PRXI_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum prxi_dtype {
    PRXI_F32,
    PRXI_BF16,
    PRXI_COMPUTE_DTYPES,            /* activations come in the types above */
    PRXI_F16 = PRXI_COMPUTE_DTYPES, /* storage only */
    PRXI_U8,
    PRXI_DTYPES,                    /* of files */
    PRXI_F64 = PRXI_DTYPES          /* states of the oracle tests of caching/ */
} prxi_dtype;

typedef uint16_t prxi_bf16;

static inline size_t prxi_dtype_size(prxi_dtype t)
{
    static const uint8_t size[PRXI_DTYPES + 1] = { [PRXI_F32] = 4, [PRXI_BF16] = 2, [PRXI_F16] = 2,
                                                   [PRXI_U8] = 1, [PRXI_F64] = 8 };
    return size[t];
}

const char *prxi_dtype_name(prxi_dtype t);      /* "f32", "bf16", "f16", "u8" */

static inline float prxi_bf16_to_f32(prxi_bf16 v)
{
    const uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline prxi_bf16 prxi_f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (prxi_bf16)((bits >> 16) | 0x40u);
    return (prxi_bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float prxi_f16_to_f32(uint16_t v);

/* Element i of a buffer of activations; for reference code and tests, not for inner loops. */
static inline float prxi_load(const void *p, prxi_dtype t, size_t i)
{
    return t == PRXI_F32 ? ((const float *)p)[i] : prxi_bf16_to_f32(((const prxi_bf16 *)p)[i]);
}

static inline void prxi_store(void *p, prxi_dtype t, size_t i, float v)
{
    if (t == PRXI_F32)
        ((float *)p)[i] = v;
    else
        ((prxi_bf16 *)p)[i] = prxi_f32_to_bf16(v);
}

#endif
