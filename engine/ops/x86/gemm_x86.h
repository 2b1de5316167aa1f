/* Tile kernels by instruction set. */
#ifndef PRXI_GEMM_X86_H
#define PRXI_GEMM_X86_H

#include "engine/ops/gemm_kernel.h"

const prxi_gemm_kernel *prxi_gemm_kernel_avx2(void);
const prxi_gemm_kernel *prxi_gemm_kernel_avx512(void);

#endif
