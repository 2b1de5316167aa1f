/* What step caches do to hidden states: caching/drift.c and caching/forecast.c, in f64 as there. The probe's difference and its renewal
 * are one pass. */
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* Values of two types that are read side by side, 16 bytes of the larger at a time. */
template <typename A, typename B> struct both {
    enum { N = sizeof(A) == 2 && sizeof(B) == 2 ? 8 : 4 };
};

/* A block a row, N values at a time: more than one where no channel is left out. X: the type of x and base, P: of the probe. */
template <typename X, typename P, int N> PRXI_KERNEL void drift_kernel(prxi_cu_drift a)
{
    PRXI_SHARED(shared);
    double *part = reinterpret_cast<double *>(shared);
    const int64_t row = blockIdx.x, width = (a.dim + a.stride - 1) / a.stride;
    const X *x = static_cast<const X *>(a.x) + row * a.dim, *base = a.base ? static_cast<const X *>(a.base) + row * a.dim : nullptr;
    P *probe = static_cast<P *>(a.probe) + row * width;
    double moved = 0, size = 0;
    for (int64_t i = (int64_t)threadIdx.x * N; i < width; i += THREADS * N) {
        float now[N], from[N], then[N];
        load_run<N>(x + i * a.stride, now);
        if (base)
            load_run<N>(base + i * a.stride, from);
        if (a.moved)
            load_run<N>(probe + i, then);
        PRXI_UNROLL
        for (int j = 0; j < N; j++) {
            const double v = (double)now[j] - (base ? (double)from[j] : 0.0);
            if (a.moved) {
                moved += fabs((double)then[j] - v);
                size += fabs((double)then[j]);
            }
            now[j] = (float)v;
        }
        if (a.store)
            store_run<N>(probe + i, now);
    }
    if (!a.moved)
        return;
    moved = block_sum(moved, part);
    size = block_sum(size, part + WARPS);
    if (threadIdx.x == 0) {
        a.moved[2 * row] = moved;
        a.moved[2 * row + 1] = size;
    }
}

/* One block adds the rows up, in an order that the number of rows alone fixes. */
PRXI_KERNEL void drift_total_kernel(prxi_cu_drift a)
{
    PRXI_SHARED(shared);
    double *part = reinterpret_cast<double *>(shared);
    double sum[4] = { 0, 0, 0, 0 };
    for (int64_t row = threadIdx.x; row < a.rows; row += THREADS) {
        const double m = a.moved[2 * row], n = a.moved[2 * row + 1];
        sum[0] += m;
        sum[1] += n;
        if (a.important > 0 && m / n > a.important) {
            sum[2] += m;
            sum[3] += n;
        }
    }
    for (int i = 0; i < 4; i++)
        sum[i] = block_sum(sum[i], part + i * WARPS);
    if (threadIdx.x == 0) {
        a.total[0] = sum[3] > 0 ? sum[2] : sum[0];
        a.total[1] = sum[3] > 0 ? sum[3] : sum[1];
    }
}

/* T: the type of the states, E: of the ladder. What is read is read before anything is written: old may be d. */
template <typename T, typename E, int N> PRXI_DEVICE void update_run(const prxi_cu_forecast &a, int64_t i)
{
    float v[N], before[N], old[PRXI_CU_TERMS - 1][N];
    double y[N];
    load_run<N>(static_cast<const T *>(a.after) + i, v);
    if (a.before)
        load_run<N>(static_cast<const T *>(a.before) + i, before);
    PRXI_UNROLL
    for (int k = 0; k < PRXI_CU_TERMS - 1; k++)
        if (k + 1 < a.terms)
            load_run<N>(static_cast<const E *>(a.old[k]) + i, old[k]);
    PRXI_UNROLL
    for (int j = 0; j < N; j++)
        y[j] = (double)v[j] - (a.before ? (double)before[j] : 0.0);
    PRXI_UNROLL
    for (int k = 0; k < PRXI_CU_TERMS; k++)
        if (k < a.terms) {
            PRXI_UNROLL
            for (int j = 0; j < N; j++) {
                v[j] = (float)y[j];
                if (k + 1 < a.terms && k < PRXI_CU_TERMS - 1)
                    y[j] = (y[j] - (double)old[k][j]) / a.window[k];
            }
            store_run<N>(static_cast<E *>(a.d[k]) + i, v);
        }
}

