/* Block-sparse attention for bf16 heads of 64 and 128, sm_80 and up (FlashAttention-2, Dao 2023, over lists): 64 queries a block of four
 * warps, 64 keys a tile, K and V by cp.async, products by mma.sync, scores and output in registers. Two blocks a multiprocessor hide each
 * other's waits: with two stages of K and V where there is room for that (sm_80, 90, 100), else with one of each.
 * Rows are gathered by token, sixteen bytes at a time, so blocks may have any length and be permuted; a tile is padded only at the
 * end of a list. */
#include "keys.cuh"
#include "tile.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS, ROWS = PRXI_CU_TILE_ROWS, RING = 3 };

static_assert((int)ROWS == (int)TILE_ROWS && ROWS == 16 * WARPS, "a warp has 16 queries");

#define MASKED (-1e30f)
#define LOG2E 1.4426950408889634f

template <int D> PRXI_DEVICE void fetch(bf16 *to, const void *from, int64_t ld, int64_t column, const int32_t *tokens)
{
    enum { CHUNKS = D / 8 };
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        const int r = i / CHUNKS, c = i % CHUNKS * 8;
        const int64_t token = tokens[r];
        cp_async16(to + tile_at<D>(r, c), static_cast<const bf16 *>(from) + (token < 0 ? 0 : token) * ld + column + c, token >= 0);
    }
}

/* Padding to MASKED, and the bias of the last key. A thread's keys are 8 n + 2 (lane % 4) + {0, 1}. */
PRXI_DEVICE void mask(float s[ROWS / 8][4], const int32_t *tokens, int64_t last, float bias)
{
    const int lane = threadIdx.x % 32;
    PRXI_UNROLL
    for (int n = 0; n < ROWS / 8; n++) {
        PRXI_UNROLL
        for (int j = 0; j < 4; j++) {
            const int32_t token = tokens[n * 8 + (lane & 3) * 2 + (j & 1)];
            if (token < 0)
                s[n][j] = MASKED;
            else if (token == last)
                s[n][j] += bias;
        }
    }
}

/* Scores (times log2 e) to weights, and the running maximum, sum and output to the new maximum. Row rr of two: lane / 4 + 8 rr. */
template <int D> PRXI_DEVICE void softmax(float s[ROWS / 8][4], float o[D / 8][4], float m[2], float l[2])
{
    PRXI_UNROLL
    for (int rr = 0; rr < 2; rr++) {
        float top = m[rr], sum = 0;
        PRXI_UNROLL
        for (int n = 0; n < ROWS / 8; n++)
            top = fmaxf(top, fmaxf(s[n][2 * rr], s[n][2 * rr + 1]));
        top = fmaxf(top, shfl_xor(top, 1));
        top = fmaxf(top, shfl_xor(top, 2));
        const float alpha = exp2f(m[rr] - top);
        PRXI_UNROLL
        for (int n = 0; n < ROWS / 8; n++) {
            PRXI_UNROLL
            for (int j = 2 * rr; j < 2 * rr + 2; j++)
                sum += s[n][j] = exp2f(s[n][j] - top);
        }
        m[rr] = top;
        l[rr] = fmaf(l[rr], alpha, sum);
        PRXI_UNROLL
        for (int n = 0; n < D / 8; n++) {
            o[n][2 * rr] *= alpha;
            o[n][2 * rr + 1] *= alpha;
        }
    }
}

/* o += p v: accumulators of the scores are the left operand as they lie, rounded to bf16. */
template <int D> PRXI_DEVICE void values(float o[D / 8][4], const float p[ROWS / 8][4], const bf16 *v)
{
    const int lane = threadIdx.x % 32;
    PRXI_UNROLL
    for (int k = 0; k < ROWS / 16; k++) {
        const uint32_t a[4] = { pack_bf16(p[2 * k][0], p[2 * k][1]), pack_bf16(p[2 * k][2], p[2 * k][3]),
                                pack_bf16(p[2 * k + 1][0], p[2 * k + 1][1]), pack_bf16(p[2 * k + 1][2], p[2 * k + 1][3]) };
        PRXI_UNROLL
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];
            ldmatrix_trans(b, v + tile_at<D>(k * 16 + (lane & 15), n * 16 + (lane >> 4) * 8));
            mma_bf16(o[2 * n], a, b[0], b[1]);
            mma_bf16(o[2 * n + 1], a, b[2], b[3]);
        }
    }
}

