/* Norms, a block a row; global memory is read once and written once. Rows of whole runs of eight wait in registers, HELD runs a thread; any
 * others in shared memory in f32, where every thread reads back only what it wrote itself, but for the codes of a row in 8 bits. */
#include "fp8.cuh"
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, RUN = 8, HELD = 2, MOST = PRXI_CU_ROW / RUN / HELD };

/* ---- rows in registers ---- */

/* Where run r of this thread begins; where it is read: without a branch, so that all reads are under way together, it is the first run for
 * a thread that has none. */
PRXI_DEVICE int run_at(int r)
{
    return (int)(threadIdx.x + r * blockDim.x) * RUN;
}
PRXI_DEVICE int read_at(int r, int64_t dim)
{
    return run_at(r) < dim ? run_at(r) : 0;
}

template <typename T> PRXI_DEVICE void read_row(const T *x, int64_t dim, float v[HELD][RUN])
{
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++)
        load_run<RUN>(x + read_at(r, dim), v[r]);
}

/* x += o * gate where ADD; what x is now into v; the thread's share of its sum. */
template <typename T, int ADD> PRXI_DEVICE float hold_row(const prxi_cu_ln &a, float v[HELD][RUN])
{
    const int64_t base = (int64_t)blockIdx.x * a.dim;
    T *x = static_cast<T *>(a.x) + base;
    float o[HELD][RUN], gate[RUN] = { 1, 1, 1, 1, 1, 1, 1, 1 }, sum = 0;
    read_row(x, a.dim, v);
    if (ADD)
        read_row(static_cast<const T *>(a.o) + base, a.dim, o);
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++) {
        if (run_at(r) >= a.dim)
            continue;
        if (ADD) {
            if (a.gate)
                load_run<RUN>(a.gate + run_at(r), gate);
            PRXI_UNROLL
            for (int j = 0; j < RUN; j++)
                v[r][j] += o[r][j] * gate[j];
            store_run<RUN>(x + run_at(r), v[r]);
        }
        PRXI_UNROLL
        for (int j = 0; j < RUN; j++)
            sum += v[r][j];
    }
    return sum;
}

/* v = LN(v) * mul + add, of the row that the block holds; part: one float a warp, twice. */
PRXI_DEVICE void normalise_held(const prxi_cu_ln &a, float sum, float *part, float v[HELD][RUN])
{
    const float mean = block_sum(sum, part) / (float)a.dim;
    sum = 0;
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++)
        if (run_at(r) < a.dim)
            PRXI_UNROLL
            for (int j = 0; j < RUN; j++) {
                v[r][j] -= mean;
                sum += v[r][j] * v[r][j];
            }
    const float scale = 1.0f / sqrtf(block_sum(sum, part + blockDim.x / 32) / (float)a.dim + a.eps);
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++) {
        float mul[RUN] = { 1, 1, 1, 1, 1, 1, 1, 1 }, add[RUN] = { 0, 0, 0, 0, 0, 0, 0, 0 };
        if (run_at(r) >= a.dim)
            continue;
        if (a.mul)
            load_run<RUN>(a.mul + run_at(r), mul);
        if (a.add)
            load_run<RUN>(a.add + run_at(r), add);
        PRXI_UNROLL
        for (int j = 0; j < RUN; j++)
            v[r][j] = v[r][j] * scale * mul[j] + add[j];
    }
}

/* x += o * gate; out = LN(x) * mul + add. */
template <typename T, int ADD> PRXI_KERNEL void PRXI_BOUNDS(MOST) ln_held_kernel(prxi_cu_ln a)
{
    PRXI_SHARED(shared);
    float v[HELD][RUN];
    const float sum = hold_row<T, ADD>(a, v);
    if (!a.out)
        return;
    normalise_held(a, sum, reinterpret_cast<float *>(shared), v);
    T *out = static_cast<T *>(a.out) + (int64_t)blockIdx.x * a.dim;
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++)
        if (run_at(r) < a.dim)
            store_run<RUN>(out + run_at(r), v[r]);
}

/* The same with out in e4m3: of what bf16 would have held. */
template <int ADD> PRXI_KERNEL void PRXI_BOUNDS(MOST) ln_eight_held_kernel(prxi_cu_ln a)
{
    PRXI_SHARED(shared);
    float *part = reinterpret_cast<float *>(shared), v[HELD][RUN], top = 0;
    const float sum = hold_row<bf16, ADD>(a, v);
    normalise_held(a, sum, part, v);
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++)
        if (run_at(r) < a.dim)
            PRXI_UNROLL
            for (int j = 0; j < RUN; j++) {
                v[r][j] = bits_float((uint32_t)round_bf16(v[r][j]) << 16);
                top = fmaxf(top, fabsf(v[r][j]));
            }
    const float up = scale_row(top, part, a.scale + blockIdx.x);
    e4m3 *q = static_cast<e4m3 *>(a.q) + (int64_t)blockIdx.x * a.dim;
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++)
        if (run_at(r) < a.dim) {
            words<RUN / 4> codes = { { 0, 0 } };
            PRXI_UNROLL
            for (int j = 0; j < RUN; j++)
                codes.w[j / 4] |= (uint32_t)round_e4m3(v[r][j] * up).bits << 8 * (j % 4);
            store_words(q + run_at(r), codes);
        }
}