template <typename T, typename E, int N> PRXI_DEVICE void apply_run(const prxi_cu_forecast &a, int64_t i)
{
    float v[N], d[PRXI_CU_TERMS][N];
    T *to = static_cast<T *>(a.y) + i;
    if (a.add)
        load_run<N>(to, v);
    PRXI_UNROLL
    for (int k = 0; k < PRXI_CU_TERMS; k++)
        if (k < a.terms)
            load_run<N>(static_cast<const E *>(a.d[k]) + i, d[k]);
    PRXI_UNROLL
    for (int j = 0; j < N; j++) {
        double y = a.add ? (double)v[j] : 0.0;
        PRXI_UNROLL
        for (int k = 0; k < PRXI_CU_TERMS; k++)
            y = k < a.terms ? y + a.weight[k] * (double)d[k][j] : y;
        v[j] = (float)y;
    }
    store_run<N>(to, v);
}

template <typename T, typename E, int APPLY> PRXI_KERNEL void forecast_kernel(prxi_cu_forecast a, int64_t runs)
{
    enum { N = both<T, E>::N };
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = first; i < runs; i += step)
        APPLY ? apply_run<T, E, N>(a, i * N) : update_run<T, E, N>(a, i * N);
    for (int64_t i = runs * N + first; i < a.n; i += step)
        APPLY ? apply_run<T, E, 1>(a, i) : update_run<T, E, 1>(a, i);
}

template <typename X, typename P> static int drift(device *d, const prxi_cu_drift *a)
{
    enum { N = both<X, P>::N };
    const bool runs = a->stride == 1 && a->dim % N == 0 && aligned(a->x) && aligned(a->base) && aligned(a->probe);
    return launch(d, "drift", runs ? drift_kernel<X, P, N> : drift_kernel<X, P, 1>, dim3((unsigned)a->rows), THREADS,
                  2 * WARPS * sizeof(double), *a);
}

int prxi_cu_drift_run(void *dev, const prxi_cu_drift *a)
{
    device *d = as_device(dev);
    const int err = a->x_type ? (a->probe_type ? drift<bf16, bf16>(d, a) : drift<bf16, float>(d, a))
                              : (a->probe_type ? drift<float, bf16>(d, a) : drift<float, float>(d, a));
    if (err < 0 || !a->moved)
        return err;
    return launch(d, "drift", drift_total_kernel, dim3(1), THREADS, 4 * WARPS * sizeof(double), *a);
}

template <typename T, typename E, int APPLY> static int forecast(device *d, const prxi_cu_forecast *a)
{
    enum { N = both<T, E>::N };
    bool wide = APPLY ? aligned(a->y) : aligned(a->after) && aligned(a->before);
    for (int k = 0; k < a->terms; k++)
        wide = wide && aligned(a->d[k]) && (APPLY || k + 1 == a->terms || aligned(a->old[k]));
    return launch(d, "forecast", forecast_kernel<T, E, APPLY>, dim3(grid_for(wide ? ceil_div(a->n, N) : a->n, THREADS)), THREADS, 0,
                  *a, wide ? a->n / N : 0);
}

template <int APPLY> static int forecast_of(device *d, const prxi_cu_forecast *a)
{
    if (a->type)
        return a->elem ? forecast<bf16, bf16, APPLY>(d, a) : forecast<bf16, float, APPLY>(d, a);
    return a->elem ? forecast<float, bf16, APPLY>(d, a) : forecast<float, float, APPLY>(d, a);
}

int prxi_cu_forecast_update(void *dev, const prxi_cu_forecast *a)
{
    return forecast_of<0>(as_device(dev), a);
}

int prxi_cu_forecast_apply(void *dev, const prxi_cu_forecast *a)
{
    return forecast_of<1>(as_device(dev), a);
}
