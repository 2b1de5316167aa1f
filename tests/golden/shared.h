/* Buffers of the tests that run on the CPU and on the emulated device alike. */
#ifndef PRXI_TESTS_GOLDEN_SHARED_H
#define PRXI_TESTS_GOLDEN_SHARED_H

#include <stdlib.h>

#ifdef PRXI_KCHECK_CUDA
#define PRXI_CUDA_PLAIN_BUFFERS
#include "tests/cuda/under_test.h"
#define shared_alloc cuda_test_alloc    /* memory that both sides see */
#define shared_free cuda_test_free
#else
#define shared_alloc malloc
#define shared_free free
#endif

#endif
