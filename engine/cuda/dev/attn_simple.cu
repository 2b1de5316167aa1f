/* Attention over block lists for any head size and type: a warp a query, a lane a key, online softmax. The oracle of the tiled kernel on
 * a device. */
#include "keys.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS, MAX_DIM = 256, PARTS = MAX_DIM / 32, WARP_FLOATS = MAX_DIM + 128 };

template <typename T> PRXI_KERNEL void simple_kernel(prxi_cu_attn a)
{
    PRXI_SHARED(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float *q = reinterpret_cast<float *>(shared) + warp * WARP_FLOATS;
    const prxi_cu_tile tile = a.tiles[blockIdx.x];
    const int head = tile.head < 0 ? (int)blockIdx.y : tile.head;
    const int64_t column = (int64_t)head * a.head_dim;
    for (int r = warp; r < tile.rows; r += WARPS) {
        const int64_t query = query_at(a, tile, head, r);
        key_cursor keys = open_keys(a, head, tile.block);
        const int32_t n = count_keys(keys);
        float m = -PRXI_INFINITY, l = 0, acc[PARTS] = { 0 };
        for (int i = lane; i < a.head_dim; i += 32)
            q[i] = load(static_cast<const T *>(a.q), query * a.ldq + column + i);
        sync_warp();
        for (int32_t first = 0; first < n; first += 32) {
            float *p = q + MAX_DIM + first / 32 % 2 * 64;       /* two in turn: one barrier a tile is enough */
            int32_t *token = reinterpret_cast<int32_t *>(p + 32);
            const int32_t key = key_at(&keys, first + lane);
            float s = -PRXI_INFINITY;
            if (key >= 0) {
                const T *k = static_cast<const T *>(a.k) + key * a.ldk + column;
                s = 0;
                for (int i = 0; i < a.head_dim; i++)
                    s = fmaf(q[i], load(k, i), s);
                s = s * a.scale + (key == a.kv_len - 1 ? a.tail_bias : 0.0f);
            }
            const float top = fmaxf(m, warp_max(s)), alpha = expf(m - top), e = key < 0 ? 0.0f : expf(s - top);
            l = l * alpha + e;
            m = top;
            p[lane] = e;
            token[lane] = key;
            sync_warp();
            for (int i = lane, j = 0; i < a.head_dim; i += 32, j++) {
                acc[j] *= alpha;
                for (int t = 0; t < 32 && token[t] >= 0; t++)
                    acc[j] = fmaf(p[t], load(static_cast<const T *>(a.v), token[t] * a.ldv + column + i), acc[j]);
            }
        }
        l = warp_sum(l);
        for (int i = lane, j = 0; i < a.head_dim; i += 32, j++)
            store(static_cast<T *>(a.o), query * a.ldo + column + i, l > 0 ? acc[j] / l : 0.0f);
        if (a.lse && lane == 0)
            a.lse[(int64_t)head * a.q_len + query] = l > 0 ? m + logf(l) : -PRXI_INFINITY;
    }
}

int prxi_cu_attention_simple(void *dev, int type, const prxi_cu_attn *a)
{
    device *d = as_device(dev);
    if (a->head_dim > MAX_DIM)
        return prxi_cu_fail(d, PRX_ENOTSUP, "attention", "heads larger than 256 are not supported");
    if (a->n_tiles <= 0)
        return PRX_OK;
    const dim3 grid((unsigned)a->n_tiles, a->per_head ? 1u : (unsigned)a->heads);
    const size_t shared = (size_t)WARPS * WARP_FLOATS * sizeof(float);
    return launch(d, "attention_simple", type ? simple_kernel<bf16> : simple_kernel<float>, grid, THREADS, shared, *a);
}
