/* Clustering attention on the device: k-means, the order of tokens by cluster, the clusters that a query cluster keeps, and the list of
 * work, without the host. Sums have a fixed order; the reference is attention/kmeans.c and attention/svg2_select.c. */
#include "launch.cuh"

enum {
    THREADS = 256, WARPS = THREADS / 32, CHUNK = PRXI_CU_CHUNK, MOST = PRXI_CU_CLUSTERS,
    MEANS = 128,                    /* threads of a mean: heads are no wider as a rule */
    BATCH = 8,                      /* loads that are under way together */
    PIECE = 16, PITCH = PIECE + 1   /* channels of centroids in shared memory, and what keeps their rows apart */
};

/* ---- k-means ---- */

/* The label of token `at` of this block's chunk; -1 beyond the last token. */
PRXI_DEVICE int32_t label_of(const prxi_cu_cluster &a, int at)
{
    const int64_t token = (int64_t)blockIdx.x * CHUNK + at;
    return token < a.n ? a.labels[(int64_t)blockIdx.y * a.n + token] : -1;
}

PRXI_DEVICE void clear(int32_t *p, int n)
{
    for (int i = threadIdx.x; i < n; i += THREADS)
        p[i] = 0;
    sync_block();
}

/* A block a chunk: how many of its tokens each cluster has. */
PRXI_KERNEL void count_kernel(prxi_cu_cluster a)
{
    PRXI_SHARED(shared);
    int32_t *sizes = reinterpret_cast<int32_t *>(shared);
    if (*a.stopped)
        return;
    clear(sizes, a.k);
    for (int i = threadIdx.x; i < CHUNK; i += THREADS) {
        const int32_t c = label_of(a, i);
        if (c >= 0)
            add_shared(&sizes[c], 1);
    }
    sync_block();
    int32_t *counts = a.counts + ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * a.k;
    for (int c = threadIdx.x; c < a.k; c += THREADS)
        counts[c] = sizes[c];
}

/* A block a head: where each cluster begins, and within it each chunk's tokens; counts become places. */
PRXI_KERNEL void place_kernel(prxi_cu_cluster a, int chunks)
{
    PRXI_SHARED(shared);
    int32_t *sizes = reinterpret_cast<int32_t *>(shared);
    const int64_t head = blockIdx.x;
    int32_t *counts = a.counts + head * chunks * a.k, *start = a.start + head * (a.k + 1);
    if (*a.stopped)
        return;
    for (int c = threadIdx.x; c < a.k; c += THREADS) {
        int32_t n = 0;
        for (int i = 0; i < chunks; i++)
            n += counts[(int64_t)i * a.k + c];
        sizes[c] = n;
    }
    sync_block();
    for (int c = threadIdx.x; c <= a.k; c += THREADS) {
        int32_t at = 0;
        for (int i = 0; i < c; i++)
            at += sizes[i];
        start[c] = at;
        for (int i = 0; i < chunks && c < a.k; i += BATCH) {
            int32_t n[BATCH];
            PRXI_UNROLL
            for (int j = 0; j < BATCH; j++)         /* all of them before the first is overwritten */
                n[j] = i + j < chunks ? counts[(int64_t)(i + j) * a.k + c] : 0;
            PRXI_UNROLL
            for (int j = 0; j < BATCH; j++) {
                if (i + j < chunks)
                    counts[(int64_t)(i + j) * a.k + c] = at;
                at += n[j];
            }
        }
    }
}

/* Tokens to their positions, in their order: stable. A warp has a run of tokens, in rounds of 32, and of each cluster a place that moves on
 * with the tokens that it has put there. */
