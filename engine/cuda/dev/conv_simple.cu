/* Convolution by a plain tile kernel, for any type and number of channels: the oracle of the tuned one on a device. */
#include "conv.cuh"

enum { THREADS = 256, TILE = 32, DEPTH = 32, PITCH = DEPTH + 1 };

template <typename T> PRXI_DEVICE float value(const prxi_cu_conv &a, int64_t pixel, int64_t k, int64_t total)
{
    const int64_t pixels = (a.end - a.begin) * a.width, taps = (int64_t)a.kt * a.kh * a.kw * a.pitch;
    if (pixel >= pixels || k >= total)
        return 0.0f;
    const int y = (int)(a.begin + pixel / a.width), x = (int)(pixel % a.width);
    const int tap = k < taps ? (int)(k / a.pitch) : a.kt * a.kh * a.kw;
    const T *p = reinterpret_cast<const T *>(conv_source(a, tap, y, x, sizeof(T)));
    return p ? load(p, k < taps ? k % a.pitch : k - taps) : 0.0f;
}

/* A tile of 32 pixels x 32 channels; a thread has the four at pixels ty + 16 i, channels tx + 16 j. */
template <typename T, typename O> PRXI_KERNEL void PRXI_BOUNDS(THREADS) conv_kernel(prxi_cu_conv a)
{
    PRXI_SHARED(shared);
    float *xs = reinterpret_cast<float *>(shared), *ws = xs + TILE * PITCH;
    const int64_t pixel0 = (int64_t)blockIdx.y * TILE, col0 = (int64_t)blockIdx.x * TILE;
    const int64_t total = (int64_t)a.kt * a.kh * a.kw * a.pitch + a.shortcut_pitch;
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    float sum[2][2] = { { 0, 0 }, { 0, 0 } };
    for (int64_t k0 = 0; k0 < total; k0 += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
            const int r = i / DEPTH, c = i % DEPTH;
            xs[r * PITCH + c] = value<T>(a, pixel0 + r, k0 + c, total);
            ws[r * PITCH + c] = col0 + r < a.cout && k0 + c < total
                                    ? load(static_cast<const T *>(a.weights), (col0 + r) * total + k0 + c) : 0.0f;
        }
        sync_block();
        for (int c = 0; c < DEPTH; c++)
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 2; j++)
                    sum[i][j] = fmaf(xs[(ty + 16 * i) * PITCH + c], ws[(tx + 16 * j) * PITCH + c], sum[i][j]);
        sync_block();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            const int64_t pixel = pixel0 + ty + 16 * i;
            if (pixel < (a.end - a.begin) * a.width)
                conv_store<O>(a, (int)(a.begin + pixel / a.width), (int)(pixel % a.width), col0 + tx + 16 * j, sum[i][j]);
        }
}

int prxi_cu_conv_simple(void *dev, const prxi_cu_conv *a)
{
    static void (*const kernels[2][2])(prxi_cu_conv) = { { conv_kernel<float, float>, conv_kernel<float, bf16> },
                                                         { conv_kernel<bf16, float>, conv_kernel<bf16, bf16> } };
    const int64_t pixels = ceil_div((a->end - a->begin) * a->width, TILE);
    if (pixels <= 0)
        return PRX_OK;
    if (pixels > 65535)
        return prxi_cu_fail(as_device(dev), PRX_ENOTSUP, "convolution", "pictures of more than 2 million pixels are not supported");
    /* a channel of padding after the last is stored too */
    const dim3 grid((unsigned)ceil_div(a->out_pitch > a->cout ? a->cout + 1 : a->cout, TILE), (unsigned)pixels);
    return launch(as_device(dev), "conv_simple", kernels[a->in][a->out], grid, THREADS, 2 * TILE * PITCH * sizeof(float), *a);
}
