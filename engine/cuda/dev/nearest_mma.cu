/* The nearest centroid in bf16 for heads of 64 and 128, sm_80 and up: the products of 64 points with all centroids by mma.sync, a tile of
 * centroids at a time, and the largest x . c - |c|^2 / 2 kept in registers: the matrix of products is never written. */
#include "launch.cuh"
#include "tile.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS, STAGES = 2 };

PRXI_KERNEL void halves_kernel(int64_t n, int head_dim, const bf16 *centroids, float *halves)
{
    const int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    float size = 0;
    if (c >= n)
        return;
    for (int i = 0; i < head_dim; i++) {
        const float v = load(centroids, c * head_dim + i);
        size = fmaf(v, v, size);
    }
    halves[c] = 0.5f * size;
}

/* Rows [first, first + 64) of `count` in memory. */
template <int D> PRXI_DEVICE void fetch(bf16 *to, const bf16 *from, int64_t ld, int64_t first, int64_t count)
{
    enum { CHUNKS = D / 8 };
    for (int i = threadIdx.x; i < TILE_ROWS * CHUNKS; i += THREADS) {
        const int r = i / CHUNKS, c = i % CHUNKS * 8;
        const bool inside = first + r < count;
        cp_async16(to + tile_at<D>(r, c), from + (inside ? first + r : 0) * ld + c, inside);
    }
}

template <int D> PRXI_KERNEL void PRXI_BOUNDS(THREADS) nearest_kernel(prxi_cu_nearest a)
{
    PRXI_SHARED(shared);
    bf16 *points = reinterpret_cast<bf16 *>(shared), *centroids = points + TILE_ROWS * D;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, k = a.k, tiles = (k + TILE_ROWS - 1) / TILE_ROWS;
    const int head = (int)blockIdx.y;           /* times k and D it stays an int: at most PRXI_CU_CLUSTERS centroids a head */
    const int64_t first = (int64_t)blockIdx.x * TILE_ROWS;
    const bf16 *x = static_cast<const bf16 *>(a.x) + head * D, *c = static_cast<const bf16 *>(a.centroids) + head * a.k * D;
    const float *halves = a.halves + head * a.k;
    fetch<D>(points, x, a.ldx, first, a.n);
    fetch<D>(centroids, c, D, 0, a.k);
    cp_async_commit();
    uint32_t q[D / 16][4];
    float best[2] = { -PRXI_INFINITY, -PRXI_INFINITY };
    int at[2] = { 0x7fffffff, 0x7fffffff };
    for (int t = 0; t < tiles; t++) {
        if (t + 1 < tiles)
            fetch<D>(centroids + (t + 1) % STAGES * TILE_ROWS * D, c, D, (int64_t)(t + 1) * TILE_ROWS, a.k);
        cp_async_commit();
        cp_async_wait<1>();
        sync_block();                   /* the tile is there for all */
        if (t == 0) {
            PRXI_UNROLL
            for (int d = 0; d < D / 16; d++)
                ldmatrix(q[d], points + tile_at<D>(warp * 16 + (lane & 15), d * 16 + (lane >> 4) * 8));
        }
        float s[TILE_ROWS / 8][4];
        tile_scores<D>(s, q, centroids + t % STAGES * TILE_ROWS * D, 1.0f);
        PRXI_UNROLL
        for (int n = 0; n < TILE_ROWS / 8; n++) {
            const int col0 = t * TILE_ROWS + n * 8 + (lane & 3) * 2;
            const float half[2] = { col0 < k ? halves[col0] : PRXI_INFINITY, col0 + 1 < k ? halves[col0 + 1] : PRXI_INFINITY };
            PRXI_UNROLL
            for (int j = 0; j < 4; j++) {
                const int col = col0 + (j & 1);
                const float v = s[n][j] - half[j & 1];
                if (v > best[j >> 1]) {             /* ascending: the first of equals stays */
                    best[j >> 1] = v;
                    at[j >> 1] = col;
                }
            }
        }
        sync_block();                   /* and used by all: the stage may be filled again */
    }
    PRXI_UNROLL
    for (int rr = 0; rr < 2; rr++) {
        for (int m = 1; m <= 2; m *= 2) {
            const float other = shfl_xor(best[rr], m);
            const int where = shfl_xor(at[rr], m);
            if (other > best[rr] || (other == best[rr] && where < at[rr])) {
                best[rr] = other;
                at[rr] = where;
            }
        }
        const int64_t point = first + warp * 16 + (lane >> 2) + 8 * rr;
        if (point < a.n && (lane & 3) == 0)
            a.labels[head * a.n + point] = at[rr] == 0x7fffffff ? 0 : at[rr];
    }
}

int prxi_cu_nearest_mma(void *dev, const prxi_cu_nearest *a)
{
    device *d = as_device(dev);
    const int64_t all = (int64_t)a->heads * a->k;
    const dim3 grid((unsigned)ceil_div(a->n, TILE_ROWS), (unsigned)a->heads);
    const size_t shared = (size_t)(1 + STAGES) * TILE_ROWS * (size_t)a->head_dim * sizeof(bf16);
    const int err = launch(d, "nearest: sizes", halves_kernel, dim3((unsigned)ceil_div(all, THREADS)), THREADS, 0, all, a->head_dim,
                           static_cast<const bf16 *>(a->centroids), a->halves);
    return err < 0 ? err : launch(d, "nearest", a->head_dim == 64 ? nearest_kernel<64> : nearest_kernel<128>, grid, THREADS, shared, *a);
}
