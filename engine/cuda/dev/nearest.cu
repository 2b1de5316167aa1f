/* Points and centroids for clustering attention: the plain form, whose sums have one fixed order. */
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* A warp a point, a lane a centroid at a time; |x - c|^2 without |x|^2. Ties go to the lowest index. */
template <typename T> PRXI_KERNEL void nearest_kernel(prxi_cu_nearest a)
{
    const int64_t point = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const int head = blockIdx.y, lane = threadIdx.x % 32;
    if (point >= a.n)
        return;
    const T *x = static_cast<const T *>(a.x) + point * a.ldx + (int64_t)head * a.head_dim;
    const T *centroids = static_cast<const T *>(a.centroids) + (int64_t)head * a.k * a.head_dim;
    float best = PRXI_INFINITY;
    int at = 0x7fffffff;
    for (int c = lane; c < a.k; c += 32) {
        const T *row = centroids + (int64_t)c * a.head_dim;
        float dot = 0, size = 0;
        for (int i = 0; i < a.head_dim; i++) {
            const float v = load(row, i);
            dot = fmaf(load(x, i), v, dot);
            size = fmaf(v, v, size);
        }
        if (a.products)
            a.products[((int64_t)head * a.n + point) * a.k + c] = dot;
        const float far = 0.5f * size - dot;
        if (far < best) {
            best = far;
            at = c;
        }
    }
    for (int m = 16; m > 0; m >>= 1) {
        const float other = shfl_xor(best, m);
        const int where = shfl_xor(at, m);
        if (other < best || (other == best && where < at)) {
            best = other;
            at = where;
        }
    }
    if (!a.products && lane == 0)
        a.labels[(int64_t)head * a.n + point] = at == 0x7fffffff ? 0 : at;
}

/* A block a centroid: all points in order, a thread a channel. */
template <typename T> PRXI_KERNEL void gather_kernel(prxi_cu_nearest a)
{
    const int c = blockIdx.x, head = blockIdx.y;
    const T *x = static_cast<const T *>(a.x) + (int64_t)head * a.head_dim;
    const int32_t *labels = a.labels + (int64_t)head * a.n;
    for (int i = threadIdx.x; i < a.head_dim; i += THREADS) {
        float sum = 0;
        int32_t count = 0;
        for (int64_t p = 0; p < a.n; p++)
            if (labels[p] == c) {
                sum += load(x, p * a.ldx + i);
                count++;
            }
        a.sums[((int64_t)head * a.k + c) * a.head_dim + i] = sum;
        if (i == 0)
            a.counts[(int64_t)head * a.k + c] = count;
    }
}

int prxi_cu_nearest_run(void *dev, int type, const prxi_cu_nearest *a)
{
    const dim3 grid((unsigned)ceil_div(a->n, WARPS), (unsigned)a->heads);
    if (a->n <= 0)
        return PRX_OK;
    const bool tuned = type && a->halves && !a->products && (a->head_dim == 64 || a->head_dim == 128);
    if (tuned && aligned(a->x, a->ldx) && aligned(a->centroids, a->head_dim))
        return prxi_cu_nearest_mma(dev, a);
    return launch(as_device(dev), "nearest", type ? nearest_kernel<bf16> : nearest_kernel<float>, grid, THREADS, 0, *a);
}

int prxi_cu_gather(void *dev, int type, const prxi_cu_nearest *a)
{
    const dim3 grid((unsigned)a->k, (unsigned)a->heads);
    return launch(as_device(dev), "gather", type ? gather_kernel<bf16> : gather_kernel<float>, grid, THREADS, 0, *a);
}
