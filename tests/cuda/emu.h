/* Kernels on the host: each CUDA thread is a fiber, blocks and warps run in random order, and a warp may be left at any
 * barrier. Shared memory begins as NaN; a copy by cp.async is invisible (its target poisoned) until some moment between its start and
 * its wait. What a kernel may rely on by the PTX manual holds, nothing else does.
 * Speed: a few milliseconds for a 64 x 64 x 128 tile of attention. */
#ifndef PRXI_TESTS_CUDA_EMU_H
#define PRXI_TESTS_CUDA_EMU_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#define PRXI_DEVICE static inline
#define PRXI_KERNEL static
#define PRXI_BOUNDS(threads)
#define PRXI_SHARED(name) unsigned char *name = emu_shared()
#define PRXI_UNROLL
#define PRXI_INFINITY INFINITY

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

extern dim3 emu_thread, emu_block, emu_block_size, emu_grid;
#define threadIdx emu_thread
#define blockIdx emu_block
#define blockDim emu_block_size
#define gridDim emu_grid

/* Runs a grid; NULL, or what went wrong (a barrier that never opens, a write outside shared memory). */
const char *emu_run(const char *op, dim3 grid, int threads, size_t shared, const std::function<void()> &kernel);
unsigned char *emu_shared();

/* A place in the source where threads wait. The mutation tests leave one out, or let a wait allow one group more. */
struct emu_site {
    const char *file;
    int line, id;
};
void emu_sync_block(emu_site *site);
void emu_sync_warp(emu_site *site);
void emu_cp_wait(int n, emu_site *site);
#define sync_block() do { static emu_site site_ = { __FILE__, __LINE__, -1 }; emu_sync_block(&site_); } while (0)
#define sync_warp() do { static emu_site site_ = { __FILE__, __LINE__, -1 }; emu_sync_warp(&site_); } while (0)
#define cp_async_wait emu_wait_here
template <int N> static inline void emu_wait_here()
{
    static emu_site site_ = { __BASE_FILE__, -N, -1 };
    emu_cp_wait(N, &site_);
}

void emu_exchange(const void *mine, size_t bytes, const void **all, size_t *stride);
void cp_async16(void *to, const void *from, int valid);
void cp_async_commit();
void ldmatrix(uint32_t r[4], const void *p);
void ldmatrix_trans(uint32_t r[4], const void *p);
void mma_bf16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1);

template <typename T> static inline T emu_shfl_xor(T v, int mask)
{
    const void *all;
    size_t stride;
    emu_exchange(&v, sizeof v, &all, &stride);
    memcpy(&v, static_cast<const char *>(all) + ((threadIdx.x % 32) ^ (unsigned)mask) * stride, sizeof v);
    return v;
}
static inline float shfl_xor(float v, int mask) { return emu_shfl_xor(v, mask); }
static inline int shfl_xor(int v, int mask) { return emu_shfl_xor(v, mask); }
static inline double shfl_xor(double v, int mask) { return emu_shfl_xor(v, mask); }

static inline uint32_t match_any(int v)
{
    const void *all;
    size_t stride;
    uint32_t same = 0;
    emu_exchange(&v, sizeof v, &all, &stride);
    for (unsigned l = 0; l < 32; l++)
        same |= (memcmp(static_cast<const char *>(all) + l * stride, &v, sizeof v) == 0 ? 1u : 0u) << l;
    return same;
}
static inline int count_bits(uint32_t v) { return __builtin_popcount(v); }
static inline void add_shared(int32_t *p, int v) { *p += v; }

/* Wide accesses: another address than a multiple of their size is a fault. */
template <int N> struct alignas(4 * N) words {
    uint32_t w[N];
};
void emu_wide(const void *p, size_t bytes);
template <int N> static inline words<N> load_words(const void *p)
{
    words<N> v;
    emu_wide(p, sizeof v);
    memcpy(&v, p, sizeof v);
    return v;
}
template <int N> static inline void store_words(void *p, words<N> v)
{
    emu_wide(p, sizeof v);
    memcpy(p, &v, sizeof v);
}

static inline float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

#include "emu90.h"
#include "emu_memory.h"

#endif
