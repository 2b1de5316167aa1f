/* Elementwise ops for AVX-512. */
#include <math.h>

#include "engine/ops/rows.h"
#include "ops_x86.h"
#include "vec_avx512.h"
#include "vec_math.h"

#include "act_tmpl.h"
