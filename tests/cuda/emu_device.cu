/* The device of the emulation: everything happens at once. Memory that is handed out begins as NaN. */
#include "engine/cuda/dev/device.cuh"

#include "engine/cuda/dev/fp8.cuh"

#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "emu_control.h"
#include "emu_memory.h"

static int pinned, allocations, refused;

/* A slot's bytes arrive when kernels are told that they may be waited for, not before; to fill a slot that has not been left is a fault. */
static struct {
    void *to;
    const void *from;
    size_t bytes;
    bool read;
} slots[2];

int emu_refuse_memory(int n)
{
    const int seen = allocations;
    allocations = 0;
    refused = n;
    return seen;
}

int emu_blocks(void)
{
    return emu_memory_blocks() + pinned;
}

size_t emu_bytes(void)
{
    return emu_memory_bytes();
}

enum { MULTIPROCESSORS = 3 };

/* PRAXINO_EMU_CHIP: 86 if nothing is said; 80, with more shared memory; 90: the kernels of Hopper run too. */
static bool is_chip(const char *want)
{
    const char *chip = getenv("PRAXINO_EMU_CHIP");
    return chip && strcmp(chip, want) == 0;
}

static int is_hopper()
{
    return is_chip("90");
}

size_t prxi_cu_device_bytes(void)
{
    return sizeof(device);
}

int prxi_cu_probe(prxi_cu_info *info)
{
    memset(info, 0, sizeof *info);
    snprintf(info->name, sizeof info->name, "emulation on the host");
    snprintf(info->archs, sizeof info->archs, "none");
    info->devices = 1;
    info->hopper = is_hopper();
    info->fp8 = info->hopper;
    info->major = info->hopper ? 9 : 8;
    info->emulated = 1;
    info->multiprocessors = MULTIPROCESSORS;
    const char *memory = getenv("PRAXINO_EMU_MEMORY");      /* bytes, for tests of plans that do not fit */
    info->memory = info->memory_free = memory ? (size_t)atoll(memory) : (size_t)4 << 30;
    return PRX_OK;
}

static device *latest;

void emu_shared_room(int kib)
{
    latest->shared_max = kib * 1024;
}

int prxi_cu_open(void *dev)
{
    slots[0] = slots[1] = {};
    device *d = as_device(dev);
    latest = d;
    d->hopper = is_hopper();
    d->multiprocessors = MULTIPROCESSORS;
    d->shared_max = (d->hopper ? 227 : is_chip("80") ? 163 : 99) * 1024;
    emu_seed(1);
    return PRX_OK;
}

void prxi_cu_close(void *dev)
{
    (void)dev;
}

/* PRX_OK, or the error of every call once the device is lost. */
static int alive(void *dev, const char *op)
{
    return emu_device_lost() ? prxi_cu_fail(as_device(dev), PRX_EIO, op, "the device is lost") : PRX_OK;
}

/* False: refused, and why is recorded. */
static bool may_take(device *d)
{
    if (alive(d, "device memory") < 0)
        return false;
    if (++allocations == refused)
        prxi_cu_fail(d, PRX_ENOMEM, "device memory", "out of memory");
    return allocations != refused;
}

void *prxi_cu_alloc(void *dev, size_t bytes)
{
    return may_take(as_device(dev)) ? emu_memory_take(bytes, false) : nullptr;
}

void *prxi_cu_alloc_shared(void *dev, size_t bytes)
{
    return may_take(as_device(dev)) ? emu_memory_take(bytes, true) : nullptr;
}

void prxi_cu_release(void *dev, void *p)
{
    (void)dev;
    if (p && !emu_memory_give(p)) {
        fprintf(stderr, "emulated device: a block was written beyond its end, or is none\n");
        abort();
    }
}

int prxi_cu_put(void *dev, void *to, const void *host, size_t bytes)
{
    const int err = alive(dev, "copy to the device");
    const emu_as_device here;
    if (err == PRX_OK)
        memcpy(to, host, bytes);
    return err;
}

