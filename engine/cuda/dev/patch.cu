/* The outside of the DiT: latents to rows of patches and back, and the vectors of the modulation. */
#include "launch.cuh"

enum { THREADS = 256 };

/* Where a value of a token row lies in the latents; with `last` the channel runs fastest, else slowest. */
PRXI_DEVICE int64_t latent_at(const prxi_cu_patch &a, int64_t i, int last)
{
    const int pt = a.patch[0], ph = a.patch[1], pw = a.patch[2];
    const int64_t values = (int64_t)a.channels * pt * ph * pw, token = i / values;
    const int64_t gh = a.height / ph, gw = a.width / pw;
    int64_t v = i % values, c;
    if (last) {
        c = v % a.channels;
        v /= a.channels;
    } else {
        c = v / (pt * ph * pw);
        v %= pt * ph * pw;
    }
    const int64_t t = token / (gh * gw) * pt + v / (ph * pw);
    const int64_t y = token / gw % gh * ph + v / pw % ph;
    const int64_t x = token % gw * pw + v % pw;
    return ((c * a.frames + t) * a.height + y) * a.width + x;
}

template <typename T> PRXI_KERNEL void patchify_kernel(prxi_cu_patch a, int64_t n)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS)
        store(static_cast<T *>(a.out), i, load(static_cast<const float *>(a.in), latent_at(a, i, 0)));
}

PRXI_KERNEL void unpatchify_kernel(prxi_cu_patch a, int64_t n)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS)
        static_cast<float *>(a.out)[latent_at(a, i, 1)] = static_cast<const float *>(a.in)[i];
}

PRXI_KERNEL void modulate_kernel(prxi_cu_modulate a)
{
    const int64_t n = a.rows * a.dim;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const float v = a.table[i] + a.vec[i % a.period];
        a.out[i] = a.ones >> i / a.dim & 1u ? v + 1.0f : v;
    }
}

static int64_t values_of(const prxi_cu_patch *a)
{
    return (int64_t)a->channels * a->frames * a->height * a->width;
}

int prxi_cu_patchify(void *dev, int type, const prxi_cu_patch *a)
{
    const int64_t n = values_of(a);
    return launch(as_device(dev), "patchify", type ? patchify_kernel<bf16> : patchify_kernel<float>, dim3(grid_for(n, THREADS)),
                  THREADS, 0, *a, n);
}

int prxi_cu_unpatchify(void *dev, const prxi_cu_patch *a)
{
    const int64_t n = values_of(a);
    return launch(as_device(dev), "unpatchify", unpatchify_kernel, dim3(grid_for(n, THREADS)), THREADS, 0, *a, n);
}

int prxi_cu_modulate_run(void *dev, const prxi_cu_modulate *a)
{
    return launch(as_device(dev), "modulate", modulate_kernel, dim3(grid_for(a->rows * a->dim, THREADS)), THREADS, 0, *a);
}
