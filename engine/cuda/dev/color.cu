/* Pixels on the way out: video_io/color.c in integers, bit for bit. */
#include "launch.cuh"

enum {
    THREADS = 256,
    Y_R = 11966, Y_G = 40254, Y_B = 4064,
    U_R = -6596, U_G = -22188, U_B = 28784,
    V_R = 28784, V_G = -26145, V_B = -2639,
    Y_OFFSET = (16 << 16) + (1 << 15),
    C_OFFSET = (128 << 19) + (1 << 18)
};

PRXI_KERNEL void u8_kernel(int64_t n, const float *rgb, uint8_t *out)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const float v = rgb[i] * 255.0f;
        out[i] = !(v > 0.0f) ? 0 : v < 255.0f ? (uint8_t)v : 255;
    }
}

PRXI_KERNEL void luma_kernel(prxi_cu_yuv a)
{
    const int64_t n = (int64_t)a.width * a.height;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const uint8_t *p = a.rgb + 3 * i;
        const int luma = (Y_R * p[0] + Y_G * p[1] + Y_B * p[2] + Y_OFFSET) >> 16;
        a.plane[0][i / a.width * a.stride[0] + i % a.width] = (uint8_t)luma;
    }
}

PRXI_KERNEL void chroma_kernel(prxi_cu_yuv a)
{
    const int w = (a.width + 1) / 2, h = (a.height + 1) / 2;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < (int64_t)w * h; i += (int64_t)gridDim.x * THREADS) {
        const int x = (int)(i % w) * 2, y = (int)(i / w) * 2;
        const uint8_t *top = a.rgb + (int64_t)y * a.width * 3, *low = y + 1 < a.height ? top + (int64_t)a.width * 3 : top;
        const int left = 3 * (x > 0 ? x - 1 : 0), right = 3 * (x + 1 < a.width ? x + 1 : x);
        int sum[3];
        for (int k = 0; k < 3; k++)
            sum[k] = top[left + k] + low[left + k] + 2 * (top[3 * x + k] + low[3 * x + k]) + top[right + k] + low[right + k];
        const int u = (U_R * sum[0] + U_G * sum[1] + U_B * sum[2] + C_OFFSET) >> 19;
        const int v = (V_R * sum[0] + V_G * sum[1] + V_B * sum[2] + C_OFFSET) >> 19;
        a.plane[1][(int64_t)(y / 2) * a.stride[1] + x / 2] = (uint8_t)u;
        a.plane[2][(int64_t)(y / 2) * a.stride[2] + x / 2] = (uint8_t)v;
    }
}

int prxi_cu_rgb_to_u8(void *dev, int64_t n, const float *rgb, uint8_t *out)
{
    return launch(as_device(dev), "rgb_to_u8", u8_kernel, dim3(grid_for(n, THREADS)), THREADS, 0, n, rgb, out);
}

int prxi_cu_rgb_to_yuv(void *dev, const prxi_cu_yuv *a)
{
    const int64_t pixels = (int64_t)a->width * a->height;
    const int err = launch(as_device(dev), "rgb_to_yuv", luma_kernel, dim3(grid_for(pixels, THREADS)), THREADS, 0, *a);
    return err < 0 ? err : launch(as_device(dev), "rgb_to_yuv", chroma_kernel, dim3(grid_for(pixels / 4 + 1, THREADS)), THREADS, 0, *a);
}