int prxi_cu_get(void *dev, void *host, const void *from, size_t bytes)
{
    const int err = alive(dev, "copy from the device");
    const emu_as_device here;
    if (err == PRX_OK)
        memcpy(host, from, bytes);
    return err;
}

int prxi_cu_copy(void *dev, void *to, const void *from, size_t bytes)
{
    const int err = alive(dev, "copy on the device");
    const emu_as_device here;
    const void *both[2] = { to, from };
    if (bytes > 0 && emu_memory_is_host(both, sizeof both))
        return prxi_cu_fail(as_device(dev), PRX_EINTERNAL, "copy on the device", "memory of the host");
    if (err == PRX_OK)
        memcpy(to, from, bytes);
    return err;
}

/* Page-locked memory is the host's. */
void *prxi_cu_alloc_host(void *dev, size_t bytes)
{
    void *p = may_take(as_device(dev)) ? malloc(bytes) : nullptr;
    if (p)
        memset(p, 0xff, bytes);
    pinned += p != nullptr;
    return p;
}

void prxi_cu_release_host(void *dev, void *p)
{
    (void)dev;
    pinned -= p != nullptr;
    free(p);
}

int prxi_cu_fetch(void *dev, int slot, void *to, const void *host, size_t bytes)
{
    if (slots[slot].read)
        return prxi_cu_fail(as_device(dev), PRX_EINTERNAL, "copy of weights", "the slot is still being read");
    const emu_as_device here;
    memset(to, 0xff, bytes);
    slots[slot] = { to, host, bytes, false };
    return PRX_OK;
}

int prxi_cu_arrive(void *dev, int slot)
{
    (void)dev;
    const emu_as_device here;
    if (slots[slot].bytes)
        memcpy(slots[slot].to, slots[slot].from, slots[slot].bytes);
    slots[slot].bytes = 0;
    slots[slot].read = true;
    return PRX_OK;
}

int prxi_cu_leave(void *dev, int slot)
{
    (void)dev;
    slots[slot].read = false;
    return PRX_OK;
}

int prxi_cu_zero(void *dev, void *p, size_t bytes)
{
    (void)dev;
    const emu_as_device here;
    memset(p, 0, bytes);
    return PRX_OK;
}

int prxi_cu_sync(void *dev)
{
    return alive(dev, "waiting for the device");
}

/* Time is that of the emulated machine: what launches cost, and what tests add. */
static double marks[2];

int prxi_cu_mark(void *dev, int i)
{
    (void)dev;
    marks[i] = emu_clock(0);
    return PRX_OK;
}

int prxi_cu_between(void *dev, float *ms)
{
    (void)dev;
    *ms = static_cast<float>((marks[1] - marks[0]) / 1000);
    return PRX_OK;
}

void *prxi_cu_stream(void *dev)
{
    (void)dev;
    return nullptr;
}

/* There is no cuBLASLt on the host. What stands in for it has the bits of gemm_simple (cuda/ops) and not its speed: a fiber for each
 * WIDE columns, sums side by side in vector registers where there are any. docs/CUDA.md says so. */
static constexpr int64_t WIDE = 32;

struct product {
    const prxi_cu_gemm *a;
    std::vector<float> x, w;           /* [m][k]; [k][WIDE] of the columns at work */
};

static float widened(const void *p, int type, int64_t i)
{
    return type == PRXI_CU_E4M3 ? load(static_cast<const e4m3 *>(p), i)
           : type               ? load(static_cast<const bf16 *>(p), i) : load(static_cast<const float *>(p), i);
}

static inline __attribute__((always_inline)) void sums_of(int64_t k, const float *x, const float *w, float *sum)
{
    float s[WIDE] = { 0 };
    for (int64_t i = 0; i < k; i++)
        for (int j = 0; j < WIDE; j++)
            s[j] = __builtin_fmaf(x[i], w[i * WIDE + j], s[j]);
    memcpy(sum, s, sizeof s);
}

