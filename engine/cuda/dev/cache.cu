/* What step caches do to hidden states: caching/drift.c and caching/forecast.c, in f64 as there. The probe's difference and its renewal
 * are one pass. */
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

PRXI_DEVICE double load_as(int type, const void *p, int64_t i)
{
    return type ? load(static_cast<const bf16 *>(p), i) : load(static_cast<const float *>(p), i);
}

PRXI_DEVICE void store_as(int type, void *p, int64_t i, double v)
{
    if (type)
        store(static_cast<bf16 *>(p), i, (float)v);
    else
        store(static_cast<float *>(p), i, (float)v);
}

/* A block a row. */
PRXI_KERNEL void drift_kernel(prxi_cu_drift a)
{
    PRXI_SHARED(shared);
    double *part = reinterpret_cast<double *>(shared);
    const int64_t row = blockIdx.x, width = (a.dim + a.stride - 1) / a.stride;
    double moved = 0, size = 0;
    for (int64_t i = threadIdx.x; i < width; i += THREADS) {
        const int64_t at = row * a.dim + i * a.stride;
        const double now = load_as(a.x_type, a.x, at) - (a.base ? load_as(a.x_type, a.base, at) : 0.0);
        if (a.moved) {
            const double then = load_as(a.probe_type, a.probe, row * width + i);
            moved += fabs(then - now);
            size += fabs(then);
        }
        if (a.store)
            store_as(a.probe_type, a.probe, row * width + i, now);
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

PRXI_KERNEL void update_kernel(prxi_cu_forecast a)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.n; i += (int64_t)gridDim.x * THREADS) {
        double y = load_as(a.type, a.after, i) - (a.before ? load_as(a.type, a.before, i) : 0.0);
        for (int k = 0; k < a.terms; k++) {
            const double old = k + 1 < a.terms ? load_as(a.elem, a.old[k], i) : 0.0;      /* may be d[k] itself */
            store_as(a.elem, a.d[k], i, y);
            y = (y - old) / a.window[k];
        }
    }
}

PRXI_KERNEL void apply_kernel(prxi_cu_forecast a)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.n; i += (int64_t)gridDim.x * THREADS) {
        double y = a.add ? load_as(a.type, a.y, i) : 0.0;
        for (int k = 0; k < a.terms; k++)
            y += a.weight[k] * load_as(a.elem, a.d[k], i);
        store_as(a.type, a.y, i, y);
    }
}

int prxi_cu_drift_run(void *dev, const prxi_cu_drift *a)
{
    device *d = as_device(dev);
    const int err = launch(d, "drift", drift_kernel, dim3((unsigned)a->rows), THREADS, 2 * WARPS * sizeof(double), *a);
    if (err < 0 || !a->moved)
        return err;
    return launch(d, "drift", drift_total_kernel, dim3(1), THREADS, 4 * WARPS * sizeof(double), *a);
}

int prxi_cu_forecast_update(void *dev, const prxi_cu_forecast *a)
{
    return launch(as_device(dev), "forecast", update_kernel, dim3(grid_for(a->n, THREADS)), THREADS, 0, *a);
}

int prxi_cu_forecast_apply(void *dev, const prxi_cu_forecast *a)
{
    return launch(as_device(dev), "forecast", apply_kernel, dim3(grid_for(a->n, THREADS)), THREADS, 0, *a);
}