PRXI_KERNEL void order_kernel(prxi_cu_cluster a)
{
    enum { ROUNDS = CHUNK / THREADS };
    PRXI_SHARED(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = warp * ROUNDS * 32 + lane;
    int32_t *places = reinterpret_cast<int32_t *>(shared), *mine = places + warp * a.k, label[ROUNDS];
    uint32_t same[ROUNDS];
    if (*a.stopped)
        return;
    clear(places, WARPS * a.k);
    PRXI_UNROLL
    for (int r = 0; r < ROUNDS; r++) {
        label[r] = label_of(a, first + r * 32);
        same[r] = match_any(label[r]);
        if (label[r] >= 0)
            add_shared(&mine[label[r]], 1);
    }
    sync_block();
    const int32_t *from = a.counts + ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * a.k;
    for (int c = threadIdx.x; c < a.k; c += THREADS)
        for (int w = 0, at = from[c]; w < WARPS; w++) {
            const int32_t n = places[w * a.k + c];
            places[w * a.k + c] = at;
            at += n;
        }
    sync_block();
    int32_t *perm = a.perm + (int64_t)blockIdx.y * a.n;
    PRXI_UNROLL
    for (int r = 0; r < ROUNDS; r++) {
        const int before = count_bits(same[r] & ((1u << lane) - 1u));
        if (label[r] >= 0)
            perm[mine[label[r]] + before] = (int32_t)(blockIdx.x * CHUNK) + first + r * 32;
        sync_warp();                    /* all have read the place */
        if (label[r] >= 0 && before == 0)
            mine[label[r]] += count_bits(same[r]);
        sync_warp();                    /* and it has moved on for all */
    }
}

/* A block a cluster: the mean of its members in the type of the points, and how far it moved. One without members stays, or moves to the
 * point that it was given. */
template <typename T> PRXI_KERNEL void means_kernel(prxi_cu_cluster a)
{
    PRXI_SHARED(shared);
    double *part = reinterpret_cast<double *>(shared), moved = 0;
    if (*a.stopped)
        return;
    const int64_t head = blockIdx.y, cluster = head * a.k + blockIdx.x;
    const int32_t *start = a.start + head * (a.k + 1) + blockIdx.x, *perm = a.perm + head * a.n;
    const T *x = static_cast<const T *>(a.x) + head * a.head_dim, *old = static_cast<const T *>(a.centroids) + cluster * a.head_dim;
    const int32_t begin = start[0], end = start[1];
    const T *alone = a.reseed && begin == end ? x + a.counts[cluster] * a.ldx : old;
    for (int i = threadIdx.x; i < a.head_dim; i += MEANS) {
        float sum = 0;
        for (int32_t p = begin; p < end; p += BATCH) {
            float v[BATCH];
            PRXI_UNROLL
            for (int j = 0; j < BATCH; j++)
                v[j] = p + j < end ? load(x, perm[p + j] * a.ldx + i) : 0.0f;
            PRXI_UNROLL
            for (int j = 0; j < BATCH; j++)
                sum += v[j];
        }
        const float was = load(old, i);
        const float mean = store(static_cast<T *>(a.means), cluster * a.head_dim + i,
                                 end > begin ? sum / (float)(end - begin) : load(alone, i));
        moved += ((double)mean - was) * ((double)mean - was);
    }
    moved = block_sum(moved, part);
    if (threadIdx.x == 0)
        a.moved[cluster] = moved;
}

/* One block: has nothing moved as far as the tolerance? Then the centroids stay, for good. */
PRXI_KERNEL void stop_kernel(prxi_cu_cluster a)
{
    PRXI_SHARED(shared);
    int *part = reinterpret_cast<int *>(shared), far = 0;
    for (int64_t i = threadIdx.x; i < (int64_t)a.heads * a.k; i += THREADS)
        far += a.moved[i] >= a.tolerance * a.tolerance;
    far = block_sum(far, part);
    if (threadIdx.x == 0 && far == 0)
        *a.stopped = 1;
}

template <typename T> PRXI_KERNEL void accept_kernel(prxi_cu_cluster a)
{
    const int64_t n = (int64_t)a.heads * a.k * a.head_dim;
    if (*a.stopped)
        return;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS)
        static_cast<T *>(a.centroids)[i] = static_cast<const T *>(a.means)[i];
}