static void sums_anywhere(int64_t k, const float *x, const float *w, float *sum)
{
    sums_of(k, x, w, sum);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void sums_by_fma(int64_t k, const float *x, const float *w, float *sum)
{
    sums_of(k, x, w, sum);
}
#endif

static void finish(const prxi_cu_gemm *a, int64_t row, int64_t col, float sum)
{
    const float scale = a->x_scale ? a->x_scale[row] * a->w_scale[col] : a->alpha != 0 ? a->alpha : 1.0f;
    float v = scale * sum + (a->bias ? widened(a->bias, a->out, col) : 0.0f);
    v = a->epilogue == 1 ? gelu_tanh(v) : a->epilogue == 2 ? silu(v) : v;
    if (a->out)
        store(static_cast<bf16 *>(a->y), row * a->ldy + col, v);
    else
        store(static_cast<float *>(a->y), row * a->ldy + col, v);
}

static void columns(product *p, int64_t first)
{
    const prxi_cu_gemm *a = p->a;
    const int64_t ldw = a->ldw ? a->ldw : a->plain ? a->n : a->k, n = a->n - first < WIDE ? a->n - first : WIDE;
    void (*sums)(int64_t, const float *, const float *, float *) = sums_anywhere;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        sums = sums_by_fma;
#endif
    for (int64_t i = 0; i < a->k; i++)
        for (int64_t j = 0; j < WIDE; j++)
            p->w[static_cast<size_t>(i * WIDE + j)] =
                j < n ? widened(a->w, a->compute, a->plain ? i * ldw + first + j : (first + j) * ldw + i) : 0.0f;
    for (int64_t row = 0; row < a->m; row++) {
        float sum[WIDE];
        sums(a->k, p->x.data() + row * a->k, p->w.data(), sum);
        for (int64_t j = 0; j < n; j++)
            finish(a, row, first + j, sum[j]);
    }
}

static int multiply(device *d, const prxi_cu_gemm *a)
{
    if (a->m <= 0 || a->n <= 0)
        return PRX_OK;
    if (emu_points_to_host(*a))
        return prxi_cu_fail(d, PRX_EINTERNAL, "gemm", "an argument points to memory of the host");
    const emu_as_device here;
    product p = { a, std::vector<float>(static_cast<size_t>(a->m * a->k)), std::vector<float>(static_cast<size_t>(WIDE * a->k)) };
    for (int64_t i = 0; i < a->m * a->k; i++)
        p.x[static_cast<size_t>(i)] = widened(a->x, a->compute, i / a->k * a->ldx + i % a->k);
    const char *fault = emu_run("gemm", dim3(static_cast<unsigned>(ceil_div(a->n, WIDE))), 32, 0, [&] {
        if (threadIdx.x == 0)
            columns(&p, static_cast<int64_t>(blockIdx.x) * WIDE);
    });
    return fault ? prxi_cu_fail(d, PRX_EINTERNAL, "gemm", fault) : PRX_OK;
}

static prxi_cu_gemm_memory memory;
static int recalled;

void prxi_cu_gemm_remember(void *dev, const prxi_cu_gemm_memory *m)
{
    (void)dev;
    memory = *m;
}

int emu_gemms_recalled(void)
{
    const int n = recalled;
    recalled = 0;
    return n;
}

/* An algorithm is a few bytes of the shape, here: to be asked for and given away as the real one is. */
static void remember(const prxi_cu_gemm *a)
{
    const int64_t shape[PRXI_CU_GEMM_SHAPE] = { a->m, a->n, a->k, a->ldx, a->ldy, a->ldw, a->compute, a->out, a->epilogue,
                                                a->bias != nullptr, a->plain, 16 };
    unsigned char want[PRXI_CU_GEMM_ALGORITHM], got[PRXI_CU_GEMM_ALGORITHM];
    for (int i = 0; i < PRXI_CU_GEMM_ALGORITHM; i++)
        want[i] = static_cast<unsigned char>(shape[i % 3] * 37 + i);
    if (!memory.find || !memory.tune)
        return;
    if (memory.find(memory.cookie, shape, got))
        recalled += memcmp(want, got, sizeof got) == 0;
    else
        memory.keep(memory.cookie, shape, want);
}

int prxi_cu_gemm_lt(void *dev, const prxi_cu_gemm *a)
{
    remember(a);
    return multiply(as_device(dev), a);
}
