/* Which vector files overwrite the reference slots of the norm and act tables. */
#include "engine/core/cpu.h"
#include "ops_x86.h"

void prxi_norm_init_x86(prxi_norm_ops *t, uint32_t isa)
{
#if defined(__x86_64__)
    if (isa & PRXI_ISA_AVX2)
        prxi_norm_init_avx2(t);
    if (isa & PRXI_ISA_AVX512)
        prxi_norm_init_avx512(t);
#else
    (void)t, (void)isa;
#endif
}

void prxi_act_init_x86(prxi_act_ops *t, uint32_t isa)
{
#if defined(__x86_64__)
    if (isa & PRXI_ISA_AVX2)
        prxi_act_init_avx2(t);
    if (isa & PRXI_ISA_AVX512)
        prxi_act_init_avx512(t);
#else
    (void)t, (void)isa;
#endif
}
