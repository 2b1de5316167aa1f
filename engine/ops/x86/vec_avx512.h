/* The vector vocabulary of the *_tmpl.h files for AVX-512: VL floats in a vf. Partial forms touch the first n lanes only, the
 * others read as zero. */
#ifndef PRXI_VEC_AVX512_H
#define PRXI_VEC_AVX512_H

#include <immintrin.h>

#include "engine/core/attr.h"
#include "engine/core/dtype.h"

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "compile with AVX-512 F, BW, DQ and VL"
#endif

typedef __m512 vf;
enum { VL = 16 };

#define PRXI_VEC_NAME(name) name##_avx512

static PRXI_ALWAYS_INLINE vf vf_set1(float x) { return _mm512_set1_ps(x); }
static PRXI_ALWAYS_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
/* A NaN in b comes through. */
static PRXI_ALWAYS_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static PRXI_ALWAYS_INLINE float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
static PRXI_ALWAYS_INLINE float vf_top(vf a) { return _mm512_reduce_max_ps(a); }
static PRXI_ALWAYS_INLINE vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* a * 2^n for integral n. */
static PRXI_ALWAYS_INLINE vf vf_ldexp(vf a, vf n) { return _mm512_scalef_ps(a, n); }

static PRXI_ALWAYS_INLINE __mmask16 vf_mask(int n) { return (__mmask16)((1u << n) - 1u); }
static PRXI_ALWAYS_INLINE vf vf_keep(vf a, int n) { return _mm512_maskz_mov_ps(vf_mask(n), a); }
/* Lanes from n on become x. */
static PRXI_ALWAYS_INLINE vf vf_fill(vf a, int n, float x) { return _mm512_mask_mov_ps(vf_set1(x), vf_mask(n), a); }

static PRXI_ALWAYS_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static PRXI_ALWAYS_INLINE vf vf_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(vf_mask(n), p); }
static PRXI_ALWAYS_INLINE void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static PRXI_ALWAYS_INLINE void vf_store_n(float *p, vf a, int n) { _mm512_mask_storeu_ps(p, vf_mask(n), a); }

static PRXI_ALWAYS_INLINE vf vf_from_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static PRXI_ALWAYS_INLINE vf vf_load_bf16(const prxi_bf16 *p)
{
    return vf_from_bf16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static PRXI_ALWAYS_INLINE vf vf_load_bf16_n(const prxi_bf16 *p, int n)
{
    return vf_from_bf16(_mm256_maskz_loadu_epi16(vf_mask(n), p));
}

static PRXI_ALWAYS_INLINE vf vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static PRXI_ALWAYS_INLINE vf vf_load_f16_n(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vf_mask(n), p));
}

/* Ties to even, NaN stays NaN and is made quiet: as prxi_f32_to_bf16. The BF16 instruction would flush denormals. */
static PRXI_ALWAYS_INLINE __m256i vf_to_bf16(vf a)
{
    const __m512i bits = _mm512_castps_si512(a), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i near = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(near, nan, high, _mm512_set1_epi32(0x40)));
}

static PRXI_ALWAYS_INLINE void vf_store_bf16(prxi_bf16 *p, vf a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, vf_to_bf16(a));
}

static PRXI_ALWAYS_INLINE void vf_store_bf16_n(prxi_bf16 *p, vf a, int n)
{
    _mm256_mask_storeu_epi16(p, vf_mask(n), vf_to_bf16(a));
}

/* Pairs (lanes 2i, 2i + 1): even twice, odd twice, swapped; a * b with even lanes minus c, odd lanes plus c. */
static PRXI_ALWAYS_INLINE vf vf_even(vf a) { return _mm512_moveldup_ps(a); }
static PRXI_ALWAYS_INLINE vf vf_odd(vf a) { return _mm512_movehdup_ps(a); }
static PRXI_ALWAYS_INLINE vf vf_swap(vf a) { return _mm512_permute_ps(a, 0xb1); }
static PRXI_ALWAYS_INLINE vf vf_fmaddsub(vf a, vf b, vf c) { return _mm512_fmaddsub_ps(a, b, c); }

/* VL x VL in place: 4 x 4 inside each quarter, then the quarters. */
static PRXI_ALWAYS_INLINE void vf_transpose(vf v[VL])
{
    vf u[VL];
#pragma GCC unroll 4
    for (int g = 0; g < VL; g += 4) {
        const __m512d p = _mm512_castps_pd(_mm512_unpacklo_ps(v[g], v[g + 1]));
        const __m512d q = _mm512_castps_pd(_mm512_unpackhi_ps(v[g], v[g + 1]));
        const __m512d r = _mm512_castps_pd(_mm512_unpacklo_ps(v[g + 2], v[g + 3]));
        const __m512d s = _mm512_castps_pd(_mm512_unpackhi_ps(v[g + 2], v[g + 3]));
        u[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(p, r));
        u[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(p, r));
        u[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(q, s));
        u[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(q, s));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        const vf a = _mm512_shuffle_f32x4(u[c], u[c + 4], 0x88), b = _mm512_shuffle_f32x4(u[c + 8], u[c + 12], 0x88);
        const vf d = _mm512_shuffle_f32x4(u[c], u[c + 4], 0xdd), e = _mm512_shuffle_f32x4(u[c + 8], u[c + 12], 0xdd);
        v[c] = _mm512_shuffle_f32x4(a, b, 0x88);
        v[c + 4] = _mm512_shuffle_f32x4(d, e, 0x88);
        v[c + 8] = _mm512_shuffle_f32x4(a, b, 0xdd);
        v[c + 12] = _mm512_shuffle_f32x4(d, e, 0xdd);
    }
}

#endif
