/* Matrix product tile for AVX2: 6 x 16 sums in 12 registers. */
#include "gemm_x86.h"
#include "vec_avx2.h"
#include "vec_math.h"

enum { MR = 6, NR = 16 };

static PRXI_ALWAYS_INLINE void step(const int rows, const float *a, const float *b, __m256 (*acc)[2])
{
    const __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        const __m256 x = _mm256_set1_ps(a[r * PRXI_GEMM_LDA]);
        acc[r][0] = _mm256_fmadd_ps(x, b0, acc[r][0]);
        acc[r][1] = _mm256_fmadd_ps(x, b1, acc[r][1]);
    }
}

static PRXI_ALWAYS_INLINE void tile_rows(const int rows, int64_t k, const float *a, const float *b, float *c, int first,
                                         const prxi_gemm_fetch *f)
{
    const unsigned char *p = f->at[0], *q = f->at[1];
    __m256 acc[MR][2];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        acc[r][0] = first ? _mm256_setzero_ps() : _mm256_load_ps(c + r * NR);
        acc[r][1] = first ? _mm256_setzero_ps() : _mm256_load_ps(c + r * NR + 8);
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
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        _mm256_store_ps(c + r * NR, acc[r][0]);
        _mm256_store_ps(c + r * NR + 8, acc[r][1]);
    }
}

static void tile(int rows, int64_t k, const float *a, const float *b, float *c, int first, const prxi_gemm_fetch *f)
{
    switch (rows) {
    case 6: tile_rows(6, k, a, b, c, first, f); break;
    case 5: tile_rows(5, k, a, b, c, first, f); break;
    case 4: tile_rows(4, k, a, b, c, first, f); break;
    case 3: tile_rows(3, k, a, b, c, first, f); break;
    case 2: tile_rows(2, k, a, b, c, first, f); break;
    default: tile_rows(1, k, a, b, c, first, f); break;
    }
}

#include "gemm_tmpl.h"
