/* Normalisation for AVX2. */
#include <math.h>

#include "engine/ops/rows.h"
#include "ops_x86.h"
#include "vec_avx2.h"
#include "vec_math.h"

#include "norm_tmpl.h"
