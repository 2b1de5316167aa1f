/* The device of the emulation: everything happens at once. Memory that is handed out begins as NaN. */
#include "engine/cuda/dev/device.cuh"

#include <stdio.h>
#include <stdlib.h>

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

/* PRAXINO_EMU_CHIP=90: the kernels of Hopper run too. */
static int is_hopper()
{
    const char *chip = getenv("PRAXINO_EMU_CHIP");
    return chip && strcmp(chip, "90") == 0;
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

int prxi_cu_open(void *dev)
{
    slots[0] = slots[1] = {};
    device *d = as_device(dev);
    d->hopper = is_hopper();
    d->multiprocessors = MULTIPROCESSORS;
    d->shared_max = d->hopper ? 227 * 1024 : 99 * 1024;     /* of sm_86, the least */
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

/* There is no cuBLASLt on the host: the plain kernel stands in for it, and says so nowhere but here and in docs/CUDA.md. */
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
    return prxi_cu_gemm_simple(dev, a);
}
