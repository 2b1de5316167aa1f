/* Rungs of the x86 ladder: each overwrites what it does better. */
#include <cpuid.h>

#include "attention/tile.h"
#include "engine/core/cpu.h"

/* Whether vdpbf16ps beats two f32 multiply-adds. Intel cores with it issue one 512-bit vdpbf16ps every other cycle, half
 * the f32 rate (measured: 86 against 175 GFLOP/s a core), and leave bf16 to AMX; AMD cores (Zen 4 on) double the rate. A
 * rule by vendor and not by timing, so that a machine always gives the same bytes. */
static int bf16_products_pay(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && d == signature_AMD_edx
           && c == signature_AMD_ecx;
}

void prxi_attn_init_x86(prxi_attn_ops *t, uint32_t isa)
{
    if (!(isa & PRXI_ISA_AVX2))
        return;
    prxi_attn_init_avx2(t);
    if (!(isa & PRXI_ISA_AVX512))
        return;
    prxi_attn_init_avx512(t);
    if (!(isa & PRXI_ISA_AVX512_BF16) || !bf16_products_pay())
        return;
    prxi_attn_init_avx512bf16(t);
}
