/* Matrix product tiles for AVX2: 6 x 16 sums in 12 registers. */
#include "gemm_x86.h"
#include "vec_avx2.h"
#include "vec_math.h"

enum { MR = 6 };
#define EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)

#include "gemm_tmpl.h"