template <int D>
PRXI_DEVICE void finish(const prxi_cu_attn &a, int head, const int32_t *queries, const float o[D / 8][4], const float m[2],
                        const float l[2])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    PRXI_UNROLL
    for (int rr = 0; rr < 2; rr++) {
        float sum = l[rr] + shfl_xor(l[rr], 1);
        sum += shfl_xor(sum, 2);
        const int64_t query = queries[warp * 16 + (lane >> 2) + 8 * rr];
        if (query < 0)
            continue;
        const float inverse = sum > 0 ? 1.0f / sum : 0.0f;
        bf16 *row = static_cast<bf16 *>(a.o) + query * a.ldo + (int64_t)head * D + (lane & 3) * 2;
        PRXI_UNROLL
        for (int n = 0; n < D / 8; n++)
            *reinterpret_cast<uint32_t *>(row + n * 8) = pack_bf16(o[n][2 * rr] * inverse, o[n][2 * rr + 1] * inverse);
        if (a.lse && (lane & 3) == 0)
            a.lse[(int64_t)head * a.q_len + query] = sum > 0 ? m[rr] / LOG2E + logf(sum) : -PRXI_INFINITY;
    }
}

/* Of a block. Shared memory: q, then a tile of keys a stage, then as many of values; with one stage, q lies where the values will be. */
template <int D> struct work {
    bf16 *q, *k, *v;
    int32_t *queries, *tokens;
    key_cursor keys;
    int64_t column;
    int tiles;
};

template <int D> PRXI_DEVICE void load_q(uint32_t q[D / 16][4], const bf16 *tile)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    PRXI_UNROLL
    for (int d = 0; d < D / 16; d++)
        ldmatrix(q[d], tile + tile_at<D>(warp * 16 + (lane & 15), d * 16 + (lane >> 4) * 8));
}

template <int D>
PRXI_DEVICE void weigh(const prxi_cu_attn &a, const work<D> &w, int t, float s[ROWS / 8][4], float o[D / 8][4], float m[2], float l[2])
{
    if (t == w.tiles - 1 || a.tail_bias != 0)
        mask(s, w.tokens + t % RING * ROWS, a.kv_len - 1, a.tail_bias * LOG2E);
    softmax<D>(s, o, m, l);
}

template <int D> PRXI_DEVICE void look_up(work<D> &w, int t)
{
    if (threadIdx.x < ROWS)
        w.tokens[t % RING * ROWS + threadIdx.x] = key_at(&w.keys, t * ROWS + threadIdx.x);
}

template <int D> PRXI_DEVICE void fetch_tile(const work<D> &w, bf16 *to, const void *from, int64_t ld, int t)
{
    fetch<D>(to, from, ld, w.column, w.tokens + t % RING * ROWS);
    cp_async_commit();
}

/* One stage of each: values arrive during the scores, the next keys during the softmax and the products with the values. */
template <int D> PRXI_DEVICE void attend_one(const prxi_cu_attn &a, work<D> &w, float o[D / 8][4], float m[2], float l[2])
{
    uint32_t q[D / 16][4];
    fetch<D>(w.q, a.q, a.ldq, w.column, w.queries);
    fetch_tile(w, w.k, a.k, a.ldk, 0);
    cp_async_wait<0>();
    sync_block();                       /* q and the first keys are there for all */
    load_q<D>(q, w.q);
    for (int t = 0; t < w.tiles; t++) {
        sync_block();                   /* q, or the values before, are used by all */
        fetch_tile(w, w.v, a.v, a.ldv, t);
        float s[ROWS / 8][4];
        tile_scores<D>(s, q, w.k, a.scale * LOG2E);
        look_up(w, t + 2);
        sync_block();                   /* so are the keys; the tokens may be read */
        if (t + 1 < w.tiles)
            fetch_tile(w, w.k, a.k, a.ldk, t + 1);
        weigh(a, w, t, s, o, m, l);
        if (t + 1 < w.tiles)
            cp_async_wait<1>();
        else
            cp_async_wait<0>();
        sync_block();                   /* the values are there for all */
        values<D>(o, s, w.v);
        cp_async_wait<0>();             /* the next keys: the barrier above makes them everyone's */
    }
}

