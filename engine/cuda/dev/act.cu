/* Elementwise ops and softmax: engine/ops/ref/act.c, operation by operation. */
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* N values; y may be a or b, so they are read first. */
template <typename T, int OP, int N> PRXI_DEVICE void binary_run(const T *a, const T *b, T *y, int64_t i)
{
    float v[N], w[N];
    load_run<N>(a + i, v);
    if (OP == PRXI_CU_ADD || OP == PRXI_CU_SUB || b)
        load_run<N>(b + i, w);
    PRXI_UNROLL
    for (int j = 0; j < N; j++) {
        if (OP == PRXI_CU_GELU_MUL)
            v[j] = gelu_tanh(v[j]) * (b ? w[j] : 1.0f);
        else if (OP == PRXI_CU_SILU)
            v[j] = silu(v[j]);
        else
            v[j] = OP == PRXI_CU_ADD ? v[j] + w[j] : v[j] - w[j];
    }
    store_run<N>(y + i, v);
}

/* Runs of 16 bytes, then what is left. */
template <typename T, int OP> PRXI_KERNEL void binary_kernel(int64_t n, int64_t runs, const T *a, const T *b, T *y)
{
    enum { N = 16 / sizeof(T) };
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = first; i < runs; i += step)
        binary_run<T, OP, N>(a, b, y, i * N);
    for (int64_t i = runs * N + first; i < n; i += step)
        binary_run<T, OP, 1>(a, b, y, i);
}

PRXI_DEVICE float half_value(uint16_t v)
{
    const uint32_t sign = (uint32_t)(v >> 15) << 31, exp = v >> 10 & 31u, frac = v & 1023u;
    if (exp == 0)
        return bits_float(float_bits((float)frac * 5.9604644775390625e-8f) | sign);
    return bits_float(sign | (exp == 31 ? 0x7f800000u : (exp + 112u) << 23) | frac << 13);
}

struct f16 {
    uint16_t bits;
};

template <int N> PRXI_DEVICE void load_run(const f16 *p, float v[N])
{
    load_run<N>(reinterpret_cast<const bf16 *>(p), v);
    PRXI_UNROLL
    for (int i = 0; i < N; i++)
        v[i] = half_value((uint16_t)(float_bits(v[i]) >> 16));
}

template <typename F, typename T, int N> PRXI_DEVICE void convert_run(const F *x, T *y, int64_t i)
{
    float v[N];
    load_run<N>(x + i, v);
    store_run<N>(y + i, v);
}

/* Of the larger type 16 bytes at a time. */
template <typename F, typename T> PRXI_KERNEL void convert_kernel(int64_t n, int64_t runs, const F *x, T *y)
{
    enum { N = 4 };
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = first; i < runs; i += step)
        convert_run<F, T, N>(x, y, i * N);
    for (int64_t i = runs * N + first; i < n; i += step)
        convert_run<F, T, 1>(x, y, i);
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

/* Blocks for so many runs of `each` values, and what is left of n behind them. */
static dim3 grid_of(int64_t n, int64_t runs, int each)
{
    return dim3(grid_for(runs > 0 ? ceil_div(n, each) : n, THREADS));
}

template <typename T, int OP> static int binary(device *d, int64_t n, const void *a, const void *b, void *y)
{
    enum { N = 16 / sizeof(T) };
    const int64_t runs = aligned(a) && aligned(b) && aligned(y) ? n / N : 0;
    return launch(d, "elementwise", binary_kernel<T, OP>, grid_of(n, runs, N), THREADS, 0, n, runs, static_cast<const T *>(a),
                  static_cast<const T *>(b), static_cast<T *>(y));
}

template <typename T> static int binary_of(device *d, prxi_cu_binary op, int64_t n, const void *a, const void *b, void *y)
{
    switch (op) {
    case PRXI_CU_GELU_MUL: return binary<T, PRXI_CU_GELU_MUL>(d, n, a, b, y);
    case PRXI_CU_SILU: return binary<T, PRXI_CU_SILU>(d, n, a, nullptr, y);
    case PRXI_CU_ADD: return binary<T, PRXI_CU_ADD>(d, n, a, b, y);
    default: return binary<T, PRXI_CU_SUB>(d, n, a, b, y);
    }
}

int prxi_cu_binary_run(void *dev, int type, prxi_cu_binary op, int64_t n, const void *a, const void *b, void *y)
{
    if (n <= 0)
        return PRX_OK;
    return type ? binary_of<bf16>(as_device(dev), op, n, a, b, y) : binary_of<float>(as_device(dev), op, n, a, b, y);
}

template <typename F, typename T> static int convert(device *d, int64_t n, const void *x, void *y)
{
    const int64_t runs = aligned(x) && aligned(y) ? n / 4 : 0;
    return launch(d, "convert", convert_kernel<F, T>, grid_of(n, runs, 4), THREADS, 0, n, runs, static_cast<const F *>(x),
                  static_cast<T *>(y));
}

int prxi_cu_convert_run(void *dev, prxi_cu_convert op, int64_t n, const void *x, void *y)
{
    device *d = as_device(dev);
    if (n <= 0)
        return PRX_OK;
    if (op == PRXI_CU_F32_TO_BF16)
        return convert<float, bf16>(d, n, x, y);
    return op == PRXI_CU_BF16_TO_F32 ? convert<bf16, float>(d, n, x, y) : convert<f16, float>(d, n, x, y);
}

int prxi_cu_softmax(void *dev, int64_t rows, int64_t n, float *x, int64_t ld)
{
    if (rows <= 0 || n <= 0)
        return PRX_OK;
    return launch(as_device(dev), "softmax", softmax_kernel, dim3((unsigned)ceil_div(rows, WARPS)), THREADS, 0, rows, n, x, ld);
}
