/* The vector vocabulary of the *_tmpl.h files for AVX2: see vec_avx512.h. */
#ifndef PRXI_VEC_AVX2_H
#define PRXI_VEC_AVX2_H

#include <immintrin.h>

#include "engine/core/attr.h"
#include "engine/core/dtype.h"

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile with AVX2, FMA and F16C"
#endif

typedef __m256 vf;
enum { VL = 8 };

#define PRXI_VEC_NAME(name) name##_avx2

static PRXI_ALWAYS_INLINE vf vf_set1(float x) { return _mm256_set1_ps(x); }
static PRXI_ALWAYS_INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static PRXI_ALWAYS_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static PRXI_ALWAYS_INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }

static PRXI_ALWAYS_INLINE float vf_sum(vf a)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static PRXI_ALWAYS_INLINE float vf_top(vf a)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

static PRXI_ALWAYS_INLINE vf vf_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* In two steps, since 2^n alone may be out of range; |n| < 252. */
static PRXI_ALWAYS_INLINE vf vf_ldexp(vf a, vf n)
{
    const __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), rest = _mm256_sub_epi32(i, half);
    const __m256i one = _mm256_set1_epi32(127);
    const vf p = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23));
    const vf q = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, one), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, p), q);
}

static PRXI_ALWAYS_INLINE __m256i vf_mask(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static PRXI_ALWAYS_INLINE vf vf_keep(vf a, int n) { return _mm256_and_ps(a, _mm256_castsi256_ps(vf_mask(n))); }
static PRXI_ALWAYS_INLINE vf vf_fill(vf a, int n, float x)
{
    return _mm256_blendv_ps(vf_set1(x), a, _mm256_castsi256_ps(vf_mask(n)));
}

static PRXI_ALWAYS_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static PRXI_ALWAYS_INLINE vf vf_load_n(const float *p, int n) { return _mm256_maskload_ps(p, vf_mask(n)); }
static PRXI_ALWAYS_INLINE void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
static PRXI_ALWAYS_INLINE void vf_store_n(float *p, vf a, int n) { _mm256_maskstore_ps(p, vf_mask(n), a); }

/* There is no masked move of 16-bit lanes: partial vectors go through the stack. */
static PRXI_ALWAYS_INLINE __m128i vf_load_16_n(const uint16_t *p, int n)
{
    uint16_t part[VL] = { 0 };
    memcpy(part, p, (size_t)n * sizeof *p);
    return _mm_loadu_si128((const __m128i *)(const void *)part);
}

static PRXI_ALWAYS_INLINE vf vf_from_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static PRXI_ALWAYS_INLINE vf vf_load_bf16(const prxi_bf16 *p)
{
    return vf_from_bf16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static PRXI_ALWAYS_INLINE vf vf_load_bf16_n(const prxi_bf16 *p, int n) { return vf_from_bf16(vf_load_16_n(p, n)); }

static PRXI_ALWAYS_INLINE vf vf_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static PRXI_ALWAYS_INLINE vf vf_load_f16_n(const uint16_t *p, int n) { return _mm256_cvtph_ps(vf_load_16_n(p, n)); }

static PRXI_ALWAYS_INLINE __m128i vf_to_bf16(vf a)
{
    const __m256i bits = _mm256_castps_si256(a), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i near = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i r = _mm256_blendv_epi8(near, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

static PRXI_ALWAYS_INLINE void vf_store_bf16(prxi_bf16 *p, vf a)
{
    _mm_storeu_si128((__m128i *)(void *)p, vf_to_bf16(a));
}

static PRXI_ALWAYS_INLINE void vf_store_bf16_n(prxi_bf16 *p, vf a, int n)
{
    uint16_t part[VL];
    _mm_storeu_si128((__m128i *)(void *)part, vf_to_bf16(a));
    memcpy(p, part, (size_t)n * sizeof *p);
}

static PRXI_ALWAYS_INLINE vf vf_even(vf a) { return _mm256_moveldup_ps(a); }
static PRXI_ALWAYS_INLINE vf vf_odd(vf a) { return _mm256_movehdup_ps(a); }
static PRXI_ALWAYS_INLINE vf vf_swap(vf a) { return _mm256_permute_ps(a, 0xb1); }
static PRXI_ALWAYS_INLINE vf vf_fmaddsub(vf a, vf b, vf c) { return _mm256_fmaddsub_ps(a, b, c); }

static PRXI_ALWAYS_INLINE void vf_transpose(vf v[VL])
{
    vf u[VL];
#pragma GCC unroll 2
    for (int g = 0; g < VL; g += 4) {
        const __m256d p = _mm256_castps_pd(_mm256_unpacklo_ps(v[g], v[g + 1]));
        const __m256d q = _mm256_castps_pd(_mm256_unpackhi_ps(v[g], v[g + 1]));
        const __m256d r = _mm256_castps_pd(_mm256_unpacklo_ps(v[g + 2], v[g + 3]));
        const __m256d s = _mm256_castps_pd(_mm256_unpackhi_ps(v[g + 2], v[g + 3]));
        u[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(p, r));
        u[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(p, r));
        u[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(q, s));
        u[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(q, s));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        v[c] = _mm256_permute2f128_ps(u[c], u[c + 4], 0x20);
        v[c + 4] = _mm256_permute2f128_ps(u[c], u[c + 4], 0x31);
    }
}

#endif
