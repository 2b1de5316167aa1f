/* Convolution tiles with the bf16 dot product: two multiply-adds a lane and step. The instruction reads denormals as zero. */
#include "conv_x86.h"

#include "vec_avx512.h"
#include "vec_math.h"

#include "conv_tile.h"

#define STEP_dot 2
#define BYTES_dot 4
#define PIXEL_dot(p) (__m512bh)_mm512_set1_epi32(*(const int32_t *)(const void *)(a + (p) * step))
#define ACC2_dot(p)                                                                                                   \
    {                                                                                                                 \
        const __m512bh v = PIXEL_dot(p);                                                                              \
        c##p = _mm512_dpbf16_ps(c##p, v, w0);                                                                         \
        d##p = _mm512_dpbf16_ps(d##p, v, w1);                                                                         \
    }
#define ACC1_dot(p) c##p = _mm512_dpbf16_ps(c##p, PIXEL_dot(p), w0);
#define BODY2_dot(REP)                                                                                                \
    const __m512bh w0 = (__m512bh)_mm512_loadu_si512(w), w1 = (__m512bh)_mm512_loadu_si512(w + 64);                   \
    REP(ACC2_dot)
#define BODY1_dot(REP)                                                                                                \
    const __m512bh w0 = (__m512bh)_mm512_loadu_si512(w);                                                              \
    REP(ACC1_dot)

#define BOTH(P) TILE_FUNCTION(dot, P, 2) TILE_FUNCTION(dot, P, 1)
BOTH(1)
BOTH(2)
BOTH(3)
BOTH(4)
BOTH(5)
BOTH(6)
BOTH(7)
BOTH(8)
BOTH(9)
BOTH(10)
BOTH(11)
BOTH(12)
BOTH(13)
BOTH(14)

static void tile_bf16(const prxi_conv_tile *t)
{
    static const tile_fn two[TILE_MAX_P] = { tile_dot_1_2,  tile_dot_2_2,  tile_dot_3_2,  tile_dot_4_2,  tile_dot_5_2,
                                             tile_dot_6_2,  tile_dot_7_2,  tile_dot_8_2,  tile_dot_9_2,  tile_dot_10_2,
                                             tile_dot_11_2, tile_dot_12_2, tile_dot_13_2, tile_dot_14_2 };
    static const tile_fn one[TILE_MAX_P] = { tile_dot_1_1,  tile_dot_2_1,  tile_dot_3_1,  tile_dot_4_1,  tile_dot_5_1,
                                             tile_dot_6_1,  tile_dot_7_1,  tile_dot_8_1,  tile_dot_9_1,  tile_dot_10_1,
                                             tile_dot_11_1, tile_dot_12_1, tile_dot_13_1, tile_dot_14_1 };
    tile_row(t, t->cols > VL ? two : one, TILE_MAX_P);
}

void prxi_conv_init_avx512bf16(prxi_conv_ops *t)
{
    t->tile[PRXI_BF16] = tile_bf16;
    t->widen = NULL;
}
