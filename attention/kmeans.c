/* K-means: the loop, seeding, empty clusters. The products are kernels (attention.h: nearest, gather). */
#include "attention/kmeans.h"

#include <math.h>

/* ---- seeding ---- */

static uint64_t mix(uint64_t *state)        /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

typedef struct seed_job {
    prxi_stream *s;
    const prxi_kmeans *km;
    prxi_seeding how;
    uint64_t seed;
} seed_job;

static const unsigned char *point(const prxi_kmeans *km, int64_t head, int64_t i)
{
    const size_t es = prxi_dtype_size(km->dtype);
    return (const unsigned char *)km->x + ((size_t)i * (size_t)km->ldx + (size_t)head * (size_t)km->head_dim) * es;
}

static void take_point(const prxi_kmeans *km, int64_t head, int c, int64_t i)
{
    const size_t row = (size_t)km->head_dim * prxi_dtype_size(km->dtype);
    memcpy((unsigned char *)km->centroids + ((size_t)head * (size_t)km->k + (size_t)c) * row, point(km, head, i), row);
}

static double distance(const prxi_kmeans *km, const void *x, const void *y)
{
    double sum = 0;
    for (size_t i = 0; i < (size_t)km->head_dim; i++) {
        const double d = (double)prxi_load(x, km->dtype, i) - (double)prxi_load(y, km->dtype, i);
        sum += d * d;
    }
    return sum;
}

static int64_t strided(int64_t n, int64_t k, int64_t c)
{
    return (2 * c + 1) * n / (2 * k);
}

/* Gonzalez 1985 over at most 4 k evenly strided candidates; starts at the first, ties to the earliest. */
static void seed_farthest(const seed_job *j, int64_t head)
{
    const prxi_kmeans *km = j->km;
    const int64_t candidates = km->n < 4 * (int64_t)km->k ? km->n : 4 * (int64_t)km->k;
    double *gap = prxi_alloc(j->s->ctx->mem, PRXI_MEM_SCRATCH, (size_t)candidates * sizeof *gap);
    if (!gap) {
        prxi_stream_fail(j->s, PRX_ENOMEM, "clustering", "no memory for farthest-point seeding");
        return;
    }
    for (int64_t i = 0; i < candidates; i++)
        gap[i] = INFINITY;
    int64_t next = 0;
    for (int c = 0; c < km->k; c++) {
        const unsigned char *chosen = point(km, head, strided(km->n, candidates, next));
        take_point(km, head, c, strided(km->n, candidates, next));
        int64_t far = 0;
        for (int64_t i = 0; i < candidates; i++) {
            const double d = distance(km, point(km, head, strided(km->n, candidates, i)), chosen);
            gap[i] = d < gap[i] ? d : gap[i];
            far = gap[i] > gap[far] ? i : far;
        }
        next = far;
    }
    prxi_free(j->s->ctx->mem, gap);
}

/* Distinct points by a partial shuffle; when there are fewer points than centroids they come round again. */
static void seed_random(const seed_job *j, int64_t head)
{
    const prxi_kmeans *km = j->km;
    int32_t *order = prxi_alloc(j->s->ctx->mem, PRXI_MEM_SCRATCH, (size_t)km->n * sizeof *order);
    uint64_t state = j->seed ^ (uint64_t)head * 0xd1b54a32d192ed03u;
    if (!order) {
        prxi_stream_fail(j->s, PRX_ENOMEM, "clustering", "no memory for random seeding");
        return;
    }
    for (int64_t i = 0; i < km->n; i++)
        order[i] = (int32_t)i;
    for (int c = 0; c < km->k; c++) {
        const int64_t at = c % km->n, pick = at + (int64_t)(mix(&state) % (uint64_t)(km->n - at));
        const int32_t t = order[at];
        order[at] = order[pick];
        order[pick] = t;
        take_point(km, head, c, order[at]);
    }
    prxi_free(j->s->ctx->mem, order);
}

static void seed_head(void *cookie, int64_t head, int thread)
{
    (void)thread;
    const seed_job *j = cookie;
    if (j->how == PRXI_SEED_FARTHEST)
        seed_farthest(j, head);
    else if (j->how == PRXI_SEED_RANDOM)
        seed_random(j, head);
    else
        for (int c = 0; c < j->km->k; c++)
            take_point(j->km, head, c, strided(j->km->n, j->km->k, c));
}

void prxi_kmeans_seed(prxi_stream *s, const prxi_kmeans *km, prxi_seeding how, uint64_t seed)
{
    seed_job j = { s, km, how, seed };
    if (!prxi_stream_error(s) && km->n > 0)
        prxi_parallel_for(s, km->heads, seed_head, &j);
}

/* ---- the loop ---- */

