/* f32 attention tiles, 16 queries a vector, 8 x 3 register tiles. */
#include <immintrin.h>

#include "attention/x86/transpose512.h"
#include "engine/core/attr.h"
#include "engine/core/dtype.h"

#define INIT prxi_attn_init_avx512
#define VEC __m512
#define LANES 16
#define ROWS 8
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define V_SET(x) _mm512_set1_ps(x)
#define V_LOAD(p) _mm512_load_ps(p)
#define V_STORE(p, x) _mm512_store_ps(p, x)
#define V_ADD(x, y) _mm512_add_ps(x, y)
#define V_SUB(x, y) _mm512_sub_ps(x, y)
#define V_MUL(x, y) _mm512_mul_ps(x, y)
#define V_MAX(x, y) _mm512_max_ps(x, y)
#define V_FMA(x, y, z) _mm512_fmadd_ps(x, y, z)
#define V_FMSUB(x, y, z) _mm512_fmsub_ps(x, y, z)
#define V_ADD_EXPONENT(y, t)                                                                      \
    _mm512_castsi512_ps(                                                                          \
        _mm512_add_epi32(_mm512_castps_si512(y), _mm512_slli_epi32(_mm512_castps_si512(t), 23)))

#define V_TAKE_GREATER(top, at, x, index)                                                         \
    {                                                                                             \
        const __mmask16 more = _mm512_cmp_ps_mask(x, top, _CMP_GT_OQ);                            \
        top = _mm512_mask_mov_ps(top, more, x);                                                   \
        at = _mm512_castsi512_ps(_mm512_mask_set1_epi32(_mm512_castps_si512(at), more, index));   \
    }
#define V_PACK_Q(to, stride, rows, type, at) pack_square(to, stride, rows, type, at)
#define V_FINISH(from, stride, sum, rows, type, at) finish_square(from, stride, sum, rows, type, at)

/* 16 dimensions from `at` of 16 rows, transposed. */
static PRXI_ALWAYS_INLINE void pack_square(float *to, size_t stride, const void *const *rows, prxi_dtype type, int at)
{
    __m512i x[16];
    for (int r = 0; r < 16; r++)
        if (!rows[r])
            x[r] = _mm512_setzero_si512();
        else if (type == PRXI_F32)
            x[r] = _mm512_loadu_si512((const float *)rows[r] + at);
        else
            x[r] = _mm512_slli_epi32(
                _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)((const prxi_bf16 *)rows[r] + at))), 16);
    prxi_transpose16(x);
    for (int r = 0; r < 16; r++)
        _mm512_store_si512(to + (size_t)r * stride, x[r]);
}

/* f32 bits to bf16, to nearest, ties to even; NaN stays NaN (prxi_f32_to_bf16). */
static PRXI_ALWAYS_INLINE __m256i narrow(__m512i x)
{
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
    const __m512i near = _mm512_add_epi32(x, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(_mm512_castsi512_ps(x), _mm512_castsi512_ps(x), _CMP_UNORD_Q);
    const __m512i y = _mm512_mask_or_epi32(near, nan, x, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(y, 16));
}

static PRXI_ALWAYS_INLINE void finish_square(const float *from, size_t stride, const float *sum, void *const *rows,
                                             prxi_dtype type, int at)
{
    const __m512 l = _mm512_load_ps(sum);
    const __mmask16 some = _mm512_cmp_ps_mask(l, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __m512 inv = _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0f), l);
    __m512i y[16];
    for (int r = 0; r < 16; r++)
        y[r] = _mm512_castps_si512(_mm512_mul_ps(inv, _mm512_load_ps(from + (size_t)r * stride)));
    prxi_transpose16(y);
    for (int r = 0; r < 16; r++)
        if (rows[r] && type == PRXI_F32)
            _mm512_storeu_si512((float *)rows[r] + at, y[r]);
        else if (rows[r])
            _mm256_storeu_si256((void *)((prxi_bf16 *)rows[r] + at), narrow(y[r]));
}

#include "attn_f32_tmpl.h"
