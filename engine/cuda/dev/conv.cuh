/* Where a convolution reads and writes. */
#ifndef PRXI_CUDA_CONV_CUH
#define PRXI_CUDA_CONV_CUH

#include "launch.cuh"

PRXI_DEVICE unsigned char *plane_row(const prxi_cu_plane &p, int64_t r)
{
    const int64_t at = p.first + r;
    return p.base + (at < p.rows ? at : at - p.rows) * p.pitch;
}

/* The channels that tap `tap` reads for grid pixel (y, x); nullptr: outside of the picture, all zero. The tap after the last is the
 * shortcut. size: bytes of an element. */
PRXI_DEVICE const unsigned char *conv_source(const prxi_cu_conv &a, int tap, int y, int x, int size)
{
    const int each = a.kh * a.kw;
    if (tap >= a.kt * each)
        return plane_row(a.shortcut, y) + x * a.shortcut_pitch * size;
    const int t = tap / each, r = tap % each / a.kw, sy = y + a.dy + r, sx = x + a.dx + tap % a.kw;
    const prxi_cu_plane &p = t == 0 ? a.src[0] : t == 1 ? a.src[1] : a.src[2];
    if (!p.base || sy < 0 || sy >= a.height || sx < 0 || sx >= a.width)
        return nullptr;
    return plane_row(p, sy) + sx * a.pitch * size;
}

/* Stores channel `col` of grid pixel (y, x), biased, added where asked; the channel after the last becomes zero. */
template <typename O> PRXI_DEVICE void conv_store(const prxi_cu_conv &a, int y, int x, int64_t col, float sum)
{
    if (col >= a.out_pitch || col > a.cout)
        return;
    O *out = reinterpret_cast<O *>(plane_row(a.to, (int64_t)y * a.scale + a.oy)) + ((int64_t)x * a.scale + a.ox) * a.out_pitch;
    if (col == a.cout) {
        store(out, col, 0.0f);
        return;
    }
    sum += a.bias[col];
    store(out, col, a.add ? load(out, col) + sum : sum);
}

#endif
