/* Clustering attention on the device: k-means, the order of tokens by cluster, the clusters that a query cluster keeps, and the list of
 * work, without the host. Sums have a fixed order; the reference is attention/kmeans.c and attention/svg2_select.c. */
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, CHUNK = PRXI_CU_CHUNK, MOST = PRXI_CU_CLUSTERS };

/* ---- k-means ---- */

template <typename T> PRXI_KERNEL void seed_kernel(prxi_cu_cluster a)
{
    const int64_t n = (int64_t)a.heads * a.k * a.head_dim;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const int64_t d = i % a.head_dim, c = i / a.head_dim % a.k, head = i / a.head_dim / a.k;
        const int64_t from = (2 * c + 1) * a.n / (2 * (int64_t)a.k);
        static_cast<T *>(a.centroids)[i] = static_cast<const T *>(a.x)[from * a.ldx + head * a.head_dim + d];
    }
}

/* Labels of a chunk of tokens in shared memory; -1 beyond the last. */
PRXI_DEVICE void load_labels(const prxi_cu_cluster &a, int32_t *labels)
{
    for (int i = threadIdx.x; i < CHUNK; i += THREADS) {
        const int64_t at = (int64_t)blockIdx.x * CHUNK + i;
        labels[i] = at < a.n ? a.labels[(int64_t)blockIdx.y * a.n + at] : -1;
    }
    sync_block();
}

/* A block a chunk: how many of its tokens each cluster has. A thread counts for whole clusters, so nothing is added by two. */
PRXI_KERNEL void count_kernel(prxi_cu_cluster a)
{
    PRXI_SHARED(shared);
    int32_t *labels = reinterpret_cast<int32_t *>(shared);
    if (*a.stopped)
        return;
    load_labels(a, labels);
    int32_t *counts = a.counts + ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * a.k;
    for (int c = threadIdx.x; c < a.k; c += THREADS) {
        int32_t n = 0;
        for (int i = 0; i < CHUNK; i++)
            n += labels[i] == c;
        counts[c] = n;
    }
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
        for (int i = 0; i < chunks && c < a.k; i++) {
            const int32_t n = counts[(int64_t)i * a.k + c];
            counts[(int64_t)i * a.k + c] = at;
            at += n;
        }
    }
}

/* Tokens to their positions, in their order: stable. */
PRXI_KERNEL void order_kernel(prxi_cu_cluster a)
{
    PRXI_SHARED(shared);
    int32_t *labels = reinterpret_cast<int32_t *>(shared);
    if (*a.stopped)
        return;
    load_labels(a, labels);
    const int32_t *places = a.counts + ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * a.k;
    int32_t *perm = a.perm + (int64_t)blockIdx.y * a.n;
    for (int c = threadIdx.x; c < a.k; c += THREADS) {
        int32_t at = places[c];
        for (int i = 0; i < CHUNK; i++)
            if (labels[i] == c)
                perm[at++] = (int32_t)(blockIdx.x * CHUNK) + i;
    }
}

