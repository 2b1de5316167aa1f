/* e4m3, an 8-bit float: 4 bits of exponent (bias 7), 3 of mantissa, no infinity; 448 is the largest. */
#ifndef PRXI_CUDA_FP8_CUH
#define PRXI_CUDA_FP8_CUH

#include "prim.cuh"

struct e4m3 {
    uint8_t bits;
};

#define E4M3_MOST 448.0f

/* To nearest, ties to even; beyond the largest, the largest; NaN stays NaN. */
PRXI_DEVICE e4m3 round_e4m3(float f)
{
    const uint32_t u = float_bits(f), size = u & 0x7fffffffu, sign = u >> 24 & 0x80u;
    uint32_t code;
    if (size > 0x7f800000u)
        code = 0x7fu;
    else if (size < 0x3c800000u)                    /* below 2^-6: in steps of 2^-9; the last one is 2^-6 itself */
        code = (uint32_t)rintf(bits_float(size) * 512.0f);
    else if (size > 0x43e00000u)
        code = 0x7eu;
    else
        code = ((size + 0x7ffffu + (size >> 20 & 1u)) >> 20) - (120u << 3);
    return { (uint8_t)(sign | code) };
}

PRXI_DEVICE float load(const e4m3 *p, int64_t i)
{
    const uint32_t u = p[i].bits, size = u & 0x7fu, sign = (u & 0x80u) << 24;
    if (size == 0x7fu)
        return bits_float(0x7fc00000u);
    if (size < 8u)
        return bits_float(sign | float_bits((float)size * 0.001953125f));
    return bits_float(sign | ((size + (120u << 3)) << 20));
}

/* What the values of a block's row are multiplied by, from each thread's largest; the row's scale goes to *scale. part: as block_sum's;
 * what threads wrote before is there for all of the block afterwards. */
PRXI_DEVICE float scale_row(float top, float *part, float *scale)
{
    top = warp_max(top);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = top;
    sync_block();
    for (unsigned w = 0; w < blockDim.x / 32; w++)
        top = fmaxf(top, part[w]);
    const bool some = top > 1e-30f;
    if (threadIdx.x == 0)
        *scale = some ? top / E4M3_MOST : 1.0f;
    return some ? E4M3_MOST / top : 0.0f;
}

#endif
