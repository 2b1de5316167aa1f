/* Which tile kernel a mask of instruction sets allows. */
#include "engine/core/cpu.h"
#include "engine/ops/gemm_kernel.h"

const prxi_gemm_kernel *prxi_gemm_kernel_x86(uint32_t isa)
{
    (void)isa;
    return NULL;
}
