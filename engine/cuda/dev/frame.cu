/* Pictures of the VAE between convolutions (engine/ops/frame.h): each kernel reads and writes global memory once. */
#include "conv.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, RUN = 8, HELD = 4 };

/* The channel norm: rows are short, the channels of a pixel. So `lanes` of a warp take one whose runs they can hold in registers, HELD
 * each; a block is pixels of a row. */
template <typename T> PRXI_KERNEL void PRXI_BOUNDS(THREADS) rms_silu_held_kernel(prxi_cu_rms_silu a, int lanes)
{
    const int64_t x = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / lanes, y = a.begin + blockIdx.y;
    const int pitch = x < a.width ? (int)a.pitch : 0, dim = x < a.width ? (int)a.dim : 0, mine = (int)threadIdx.x % lanes;
    const T *start = reinterpret_cast<const T *>(plane_row(a.x, y)), *in = start + x * a.pitch;
    T *out = reinterpret_cast<T *>(plane_row(a.out, y)) + x * a.pitch;
    float v[HELD][RUN], gamma[RUN], sum = 0;
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++)                  /* no branch: all are under way together */
        load_run<RUN>((mine + r * lanes) * RUN < dim ? in + (mine + r * lanes) * RUN : start, v[r]);
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++)
        if ((mine + r * lanes) * RUN < dim)
            PRXI_UNROLL
            for (int j = 0; j < RUN; j++)
                sum += v[r][j] * v[r][j];
    for (int m = lanes / 2; m > 0; m /= 2)
        sum += shfl_xor(sum, m);
    const float scale = sqrtf((float)a.dim) / fmaxf(sqrtf(sum), 1e-12f);
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++) {
        const int i = (mine + r * lanes) * RUN;
        if (i >= pitch)
            continue;
        if (i < dim)
            load_run<RUN>(a.gamma + i, gamma);
        PRXI_UNROLL
        for (int j = 0; j < RUN; j++) {
            v[r][j] = i < dim ? v[r][j] * scale * gamma[j] : 0.0f;
            v[r][j] = a.silu ? silu(v[r][j]) : v[r][j];
        }
        store_run<RUN>(out + i, v[r]);
    }
}

/* Any pixels: a warp takes one. */
template <typename T> PRXI_KERNEL void rms_silu_kernel(prxi_cu_rms_silu a)
{
    const int64_t pixel = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (pixel >= (a.end - a.begin) * a.width)
        return;
    const int64_t y = a.begin + pixel / a.width, x = pixel % a.width;
    const T *in = reinterpret_cast<const T *>(plane_row(a.x, y)) + x * a.pitch;
    T *out = reinterpret_cast<T *>(plane_row(a.out, y)) + x * a.pitch;
    float sum = 0;
    for (int64_t i = lane; i < a.dim; i += 32) {
        const float v = load(in, i);
        sum += v * v;
    }
    const float scale = sqrtf((float)a.dim) / fmaxf(sqrtf(warp_sum(sum)), 1e-12f);
    for (int64_t i = lane; i < a.pitch; i += 32) {
        const float v = i < a.dim ? load(in, i) * scale * a.gamma[i] : 0.0f;
        store(out, i, a.silu ? silu(v) : v);
    }
}

/* Words of 4 bytes. */
PRXI_KERNEL void copy_kernel(prxi_cu_frame_copy a)
{
    const int64_t words = (int64_t)(a.bytes / 4);
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.rows * words; i += (int64_t)gridDim.x * THREADS)
        reinterpret_cast<uint32_t *>(plane_row(a.to, i / words))[i % words] =
            reinterpret_cast<const uint32_t *>(plane_row(a.from, i / words))[i % words];
}

template <typename T> PRXI_KERNEL void dup_kernel(prxi_cu_frame_dup a)
{
    const int repeats = a.up_channels * a.times * 4 / a.channels;
    const int64_t row = a.width * a.up_channels;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < (a.end - a.begin) * row; i += (int64_t)gridDim.x * THREADS) {
        const int64_t y = a.begin + i / row, x = i % row / a.up_channels;
        const int o = (int)(i % a.up_channels), q = ((o * a.times + a.sub) * 2 + (int)(y % 2)) * 2 + (int)(x % 2);
        const T *in = reinterpret_cast<const T *>(plane_row(a.x, y / 2)) + x / 2 * a.pitch;
        T *out = reinterpret_cast<T *>(plane_row(a.up, y)) + x * a.up_pitch;
        store(out, o, load(out, o) + load(in, q / repeats));
    }
}