/* A block a cluster: the mean of its members in the type of the points, its old centroid when it has none, and how far it moved. */
template <typename T> PRXI_KERNEL void means_kernel(prxi_cu_cluster a)
{
    PRXI_SHARED(shared);
    double *part = reinterpret_cast<double *>(shared), moved = 0;
    if (*a.stopped)
        return;
    const int64_t head = blockIdx.y, cluster = head * a.k + blockIdx.x;
    const int32_t *start = a.start + head * (a.k + 1) + blockIdx.x, *perm = a.perm + head * a.n;
    const T *x = static_cast<const T *>(a.x) + head * a.head_dim, *old = static_cast<const T *>(a.centroids) + cluster * a.head_dim;
    for (int i = threadIdx.x; i < a.head_dim; i += THREADS) {
        float sum = 0;
        for (int32_t p = start[0]; p < start[1]; p++)
            sum += load(x, perm[p] * a.ldx + i);
        const float was = load(old, i);
        const float mean = store(static_cast<T *>(a.means), cluster * a.head_dim + i,
                                 start[1] > start[0] ? sum / (float)(start[1] - start[0]) : was);
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
        err = launch(d, "cluster: count", count_kernel, by_chunk, THREADS, CHUNK * sizeof(int32_t), *a);
    if (err == PRX_OK)
        err = launch(d, "cluster: place", place_kernel, dim3((unsigned)a->heads), THREADS, (size_t)a->k * sizeof(int32_t), *a, chunks);
    if (err == PRX_OK)
        err = launch(d, "cluster: order", order_kernel, by_chunk, THREADS, CHUNK * sizeof(int32_t), *a);
    if (err == PRX_OK)
        err = launch(d, "cluster: means", means_kernel<T>, by_cluster, THREADS, WARPS * sizeof(double), *a);
    if (err == PRX_OK)
        err = launch(d, "cluster: stop", stop_kernel, dim3(1), THREADS, WARPS * sizeof(int), *a);
    return err < 0 ? err : launch(d, "cluster: accept", accept_kernel<T>, dim3(all), THREADS, 0, *a);
}

template <typename T> static int cluster(device *d, int type, const prxi_cu_cluster *a)
{
    int err = PRX_OK;
    if (a->fresh)
        err = launch(d, "cluster: seed", seed_kernel<T>, dim3(grid_for((int64_t)a->heads * a->k * a->head_dim, THREADS)), THREADS, 0, *a);
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

/* A block a query cluster: softmax of its centroid's products, weighted by size, and the shortest run of the largest shares that
 * exceeds p. cols: kept clusters, ascending; their number; their keys. */
template <typename T> PRXI_KERNEL void select_kernel(prxi_cu_select a)
{
    PRXI_SHARED(shared);
    const int padded = power_of_two(a.ck);
    float *share = reinterpret_cast<float *>(shared), *part = share + padded, *q = part + 2 * WARPS;
    int32_t *index = reinterpret_cast<int32_t *>(q + a.head_dim), *keep = index + padded, *kept = keep + a.ck;
    const int64_t head = blockIdx.y, row = head * a.cq + blockIdx.x;
    const int32_t *start = a.k_start + head * (a.ck + 1);
    const T *k = static_cast<const T *>(a.k_centroids) + head * a.ck * a.head_dim;
    for (int i = threadIdx.x; i < a.head_dim; i += THREADS)
        q[i] = load(static_cast<const T *>(a.q_centroids), row * a.head_dim + i);
    sync_block();
    float top = -PRXI_INFINITY, sum = 0;
    for (int j = threadIdx.x; j < padded; j += THREADS) {
        float dot = -PRXI_INFINITY;
        if (j < a.ck) {
            dot = 0;
            for (int i = 0; i < a.head_dim; i++)
                dot = fmaf(q[i], load(k, (int64_t)j * a.head_dim + i), dot);
            dot *= a.scale;
            keep[j] = 0;
        }
        share[j] = dot;
        index[j] = j;
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
    if (threadIdx.x == 0) {
        int n = 0;
        for (float have = 0; n < a.ck && (n == 0 || n < a.least || a.top_p >= 1.0f || !(have > a.top_p)); n++)
            have += share[n];
        *kept = n;
    }
    sync_block();
    for (int j = threadIdx.x; j < *kept; j += THREADS)
        keep[index[j]] = 1;
    sync_block();
    int32_t *cols = a.cols + row * a.ck;
    int keys = 0;
    for (int j = threadIdx.x; j < a.ck; j += THREADS) {
        if (!keep[j])
            continue;
        int at = 0;
        for (int i = 0; i < j; i++)
            at += keep[i];
        cols[at] = j;
        keys += start[j + 1] - start[j];
    }
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
    const size_t shared = ((size_t)2 * keys + 2 * WARPS + (size_t)a->head_dim + (size_t)a->ck + 1) * 4;
    const size_t of_tiles = ((size_t)3 * queries + (size_t)queries % 2 + 2) * 4 + WARPS * sizeof(double);
    const dim3 grid((unsigned)a->cq, (unsigned)a->heads);
    int err = launch(d, "select", type ? select_kernel<bf16> : select_kernel<float>, grid, THREADS, shared, *a);
    if (err == PRX_OK)
        err = launch(d, "tiles", tiles_kernel, dim3((unsigned)a->heads), THREADS, of_tiles + 8, *a);
    return err < 0 || a->n_items <= 0 ? err : prxi_cu_queue(d, a);
}