template <typename T> static int iterate(device *d, int type, const prxi_cu_cluster *a)
{
    const int chunks = (int)ceil_div(a->n, CHUNK);
    const dim3 by_chunk((unsigned)chunks, (unsigned)a->heads), by_cluster((unsigned)a->k, (unsigned)a->heads);
    const unsigned all = grid_for((int64_t)a->heads * a->k * a->head_dim, THREADS);
    const prxi_cu_nearest near = { a->heads, a->head_dim, a->k, a->n, a->ldx, a->x, a->centroids, a->labels, nullptr, nullptr, nullptr,
                                   a->halves };
    int err = prxi_cu_nearest_run(d, type, &near);
    if (err == PRX_OK)
        err = launch(d, "cluster: count", count_kernel, by_chunk, THREADS, (size_t)a->k * sizeof(int32_t), *a);
    if (err == PRX_OK)
        err = launch(d, "cluster: place", place_kernel, dim3((unsigned)a->heads), THREADS, (size_t)a->k * sizeof(int32_t), *a, chunks);
    if (err == PRX_OK)
        err = launch(d, "cluster: order", order_kernel, by_chunk, THREADS, WARPS * (size_t)a->k * sizeof(int32_t), *a);
    if (err == PRX_OK && a->reseed)
        err = prxi_cu_cluster_adopt(d, type, a);
    if (err == PRX_OK)
        err = launch(d, "cluster: means", means_kernel<T>, by_cluster, MEANS, MEANS / 32 * sizeof(double), *a);
    if (err == PRX_OK)
        err = launch(d, "cluster: stop", stop_kernel, dim3(1), THREADS, WARPS * sizeof(int), *a);
    return err < 0 ? err : launch(d, "cluster: accept", accept_kernel<T>, dim3(all), THREADS, 0, *a);
}

template <typename T> static int cluster(device *d, int type, const prxi_cu_cluster *a)
{
    int err = PRX_OK;
    if (a->fresh)
        err = prxi_cu_cluster_start(d, type, a);
    if (err == PRX_OK)
        err = prxi_cu_zero(d, a->stopped, sizeof *a->stopped);
    for (int i = 0; i < a->iters && err == PRX_OK; i++)
        err = iterate<T>(d, type, a);
    return err;
}

int prxi_cu_cluster_run(void *dev, int type, const prxi_cu_cluster *a)
{
    device *d = as_device(dev);
    if (a->k > MOST)
        return prxi_cu_fail(d, PRX_ENOTSUP, "cluster", "more than 1024 clusters are not supported");
    return type ? cluster<bf16>(d, type, a) : cluster<float>(d, type, a);
}

/* ---- selection ---- */

/* Falling by value, ties to the lower index. */
PRXI_DEVICE bool before(float a, int ia, float b, int ib)
{
    return a > b || (a == b && ia < ib);
}

/* Sorts n values, a power of two, with their indices. */
PRXI_DEVICE void sort_falling(float *value, int32_t *index, int n)
{
    for (int size = 2; size <= n; size *= 2)
        for (int gap = size / 2; gap > 0; gap /= 2) {
            for (int i = threadIdx.x; i < n; i += THREADS) {
                const int j = i ^ gap;
                if (j > i && before(value[j], index[j], value[i], index[i]) == ((i & size) == 0)) {
                    const float v = value[i];
                    const int32_t at = index[i];
                    value[i] = value[j], index[i] = index[j];
                    value[j] = v, index[j] = at;
                }
            }
            sync_block();
        }
}

PRXI_DEVICE int power_of_two(int n)
{
    int p = 1;
    while (p < n)
        p *= 2;
    return p;
}

PRXI_DEVICE float block_most(float v, float *part)
{
    v = warp_max(v);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    sync_block();
    for (int w = 0; w < WARPS; w++)
        v = fmaxf(v, part[w]);
    return v;
}

/* Products of q with THREADS centroids from `first` on, one a thread, summed over the channels in order: PIECE channels at a time by way of
 * shared memory, as neighbours in memory are one centroid's. rows: THREADS x PITCH. */
template <typename T> PRXI_DEVICE float dot_of(const prxi_cu_select &a, const T *k, const float *q, int first, float *rows)
{
    float dot = 0;
    for (int i0 = 0; i0 < a.head_dim; i0 += PIECE) {
        PRXI_UNROLL
        for (int i = threadIdx.x; i < THREADS * PIECE; i += THREADS) {
            const int row = i / PIECE, col = i % PIECE;
            rows[row * PITCH + col] = first + row < a.ck && i0 + col < a.head_dim
                                          ? load(k, (int64_t)(first + row) * a.head_dim + i0 + col) : 0.0f;
        }
        sync_block();
        for (int i = 0; i < PIECE && i0 + i < a.head_dim; i++)
            dot = fmaf(q[i0 + i], rows[threadIdx.x * PITCH + i], dot);
        sync_block();
    }
    return dot;
}

