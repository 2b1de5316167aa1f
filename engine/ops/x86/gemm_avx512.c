/* Matrix product tiles for AVX-512: 14 x 32 sums in 28 registers. */
#include "gemm_x86.h"
#include "vec_avx512.h"
#include "vec_math.h"

enum { MR = 14 };
#define EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)

#include "gemm_tmpl.h"
