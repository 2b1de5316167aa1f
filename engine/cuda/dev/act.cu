/* Elementwise ops and softmax: engine/ops/ref/act.c, operation by operation. */
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

template <typename T> PRXI_KERNEL void binary_kernel(int op, int64_t n, const T *a, const T *b, T *y)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const float v = load(a, i);
        float r;
        if (op == PRXI_CU_GELU_MUL)
            r = gelu_tanh(v) * (b ? load(b, i) : 1.0f);
        else if (op == PRXI_CU_SILU)
            r = silu(v);
        else
            r = op == PRXI_CU_ADD ? v + load(b, i) : v - load(b, i);
        store(y, i, r);
    }
}

PRXI_DEVICE float half_value(uint16_t v)
{
    const uint32_t sign = (uint32_t)(v >> 15) << 31, exp = v >> 10 & 31u, frac = v & 1023u;
    if (exp == 0)
        return bits_float(float_bits((float)frac * 5.9604644775390625e-8f) | sign);
    return bits_float(sign | (exp == 31 ? 0x7f800000u : (exp + 112u) << 23) | frac << 13);
}

PRXI_KERNEL void convert_kernel(int op, int64_t n, const void *x, void *y)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        if (op == PRXI_CU_F32_TO_BF16)
            store(static_cast<bf16 *>(y), i, load(static_cast<const float *>(x), i));
        else if (op == PRXI_CU_BF16_TO_F32)
            store(static_cast<float *>(y), i, load(static_cast<const bf16 *>(x), i));
        else
            store(static_cast<float *>(y), i, half_value(static_cast<const uint16_t *>(x)[i]));
    }
}

/* A warp a row. */
PRXI_KERNEL void softmax_kernel(int64_t rows, int64_t n, float *x, int64_t ld)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows)
        return;
    float *p = x + row * ld, top = -PRXI_INFINITY, sum = 0;
    for (int64_t i = lane; i < n; i += 32)
        top = fmaxf(top, p[i]);
    top = warp_max(top);
    for (int64_t i = lane; i < n; i += 32) {
        p[i] = expf(p[i] - top);
        sum += p[i];
    }
    const float inverse = 1.0f / warp_sum(sum);
    for (int64_t i = lane; i < n; i += 32)
        p[i] *= inverse;
}

template <typename T> static int binary(device *d, prxi_cu_binary op, int64_t n, const void *a, const void *b, void *y)
{
    return launch(d, "elementwise", binary_kernel<T>, dim3(grid_for(n, THREADS)), THREADS, 0, (int)op, n,
                  static_cast<const T *>(a), static_cast<const T *>(b), static_cast<T *>(y));
}

int prxi_cu_binary_run(void *dev, int type, prxi_cu_binary op, int64_t n, const void *a, const void *b, void *y)
{
    if (n <= 0)
        return PRX_OK;
    return type ? binary<bf16>(as_device(dev), op, n, a, b, y) : binary<float>(as_device(dev), op, n, a, b, y);
}

int prxi_cu_convert_run(void *dev, prxi_cu_convert op, int64_t n, const void *x, void *y)
{
    if (n <= 0)
        return PRX_OK;
    return launch(as_device(dev), "convert", convert_kernel, dim3(grid_for(n, THREADS)), THREADS, 0, (int)op, n, x, y);
}

int prxi_cu_softmax(void *dev, int64_t rows, int64_t n, float *x, int64_t ld)
{
    if (rows <= 0 || n <= 0)
        return PRX_OK;
    return launch(as_device(dev), "softmax", softmax_kernel, dim3((unsigned)ceil_div(rows, WARPS)), THREADS, 0, rows, n, x, ld);
}