/* The kept ones of ck, ascending, to cols; a thread has a run of them. Returns the keys of its run. counts: one a thread. */
PRXI_DEVICE int write_kept(const int32_t *keep, int ck, const int32_t *start, int32_t *cols, int32_t *counts)
{
    const int each = (ck + THREADS - 1) / THREADS, first = (int)threadIdx.x * each, end = first + each < ck ? first + each : ck;
    int mine = 0, at = 0, keys = 0;
    for (int j = first; j < end; j++)
        mine += keep[j];
    counts[threadIdx.x] = mine;
    sync_block();
    for (int i = 0; i < (int)threadIdx.x; i++)
        at += counts[i];
    for (int j = first; j < end; j++)
        if (keep[j]) {
            cols[at++] = j;
            keys += start[j + 1] - start[j];
        }
    return keys;
}

/* How many of the falling shares are kept. One thread adds them, in their order, as that decides ties with top_p: BATCH are read before the
 * first is added. */
PRXI_DEVICE int count_kept(const prxi_cu_select &a, const float *share)
{
    float have = 0;
    for (int n = 0; n < a.ck; n += BATCH) {
        float v[BATCH];
        PRXI_UNROLL
        for (int j = 0; j < BATCH; j++)
            v[j] = n + j < a.ck ? share[n + j] : 0.0f;
        PRXI_UNROLL
        for (int j = 0; j < BATCH; j++) {
            if (n + j == a.ck || !(n + j == 0 || n + j < a.least || a.top_p >= 1.0f || !(have > a.top_p)))
                return n + j;
            have += v[j];
        }
    }
    return a.ck;
}

/* A block a query cluster: softmax of its centroid's products, weighted by size, and the shortest run of the largest shares that
 * exceeds p. cols: kept clusters, ascending; their number; their keys. */
template <typename T> PRXI_KERNEL void select_kernel(prxi_cu_select a)
{
    PRXI_SHARED(shared);
    const int padded = power_of_two(a.ck);
    float *share = reinterpret_cast<float *>(shared), *part = share + padded, *q = part + 2 * WARPS, *rows = q + a.head_dim;
    int32_t *index = reinterpret_cast<int32_t *>(rows + THREADS * PITCH), *keep = index + padded, *kept = keep + a.ck;
    const int64_t head = blockIdx.y, row = head * a.cq + blockIdx.x;
    const int32_t *start = a.k_start + head * (a.ck + 1);
    const T *k = static_cast<const T *>(a.k_centroids) + head * a.ck * a.head_dim;
    for (int i = threadIdx.x; i < a.head_dim; i += THREADS)
        q[i] = load(static_cast<const T *>(a.q_centroids), row * a.head_dim + i);       /* dot_of has a barrier before it reads */
    float top = -PRXI_INFINITY, sum = 0;
    for (int first = 0; first < padded; first += THREADS) {
        const int j = first + (int)threadIdx.x;
        const float sum_of = dot_of(a, k, q, first, rows), dot = j < a.ck ? sum_of * a.scale : -PRXI_INFINITY;
        if (j < padded) {
            share[j] = dot;
            index[j] = j;
        }
        if (j < a.ck)
            keep[j] = 0;
        top = fmaxf(top, dot);
    }
    top = block_most(top, part);
    for (int j = threadIdx.x; j < padded; j += THREADS) {
        const int size = j < a.ck ? start[j + 1] - start[j] : 0;
        share[j] = size ? (float)size * expf(share[j] - top) : j < a.ck ? 0.0f : -1.0f;
        sum += j < a.ck ? share[j] : 0.0f;
    }
    sum = fmaxf(block_sum(sum, part + WARPS), 1e-12f);
    for (int j = threadIdx.x; j < padded; j += THREADS)
        share[j] = share[j] / sum;
    sync_block();
    sort_falling(share, index, padded);
    if (threadIdx.x == 0)
        *kept = count_kept(a, share);
    sync_block();
    for (int j = threadIdx.x; j < *kept; j += THREADS)
        keep[index[j]] = 1;
    sync_block();
    int keys = write_kept(keep, a.ck, start, a.cols + row * a.ck, reinterpret_cast<int32_t *>(rows));
    keys = block_sum(keys, reinterpret_cast<int *>(part));
    if (threadIdx.x == 0) {
        a.row_ptr[row] = row * a.ck;
        a.row_end[row] = row * a.ck + *kept;
        a.keys[row] = keys;
    }
}

