/* Rows to e4m3 with a scale each: activations by token, weights by channel of the output. */
#include "fp8.cuh"
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* A block a row. The largest value of a row becomes the largest of the type; a row of nothing (or of less than 1e-30) is zeros. */
template <typename T> PRXI_KERNEL void quantise_kernel(prxi_cu_quantise a)
{
    PRXI_SHARED(shared);
    float *part = reinterpret_cast<float *>(shared), top = 0;
    const int64_t row = blockIdx.x;
    const T *x = static_cast<const T *>(a.x) + row * a.ldx;
    e4m3 *q = static_cast<e4m3 *>(a.q) + row * a.k;
    for (int64_t i = threadIdx.x; i < a.k; i += THREADS)
        top = fmaxf(top, fabsf(load(x, i)));
    top = warp_max(top);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = top;
    sync_block();
    for (int w = 0; w < WARPS; w++)
        top = fmaxf(top, part[w]);
    const bool some = top > 1e-30f;
    const float up = some ? E4M3_MOST / top : 0.0f;
    for (int64_t i = threadIdx.x; i < a.k; i += THREADS)
        q[i] = round_e4m3(load(x, i) * up);
    if (threadIdx.x == 0)
        a.scale[row] = some ? top / E4M3_MOST : 1.0f;
}

int prxi_cu_quantise_run(void *dev, int type, const prxi_cu_quantise *a)
{
    if (a->rows <= 0 || a->k <= 0)
        return PRX_OK;
    return launch(as_device(dev), "quantise", type ? quantise_kernel<bf16> : quantise_kernel<float>, dim3((unsigned)a->rows), THREADS,
                  WARPS * sizeof(float), *a);
}
