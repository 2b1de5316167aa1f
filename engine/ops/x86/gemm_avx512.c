/* Matrix product tile for AVX-512: 14 x 32 sums in 28 registers. */
#include "gemm_x86.h"
#include "vec_avx512.h"
#include "vec_math.h"

enum { MR = 14, NR = 32 };

static PRXI_ALWAYS_INLINE void step(const int rows, const float *a, const float *b, __m512 (*acc)[2])
{
    const __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        const __m512 x = _mm512_set1_ps(a[r * PRXI_GEMM_LDA]);
        acc[r][0] = _mm512_fmadd_ps(x, b0, acc[r][0]);
        acc[r][1] = _mm512_fmadd_ps(x, b1, acc[r][1]);
    }
}

static PRXI_ALWAYS_INLINE void tile_rows(const int rows, int64_t k, const float *a, const float *b, float *c, int first,
                                         const prxi_gemm_fetch *f)
{
    const unsigned char *p = f->at[0], *q = f->at[1];
    __m512 acc[MR][2];
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        acc[r][0] = first ? _mm512_setzero_ps() : _mm512_load_ps(c + r * NR);
        acc[r][1] = first ? _mm512_setzero_ps() : _mm512_load_ps(c + r * NR + 16);
    }
    int64_t i = 0;
    for (; i + PRXI_GEMM_FETCH_STEPS <= k; i += PRXI_GEMM_FETCH_STEPS) {
        PRXI_PREFETCH(p);
        PRXI_PREFETCH(q);
        p += f->step[0];
        q += f->step[1];
#pragma GCC unroll 4
        for (int u = 0; u < PRXI_GEMM_FETCH_STEPS; u++)
            step(rows, a + i + u, b + (i + u) * NR, acc);
    }
    for (; i < k; i++)
        step(rows, a + i, b + i * NR, acc);
#pragma GCC unroll 14
    for (int r = 0; r < rows; r++) {
        _mm512_store_ps(c + r * NR, acc[r][0]);
        _mm512_store_ps(c + r * NR + 16, acc[r][1]);
    }
}

static void tile(int rows, int64_t k, const float *a, const float *b, float *c, int first, const prxi_gemm_fetch *f)
{
    switch (rows) {
    case 14: tile_rows(14, k, a, b, c, first, f); break;
    case 13: tile_rows(13, k, a, b, c, first, f); break;
    case 12: tile_rows(12, k, a, b, c, first, f); break;
    case 11: tile_rows(11, k, a, b, c, first, f); break;
    case 10: tile_rows(10, k, a, b, c, first, f); break;
    case 9: tile_rows(9, k, a, b, c, first, f); break;
    case 8: tile_rows(8, k, a, b, c, first, f); break;
    case 7: tile_rows(7, k, a, b, c, first, f); break;
    case 6: tile_rows(6, k, a, b, c, first, f); break;
    case 5: tile_rows(5, k, a, b, c, first, f); break;
    case 4: tile_rows(4, k, a, b, c, first, f); break;
    case 3: tile_rows(3, k, a, b, c, first, f); break;
    case 2: tile_rows(2, k, a, b, c, first, f); break;
    default: tile_rows(1, k, a, b, c, first, f); break;
    }
}

#include "gemm_tmpl.h"
