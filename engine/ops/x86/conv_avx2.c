/* Convolution tiles and channel norm for AVX2. */
#include "conv_x86.h"

#include <math.h>

#include "vec_avx2.h"
#include "vec_math.h"

#include "conv_tile.h"

typedef __m256i vi;
static PRXI_ALWAYS_INLINE vi vi_load(const unsigned char *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static PRXI_ALWAYS_INLINE vf vi_low(vi a) { return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16)); }
static PRXI_ALWAYS_INLINE vf vi_high(vi a)
{
    return _mm256_castsi256_ps(_mm256_and_si256(a, _mm256_set1_epi32((int32_t)0xffff0000u)));
}

#include "conv_tmpl.h"

#define BOTH(TAG, P) TILE_FUNCTION(TAG, P, 2) TILE_FUNCTION(TAG, P, 1)
BOTH(f32, 1)
BOTH(f32, 2)
BOTH(f32, 3)
BOTH(f32, 4)
BOTH(f32, 5)
BOTH(f32, 6)
BOTH(wide, 1)
BOTH(wide, 2)
BOTH(wide, 3)
BOTH(wide, 4)

static void tile_f32(const prxi_conv_tile *t)
{
    static const tile_fn two[] = { tile_f32_1_2, tile_f32_2_2, tile_f32_3_2, tile_f32_4_2, tile_f32_5_2, tile_f32_6_2 };
    static const tile_fn one[] = { tile_f32_1_1, tile_f32_2_1, tile_f32_3_1, tile_f32_4_1, tile_f32_5_1, tile_f32_6_1 };
    tile_row(t, t->cols > VL ? two : one, (int)(sizeof two / sizeof *two));
}

static void tile_bf16(const prxi_conv_tile *t)
{
    static const tile_fn two[] = { tile_wide_1_2, tile_wide_2_2, tile_wide_3_2, tile_wide_4_2 };
    static const tile_fn one[] = { tile_wide_1_1, tile_wide_2_1, tile_wide_3_1, tile_wide_4_1 };
    tile_row(t, t->cols > VL ? two : one, (int)(sizeof two / sizeof *two));
}

void prxi_conv_init_avx2(prxi_conv_ops *t)
{
    t->block = TILE_BLOCK;
    t->tile[PRXI_F32] = tile_f32;
    t->tile[PRXI_BF16] = tile_bf16;
    t->widen = widen;
    t->merge = merge;
    t->rms_silu[PRXI_F32] = rms_silu_f32;
    t->rms_silu[PRXI_BF16] = rms_silu_bf16;
}
