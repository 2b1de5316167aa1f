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
int prxi_cpu_cores(void);                 /* usable by this process (affinity, cgroup quota) */

#endif
