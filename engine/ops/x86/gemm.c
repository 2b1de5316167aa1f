/* Which tile kernel a mask of instruction sets allows. */
#include "engine/core/cpu.h"
#include "gemm_x86.h"

const prxi_gemm_kernel *prxi_gemm_kernel_x86(uint32_t isa)
{
#if defined(__x86_64__)
    if (isa & PRXI_ISA_AVX512)
        return prxi_gemm_kernel_avx512();
    if (isa & PRXI_ISA_AVX2)
        return prxi_gemm_kernel_avx2();
#endif
    (void)isa;
    return NULL;
}
