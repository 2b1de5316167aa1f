/* Where centroids start, and which points the empty ones move to: attention/kmeans.c, token by token. Distances are f64, summed over the
 * channels in order, so that the same points are chosen. */
#include "launch.cuh"

enum {
    THREADS = 256,
    PIECE = 16, PITCH = PIECE + 1   /* channels of vectors in shared memory, and what keeps their rows apart */
};

PRXI_DEVICE int64_t strided(int64_t n, int64_t k, int64_t c)
{
    return (2 * c + 1) * n / (2 * k);
}

/* ---- distances ---- */

struct pairs {
    int64_t x[THREADS], y[THREADS]; /* each thread's two vectors: elements before them */
    float xs[THREADS * PITCH], ys[THREADS * PITCH];
};

/* The squared distance of this thread's two vectors. They come by way of shared memory, PIECE channels at a time, as neighbours in memory
 * are one vector's. */
template <typename T> PRXI_DEVICE double distance(const T *x, const T *y, int head_dim, pairs *p)
{
    double sum = 0;
    sync_block();                           /* the places are there */
    for (int i0 = 0; i0 < head_dim; i0 += PIECE) {
        PRXI_UNROLL
        for (int i = threadIdx.x; i < THREADS * PIECE; i += THREADS) {
            const int row = i / PIECE, col = i % PIECE;
            if (i0 + col < head_dim) {
                p->xs[row * PITCH + col] = load(x, p->x[row] + i0 + col);
                p->ys[row * PITCH + col] = load(y, p->y[row] + i0 + col);
            }
        }
        sync_block();
        for (int i = 0; i < PIECE && i0 + i < head_dim; i++) {
            const double d = (double)p->xs[threadIdx.x * PITCH + i] - (double)p->ys[threadIdx.x * PITCH + i];
            sum += d * d;
        }
        sync_block();
    }
    return sum;
}

template <typename V> struct best {
    V value[THREADS];
    int64_t at[THREADS];
};

template <typename V> PRXI_DEVICE bool ahead(const best<V> *b, int i, int j)
{
    return b->value[i] > b->value[j] || (b->value[i] == b->value[j] && b->at[i] < b->at[j]);
}

/* Where the largest of n values is, the first of equal ones: thread 0 is told. The whole block asks, and has a barrier before it asks
 * again. */
template <typename V> PRXI_DEVICE int64_t largest(const V *v, int64_t n, best<V> *b)
{
    const int tid = (int)threadIdx.x;
    int64_t at = tid < n ? tid : 0;         /* those with nothing of their own have what thread 0 has */
    V most = v[at];
    for (int64_t i = at + THREADS; i < n; i += THREADS) {
        const V value = v[i];
        at = value > most ? i : at;
        most = value > most ? value : most;
    }
    b->value[tid] = most;
    b->at[tid] = at;
    for (int gap = THREADS / 2; gap > 0; gap /= 2) {
        sync_block();
        if (tid < gap && ahead(b, tid + gap, tid)) {
            b->value[tid] = b->value[tid + gap];
            b->at[tid] = b->at[tid + gap];
        }
    }
    return b->at[0];
}

/* ---- the start; chosen tokens are in counts: [heads][k] ---- */

/* A block a head: distinct tokens by a partial shuffle, in the room of the labels. */
PRXI_KERNEL void shuffle_kernel(prxi_cu_cluster a)
{
    const int64_t head = blockIdx.x;
    int32_t *order = a.labels + head * a.n, *chosen = a.counts + head * a.k;
    for (int64_t i = threadIdx.x; i < a.n; i += THREADS)
        order[i] = (int32_t)i;
    sync_block();
    uint64_t state = a.seed ^ (uint64_t)head * 0xd1b54a32d192ed03u;
    for (int c = 0; c < a.k && threadIdx.x == 0; c++) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;          /* splitmix64 */
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        const int64_t at = c % a.n, pick = at + (int64_t)((z ^ z >> 31) % (uint64_t)(a.n - at));
        const int32_t t = order[at];
        order[at] = order[pick];
        order[pick] = t;
        chosen[c] = order[at];
    }
}

/* Each candidate's distance to the nearest token chosen so far, that is the nearest before or the last one. */
template <typename T> PRXI_KERNEL void gaps_kernel(prxi_cu_cluster a, int64_t candidates, int last)
{
    PRXI_SHARED(shared);
    pairs *p = reinterpret_cast<pairs *>(shared);
    const int64_t head = blockIdx.y, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const T *x = static_cast<const T *>(a.x) + head * a.head_dim;
    p->x[threadIdx.x] = strided(a.n, candidates, i < candidates ? i : 0) * a.ldx;
    p->y[threadIdx.x] = a.counts[head * a.k + last] * a.ldx;
    const double d = distance(x, x, a.head_dim, p);
    if (i >= candidates)
        return;
    double *gap = a.gaps + head * candidates + i;
    const double was = last ? *gap : (double)PRXI_INFINITY;
    *gap = d < was ? d : was;
}