/* RMS norm over the row, then rotation of pairs. */
template <typename T> PRXI_KERNEL void PRXI_BOUNDS(MOST) rms_held_kernel(prxi_cu_rms a)
{
    PRXI_SHARED(shared);
    const T *x = static_cast<const T *>(a.x) + (int64_t)blockIdx.x * a.ldx;
    T *out = static_cast<T *>(a.out) + (int64_t)blockIdx.x * a.ldo;
    float v[HELD][RUN], sum = 0;
    read_row(x, a.dim, v);
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++)
        if (run_at(r) < a.dim)
            PRXI_UNROLL
            for (int j = 0; j < RUN; j++)
                sum += v[r][j] * v[r][j];
    const float scale = 1.0f / sqrtf(block_sum(sum, reinterpret_cast<float *>(shared)) / (float)a.dim + a.eps);
    const float *rope = a.rope ? a.rope + (int64_t)(blockIdx.x % (unsigned)a.rope_rows) * a.head_dim : nullptr;
    PRXI_UNROLL
    for (int r = 0; r < HELD; r++) {
        float weight[RUN], turn[RUN];
        if (run_at(r) >= a.dim)
            continue;
        load_run<RUN>(a.weight + run_at(r), weight);
        PRXI_UNROLL
        for (int j = 0; j < RUN; j++)
            v[r][j] = v[r][j] * scale * weight[j];
        if (rope) {
            load_run<RUN>(rope + run_at(r) % a.head_dim, turn);
            PRXI_UNROLL
            for (int j = 0; j < RUN; j += 2) {
                const float x0 = v[r][j], x1 = v[r][j + 1];
                v[r][j] = x0 * turn[j] - x1 * turn[j + 1];
                v[r][j + 1] = x0 * turn[j + 1] + x1 * turn[j];
            }
        }
        store_run<RUN>(out + run_at(r), v[r]);
    }
}

/* ---- any rows ---- */

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

/* Threads that hold a row, whole warps. */
static int holders(int64_t dim)
{
    return (int)ceil_div(dim, RUN * HELD * 32) * 32;
}

/* Of rows that are held: the kernel by what it reads and writes. */
static void (*held_kernel(int type, const prxi_cu_ln *a))(prxi_cu_ln)
{
    if (a->q)
        return a->o ? ln_eight_held_kernel<1> : ln_eight_held_kernel<0>;
    if (type)
        return a->o ? ln_held_kernel<bf16, 1> : ln_held_kernel<bf16, 0>;
    return a->o ? ln_held_kernel<float, 1> : ln_held_kernel<float, 0>;
}

int prxi_cu_layernorm(void *dev, int type, const prxi_cu_ln *a)
{
    device *d = as_device(dev);
    const int err = check_row(d, "layernorm", a->dim), threads = holders(a->dim);
    const char *op = a->q ? "layernorm to 8 bits" : "layernorm";
    const bool held = a->dim % RUN == 0 && aligned(a->x) && aligned(a->o) && aligned(a->out) && aligned(a->q) && aligned(a->gate) &&
                      aligned(a->mul) && aligned(a->add);
    const dim3 grid((unsigned)a->rows);
    if (err < 0 || a->rows <= 0)
        return err;
    if (a->q && (!type || a->dim % 4))
        return prxi_cu_fail(d, PRX_ENOTSUP, "layernorm", "to 8 bits: rows of bf16 in whole fours only");
    if (held)
        return launch(d, op, held_kernel(type, a), grid, threads, (size_t)threads / 16 * sizeof(float), *a);
    return launch(d, op, a->q ? ln_eight_kernel : type ? ln_kernel<bf16> : ln_kernel<float>, grid, THREADS,
                  (size_t)(2 * WARPS + a->dim) * sizeof(float), *a);
}

int prxi_cu_rmsnorm(void *dev, int type, const prxi_cu_rms *a)
{
    device *d = as_device(dev);
    const int err = check_row(d, "rmsnorm", a->dim), threads = holders(a->dim);
    const bool held = a->dim % RUN == 0 && aligned(a->x, a->ldx) && aligned(a->out, a->ldo) && aligned(a->weight) &&
                      (!a->rope || (aligned(a->rope) && a->head_dim % RUN == 0));
    const dim3 grid((unsigned)a->rows);
    if (err < 0 || a->rows <= 0)
        return err;
    if (held)
        return launch(d, "rmsnorm", type ? rms_held_kernel<bf16> : rms_held_kernel<float>, grid, threads,
                      (size_t)threads / 32 * sizeof(float), *a);
    return launch(d, "rmsnorm", type ? rms_kernel<bf16> : rms_kernel<float>, grid, THREADS, (size_t)(WARPS + a->dim) * sizeof(float), *a);
}
