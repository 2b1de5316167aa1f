/* Kernel checks: every op, on every instruction set that this processor has, against sums in double; random and awkward inputs, odd
 * sizes, guard bytes round every buffer, one and three threads with equal bytes. `kcheck --bench` times the same calls. */
#ifndef PRXI_KCHECK_H
#define PRXI_KCHECK_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/core/cpu.h"
#include "engine/ops/act.h"
#include "engine/ops/gemm.h"
#include "engine/ops/norm.h"
#ifdef PRXI_KCHECK_CUDA
#include "tests/cuda/under_test.h"
#endif

#define KC_EPS 1.1920929e-7         /* one ulp of 1.0f */
#define KC_HALF_BF16 0.00390625     /* half an ulp of bf16, relative: 2^-8 */

typedef struct kc {
    const char *isa_name;
    uint32_t isa;
    prxi_norm_ops norm;
    prxi_act_ops act;
    prxi_stream one, three;         /* streams of one and three threads */
    prxi_ctx ctx;
    prxi_mem mem;
    uint64_t seed, rng;
    int bench, threads;             /* time instead of check, on so many threads (0: all cores) */
    const char *filter;             /* NULL or part of a check's name */
    char name[96];                  /* of the running check */
    int passed, failed;
} kc;

/* A buffer between guard bytes. */
typedef struct kc_buf {
    unsigned char *raw;
    void *p;
    size_t bytes;
} kc_buf;

typedef enum kc_input { KC_UNIFORM, KC_WIDE, KC_ZERO, KC_CONSTANT, KC_SPIKE, KC_TINY, KC_INPUTS } kc_input;
/* Running worst case of |got - want| / tolerance; NaN where want is a number counts as infinite. */
typedef struct kc_worst {
    double ratio, got, want;
    size_t at;
} kc_worst;

enum { KC_GUARD = 192 };

static const char *const kc_input_name[KC_INPUTS] = { "uniform", "wide", "zero", "constant", "spike", "tiny" };

static inline uint32_t kc_u32(kc *k)
{
    /* xorshift64* (Vigna, 2014) */
    k->rng ^= k->rng >> 12;
    k->rng ^= k->rng << 25;
    k->rng ^= k->rng >> 27;
    return (uint32_t)((k->rng * 2685821657736338717ull) >> 32);
}

/* [-1, 1) */
static inline float kc_uniform(kc *k)
{
    return (float)(int32_t)(kc_u32(k) & 0xffffff00u) / 2147483648.0f;
}

/* Filled with 0xaa, guards included. */
static inline kc_buf kc_alloc(size_t bytes)
{
    kc_buf b = { .raw = malloc(bytes + 2 * KC_GUARD + 64), .bytes = bytes };
    if (!b.raw) {
        fprintf(stderr, "kcheck: out of memory\n");
        exit(1);
    }
    b.p = (unsigned char *)(((uintptr_t)b.raw + KC_GUARD + 63) & ~(uintptr_t)63);
    memset(b.raw, 0xaa, bytes + 2 * KC_GUARD + 64);
    return b;
}

static inline void kc_free(kc_buf *b)
{
    free(b->raw);
    memset(b, 0, sizeof *b);
}

static inline float kc_input_value(kc *k, size_t i, size_t dim, kc_input kind)
{
    const float u = kc_uniform(k);
    switch (kind) {
    case KC_WIDE: return u * exp2f((float)(kc_u32(k) % 24) - 12.0f);
    case KC_ZERO: return kc_u32(k) & 1 ? 0.0f : -0.0f;
    case KC_CONSTANT: return (float)(i / dim % 7) - 2.5f;
    case KC_SPIKE: return i % dim == (i / dim * 13) % dim ? 300.0f : 0.01f * u;
    case KC_TINY: return u * 1e-39f;
    default: return u;
    }
}

/* n elements of a kind of input; rows of dim matter to KC_SPIKE and KC_CONSTANT. */
static inline void kc_fill(kc *k, void *p, prxi_dtype t, size_t n, size_t dim, kc_input kind)
{
    for (size_t i = 0; i < n; i++)
        prxi_store(p, t, i, kc_input_value(k, i, dim, kind));
}

/* Starts a check; 0 when the filter leaves it out. */
static inline int kc_begin(kc *k, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(k->name, sizeof k->name, fmt, ap);
    va_end(ap);
    return !k->filter || strstr(k->name, k->filter) != NULL;
}

static inline void kc_result(kc *k, int ok, const char *fmt, ...)
{
    if (ok) {
        k->passed++;
        return;
    }
    k->failed++;
    fprintf(stderr, "%s on %s: ", k->name, k->isa_name);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, " (seed %llu)\n", (unsigned long long)k->seed);
}

static inline void kc_guards(kc *k, const kc_buf *b, const char *what)
{
    const unsigned char *p = b->p;
    int bad = 0;
    for (int i = 1; i <= KC_GUARD; i++)
        bad += p[-i] != 0xaa;
    for (int i = 0; i < KC_GUARD; i++)
        bad += p[b->bytes + (size_t)i] != 0xaa;
    kc_result(k, bad == 0, "%s: %d bytes written outside", what, bad);
}

