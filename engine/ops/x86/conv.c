/* Which vector files overwrite the reference slots of the convolution table. */
#include "conv_x86.h"

#include "engine/core/cpu.h"
#include "engine/ops/onednn/gemm.h"

void prxi_conv_init_x86(prxi_conv_ops *t, uint32_t isa)
{
#if defined(__x86_64__)
    if (isa & PRXI_ISA_AVX2)
        prxi_conv_init_avx2(t);
    if (isa & PRXI_ISA_AVX512)
        prxi_conv_init_avx512(t);
    if ((isa & PRXI_ISA_AVX512) && (isa & PRXI_ISA_AVX512_BF16) && prxi_cpu_fast_bf16_dot())
        prxi_conv_init_avx512bf16(t);
    t->matmul = (isa & PRXI_ISA_AVX512_BF16) && prxi_dnn_amx();
#else
    (void)t, (void)isa;
#endif
}
