/* Attention of the text encoder (engine/ops/plain_attn.h): a warp a query, its scores in shared memory, in f32. And rows of the VAE's one
 * head on their way to its type. */
#include "launch.cuh"

enum { THREADS = 128, WARPS = THREADS / 32 };

PRXI_KERNEL void text_kernel(prxi_cu_text_attn a)
{
    PRXI_SHARED(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.y;
    const int64_t query = (int64_t)blockIdx.x * WARPS + warp;
    float *scores = reinterpret_cast<float *>(shared) + warp * (a.n + a.head_dim), *q = scores + a.n;
    if (query >= a.n)
        return;
    for (int i = lane; i < a.head_dim; i += 32)
        q[i] = a.q[query * a.ld + (int64_t)head * a.head_dim + i];
    sync_warp();
    float top = -PRXI_INFINITY;
    for (int64_t j = lane; j < a.n; j += 32) {
        const float *k = a.k + j * a.ld + (int64_t)head * a.head_dim;
        float s = 0;
        for (int i = 0; i < a.head_dim; i++)
            s = fmaf(q[i], k[i], s);
        s += a.table[(int64_t)a.bucket[j - query + a.n - 1] * a.heads + head];
        scores[j] = s;
        top = fmaxf(top, s);
    }
    top = warp_max(top);
    for (int64_t j = lane; j < a.n; j += 32)
        scores[j] = expf(scores[j] - top);
    sync_warp();
    for (int i = lane; i < a.head_dim; i += 32) {
        const float *v = a.v + (int64_t)head * a.head_dim + i;
        float out = 0, sum = 0;
        for (int64_t j = 0; j < a.n; j++) {
            sum += scores[j];
            out = fmaf(scores[j], v[j * a.ld], out);
        }
        a.out[query * a.ldo + (int64_t)head * a.head_dim + i] = out / sum;
    }
}

/* y [rows][pitch] of the type from x [rows][n], the values after the n-th zero. */
template <typename T> PRXI_KERNEL void widen_kernel(int64_t rows, int64_t n, int64_t pitch, const float *x, T *y)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < rows * pitch; i += (int64_t)gridDim.x * THREADS)
        store(y, i, i % pitch < n ? x[i / pitch * n + i % pitch] : 0.0f);
}

int prxi_cu_text_attention(void *dev, const prxi_cu_text_attn *a)
{
    const dim3 grid((unsigned)ceil_div(a->n, WARPS), (unsigned)a->heads);
    return launch(as_device(dev), "text attention", text_kernel, grid, THREADS,
                  (size_t)WARPS * (size_t)(a->n + a->head_dim) * sizeof(float), *a);
}

int prxi_cu_store_rows(void *dev, int type, int64_t rows, int64_t n, int64_t pitch, const float *x, void *y)
{
    const dim3 grid(grid_for(rows * pitch, THREADS));
    if (type)
        return launch(as_device(dev), "store_rows", widen_kernel<bf16>, grid, THREADS, 0, rows, n, pitch, x, static_cast<bf16 *>(y));
    return launch(as_device(dev), "store_rows", widen_kernel<float>, grid, THREADS, 0, rows, n, pitch, x, static_cast<float *>(y));
}
