/* Causal 3-D convolutions of the VAE in bf16, sm_80 and up: a matrix product of 128 pixels x up to 128 channels a block, whose left operand
 * is gathered from the pictures as it is needed (implicit GEMM), 16 bytes at a time by cp.async in three stages, products by mma.sync.
 * The depth runs over (picture, row, column, channel), then over the channels of the shortcut; chunks of eight channels belong to
 * one tap. */
#include "conv.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, PIXELS = 128, DEPTH = 32, STAGES = 3, CHUNKS = DEPTH / 8, LOADERS = THREADS / CHUNKS };

/* Element (r, c) of a tile of rows of 32: the chunks of 16 bytes change places every second row, so that ldmatrix meets no bank twice. */
PRXI_DEVICE int swizzle(int r, int c)
{
    return r * DEPTH + (((c >> 3) ^ (r >> 1 & 3)) << 3) + (c & 7);
}

/* The chunk of the depth that a thread brings in this step: a tap, and where its channels begin. */
struct depth {
    int tap;
    int channel, at;                /* of the tap; of the weights */
    bool inside;
};

PRXI_DEVICE depth depth_at(const prxi_cu_conv &a, int total, int step)
{
    depth d;
    const int taps = a.kt * a.kh * a.kw;
    d.at = step * DEPTH + (int)threadIdx.x % CHUNKS * 8;
    d.inside = d.at < total;
    d.tap = d.at / (int)a.pitch;
    d.tap = d.tap < taps ? d.tap : taps;
    d.channel = d.at - d.tap * (int)a.pitch;
    return d;
}

template <int COLS>
PRXI_DEVICE void fetch(bf16 *pixels, bf16 *weights, const prxi_cu_conv &a, int total, int step, const int y[2], const int x[2])
{
    const depth d = depth_at(a, total, step);
    const int row = threadIdx.x / CHUNKS, c = threadIdx.x % CHUNKS * 8;
    PRXI_UNROLL
    for (int i = 0; i < PIXELS / LOADERS; i++) {
        const unsigned char *from = d.inside && y[i] >= 0 ? conv_source(a, d.tap, y[i], x[i], 2) : nullptr;
        cp_async16(pixels + swizzle(row + i * LOADERS, c), from ? from + d.channel * 2 : static_cast<const unsigned char *>(a.weights),
                   from != nullptr);
    }
    PRXI_UNROLL
    for (int i = 0; i < (COLS + LOADERS - 1) / LOADERS; i++) {
        const int r = row + i * LOADERS;
        const int64_t col = (int64_t)blockIdx.x * COLS + r;
        if (r < COLS)
            cp_async16(weights + swizzle(r, c), static_cast<const bf16 *>(a.weights) + (d.inside && col < a.cout ? col * total + d.at : 0),
                       d.inside && col < a.cout);
    }
}

/* A warp has 32 pixels x half of the channels. */
template <int COLS> PRXI_DEVICE void multiply(float sum[2][COLS / 16][4], const bf16 *pixels, const bf16 *weights)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row0 = warp / 2 * 32, col0 = warp % 2 * (COLS / 2);
    PRXI_UNROLL
    for (int k = 0; k < DEPTH / 16; k++) {
        uint32_t p[2][4];
        PRXI_UNROLL
        for (int m = 0; m < 2; m++)
            ldmatrix(p[m], pixels + swizzle(row0 + m * 16 + (lane & 15), k * 16 + (lane >> 4) * 8));
        PRXI_UNROLL
        for (int n = 0; n < COLS / 32; n++) {
            uint32_t w[4];
            ldmatrix(w, weights + swizzle(col0 + n * 16 + (lane & 7) + (lane >> 4 << 3), k * 16 + (lane >> 3 & 1) * 8));
            PRXI_UNROLL
            for (int m = 0; m < 2; m++) {
                mma_bf16(sum[m][2 * n], p[m], w[0], w[1]);
                mma_bf16(sum[m][2 * n + 1], p[m], w[2], w[3]);
            }
        }
    }
}

template <int COLS, typename O> PRXI_DEVICE void finish(const prxi_cu_conv &a, const float sum[2][COLS / 16][4])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, pixels = (int)((a.end - a.begin) * a.width);
    PRXI_UNROLL
    for (int m = 0; m < 2; m++) {
        PRXI_UNROLL
        for (int rr = 0; rr < 2; rr++) {
            const int pixel = (int)blockIdx.y * PIXELS + warp / 2 * 32 + m * 16 + rr * 8 + (lane >> 2);
            if (pixel >= pixels)
                continue;
            const int y = (int)a.begin + pixel / (int)a.width, x = pixel % (int)a.width;
            PRXI_UNROLL
            for (int n = 0; n < COLS / 16; n++) {
                const int64_t col = (int64_t)blockIdx.x * COLS + warp % 2 * (COLS / 2) + n * 8 + (lane & 3) * 2;
                conv_store<O>(a, y, x, col, sum[m][n][2 * rr]);
                conv_store<O>(a, y, x, col + 1, sum[m][n][2 * rr + 1]);
            }
        }
    }
}