template <typename T> PRXI_KERNEL void latent_kernel(prxi_cu_frame_latent a)
{
    const int64_t row = a.width * a.pitch;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.height * row; i += (int64_t)gridDim.x * THREADS) {
        const int64_t y = i / row, x = i % row / a.pitch;
        const int o = (int)(i % a.pitch);
        float sum = o < a.channels ? a.bias[o] : 0.0f;
        for (int c = 0; c < a.channels && o < a.channels; c++)
            sum += a.weight[o * a.channels + c] * (a.z[c * a.plane_step + y * a.row_step + x] / a.inv_std[c] + a.mean[c]);
        store(reinterpret_cast<T *>(plane_row(a.out, y)) + x * a.pitch, o, sum);
    }
}

PRXI_KERNEL void carry_kernel(prxi_cu_frame_carry a)
{
    const int64_t row = a.width * a.channels;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < (a.end - a.begin) * row; i += (int64_t)gridDim.x * THREADS) {
        const int64_t y = a.begin + i / row, x = i % row / a.channels, o = i % a.channels, at = a.begin * row + i;
        const float *tap = reinterpret_cast<const float *>(plane_row(a.taps, y)) + x * a.pitch + o;
        a.raw[at] = a.next[at] + tap[2 * a.channels] + a.bias[o];
        a.next[at] = a.after[at] + tap[a.channels];
        a.after[at] = tap[0];
    }
}

PRXI_KERNEL void rgb_kernel(prxi_cu_frame_rgb a)
{
    const int64_t p = a.patch, width = a.width * p, n = a.height * p * width * 3;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const int64_t c = i % 3, x = i / 3 % width, y = i / 3 / width;
        const float u = a.raw[((y / p * a.width + x / p) * 3 + c) * p * p + x % p * p + y % p] * 0.5f + 0.5f;
        a.rgb[i] = u < 0.0f ? 0.0f : u > 1.0f ? 1.0f : u;
    }
}

/* Rows of pixels that begin and go on at multiples of 16 bytes. */
static bool whole_runs(const prxi_cu_plane &p)
{
    return aligned(p.base) && p.pitch % 16 == 0;
}

int prxi_cu_rms_silu_run(void *dev, int type, const prxi_cu_rms_silu *a)
{
    const int64_t rows = a->end - a->begin, pixels = rows * a->width;
    const bool held = a->dim % RUN == 0 && a->pitch % RUN == 0 && a->pitch <= 32 * HELD * RUN && rows <= 65535 && whole_runs(a->x) &&
                      whole_runs(a->out) && aligned(a->gamma);
    int lanes = 1;
    if (pixels <= 0)
        return PRX_OK;
    if (!held)
        return launch(as_device(dev), "rms_silu", type ? rms_silu_kernel<bf16> : rms_silu_kernel<float>,
                      dim3((unsigned)ceil_div(pixels, WARPS)), THREADS, 0, *a);
    while (lanes * HELD * RUN < a->pitch)
        lanes *= 2;
    return launch(as_device(dev), "rms_silu", type ? rms_silu_held_kernel<bf16> : rms_silu_held_kernel<float>,
                  dim3((unsigned)ceil_div(a->width * lanes, THREADS), (unsigned)rows), THREADS, 0, *a, lanes);
}

int prxi_cu_frame_copy_run(void *dev, const prxi_cu_frame_copy *a)
{
    return launch(as_device(dev), "frame_copy", copy_kernel, dim3(grid_for(a->rows * (int64_t)(a->bytes / 4), THREADS)), THREADS, 0, *a);
}

int prxi_cu_frame_dup_run(void *dev, int type, const prxi_cu_frame_dup *a)
{
    const int64_t n = (a->end - a->begin) * a->width * a->up_channels;
    return launch(as_device(dev), "frame_dup", type ? dup_kernel<bf16> : dup_kernel<float>, dim3(grid_for(n, THREADS)), THREADS, 0, *a);
}

int prxi_cu_frame_latent_run(void *dev, int type, const prxi_cu_frame_latent *a)
{
    const int64_t n = a->height * a->width * a->pitch;
    return launch(as_device(dev), "frame_latent", type ? latent_kernel<bf16> : latent_kernel<float>, dim3(grid_for(n, THREADS)), THREADS,
                  0, *a);
}

int prxi_cu_frame_carry_run(void *dev, const prxi_cu_frame_carry *a)
{
    const int64_t n = (a->end - a->begin) * a->width * a->channels;
    return launch(as_device(dev), "frame_carry", carry_kernel, dim3(grid_for(n, THREADS)), THREADS, 0, *a);
}

int prxi_cu_frame_rgb_run(void *dev, const prxi_cu_frame_rgb *a)
{
    const int64_t n = a->height * a->width * a->patch * a->patch * 3;
    return launch(as_device(dev), "frame_rgb", rgb_kernel, dim3(grid_for(n, THREADS)), THREADS, 0, *a);
}
