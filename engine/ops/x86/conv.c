/* Which vector files overwrite the reference slots of the convolution table. */
#include "conv_x86.h"

#include "engine/core/cpu.h"
#include "engine/ops/onednn/gemm.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* The bf16 dot product does two multiply-adds a lane. On Intel cores it has a third of the rate of the f32 one (measured on
 * Emerald Rapids: 85 GFLOP/s against 147), so widening wins; AMD's has the full rate. */
static int dot_is_fast(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}
#endif

void prxi_conv_init_x86(prxi_conv_ops *t, uint32_t isa)
{
#if defined(__x86_64__)
    if (isa & PRXI_ISA_AVX2)
        prxi_conv_init_avx2(t);
    if (isa & PRXI_ISA_AVX512)
        prxi_conv_init_avx512(t);
    if ((isa & PRXI_ISA_AVX512) && (isa & PRXI_ISA_AVX512_BF16) && dot_is_fast())
        prxi_conv_init_avx512bf16(t);
    t->matmul = (isa & PRXI_ISA_AVX512_BF16) && prxi_dnn_amx();
#else
    (void)t, (void)isa;
#endif
}
