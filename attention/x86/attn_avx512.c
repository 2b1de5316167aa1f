/* f32 attention tiles, 16 queries a vector, 8 x 3 register tiles. */
#include <immintrin.h>

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

#include "attn_f32_tmpl.h"
