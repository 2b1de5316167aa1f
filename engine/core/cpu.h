/* What this processor can do, and what of it we may use. */
#ifndef PRXI_CPU_H
#define PRXI_CPU_H

#include <stdint.h>

#define PRXI_ISA_AVX2 1u          /* AVX2 + FMA + F16C */
#define PRXI_ISA_AVX512 2u        /* F, BW, DQ, VL */
#define PRXI_ISA_AVX512_BF16 4u

uint32_t prxi_cpu_detect(void);
/* "ref", "avx2", "avx512" or "auto" -> bits to use; -1 if unknown, -2 if this CPU lacks it.
 * avx512 includes BF16 where the CPU has it. */
int64_t prxi_cpu_mask(const char *name);
const char *prxi_cpu_name(uint32_t isa);  /* "ref", "avx2", "avx512", "avx512_bf16" */
/* Whether vdpbf16ps beats two f32 multiply-adds. AMD cores (Zen 4 on) run it at full rate; Intel's issue one every other cycle or
 * slower (measured on Emerald Rapids: about half the f32 rate) and leave bf16 to AMX. A rule by vendor and not by timing, so that
 * a machine always gives the same bytes. */
int prxi_cpu_fast_bf16_dot(void);
int prxi_cpu_cores(void);                 /* usable by this process (affinity, cgroup quota) */

#endif