/* A block a head: tiles of its query clusters, those with the most keys first; tiles beyond the last have no rows. And the kept
 * share of pairs. */
PRXI_KERNEL void tiles_kernel(prxi_cu_select a)
{
    PRXI_SHARED(shared);
    const int padded = power_of_two(a.cq);
    float *value = reinterpret_cast<float *>(shared);
    int32_t *index = reinterpret_cast<int32_t *>(value + padded), *first = index + padded;
    double *part = reinterpret_cast<double *>(first + padded + padded % 2 + 2), pairs = 0;
    const int64_t head = blockIdx.x;
    const int32_t *start = a.q_start + head * (a.cq + 1);
    for (int i = threadIdx.x; i < padded; i += THREADS) {
        value[i] = i < a.cq ? (float)a.keys[head * a.cq + i] : -1.0f;
        index[i] = i;
        if (i < a.cq)
            pairs += (double)a.keys[head * a.cq + i] * (start[i + 1] - start[i]);
    }
    pairs = block_sum(pairs, part);         /* and its barrier: the values are there */
    sort_falling(value, index, padded);
    for (int i = threadIdx.x; i <= a.cq; i += THREADS) {
        int32_t at = 0;
        for (int j = 0; j < i; j++)
            at += (start[index[j] + 1] - start[index[j]] + PRXI_CU_TILE_ROWS - 1) / PRXI_CU_TILE_ROWS;
        first[i] = at;
    }
    sync_block();
    prxi_cu_tile *tiles = a.tiles + head * a.tiles_each;
    for (int i = threadIdx.x; i < a.cq; i += THREADS) {
        const int32_t c = index[i];
        for (int32_t t = first[i], p = start[c]; p < start[c + 1]; t++, p += PRXI_CU_TILE_ROWS) {
            const int32_t left = start[c + 1] - p;
            tiles[t].head = (int32_t)head;
            tiles[t].block = c;
            tiles[t].first = p;
            tiles[t].rows = left < PRXI_CU_TILE_ROWS ? left : PRXI_CU_TILE_ROWS;
        }
    }
    for (int i = first[a.cq] + threadIdx.x; i < a.tiles_each; i += THREADS) {
        tiles[i].head = (int32_t)head;
        tiles[i].block = tiles[i].first = tiles[i].rows = 0;
    }
    if (threadIdx.x == 0)
        a.kept[head] = pairs / ((double)a.n * (double)a.n);
}

int prxi_cu_select_run(void *dev, int type, const prxi_cu_select *a)
{
    device *d = as_device(dev);
    int keys = 1, queries = 1;
    if (a->ck > MOST || a->cq > MOST)
        return prxi_cu_fail(d, PRX_ENOTSUP, "select", "more than 1024 clusters are not supported");
    while (keys < a->ck)
        keys *= 2;
    while (queries < a->cq)
        queries *= 2;
    const size_t shared = ((size_t)2 * keys + 2 * WARPS + (size_t)a->head_dim + THREADS * PITCH + (size_t)a->ck + 1) * 4;
    const size_t of_tiles = ((size_t)3 * queries + (size_t)queries % 2 + 2) * 4 + WARPS * sizeof(double);
    const dim3 grid((unsigned)a->cq, (unsigned)a->heads);
    int err = launch(d, "select", type ? select_kernel<bf16> : select_kernel<float>, grid, THREADS, shared, *a);
    if (err == PRX_OK)
        err = launch(d, "tiles", tiles_kernel, dim3((unsigned)a->heads), THREADS, of_tiles + 8, *a);
    return err < 0 || a->n_items <= 0 ? err : prxi_cu_queue(d, a);
}
