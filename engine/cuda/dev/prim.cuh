/* The machine as the kernels see it. All PTX is here, and here alone; with PRXI_CUDA_EMU (a header of the tests) the same kernels
 * compile as C++ for the host, where each primitive is modelled with the freedom that the hardware has. */
#ifndef PRXI_CUDA_PRIM_CUH
#define PRXI_CUDA_PRIM_CUH

#include <math.h>
#include <stdint.h>

#ifdef PRXI_CUDA_EMU
#include PRXI_CUDA_EMU
#else

#define PRXI_DEVICE static __device__ __forceinline__
#define PRXI_KERNEL static __global__
#define PRXI_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define PRXI_UNROLL _Pragma("unroll")
#define PRXI_BOUNDS(threads) __launch_bounds__(threads)
#define PRXI_INFINITY __int_as_float(0x7f800000)

PRXI_DEVICE float bits_float(uint32_t u) { return __uint_as_float(u); }
PRXI_DEVICE uint32_t float_bits(float f) { return __float_as_uint(f); }

PRXI_DEVICE float shfl_xor(float v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
PRXI_DEVICE int shfl_xor(int v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
PRXI_DEVICE double shfl_xor(double v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
/* Bit l: lane l has the same value. */
PRXI_DEVICE uint32_t match_any(int v) { return __match_any_sync(0xffffffffu, v); }
PRXI_DEVICE int count_bits(uint32_t v) { return __popc(v); }
/* Whole numbers: the sum is the same in any order. */
PRXI_DEVICE void add_shared(int32_t *p, int v) { atomicAdd(p, v); }
PRXI_DEVICE void sync_block() { __syncthreads(); }
PRXI_DEVICE void sync_warp() { __syncwarp(); }

/* 8 or 16 bytes that are read or written at once; their address is a multiple of as many. */
template <int N> struct alignas(4 * N) words {
    uint32_t w[N];
};
template <int N> PRXI_DEVICE words<N> load_words(const void *p) { return *static_cast<const words<N> *>(p); }
template <int N> PRXI_DEVICE void store_words(void *p, words<N> v) { *static_cast<words<N> *>(p) = v; }

PRXI_DEVICE uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* 16 bytes from global to shared memory, later; zeros when !valid (from is then not read). PTX ISA: cp.async. */
PRXI_DEVICE void cp_async16(void *to, const void *from, int valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
PRXI_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most N groups of this thread are under way; other threads see the data after a barrier. */
template <int N> PRXI_DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

/* Four 8 x 8 tiles of 16-bit elements; lane 8 i + r gives the address of row r of tile i. */
PRXI_DEVICE void ldmatrix(uint32_t r[4], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}
PRXI_DEVICE void ldmatrix_trans(uint32_t r[4], const void *p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}

/* c[16 x 8] += a[16 x 16] b[16 x 8], bf16 in, f32 sums. */
PRXI_DEVICE void mma_bf16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif

/* ---- the same on both sides ---- */

typedef uint16_t bf16;

PRXI_DEVICE float load(const float *p, int64_t i) { return p[i]; }
PRXI_DEVICE float load(const bf16 *p, int64_t i) { return bits_float((uint32_t)p[i] << 16); }

/* To nearest, ties to even; NaN stays NaN: prxi_f32_to_bf16. */
PRXI_DEVICE bf16 round_bf16(float f)
{
    const uint32_t u = float_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (bf16)(u >> 16 | 0x40u);
    return (bf16)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

PRXI_DEVICE float store(float *p, int64_t i, float v) { return p[i] = v; }
/* Returns what the memory now holds. */
PRXI_DEVICE float store(bf16 *p, int64_t i, float v)
{
    p[i] = round_bf16(v);
    return load(p, i);
}

PRXI_DEVICE uint32_t pack_bf16(float low, float high)
{
    return (uint32_t)round_bf16(low) | (uint32_t)round_bf16(high) << 16;
}

PRXI_DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }
PRXI_DEVICE float gelu_tanh(float x)
{
    const float u = 0.7978845608f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * u));
}

/* N values in a row: one, or as many as 16 bytes hold, or (four bf16) 8, or f32 in pieces of 16. From and to where an aligned run
 * begins. */
template <int N> PRXI_DEVICE void load_run(const float *p, float v[N])
{
    if constexpr (N == 1) {
        v[0] = *p;
    } else {
        PRXI_UNROLL
        for (int i = 0; i < N; i += 4) {
            const words<4> w = load_words<4>(p + i);
            PRXI_UNROLL
            for (int j = 0; j < 4; j++)
                v[i + j] = bits_float(w.w[j]);
        }
    }
}
template <int N> PRXI_DEVICE void load_run(const bf16 *p, float v[N])
{
    if constexpr (N == 1) {
        v[0] = load(p, 0);
    } else {
        const words<N / 2> w = load_words<N / 2>(p);
        PRXI_UNROLL
        for (int i = 0; i < N; i++)
            v[i] = bits_float(i & 1 ? w.w[i / 2] & 0xffff0000u : w.w[i / 2] << 16);
    }
}
/* v is afterwards what the memory holds. */
template <int N> PRXI_DEVICE void store_run(float *p, float v[N])
{
    if constexpr (N == 1) {
        *p = v[0];
    } else {
        PRXI_UNROLL
        for (int i = 0; i < N; i += 4)
            store_words<4>(p + i, { { float_bits(v[i]), float_bits(v[i + 1]), float_bits(v[i + 2]), float_bits(v[i + 3]) } });
    }
}
template <int N> PRXI_DEVICE void store_run(bf16 *p, float v[N])
{
    if constexpr (N == 1) {
        v[0] = store(p, 0, v[0]);
    } else {
        words<N / 2> w;
        PRXI_UNROLL
        for (int i = 0; i < N; i += 2) {
            w.w[i / 2] = pack_bf16(v[i], v[i + 1]);
            v[i] = bits_float(w.w[i / 2] << 16);
            v[i + 1] = bits_float(w.w[i / 2] & 0xffff0000u);
        }
        store_words<N / 2>(p, w);
    }
}

template <typename T> PRXI_DEVICE T warp_sum(T v)
{
    for (int m = 16; m > 0; m >>= 1)
        v += shfl_xor(v, m);
    return v;
}

PRXI_DEVICE float warp_max(float v)
{
    for (int m = 16; m > 0; m >>= 1)
        v = fmaxf(v, shfl_xor(v, m));
    return v;
}

/* Sum over the block, the same bits in every thread. part: one T a warp, used by nothing else until the next barrier but one. */
template <typename T> PRXI_DEVICE T block_sum(T v, T *part)
{
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    sync_block();
    T sum = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++)
        sum += part[w];
    return sum;
}

#endif
