/* What the files of kernels share on the host's side: the device handle and how a kernel is started. */
#ifndef PRXI_CUDA_LAUNCH_CUH
#define PRXI_CUDA_LAUNCH_CUH

#include "engine/cuda/module.h"

#ifdef PRXI_CUDA_HOST               /* files without kernels, by any compiler: for tests */
#include <cuda_runtime.h>
#else
#include "prim.cuh"
#ifndef PRXI_CUDA_EMU
#include <cuda_runtime.h>
#endif
#endif

struct device {
#ifndef PRXI_CUDA_EMU
    cudaStream_t stream, copies;
    cudaEvent_t filled[2], left[2];    /* of the slots: the copy is done; nothing reads it any more */
    cudaEvent_t marks[2];
    struct lt_state *lt;               /* gemm_lt.cu: behind the handle, in the same block of memory */
#endif
    int shared_max;                    /* dynamic shared memory that a block may have */
    int multiprocessors, hopper;       /* as in prxi_cu_info */
    char error[256];
};

static inline device *as_device(void *dev) { return static_cast<device *>(dev); }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
/* Rows of 2-byte values that begin at whole chunks of 16 bytes. */
static inline bool aligned(const void *p, int64_t ld) { return reinterpret_cast<uintptr_t>(p) % 16 == 0 && ld % 8 == 0; }

/* Runs of values may begin there (NULL: nothing does). */
static inline bool aligned(const void *p) { return aligned(p, 0); }

/* Records "op: why"; returns code. */
int prxi_cu_fail(device *d, int code, const char *op, const char *why);

/* Bytes of arguments that every driver takes. */
enum { PARAMETERS = 4096 };

#ifdef PRXI_CUDA_EMU

template <typename... P, typename... A>
static int launch(device *d, const char *op, void (*kernel)(P...), dim3 grid, int threads, size_t shared, A... args)
{
    static_assert((sizeof(P) + ... + 0) <= PARAMETERS, "arguments of a kernel");
    if (shared > (size_t)d->shared_max)
        return prxi_cu_fail(d, PRX_ENOTSUP, op, "more shared memory than this device has");
    const bool host = (emu_points_to_host(args) || ...);
    const char *fault = host ? "an argument points to memory of the host" : emu_run(op, grid, threads, shared, [&] { kernel(args...); });
    return fault ? prxi_cu_fail(d, PRX_EINTERNAL, op, fault) : PRX_OK;
}

#elif !defined(PRXI_CUDA_HOST)

template <typename... P, typename... A>
static int launch(device *d, const char *op, void (*kernel)(P...), dim3 grid, int threads, size_t shared, A... args)
{
    static_assert((sizeof(P) + ... + 0) <= PARAMETERS, "arguments of a kernel");
    if (shared > (size_t)d->shared_max)
        return prxi_cu_fail(d, PRX_ENOTSUP, op, "more shared memory than this device has");
    cudaError_t err = cudaSuccess;
    if (shared > 48 * 1024)
        err = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (err == cudaSuccess)
        kernel<<<grid, threads, shared, d->stream>>>(args...);
    const cudaError_t last = cudaGetLastError();        /* asked in every case: nothing may be left for the next launch */
    err = err == cudaSuccess ? last : err;
    return err == cudaSuccess ? PRX_OK : prxi_cu_fail(d, PRX_EIO, op, cudaGetErrorString(err));
}

#endif

/* Blocks of `threads` for n elements, each thread stepping over the grid. */
static inline unsigned grid_for(int64_t n, int threads)
{
    const int64_t blocks = ceil_div(n, threads);
    return (unsigned)(blocks < 1 ? 1 : blocks > 65536 ? 65536 : blocks);
}

/* The module's functions, one file of kernels each; the table is in module.cu. */
int prxi_cu_layernorm(void *dev, int type, const prxi_cu_ln *a);
int prxi_cu_rmsnorm(void *dev, int type, const prxi_cu_rms *a);
int prxi_cu_rms_silu_run(void *dev, int type, const prxi_cu_rms_silu *a);
int prxi_cu_binary_run(void *dev, int type, prxi_cu_binary op, int64_t n, const void *a, const void *b, void *y);
int prxi_cu_convert_run(void *dev, prxi_cu_convert op, int64_t n, const void *x, void *y);
int prxi_cu_softmax(void *dev, int64_t rows, int64_t n, float *x, int64_t ld);
int prxi_cu_patchify(void *dev, int type, const prxi_cu_patch *a);
int prxi_cu_unpatchify(void *dev, const prxi_cu_patch *a);
int prxi_cu_modulate_run(void *dev, const prxi_cu_modulate *a);
int prxi_cu_conv_run(void *dev, const prxi_cu_conv *a);
int prxi_cu_conv_simple(void *dev, const prxi_cu_conv *a);
int prxi_cu_frame_copy_run(void *dev, const prxi_cu_frame_copy *a);
int prxi_cu_frame_dup_run(void *dev, int type, const prxi_cu_frame_dup *a);
int prxi_cu_frame_latent_run(void *dev, int type, const prxi_cu_frame_latent *a);
int prxi_cu_frame_carry_run(void *dev, const prxi_cu_frame_carry *a);
int prxi_cu_frame_rgb_run(void *dev, const prxi_cu_frame_rgb *a);
int prxi_cu_text_attention(void *dev, const prxi_cu_text_attn *a);
int prxi_cu_store_rows(void *dev, int type, int64_t rows, int64_t n, int64_t pitch, const float *x, void *y);
int prxi_cu_gemm_simple(void *dev, const prxi_cu_gemm *a);
int prxi_cu_gemm_lt(void *dev, const prxi_cu_gemm *a);
int prxi_cu_quantise_run(void *dev, int type, const prxi_cu_quantise *a);
int prxi_cu_attention(void *dev, int type, const prxi_cu_attn *a);
int prxi_cu_attention_simple(void *dev, int type, const prxi_cu_attn *a);
int prxi_cu_attention90(void *dev, int type, const prxi_cu_attn *a);
int prxi_cu_attention90_takes(int type, const prxi_cu_attn *a);
size_t prxi_cu_attention90_copies(const prxi_cu_attn *a);
int prxi_cu_nearest_run(void *dev, int type, const prxi_cu_nearest *a);
int prxi_cu_nearest_mma(void *dev, const prxi_cu_nearest *a);
int prxi_cu_cluster_run(void *dev, int type, const prxi_cu_cluster *a);
int prxi_cu_cluster_start(device *d, int type, const prxi_cu_cluster *a);
int prxi_cu_cluster_adopt(device *d, int type, const prxi_cu_cluster *a);
int prxi_cu_select_run(void *dev, int type, const prxi_cu_select *a);
int prxi_cu_queue(device *d, const prxi_cu_select *a);
int prxi_cu_zero(void *dev, void *p, size_t bytes);
int prxi_cu_gather(void *dev, int type, const prxi_cu_nearest *a);
int prxi_cu_drift_run(void *dev, const prxi_cu_drift *a);
int prxi_cu_forecast_update(void *dev, const prxi_cu_forecast *a);
int prxi_cu_forecast_apply(void *dev, const prxi_cu_forecast *a);
int prxi_cu_guide(void *dev, int64_t n, float *cond, const float *uncond, float guidance);
int prxi_cu_reduce(void *dev, int64_t n, const float *a, const float *b, double *parts);
int prxi_cu_sched_step(void *dev, const prxi_cu_step *a);
int prxi_cu_rgb_to_u8(void *dev, int64_t n, const float *rgb, uint8_t *out);
int prxi_cu_rgb_to_yuv(void *dev, const prxi_cu_yuv *a);

#endif
