/* Attention of the text encoder (engine/ops/plain_attn.h), in f32: a warp takes EACH queries, whose scores are in shared memory; keys come
 * KEYS at a time by way of it, as neighbours in memory are one key's. And rows of the VAE's one head on their way to its type. */
#include "launch.cuh"

enum { THREADS = 128, WARPS = THREADS / 32, EACH = 4, KEYS = 32, RUN = 4 };

struct text_room {
    int width, pitch;               /* of a query or a key: the head, whole runs; of the scores of a query */
    float *keys, *queries, *scores; /* [KEYS][width + 1], [WARPS * EACH][width], [WARPS * EACH][pitch] */
};

PRXI_DEVICE text_room carve(const prxi_cu_text_attn &a, unsigned char *shared)
{
    text_room r;
    r.width = (a.head_dim + RUN - 1) / RUN * RUN;
    r.pitch = ((int)a.n + RUN - 1) / RUN * RUN;
    r.keys = reinterpret_cast<float *>(shared);
    r.queries = r.keys + KEYS * (r.width + 1);
    r.scores = r.queries + WARPS * EACH * r.width;
    return r;
}

/* N rows of `from`, WARPS apart, to rows of shared memory, the values beyond the last row or the head zero. */
template <int N> PRXI_DEVICE void fetch_rows(const prxi_cu_text_attn &a, const float *from, int64_t first, int width, float *to, int pitch)
{
    const int warp = threadIdx.x / 32;
    for (int i = threadIdx.x % 32; i < width; i += 32) {
        float v[N];
        PRXI_UNROLL
        for (int r = 0; r < N; r++) {
            const int64_t row = first + warp + r * WARPS;
            v[r] = row < a.n && i < a.head_dim ? from[row * a.ld + (int64_t)blockIdx.y * a.head_dim + i] : 0.0f;
        }
        PRXI_UNROLL
        for (int r = 0; r < N; r++)
            to[(warp + r * WARPS) * pitch + i] = v[r];
    }
}

/* Scores of the warp's queries with the lane's key of those in shared memory; the largest of each so far goes up. */
PRXI_DEVICE void score_keys(const prxi_cu_text_attn &a, const text_room &room, int64_t query0, int mine, int64_t key0, float top[EACH])
{
    const int lane = threadIdx.x % 32;
    const float *k = room.keys + lane * (room.width + 1), *q = room.queries + mine * room.width;
    const int64_t j = key0 + lane;
    float s[EACH] = { 0, 0, 0, 0 };
    for (int i = 0; i < room.width; i += RUN)
        PRXI_UNROLL
        for (int e = 0; e < EACH; e++) {
            float v[RUN];
            load_run<RUN>(q + e * room.width + i, v);
            PRXI_UNROLL
            for (int r = 0; r < RUN; r++)
                s[e] = fmaf(v[r], k[i + r], s[e]);
        }
    PRXI_UNROLL
    for (int e = 0; e < EACH; e++) {
        const int64_t query = query0 + e;
        if (query >= a.n || j >= a.n)
            continue;
        s[e] += a.table[(int64_t)a.bucket[j - query + a.n - 1] * a.heads + blockIdx.y];
        room.scores[(mine + e) * room.pitch + j] = s[e];
        top[e] = fmaxf(top[e], s[e]);
    }
}

/* Channel i of the warp's queries: values weighted by their scores, over the sum of these. */
PRXI_DEVICE void weigh_values(const prxi_cu_text_attn &a, const float *scores, int pitch, int64_t query0, int i)
{
    const float *v = a.v + (int64_t)blockIdx.y * a.head_dim + i;
    float out[EACH] = { 0, 0, 0, 0 }, sum[EACH] = { 0, 0, 0, 0 };
    for (int64_t j = 0; j < a.n; j += RUN) {
        float x[RUN];
        PRXI_UNROLL
        for (int r = 0; r < RUN; r++)
            x[r] = j + r < a.n ? v[(j + r) * a.ld] : 0.0f;
        PRXI_UNROLL
        for (int e = 0; e < EACH; e++) {
            float p[RUN];
            load_run<RUN>(scores + e * pitch + j, p);
            PRXI_UNROLL
            for (int r = 0; r < RUN; r++) {
                sum[e] += p[r];
                out[e] = fmaf(p[r], x[r], out[e]);
            }
        }
    }
    PRXI_UNROLL
    for (int e = 0; e < EACH; e++)
        if (query0 + e < a.n)
            a.out[(query0 + e) * a.ldo + (int64_t)blockIdx.y * a.head_dim + i] = out[e] / sum[e];
}

PRXI_KERNEL void text_kernel(prxi_cu_text_attn a)
{
    PRXI_SHARED(shared);
    const text_room room = carve(a, shared);
    const int lane = threadIdx.x % 32, mine = (int)threadIdx.x / 32 * EACH;
    const int64_t first = (int64_t)blockIdx.x * WARPS * EACH, query0 = first + mine;
    float top[EACH] = { -PRXI_INFINITY, -PRXI_INFINITY, -PRXI_INFINITY, -PRXI_INFINITY };
    fetch_rows<EACH>(a, a.q, first, room.width, room.queries, room.width);
    for (int64_t key0 = 0; key0 < a.n; key0 += KEYS) {
        fetch_rows<KEYS / WARPS>(a, a.k, key0, room.width, room.keys, room.width + 1);
        sync_block();                   /* queries too */
        score_keys(a, room, query0, mine, key0, top);
        sync_block();
    }
    float *scores = room.scores + mine * room.pitch;
    PRXI_UNROLL
    for (int e = 0; e < EACH; e++) {
        const float most = warp_max(top[e]);
        for (int j = lane; j < room.pitch; j += 32)         /* the lane's own, and those after the last */
            scores[e * room.pitch + j] = j < a.n && query0 + e < a.n ? expf(scores[e * room.pitch + j] - most) : 0.0f;
    }
    sync_warp();
    for (int i = lane; i < a.head_dim; i += 32)
        weigh_values(a, scores, room.pitch, query0, i);
}

/* y [rows][pitch] of the type from x [rows][n], the values after the n-th zero. */
template <typename T> PRXI_KERNEL void widen_kernel(int64_t rows, int64_t n, int64_t pitch, const float *x, T *y)
{
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < rows * pitch; i += (int64_t)gridDim.x * THREADS)
        store(y, i, i % pitch < n ? x[i / pitch * n + i % pitch] : 0.0f);
}

int prxi_cu_text_attention(void *dev, const prxi_cu_text_attn *a)
{
    const dim3 grid((unsigned)ceil_div(a->n, WARPS * EACH), (unsigned)a->heads);
    const size_t width = (size_t)ceil_div(a->head_dim, RUN) * RUN, pitch = (size_t)ceil_div(a->n, RUN) * RUN;
    return launch(as_device(dev), "text attention", text_kernel, grid, THREADS,
                  (KEYS * (width + 1) + WARPS * EACH * (width + pitch)) * sizeof(float), *a);
}

int prxi_cu_store_rows(void *dev, int type, int64_t rows, int64_t n, int64_t pitch, const float *x, void *y)
{
    const dim3 grid(grid_for(rows * pitch, THREADS));
    if (type)
        return launch(as_device(dev), "store_rows", widen_kernel<bf16>, grid, THREADS, 0, rows, n, pitch, x, static_cast<bf16 *>(y));
    return launch(as_device(dev), "store_rows", widen_kernel<float>, grid, THREADS, 0, rows, n, pitch, x, static_cast<float *>(y));
}
