/* What Hopper alone has (sm_90a): barriers in shared memory, copies of tensor boxes, matrix products of a warpgroup of four warps. Its
 * other side, with the freedom that the hardware has, is tests/cuda/emu90.h. */
#ifndef PRXI_CUDA_PRIM90_CUH
#define PRXI_CUDA_PRIM90_CUH

#include "prim.cuh"

#ifdef PRXI_CUDA_EMU
#define PRXI_HOPPER 1
#else
#include <cuda.h>

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define PRXI_HOPPER 1
#endif

#define PRXI_BOUNDS_ALONE(threads) __launch_bounds__(threads, 1)
#define PRXI_GRID_CONSTANT __grid_constant__

typedef CUtensorMap tensor_map;
typedef uint64_t mbarrier;

/* ---- barriers in shared memory (PTX ISA: mbarrier) ---- */

PRXI_DEVICE void barrier_open(mbarrier *b, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals) : "memory");
}
/* After the last barrier_open, before the block's barrier: copies may then use them. */
PRXI_DEVICE void barrier_publish()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
PRXI_DEVICE void barrier_arrive(mbarrier *b)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
/* Arrives, and the phase also waits for this many bytes of copies. */
PRXI_DEVICE void barrier_expect(mbarrier *b, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes) : "memory");
}
/* Until the phase of this parity is over; the first phase has parity 0, the one before it 1. */
PRXI_DEVICE void barrier_wait(mbarrier *b, uint32_t parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(shared_address(b)), "r"(parity) : "memory");
}

/* ---- barriers by number, for `threads` threads in whole warps; 0 is the block's ---- */

PRXI_DEVICE void group_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
PRXI_DEVICE void group_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

/* ---- copies ---- */

/* The box of the map at (column, head, row) to shared memory, later: rows of 128 bytes, 16-byte chunks changing places by row. What lies
 * outside of the tensor becomes zero. */
PRXI_DEVICE void copy_box(void *to, const tensor_map *map, int column, int head, int row, mbarrier *b)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
                 ::"r"(shared_address(to)), "l"(map), "r"(shared_address(b)), "r"(column), "r"(head), "r"(row) : "memory");
}

/* ---- registers of a warpgroup ---- */

template <int N> PRXI_DEVICE void registers_up() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> PRXI_DEVICE void registers_down() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }

/* ---- products of a warpgroup (PTX ISA: wgmma). Operands in shared memory are named by descriptors. ---- */

PRXI_DEVICE void product_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
PRXI_DEVICE void product_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> PRXI_DEVICE void product_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

/* Registers that a product reads or writes: the compiler must not move their use across. */
template <int N> PRXI_DEVICE void settle(float *r)
{
    PRXI_UNROLL
    for (int i = 0; i < N; i++)
        asm volatile("" : "+f"(r[i])::"memory");
}

/* Operand lists of the two instructions. */
#define PRXI_R32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
    "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define PRXI_R64 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
    "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, " \
    "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, " \
    "%59, %60, %61, %62, %63"
#define PRXI_F4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define PRXI_F16(d, i) PRXI_F4(d, i), PRXI_F4(d, i + 4), PRXI_F4(d, i + 8), PRXI_F4(d, i + 12)

/* s[64 x 128] (+)= a[64 x 16] b[128 x 16]^T, both in shared memory, rows of 16 elements along their rows. */
PRXI_DEVICE void product_scores(float s[64], uint64_t a, uint64_t b, int add)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" PRXI_R64 "}, %64, %65, p, 1, 1, 0, 0;\n}"
                 : PRXI_F16(s, 0), PRXI_F16(s, 16), PRXI_F16(s, 32), PRXI_F16(s, 48)
                 : "l"(a), "l"(b), "r"(add));
}

/* o[64 x D] += p[64 x 16] v[16 x D]: p in registers, v in shared memory with its rows along the columns of o. */
PRXI_DEVICE void product_values64(float *o, const uint32_t p[4], uint64_t v)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" PRXI_R32 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
                 : PRXI_F16(o, 0), PRXI_F16(o, 16)
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));
}
PRXI_DEVICE void product_values128(float *o, const uint32_t p[4], uint64_t v)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" PRXI_R64 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
                 : PRXI_F16(o, 0), PRXI_F16(o, 16), PRXI_F16(o, 32), PRXI_F16(o, 48)
                 : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "l"(v));
}

template <int D> PRXI_DEVICE void product_values(float *o, const uint32_t p[4], uint64_t v)
{
    if constexpr (D == 64)
        product_values64(o, p, v);
    else
        product_values128(o, p, v);
}

/* ---- small things ---- */

PRXI_DEVICE float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
PRXI_DEVICE uint32_t pack_fast(float low, float high)
{
    uint32_t u;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(u) : "f"(high), "f"(low));
    return u;
}
PRXI_DEVICE int shfl_from(int v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
PRXI_DEVICE int take(int32_t *counter) { return atomicAdd(counter, 1); }

#endif

/* ---- the same on both sides ---- */

/* Descriptors of operands with 128-byte rows and swizzled chunks, groups of 8 rows one after the other (1024 bytes).
 * Rows along the sum (scores): the distance between slabs of 64 columns is the caller's, as a product takes 16 columns only. */
PRXI_DEVICE uint64_t operand(const void *p)
{
    return (uint64_t)(shared_address(p) >> 4 & 0x3fffu) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
/* Rows across the sum (values): slabs of 64 columns lie slab bytes apart. */
PRXI_DEVICE uint64_t operand_across(const void *p, int slab)
{
    return (uint64_t)(shared_address(p) >> 4 & 0x3fffu) | (uint64_t)(slab >> 4) << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
/* A descriptor so many bytes on. */
PRXI_DEVICE uint64_t operand_at(uint64_t d, int bytes) { return d + (uint64_t)(bytes >> 4); }

#endif
