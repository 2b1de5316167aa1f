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
            y = a.c_keep * a.last[i] - a.c_e * m1 - a.c_e * (a.c_d * (a.m2[i] - m1) + a.c_rho * (m - m1));
        a.last[i] = y;
        a.x[i] = a.p_keep * y - a.p_e * m - a.p_e * (a.p_d * (m1 - m));
        a.m2[i] = m1;
        a.m1[i] = m;
    }
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