typedef struct update_job {
    prxi_stream *s;
    prxi_kmeans *km;
    float *means;           /* [heads][k][d]: sums in, means out */
    double *shift;          /* [heads] largest move, squared */
    float *far;             /* [heads][n] squared distances, with reseed */
} update_job;

static int64_t farthest(const update_job *j, int64_t head)
{
    float *far = j->far + (size_t)head * (size_t)j->km->n;
    int64_t best = 0;
    for (int64_t i = 1; i < j->km->n; i++)
        best = far[i] > far[best] ? i : best;
    far[best] = -1.0f;      /* taken */
    return best;
}

static void measure(const update_job *j, int64_t head)
{
    const prxi_kmeans *km = j->km;
    const size_t row = (size_t)km->head_dim * prxi_dtype_size(km->dtype), h = (size_t)head;
    const unsigned char *c = (const unsigned char *)km->centroids + h * (size_t)km->k * row;
    for (int64_t i = 0; i < km->n; i++) {
        const size_t at = h * (size_t)km->n + (size_t)i;
        j->far[at] = (float)distance(km, point(km, head, i), c + (size_t)km->labels[at] * row);
    }
}

/* New centroids of one head into means, rounded to the type of the points; the old stay until the shift is known. */
static void update_head(void *cookie, int64_t head, int thread)
{
    (void)thread;
    const update_job *j = cookie;
    const prxi_kmeans *km = j->km;
    const size_t d = (size_t)km->head_dim, k = (size_t)km->k, h = (size_t)head;
    int measured = 0;
    double most = 0;
    for (size_t c = 0; c < k; c++) {
        const size_t at = (h * k + c) * d;
        const int32_t size = km->sizes[h * k + c];
        const unsigned char *seed = NULL;
        double move = 0;
        if (size == 0 && km->reseed) {
            if (!measured)
                measure(j, head);
            measured = 1;
            seed = point(km, head, farthest(j, head));
        }
        for (size_t i = 0; i < d; i++) {
            const float old = prxi_load(km->centroids, km->dtype, at + i);
            float mean = seed ? prxi_load(seed, km->dtype, i) : size ? j->means[at + i] / (float)size : old;
            if (km->dtype == PRXI_BF16)
                mean = prxi_bf16_to_f32(prxi_f32_to_bf16(mean));
            j->means[at + i] = mean;
            move += ((double)mean - (double)old) * ((double)mean - (double)old);
        }
        most = move > most ? move : most;
    }
    j->shift[head] = most;
}

static void accept_head(void *cookie, int64_t head, int thread)
{
    (void)thread;
    const update_job *j = cookie;
    const size_t n = (size_t)j->km->k * (size_t)j->km->head_dim, first = (size_t)head * n;
    for (size_t i = first; i < first + n; i++)
        prxi_store(j->km->centroids, j->km->dtype, i, j->means[i]);
}

static void iterate(prxi_stream *s, prxi_kmeans *km, update_job *j)
{
    const prxi_nearest_args a = { .heads = km->heads, .head_dim = km->head_dim, .n = km->n, .k = km->k, .x = km->x,
                                  .ldx = km->ldx, .centroids = km->centroids, .labels = km->labels, .sums = j->means,
                                  .counts = km->sizes };
    for (km->iters = 0; km->iters < km->max_iters && !prxi_stream_error(s);) {
        km->ops->nearest[km->dtype](s, &a);
        if (prxi_stream_error(s) || (s->cancel && atomic_load(s->cancel)))
            return;
        km->ops->gather[km->dtype](s, &a);
        prxi_parallel_for(s, km->heads, update_head, j);
        double most = 0;
        for (int h = 0; h < km->heads; h++)
            most = j->shift[h] > most ? j->shift[h] : most;
        km->shift = sqrt(most);
        km->iters++;
        if (km->shift < km->tolerance)
            return;
        prxi_parallel_for(s, km->heads, accept_head, j);
    }
}

void prxi_kmeans_run(prxi_stream *s, prxi_kmeans *km)
{
    prxi_mem *m = s->ctx->mem;
    const size_t heads = (size_t)km->heads, all = prxi_mul(heads, (size_t)km->k * (size_t)km->head_dim);
    update_job j = { .s = s, .km = km };
    if (prxi_stream_error(s) || km->heads <= 0 || km->n <= 0)
        return;
    j.means = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(all, sizeof *j.means));
    j.shift = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(heads, sizeof *j.shift));
    if (km->reseed)
        j.far = prxi_alloc(m, PRXI_MEM_SCRATCH, prxi_mul(prxi_mul(heads, (size_t)km->n), sizeof *j.far));
    if (j.means && j.shift && (j.far || !km->reseed))
        iterate(s, km, &j);
    else
        prxi_stream_fail(s, PRX_ENOMEM, "clustering", "no memory for centroid sums");
    prxi_free(m, j.far);
    prxi_free(m, j.shift);
    prxi_free(m, j.means);
}
