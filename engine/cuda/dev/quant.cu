/* Rows to e4m3 with a scale each: activations by token, weights by channel of the output. A block a row: the largest value of a row becomes
 * the largest of the type; a row of nothing (or of less than 1e-30) is zeros. */
#include "fp8.cuh"
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, CHUNK = 8 };

/* Eight values as they are read and written. */
struct alignas(16) chunk_in {
    uint32_t w[CHUNK / 2];
};
struct alignas(8) chunk_out {
    e4m3 v[CHUNK];
};

PRXI_DEVICE float value(const chunk_in &c, int i)
{
    return bits_float(i & 1 ? c.w[i / 2] & 0xffff0000u : c.w[i / 2] << 16);
}

template <typename T> PRXI_KERNEL void plain_kernel(prxi_cu_quantise a)
{
    PRXI_SHARED(shared);
    const T *x = static_cast<const T *>(a.x) + blockIdx.x * a.ldx;
    e4m3 *q = static_cast<e4m3 *>(a.q) + blockIdx.x * a.k;
    float top = 0;
    for (int64_t i = threadIdx.x; i < a.k; i += THREADS)
        top = fmaxf(top, fabsf(load(x, i)));
    const float up = scale_row(top, reinterpret_cast<float *>(shared), a.scale + blockIdx.x);
    for (int64_t i = threadIdx.x; i < a.k; i += THREADS)
        q[i] = round_e4m3(load(x, i) * up);
}

/* The same for bf16 rows of whole chunks. */
PRXI_KERNEL void chunks_kernel(prxi_cu_quantise a)
{
    PRXI_SHARED(shared);
    const chunk_in *x = reinterpret_cast<const chunk_in *>(static_cast<const bf16 *>(a.x) + blockIdx.x * a.ldx);
    chunk_out *q = reinterpret_cast<chunk_out *>(static_cast<e4m3 *>(a.q) + blockIdx.x * a.k);
    float top = 0;
    for (int64_t i = threadIdx.x; i < a.k / CHUNK; i += THREADS) {
        const chunk_in c = x[i];
        PRXI_UNROLL
        for (int j = 0; j < CHUNK; j++)
            top = fmaxf(top, fabsf(value(c, j)));
    }
    const float up = scale_row(top, reinterpret_cast<float *>(shared), a.scale + blockIdx.x);
    for (int64_t i = threadIdx.x; i < a.k / CHUNK; i += THREADS) {
        const chunk_in c = x[i];
        chunk_out out;
        PRXI_UNROLL
        for (int j = 0; j < CHUNK; j++)
            out.v[j] = round_e4m3(value(c, j) * up);
        q[i] = out;
    }
}

int prxi_cu_quantise_run(void *dev, int type, const prxi_cu_quantise *a)
{
    const bool chunks = type && aligned(a->x, a->ldx) && aligned(a->q, a->k);
    if (a->rows <= 0 || a->k <= 0)
        return PRX_OK;
    return launch(as_device(dev), "quantise", chunks ? chunks_kernel : type ? plain_kernel<bf16> : plain_kernel<float>,
                  dim3((unsigned)a->rows), THREADS, WARPS * sizeof(float), *a);
}
