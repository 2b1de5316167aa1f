/* RGB to YUV 4:2:0 (BT.709, limited range), and float RGB to bytes. */
#include "color.h"

#include <stddef.h>

#include "video.h"

/* 16-bit fixed point: round(65536 * 219/255 * (.2126, .7152, .0722)) and 224/255 times the colour difference rows. The chroma rows
 * sum to 0, so that every grey gives exactly 128. */
enum {
    Y_R = 11966, Y_G = 40254, Y_B = 4064,
    U_R = -6596, U_G = -22188, U_B = 28784,
    V_R = 28784, V_G = -26145, V_B = -2639,
    Y_OFFSET = (16 << 16) + (1 << 15),
    C_OFFSET = (128 << 19) + (1 << 18)          /* eight samples are summed */
};

static void luma_row(const uint8_t *rgb, int width, uint8_t *y)
{
    for (int x = 0; x < width; x++, rgb += 3)
        y[x] = (uint8_t)((Y_R * rgb[0] + Y_G * rgb[1] + Y_B * rgb[2] + Y_OFFSET) >> 16);
}

static void chroma_row(const uint8_t *a, const uint8_t *b, int width, uint8_t *u, uint8_t *v)
{
    for (int x = 0; x < width; x += 2) {
        const int left = 3 * (x > 0 ? x - 1 : 0), right = 3 * (x + 1 < width ? x + 1 : x);
        int sum[3];
        for (int k = 0; k < 3; k++)
            sum[k] = a[left + k] + b[left + k] + 2 * (a[3 * x + k] + b[3 * x + k]) + a[right + k] + b[right + k];
        *u++ = (uint8_t)((U_R * sum[0] + U_G * sum[1] + U_B * sum[2] + C_OFFSET) >> 19);
        *v++ = (uint8_t)((V_R * sum[0] + V_G * sum[1] + V_B * sum[2] + C_OFFSET) >> 19);
    }
}

void prxi_rgb_to_yuv420(const uint8_t *rgb, int width, int height, const prxi_planes *out)
{
    const size_t row = 3 * (size_t)width;
    for (int y = 0; y < height; y++)
        luma_row(rgb + y * row, width, out->data[0] + (ptrdiff_t)y * out->stride[0]);
    for (int y = 0; y < height; y += 2) {
        const uint8_t *a = rgb + y * row, *b = y + 1 < height ? a + row : a;
        chroma_row(a, b, width, out->data[1] + (ptrdiff_t)(y / 2) * out->stride[1],
                   out->data[2] + (ptrdiff_t)(y / 2) * out->stride[2]);
    }
}

size_t prxi_yuv420_bytes(int width, int height)
{
    return (size_t)width * (size_t)height + 2 * (((size_t)width + 1) / 2) * (((size_t)height + 1) / 2);
}

prxi_planes prxi_planes_of(uint8_t *first, int width, int height)
{
    const int half = (width + 1) / 2;
    uint8_t *u = first + (size_t)width * (size_t)height;
    return (prxi_planes) { { first, u, u + (size_t)half * (((size_t)height + 1) / 2) }, { width, half, half } };
}

void prxi_rgb_to_u8(const float *rgb, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const float v = rgb[i] * 255.0f;
        out[i] = !(v > 0.0f) ? 0 : v < 255.0f ? (uint8_t)v : 255;
    }
}
