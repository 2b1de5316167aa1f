/* Convolution tiles and channel norm for AVX-512. */
#include "conv_x86.h"

#include <math.h>

#include "vec_avx512.h"
#include "vec_math.h"

#include "conv_tile.h"

typedef __m512i vi;
static PRXI_ALWAYS_INLINE vi vi_load(const unsigned char *p) { return _mm512_loadu_si512(p); }
static PRXI_ALWAYS_INLINE vf vi_low(vi a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
static PRXI_ALWAYS_INLINE vf vi_high(vi a)
{
    return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32((int32_t)0xffff0000u)));
}

#include "conv_tmpl.h"

#define BOTH(TAG, P) TILE_FUNCTION(TAG, P, 2) TILE_FUNCTION(TAG, P, 1)
#define NAMES(TAG, NV)                                                                                                \
    { tile_##TAG##_1_##NV, tile_##TAG##_2_##NV,  tile_##TAG##_3_##NV,  tile_##TAG##_4_##NV,                           \
      tile_##TAG##_5_##NV, tile_##TAG##_6_##NV,  tile_##TAG##_7_##NV,  tile_##TAG##_8_##NV,                           \
      tile_##TAG##_9_##NV, tile_##TAG##_10_##NV, tile_##TAG##_11_##NV, tile_##TAG##_12_##NV, \
      tile_##TAG##_13_##NV }
#define TILES(TAG)                                                                                                    \
    BOTH(TAG, 1) BOTH(TAG, 2) BOTH(TAG, 3) BOTH(TAG, 4) BOTH(TAG, 5) BOTH(TAG, 6) BOTH(TAG, 7) BOTH(TAG, 8)           \
    BOTH(TAG, 9) BOTH(TAG, 10) BOTH(TAG, 11) BOTH(TAG, 12)

TILES(f32)
BOTH(f32, 13)
BOTH(f32, 14)
TILES(wide)
BOTH(wide, 13)

static void tile_f32(const prxi_conv_tile *t)
{
    static const tile_fn two[TILE_MAX_P] = { tile_f32_1_2,  tile_f32_2_2,  tile_f32_3_2,  tile_f32_4_2,  tile_f32_5_2,
                                             tile_f32_6_2,  tile_f32_7_2,  tile_f32_8_2,  tile_f32_9_2,  tile_f32_10_2,
                                             tile_f32_11_2, tile_f32_12_2, tile_f32_13_2, tile_f32_14_2 };
    static const tile_fn one[TILE_MAX_P] = { tile_f32_1_1,  tile_f32_2_1,  tile_f32_3_1,  tile_f32_4_1,  tile_f32_5_1,
                                             tile_f32_6_1,  tile_f32_7_1,  tile_f32_8_1,  tile_f32_9_1,  tile_f32_10_1,
                                             tile_f32_11_1, tile_f32_12_1, tile_f32_13_1, tile_f32_14_1 };
    tile_row(t, t->cols > VL ? two : one, TILE_MAX_P);
}

static void tile_bf16(const prxi_conv_tile *t)
{
    static const tile_fn two[] = NAMES(wide, 2), one[] = NAMES(wide, 1);
    tile_row(t, t->cols > VL ? two : one, (int)(sizeof two / sizeof *two));
}

void prxi_conv_init_avx512(prxi_conv_ops *t)
{
    t->block = TILE_BLOCK;
    t->tile[PRXI_F32] = tile_f32;
    t->tile[PRXI_BF16] = tile_bf16;
    t->widen = widen;
    t->merge = merge;
    t->rms_silu[PRXI_F32] = rms_silu_f32;
    t->rms_silu[PRXI_BF16] = rms_silu_bf16;
}
