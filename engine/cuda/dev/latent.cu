/* Guidance and the update of the latents, in the order of operations of engine/run.c and schedulers/: with -fmad=false the same bits. */
#include "launch.cuh"

enum { THREADS = 256 };

PRXI_KERNEL void guide_kernel(int64_t n, float *cond, const float *uncond, float g)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS)
        cond[i] = uncond[i] + g * (cond[i] - uncond[i]);
}

PRXI_KERNEL void euler_kernel(prxi_cu_step a)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.n; i += (int64_t)gridDim.x * THREADS)
        a.x[i] += a.dt * a.v[i];
}

PRXI_KERNEL void dpmpp_kernel(prxi_cu_step a)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.n; i += (int64_t)gridDim.x * THREADS) {
        const float m = a.x[i] - a.sigma * a.v[i];
        a.x[i] = a.p_keep * a.x[i] - a.p_e * m - a.p_e * (a.p_d * (m - a.m1[i]));
        a.m1[i] = m;
    }
}

PRXI_KERNEL void unipc_kernel(prxi_cu_step a)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.n; i += (int64_t)gridDim.x * THREADS) {
        const float m = a.x[i] - a.sigma * a.v[i], m1 = a.m1[i];
        float y = a.x[i];
        if (a.correct)
            y = a.c_keep * a.last[i] - a.c_e * m1 - a.c_e * (a.c_d * (a.m2[i] - m1) + a.c_rho * (m - m1) + a.c_d2 * (a.m3[i] - m1));
        a.last[i] = y;
        a.x[i] = a.p_keep * y - a.p_e * m - a.p_e * (a.p_d * (m1 - m) + a.p_d2 * (a.m2[i] - m));
        a.m3[i] = a.m2[i];
        a.m2[i] = m1;
        a.m1[i] = m;
    }
}

/* The least over the block, in every thread; part as in block_sum. */
PRXI_DEVICE double block_least(double v, double *part)
{
    for (int m = 16; m > 0; m >>= 1)
        v = fmin(v, shfl_xor(v, m));
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    sync_block();
    for (unsigned w = 0; w < blockDim.x / 32; w++)
        v = fmin(v, part[w]);
    return v;
}

/* A block's share: every PRXI_CU_PARTS-th run of THREADS values, in an order that n alone fixes. */
PRXI_KERNEL void parts_kernel(int64_t n, const float *a, const float *b, double *parts)
{
    PRXI_SHARED(shared);
    double *part = reinterpret_cast<double *>(shared), sum = 0, bad = (double)n;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)PRXI_CU_PARTS * THREADS) {
        sum += fabs((double)a[i] - (b ? b[i] : 0.0f));
        if ((float_bits(a[i]) & 0x7f800000u) == 0x7f800000u)
            bad = fmin(bad, (double)i);
    }
    sum = block_sum(sum, part);
    bad = block_least(bad, part + THREADS / 32);
    if (threadIdx.x == 0) {
        parts[2 * blockIdx.x] = sum;
        parts[2 * blockIdx.x + 1] = bad;
    }
}

PRXI_KERNEL void whole_kernel(int64_t n, double *parts)
{
    double sum = 0, bad = (double)n;
    if (threadIdx.x > 0)
        return;
    for (int i = 0; i < PRXI_CU_PARTS; i++) {
        sum += parts[2 * i];
        bad = fmin(bad, parts[2 * i + 1]);
    }
    parts[2 * PRXI_CU_PARTS] = sum;
    parts[2 * PRXI_CU_PARTS + 1] = bad < (double)n ? bad : -1.0;
}

int prxi_cu_reduce(void *dev, int64_t n, const float *a, const float *b, double *parts)
{
    device *d = as_device(dev);
    const int err = launch(d, "reduce", parts_kernel, dim3(PRXI_CU_PARTS), THREADS, 2 * (THREADS / 32) * sizeof(double), n, a, b, parts);
    return err < 0 ? err : launch(d, "reduce", whole_kernel, dim3(1), 32, 0, n, parts);
}

int prxi_cu_guide(void *dev, int64_t n, float *cond, const float *uncond, float guidance)
{
    return launch(as_device(dev), "guide", guide_kernel, dim3(grid_for(n, THREADS)), THREADS, 0, n, cond, uncond, guidance);
}

int prxi_cu_sched_step(void *dev, const prxi_cu_step *a)
{
    static void (*const kernels[])(prxi_cu_step) = { euler_kernel, dpmpp_kernel, unipc_kernel };
    return launch(as_device(dev), "sched_step", kernels[a->kind], dim3(grid_for(a->n, THREADS)), THREADS, 0, *a);
}