/* Two stages: a tile of keys and values arrives while the one before is worked on. */
template <int D> PRXI_DEVICE void attend_two(const prxi_cu_attn &a, work<D> &w, float o[D / 8][4], float m[2], float l[2])
{
    uint32_t q[D / 16][4];
    fetch<D>(w.q, a.q, a.ldq, w.column, w.queries);
    fetch<D>(w.k, a.k, a.ldk, w.column, w.tokens);
    fetch_tile(w, w.v, a.v, a.ldv, 0);
    for (int t = 0; t < w.tiles; t++) {
        const int stage = t % 2 * ROWS * D, next = ROWS * D - stage;
        if (t + 1 < w.tiles) {
            fetch<D>(w.k + next, a.k, a.ldk, w.column, w.tokens + (t + 1) % RING * ROWS);
            fetch_tile(w, w.v + next, a.v, a.ldv, t + 1);
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        sync_block();                   /* the tile is there for all */
        if (t == 0)
            load_q<D>(q, w.q);
        float s[ROWS / 8][4];
        tile_scores<D>(s, q, w.k + stage, a.scale * LOG2E);
        weigh(a, w, t, s, o, m, l);
        values<D>(o, s, w.v + stage);
        look_up(w, t + 2);
        sync_block();                   /* and used by all: the stage may be filled again, the tokens be read */
    }
    cp_async_wait<0>();
}

template <int D, int STAGES> PRXI_KERNEL void PRXI_BOUNDS(THREADS) blocks_kernel(prxi_cu_attn a)
{
    PRXI_SHARED(shared);
    const prxi_cu_tile tile = a.tiles[blockIdx.x];
    if (tile.rows == 0)
        return;                         /* beyond the end of a list that was built on the device */
    const int tid = threadIdx.x, head = tile.head < 0 ? (int)blockIdx.y : tile.head;
    bf16 *first = reinterpret_cast<bf16 *>(shared), *k = first + (STAGES == 1 ? 0 : ROWS * D), *v = k + STAGES * ROWS * D;
    int32_t *queries = reinterpret_cast<int32_t *>(v + STAGES * ROWS * D);
    work<D> w = { STAGES == 1 ? v : first, k, v, queries, queries + ROWS, open_keys(a, head, tile.block), (int64_t)head * D, 0 };
    w.tiles = (count_keys(w.keys) + ROWS - 1) / ROWS;
    if (tid < ROWS)
        queries[tid] = tid < tile.rows ? query_at(a, tile, head, tid) : -1;
    look_up(w, 0);
    look_up(w, 1);
    sync_block();
    float o[D / 8][4], m[2] = { MASKED, MASKED }, l[2] = { 0, 0 };
    PRXI_UNROLL
    for (int n = 0; n < D / 8; n++)
        for (int j = 0; j < 4; j++)
            o[n][j] = 0;
    if (STAGES == 1)
        attend_one<D>(a, w, o, m, l);
    else
        attend_two<D>(a, w, o, m, l);
    finish<D>(a, head, queries, o, m, l);
}

static size_t shared_bytes(int head_dim, int stages)
{
    const int tiles = stages == 1 ? 2 : 1 + 2 * stages;
    return (size_t)tiles * ROWS * (size_t)head_dim * sizeof(bf16) + (1 + RING) * ROWS * sizeof(int32_t);
}

/* The tiled kernel where it applies, which shapes and types alone decide. */
int prxi_cu_attention(void *dev, int type, const prxi_cu_attn *a)
{
    enum { OWN = 1024 };                /* of a block, beside what it asks for; a multiprocessor has so much more than a block may have */
    const bool rows = aligned(a->q, a->ldq) && aligned(a->k, a->ldk) && aligned(a->v, a->ldv) && aligned(a->o, a->ldo);
    if (!type || !rows || (a->head_dim != 64 && a->head_dim != 128))
        return prxi_cu_attention_simple(dev, type, a);
    if (a->n_tiles <= 0)
        return PRX_OK;
    device *d = as_device(dev);
    const dim3 grid((unsigned)a->n_tiles, a->per_head ? 1u : (unsigned)a->heads);
    if (a->head_dim == 64)              /* 41 KiB: there is room for two blocks everywhere */
        return launch(d, "attention", blocks_kernel<64, 2>, grid, THREADS, shared_bytes(64, 2), *a);
    if (2 * (shared_bytes(128, 2) + OWN) <= (size_t)d->shared_max + OWN)
        return launch(d, "attention", blocks_kernel<128, 2>, grid, THREADS, shared_bytes(128, 2), *a);
    return launch(d, "attention", blocks_kernel<128, 1>, grid, THREADS, shared_bytes(128, 1), *a);
}