template <int COLS> PRXI_KERNEL void PRXI_BOUNDS(THREADS) conv_kernel(prxi_cu_conv a)
{
    PRXI_SHARED(shared);
    bf16 *pixels = reinterpret_cast<bf16 *>(shared), *weights = pixels + STAGES * PIXELS * DEPTH;
    const int total = a.kt * a.kh * a.kw * (int)a.pitch + (int)a.shortcut_pitch;
    const int steps = (total + DEPTH - 1) / DEPTH, count = (int)((a.end - a.begin) * a.width);
    int y[PIXELS / LOADERS], x[PIXELS / LOADERS];
    PRXI_UNROLL
    for (int i = 0; i < PIXELS / LOADERS; i++) {
        const int pixel = (int)blockIdx.y * PIXELS + (int)threadIdx.x / CHUNKS + i * LOADERS;
        y[i] = pixel < count ? (int)a.begin + pixel / (int)a.width : -1;
        x[i] = pixel % (int)a.width;
    }
    float sum[2][COLS / 16][4];
    PRXI_UNROLL
    for (int m = 0; m < 2; m++)
        PRXI_UNROLL
        for (int n = 0; n < COLS / 16; n++)
            for (int j = 0; j < 4; j++)
                sum[m][n][j] = 0;
    for (int t = 0; t < STAGES - 1; t++) {          /* a group a step, empty beyond the last: the count stays the same */
        if (t < steps)
            fetch<COLS>(pixels + t * PIXELS * DEPTH, weights + t * COLS * DEPTH, a, total, t, y, x);
        cp_async_commit();
    }
    for (int t = 0; t < steps; t++) {
        const int stage = t % STAGES, next = (t + STAGES - 1) % STAGES;
        cp_async_wait<STAGES - 2>();
        sync_block();                               /* the stage is there for all, and the one before it has been used by all */
        if (t + STAGES - 1 < steps)
            fetch<COLS>(pixels + next * PIXELS * DEPTH, weights + next * COLS * DEPTH, a, total, t + STAGES - 1, y, x);
        cp_async_commit();
        multiply<COLS>(sum, pixels + stage * PIXELS * DEPTH, weights + stage * COLS * DEPTH);
    }
    if (a.out)
        finish<COLS, bf16>(a, sum);
    else
        finish<COLS, float>(a, sum);
}

template <int COLS> static int start(void *dev, const prxi_cu_conv *a, int64_t tiles)
{
    const dim3 grid((unsigned)ceil_div(a->out_pitch > a->cout ? a->cout + 1 : a->cout, COLS), (unsigned)tiles);
    const size_t shared = (size_t)STAGES * (PIXELS + COLS) * DEPTH * sizeof(bf16);
    return launch(as_device(dev), "conv", conv_kernel<COLS>, grid, THREADS, shared, *a);
}

static bool aligned(const prxi_cu_plane *p)
{
    return reinterpret_cast<uintptr_t>(p->base) % 16 == 0 && p->pitch % 16 == 0;
}

/* The tuned kernel where it applies, which types, channels and addresses decide; the least wasteful width of its blocks. */
int prxi_cu_conv_run(void *dev, const prxi_cu_conv *a)
{
    const int64_t tiles = ceil_div((a->end - a->begin) * a->width, PIXELS);
    bool fit = a->in && a->pitch % 8 == 0 && a->shortcut_pitch % 8 == 0 && tiles <= 65535 && aligned(&a->shortcut) &&
               reinterpret_cast<uintptr_t>(a->weights) % 16 == 0;
    for (int t = 0; t < a->kt; t++)
        fit = fit && aligned(&a->src[t]);
    if (!fit)
        return prxi_cu_conv_simple(dev, a);
    if (tiles <= 0)
        return PRX_OK;
    if (a->cout <= 32)
        return start<32>(dev, a, tiles);
    if (a->cout <= 64)
        return start<64>(dev, a, tiles);
    return a->cout % 128 > 0 && a->cout % 96 == 0 ? start<96>(dev, a, tiles) : start<128>(dev, a, tiles);
}
