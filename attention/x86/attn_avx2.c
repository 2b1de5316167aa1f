/* f32 attention tiles, 8 queries a vector, 4 x 3 register tiles. */
#include <immintrin.h>

#define INIT prxi_attn_init_avx2
#define VEC __m256
#define LANES 8
#define ROWS 4
#define EACH_ROW(X) X(0) X(1) X(2) X(3)
#define V_SET(x) _mm256_set1_ps(x)
#define V_LOAD(p) _mm256_load_ps(p)
#define V_STORE(p, x) _mm256_store_ps(p, x)
#define V_ADD(x, y) _mm256_add_ps(x, y)
#define V_SUB(x, y) _mm256_sub_ps(x, y)
#define V_MUL(x, y) _mm256_mul_ps(x, y)
#define V_MAX(x, y) _mm256_max_ps(x, y)
#define V_FMA(x, y, z) _mm256_fmadd_ps(x, y, z)
#define V_FMSUB(x, y, z) _mm256_fmsub_ps(x, y, z)
#define V_ADD_EXPONENT(y, t)                                                                      \
    _mm256_castsi256_ps(                                                                          \
        _mm256_add_epi32(_mm256_castps_si256(y), _mm256_slli_epi32(_mm256_castps_si256(t), 23)))

#define V_TAKE_GREATER(top, at, x, index)                                                         \
    {                                                                                             \
        const __m256 more = _mm256_cmp_ps(x, top, _CMP_GT_OQ);                                    \
        top = _mm256_blendv_ps(top, x, more);                                                     \
        at = _mm256_blendv_ps(at, _mm256_castsi256_ps(_mm256_set1_epi32(index)), more);           \
    }

#include "attn_f32_tmpl.h"
