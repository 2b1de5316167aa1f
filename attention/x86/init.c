/* Rungs of the x86 ladder: each overwrites what it does better. */
#include "attention/tile.h"
#include "engine/core/cpu.h"

void prxi_attn_init_x86(prxi_attn_ops *t, uint32_t isa)
{
    if (!(isa & PRXI_ISA_AVX2))
        return;
    prxi_attn_init_avx2(t);
    if (!(isa & PRXI_ISA_AVX512))
        return;
    prxi_attn_init_avx512(t);
    if (!(isa & PRXI_ISA_AVX512_BF16) || !prxi_cpu_fast_bf16_dot())
        return;
    prxi_attn_init_avx512bf16(t);
}
