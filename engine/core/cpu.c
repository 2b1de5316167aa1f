/* CPU features by CPUID and XCR0; usable cores by affinity and cgroup quota. */
#define _GNU_SOURCE
#include "cpu.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

uint32_t prxi_cpu_detect(void)
{
    unsigned a, b, c, d, isa = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    const int fma = (c & bit_FMA) && (c & bit_F16C);
    const uint64_t os = xcr0();
    if ((os & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if (fma && (b & bit_AVX2))
        isa |= PRXI_ISA_AVX2;
    const unsigned need = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((isa & PRXI_ISA_AVX2) && (os & 0xe0) == 0xe0 && (b & need) == need) {
        isa |= PRXI_ISA_AVX512;
        if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5)))
            isa |= PRXI_ISA_AVX512_BF16;
    }
    return isa;
}

int prxi_cpu_fast_bf16_dot(void)
{
    unsigned a, b, c, d;
    return (prxi_cpu_detect() & PRXI_ISA_AVX512_BF16) && __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx &&
           c == signature_AMD_ecx && d == signature_AMD_edx;
}
#else
uint32_t prxi_cpu_detect(void)
{
    return 0;
}

int prxi_cpu_fast_bf16_dot(void)
{
    return 0;
}
#endif

int64_t prxi_cpu_mask(const char *name)
{
    const uint32_t have = prxi_cpu_detect();
    if (strcmp(name, "auto") == 0)
        return have;
    if (strcmp(name, "ref") == 0)
        return 0;
    if (strcmp(name, "avx2") == 0)
        return have & PRXI_ISA_AVX2 ? (int64_t)PRXI_ISA_AVX2 : -2;
    if (strcmp(name, "avx512") == 0)
        return have & PRXI_ISA_AVX512 ? (int64_t)have : -2;
    return -1;
}

const char *prxi_cpu_name(uint32_t isa)
{
    return isa & PRXI_ISA_AVX512_BF16 ? "avx512_bf16"
           : isa & PRXI_ISA_AVX512    ? "avx512"
           : isa & PRXI_ISA_AVX2      ? "avx2"
                                      : "ref";
}

static int cgroup_cores(void)
{
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    long long quota = 0, period = 0;
    if (!f)
        return 0;
    const int n = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int prxi_cpu_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    const int quota = cgroup_cores();
    if (quota > 0 && quota < n)
        n = quota;
    return n > 0 ? n : 1;
}
