/* Norms, a block a row. The row waits in shared memory in f32, so that global memory is read once and written once. Every thread
 * reads back only what it wrote there itself, but for the codes of a row in 8 bits. */
#include "fp8.cuh"
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* x += o * gate, and what x is now into `row`; the thread's share of its sum. */
template <typename T> PRXI_DEVICE float add_row(const prxi_cu_ln &a, float *row)
{
    const int64_t base = (int64_t)blockIdx.x * a.dim;
    T *x = static_cast<T *>(a.x) + base;
    const T *o = a.o ? static_cast<const T *>(a.o) + base : nullptr;
    float sum = 0;
    for (int64_t i = threadIdx.x; i < a.dim; i += THREADS) {
        float v = load(x, i);
        if (o)
            v = store(x, i, v + load(o, i) * (a.gate ? a.gate[i] : 1.0f));
        row[i] = v;
        sum += v;
    }
    return sum;
}

struct normal {
    float mean, scale;
};

PRXI_DEVICE normal normal_of(const prxi_cu_ln &a, const float *row, float sum, float *part, float *part2)
{
    const float mean = block_sum(sum, part) / (float)a.dim;
    sum = 0;
    for (int64_t i = threadIdx.x; i < a.dim; i += THREADS) {
        const float d = row[i] - mean;
        sum += d * d;
    }
    return { mean, 1.0f / sqrtf(block_sum(sum, part2) / (float)a.dim + a.eps) };
}

PRXI_DEVICE float modulated(const prxi_cu_ln &a, const float *row, normal n, int64_t i)
{
    return (row[i] - n.mean) * n.scale * (a.mul ? a.mul[i] : 1.0f) + (a.add ? a.add[i] : 0.0f);
}

/* x += o * gate; out = LN(x) * mul + add. */
template <typename T> PRXI_KERNEL void ln_kernel(prxi_cu_ln a)
{
    PRXI_SHARED(shared);
    float *part = reinterpret_cast<float *>(shared), *part2 = part + WARPS, *row = part2 + WARPS;
    const float sum = add_row<T>(a, row);
    if (!a.out)
        return;
    const normal n = normal_of(a, row, sum, part, part2);
    T *out = static_cast<T *>(a.out) + (int64_t)blockIdx.x * a.dim;
    for (int64_t i = threadIdx.x; i < a.dim; i += THREADS)
        store(out, i, modulated(a, row, n, i));
}

/* The same with out in e4m3: of what bf16 would have held, four codes a store. */
PRXI_KERNEL void ln_eight_kernel(prxi_cu_ln a)
{
    PRXI_SHARED(shared);
    float *part = reinterpret_cast<float *>(shared), *part2 = part + WARPS, *row = part2 + WARPS;
    const normal n = normal_of(a, row, add_row<bf16>(a, row), part, part2);
    float top = 0;
    for (int64_t i = threadIdx.x; i < a.dim; i += THREADS) {
        row[i] = bits_float((uint32_t)round_bf16(modulated(a, row, n, i)) << 16);
        top = fmaxf(top, fabsf(row[i]));
    }
    const float up = scale_row(top, part, a.scale + blockIdx.x);
    uint32_t *q = reinterpret_cast<uint32_t *>(static_cast<e4m3 *>(a.q) + (int64_t)blockIdx.x * a.dim);
    for (int64_t i = threadIdx.x; i < a.dim / 4; i += THREADS) {
        uint32_t codes = 0;
        PRXI_UNROLL
        for (int j = 0; j < 4; j++)
            codes |= (uint32_t)round_e4m3(row[4 * i + j] * up).bits << 8 * j;
        q[i] = codes;
    }
}

/* RMS norm over the row, then rotation of pairs; a thread owns whole pairs, as the last of an odd row has no rotation. */
template <typename T> PRXI_KERNEL void rms_kernel(prxi_cu_rms a)
{
    PRXI_SHARED(shared);
    float *part = reinterpret_cast<float *>(shared), *row = part + WARPS;
    const T *x = static_cast<const T *>(a.x) + (int64_t)blockIdx.x * a.ldx;
    T *out = static_cast<T *>(a.out) + (int64_t)blockIdx.x * a.ldo;
    float sum = 0;
    for (int64_t i = 2 * (int64_t)threadIdx.x; i < a.dim; i += 2 * THREADS)
        for (int64_t j = i; j < i + 2 && j < a.dim; j++) {
            const float v = load(x, j);
            row[j] = v;
            sum += v * v;
        }
    const float scale = 1.0f / sqrtf(block_sum(sum, part) / (float)a.dim + a.eps);
    const float *rope = a.rope ? a.rope + (int64_t)blockIdx.x % a.rope_rows * a.head_dim : nullptr;
    for (int64_t i = 2 * (int64_t)threadIdx.x; i < a.dim; i += 2 * THREADS) {
        const float x0 = row[i] * scale * a.weight[i];
        const float x1 = i + 1 < a.dim ? row[i + 1] * scale * a.weight[i + 1] : 0.0f;
        const float c = rope ? rope[i % a.head_dim] : 1.0f, s = rope ? rope[i % a.head_dim + 1] : 0.0f;
        store(out, i, rope ? x0 * c - x1 * s : x0);
        if (i + 1 < a.dim)
            store(out, i + 1, rope ? x0 * s + x1 * c : x1);
    }
}

static int check_row(device *d, const char *op, int64_t dim)
{
    return dim <= PRXI_CU_ROW ? PRX_OK : prxi_cu_fail(d, PRX_ENOTSUP, op, "rows longer than 11264 are not supported");
}

int prxi_cu_layernorm(void *dev, int type, const prxi_cu_ln *a)
{
    device *d = as_device(dev);
    const int err = check_row(d, "layernorm", a->dim);
    const size_t shared = (size_t)(2 * WARPS + a->dim) * sizeof(float);
    if (err < 0 || a->rows <= 0)
        return err;
    if (a->q && (!type || a->dim % 4))
        return prxi_cu_fail(d, PRX_ENOTSUP, "layernorm", "to 8 bits: rows of bf16 in whole fours only");
    if (a->q)
        return launch(d, "layernorm to 8 bits", ln_eight_kernel, dim3((unsigned)a->rows), THREADS, shared, *a);
    return launch(d, "layernorm", type ? ln_kernel<bf16> : ln_kernel<float>, dim3((unsigned)a->rows), THREADS, shared, *a);
}

int prxi_cu_rmsnorm(void *dev, int type, const prxi_cu_rms *a)
{
    device *d = as_device(dev);
    const int err = check_row(d, "rmsnorm", a->dim);
    const size_t shared = (size_t)(WARPS + a->dim) * sizeof(float);
    if (err < 0 || a->rows <= 0)
        return err;
    return launch(d, "rmsnorm", type ? rms_kernel<bf16> : rms_kernel<float>, dim3((unsigned)a->rows), THREADS, shared, *a);
}
