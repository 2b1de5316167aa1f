/* Linear layers by a plain tile kernel: the oracle of the tuned path on a device, and what emulation uses in its place. */
#include "fp8.cuh"
#include "launch.cuh"

enum { THREADS = 256, TILE = 32, DEPTH = 32, PITCH = DEPTH + 1 };

/* A tile of 32 x 32 results; a thread has the four at rows ty + 16 i, columns tx + 16 j. */
template <typename T, typename O> PRXI_KERNEL void gemm_kernel(prxi_cu_gemm a)
{
    PRXI_SHARED(shared);
    float *xs = reinterpret_cast<float *>(shared), *ws = xs + TILE * PITCH;
    const int64_t row0 = (int64_t)blockIdx.x * TILE, col0 = (int64_t)blockIdx.y * TILE;
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    const T *x = static_cast<const T *>(a.x), *w = static_cast<const T *>(a.w);
    float sum[2][2] = { { 0, 0 }, { 0, 0 } };
    for (int64_t k0 = 0; k0 < a.k; k0 += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
            const int r = i / DEPTH, c = i % DEPTH;
            const bool inside = k0 + c < a.k;
            xs[r * PITCH + c] = inside && row0 + r < a.m ? load(x, (row0 + r) * a.ldx + k0 + c) : 0.0f;
            const int64_t at = a.plain ? (k0 + c) * a.ldw + col0 + r : (col0 + r) * a.ldw + k0 + c;
            ws[r * PITCH + c] = inside && col0 + r < a.n ? load(w, at) : 0.0f;
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
            const int64_t row = row0 + ty + 16 * i, col = col0 + tx + 16 * j;
            if (row >= a.m || col >= a.n)
                continue;
            const float scale = a.x_scale ? a.x_scale[row] * a.w_scale[col] : a.alpha;
            float v = scale * sum[i][j] + (a.bias ? load(static_cast<const O *>(a.bias), col) : 0.0f);
            v = a.epilogue == 1 ? gelu_tanh(v) : a.epilogue == 2 ? silu(v) : v;
            store(static_cast<O *>(a.y), row * a.ldy + col, v);
        }
}

int prxi_cu_gemm_simple(void *dev, const prxi_cu_gemm *a)
{
    static void (*const kernels[3][2])(prxi_cu_gemm) = { { gemm_kernel<float, float>, gemm_kernel<float, bf16> },
                                                         { gemm_kernel<bf16, float>, gemm_kernel<bf16, bf16> },
                                                         { gemm_kernel<e4m3, float>, gemm_kernel<e4m3, bf16> } };
    const dim3 grid((unsigned)ceil_div(a->m, TILE), (unsigned)ceil_div(a->n, TILE));
    if (a->m <= 0 || a->n <= 0)
        return PRX_OK;
    prxi_cu_gemm g = *a;
    g.ldw = a->ldw ? a->ldw : a->plain ? a->n : a->k;
    g.alpha = a->alpha != 0 ? a->alpha : 1.0f;
    return launch(as_device(dev), "gemm_simple", kernels[a->compute][a->out], grid, THREADS, 2 * TILE * PITCH * sizeof(float), g);
}