static inline void kc_same_bytes(kc *k, const void *a, const void *b, size_t n, const char *what)
{
    size_t i = 0;
    while (i < n && ((const unsigned char *)a)[i] == ((const unsigned char *)b)[i])
        i++;
    kc_result(k, i == n, "%s: bytes differ, first at %zu of %zu", what, i, n);
}

static inline void kc_compare(kc_worst *w, size_t at, double got, double want, double tolerance)
{
    const double diff = fabs(got - want);
    double ratio = diff == 0 || (isnan(got) && isnan(want)) || got == want ? 0 : diff / tolerance;
    if (isnan(ratio))
        ratio = INFINITY;
    if (ratio > w->ratio)
        *w = (kc_worst) { ratio, got, want, at };
}

static inline void kc_close(kc *k, const kc_worst *w, const char *what)
{
    kc_result(k, w->ratio <= 1, "%s: %.9g instead of %.9g at %zu: %.3g times the tolerance", what, w->got, w->want, w->at,
              w->ratio);
}

static inline double kc_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline int kc_by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median time of fn(cookie) over at least 0.2 s, with GB/s and GFLOP/s (0: left out). */
static inline void kc_time(kc *k, void (*fn)(void *cookie), void *cookie, double bytes, double flops)
{
    enum { MAX = 2000 };
    static double t[MAX];
    int n = 0;
    fn(cookie);
    for (const double start = kc_now(); n < MAX && (n < 5 || kc_now() - start < 0.2); n++) {
        const double t0 = kc_now();
        fn(cookie);
        t[n] = kc_now() - t0;
    }
    qsort(t, (size_t)n, sizeof *t, kc_by_value);
    const double median = t[n / 2];
    printf("%-44s %-11s %10.2f us (best %10.2f)", k->name, k->isa_name, median * 1e6, t[0] * 1e6);
    if (bytes > 0)
        printf(" %8.2f GB/s", bytes / median * 1e-9);
    if (flops > 0)
        printf(" %8.1f GFLOP/s", flops / median * 1e-9);
    putchar('\n');
}

static inline void kc_run_isa(kc *k, uint32_t isa, void (*check)(kc *k))
{
    k->isa = isa;
    k->isa_name = prxi_cpu_name(isa);
    k->rng = k->seed * 0x9e3779b97f4a7c15ull | 1;
    memset(&k->norm, 0, sizeof k->norm);
    memset(&k->act, 0, sizeof k->act);
    prxi_norm_init_ref(&k->norm);
    prxi_norm_init_x86(&k->norm, isa);
    prxi_act_init_ref(&k->act);
    prxi_act_init_x86(&k->act, isa);
#ifdef PRXI_KCHECK_CUDA
    k->isa_name = cuda_tables(&k->norm, &k->act, NULL);
    k->one.device = k->three.device = cuda_device();
#endif
    check(k);
    kc_result(k, prxi_stream_error(&k->one) == PRX_OK && prxi_stream_error(&k->three) == PRX_OK, "%s",
              k->ctx.error.text);
    prxi_stream_close(&k->one);
    prxi_stream_close(&k->three);
    kc_result(k, atomic_load(&k->mem.total) == 0, "%zu bytes leak", atomic_load(&k->mem.total));
}

static inline int kc_usage(void)
{
    printf("usage: kcheck [--bench] [--seed N] [--isa ref|avx2|avx512] [--threads N] [part of a name]\n");
    return 2;
}

static inline int kc_parse(kc *k, int argc, char **argv, const char **isa)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0)
            k->bench = 1;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            k->seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc)
            *isa = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            k->threads = atoi(argv[++i]);
        else if (argv[i][0] != '-')
            k->filter = argv[i];
        else
            return 0;
    }
    return 1;
}

/* The whole program: check on each rung. */
static inline int kc_main(int argc, char **argv, void (*check)(kc *k))
{
    static kc k;
    const char *isa = NULL;
    k.seed = (uint64_t)time(NULL);
    if (!kc_parse(&k, argc, argv, &isa))
        return kc_usage();
    prxi_mem_init(&k.mem, NULL);
    k.ctx.mem = &k.mem;
    prxi_stream_init(&k.one, &k.ctx, !k.bench ? 1 : k.threads > 0 ? k.threads : prxi_cpu_cores());
    prxi_stream_init(&k.three, &k.ctx, 3);
    printf("kcheck: seed %llu\n", (unsigned long long)k.seed);
#ifdef PRXI_KCHECK_CUDA
    static const char *const rungs[] = { "ref" };     /* replaced by the tables of the device */
#else
    static const char *const rungs[] = { "ref", "avx2", "avx512" };
#endif
    for (size_t i = 0; i < sizeof rungs / sizeof *rungs; i++) {
        const int64_t mask = prxi_cpu_mask(rungs[i]);
        if (mask >= 0 && (!isa || strcmp(isa, rungs[i]) == 0))
            kc_run_isa(&k, (uint32_t)mask, check);
    }
    prxi_stream_close(&k.one);
    prxi_stream_close(&k.three);
    printf("%d passed, %d failed\n", k.passed, k.failed);
    return k.failed || !k.passed;
}

#endif