/* A block a head: the candidate with the largest distance is chosen next; the first one to begin with. */
PRXI_KERNEL void farthest_kernel(prxi_cu_cluster a, int64_t candidates, int c)
{
    PRXI_SHARED(shared);
    const int64_t head = blockIdx.x;
    const int64_t i = c ? largest(a.gaps + head * candidates, candidates, reinterpret_cast<best<double> *>(shared)) : 0;
    if (threadIdx.x == 0)
        a.counts[head * a.k + c] = (int32_t)strided(a.n, candidates, i);
}

template <typename T> PRXI_KERNEL void start_kernel(prxi_cu_cluster a)
{
    const int64_t n = (int64_t)a.heads * a.k * a.head_dim;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        const int64_t cluster = i / a.head_dim, d = i % a.head_dim, head = cluster / a.k;
        const int64_t from = a.seeding == PRXI_CU_STRIDED ? strided(a.n, a.k, cluster % a.k) : a.counts[cluster];
        static_cast<T *>(a.centroids)[i] = static_cast<const T *>(a.x)[from * a.ldx + head * a.head_dim + d];
    }
}

/* Two launches a centroid: the choice needs all distances to the one before. */
template <typename T> static int farthest(device *d, const prxi_cu_cluster *a)
{
    const int64_t candidates = a->n < 4 * (int64_t)a->k ? a->n : 4 * (int64_t)a->k;
    const dim3 tiles((unsigned)ceil_div(candidates, THREADS), (unsigned)a->heads);
    int err = PRX_OK;
    for (int c = 0; c < a->k && err == PRX_OK; c++) {
        if (c)
            err = launch(d, "cluster: gaps", gaps_kernel<T>, tiles, THREADS, sizeof(pairs), *a, candidates, c - 1);
        if (err == PRX_OK)
            err = launch(d, "cluster: farthest", farthest_kernel, dim3((unsigned)a->heads), THREADS, sizeof(best<double>), *a,
                         candidates, c);
    }
    return err;
}

template <typename T> static int start(device *d, const prxi_cu_cluster *a)
{
    int err = PRX_OK;
    if (a->seeding == PRXI_CU_FARTHEST)
        err = farthest<T>(d, a);
    else if (a->seeding == PRXI_CU_RANDOM)
        err = launch(d, "cluster: shuffle", shuffle_kernel, dim3((unsigned)a->heads), THREADS, 0, *a);
    const unsigned all = grid_for((int64_t)a->heads * a->k * a->head_dim, THREADS);
    return err < 0 ? err : launch(d, "cluster: start", start_kernel<T>, dim3(all), THREADS, 0, *a);
}

int prxi_cu_cluster_start(device *d, int type, const prxi_cu_cluster *a)
{
    return type ? start<bf16>(d, a) : start<float>(d, a);
}

/* ---- empty clusters ---- */

/* Each token's distance to its centroid, in heads where a cluster is empty. */
template <typename T> PRXI_KERNEL void misfits_kernel(prxi_cu_cluster a)
{
    PRXI_SHARED(shared);
    pairs *p = reinterpret_cast<pairs *>(shared);
    const int64_t head = blockIdx.y, i = (int64_t)blockIdx.x * THREADS + threadIdx.x, token = i < a.n ? i : 0;
    const int32_t *start = a.start + head * (a.k + 1);
    int empty = 0;
    if (*a.stopped)
        return;
    for (int c = threadIdx.x; c < a.k; c += THREADS)
        empty += start[c] == start[c + 1];
    if (!block_sum(empty, reinterpret_cast<int *>(p->xs)))
        return;
    p->x[threadIdx.x] = token * a.ldx + head * a.head_dim;
    p->y[threadIdx.x] = (head * a.k + a.labels[head * a.n + token]) * a.head_dim;
    const double d = distance(static_cast<const T *>(a.x), static_cast<const T *>(a.centroids), a.head_dim, p);
    if (i < a.n)
        a.far[head * a.n + i] = (float)d;
}

/* A block a head: each empty cluster, in order, gets the worst placed token that is left; to counts, where the others have nothing. */
PRXI_KERNEL void adopt_kernel(prxi_cu_cluster a)
{
    PRXI_SHARED(shared);
    best<float> *b = reinterpret_cast<best<float> *>(shared);
    const int64_t head = blockIdx.x;
    const int32_t *start = a.start + head * (a.k + 1);
    float *far = a.far + head * a.n;
    if (*a.stopped)
        return;
    for (int c = 0; c < a.k; c++) {
        if (start[c] != start[c + 1])
            continue;
        const int64_t worst = largest(far, a.n, b);
        if (threadIdx.x == 0) {
            a.counts[head * a.k + c] = (int32_t)worst;
            far[worst] = -1.0f;             /* taken */
        }
        sync_block();
    }
}

int prxi_cu_cluster_adopt(device *d, int type, const prxi_cu_cluster *a)
{
    const dim3 tiles((unsigned)ceil_div(a->n, THREADS), (unsigned)a->heads);
    const int err = launch(d, "cluster: misfits", type ? misfits_kernel<bf16> : misfits_kernel<float>, tiles, THREADS, sizeof(pairs), *a);
    return err < 0 ? err : launch(d, "cluster: adopt", adopt_kernel, dim3((unsigned)a->heads), THREADS, sizeof(best<float>), *a);
}
