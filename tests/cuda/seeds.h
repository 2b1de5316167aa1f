/* Start centroids and empty clusters on the device against attention/kmeans.c, to the bit: the reference runs with the device's labels.
 * Included after under_test.h. */
#ifndef PRXI_TESTS_CUDA_SEEDS_H
#define PRXI_TESTS_CUDA_SEEDS_H

#include <math.h>

#include "attention/kmeans.h"
#include "tests/random.h"

static const int32_t *seeds_labels;         /* what the reference finds nearest */
static int seeds_empty;                     /* clusters so far that were, by channel */

static inline void seeds_nearest(prxi_stream *s, const prxi_nearest_args *a)
{
    (void)s;
    memcpy(a->labels, seeds_labels, (size_t)a->heads * (size_t)a->n * sizeof *a->labels);
}

/* One iteration with both, from the centroids there are. Means may round elsewhere, points that empty clusters took may not. */
static inline int seeds_adopted(const prxi_cuda_module *m, void *dev, prxi_cu_cluster *a, prxi_kmeans *km)
{
    prxi_mem mem;
    prxi_ctx ctx = { .mem = &mem };
    prxi_stream s;
    prxi_attn_ops ops;
    const size_t of_head = (size_t)a->k * (size_t)a->head_dim, all = (size_t)a->heads * of_head;
    prxi_mem_init(&mem, NULL);
    prxi_stream_init(&s, &ctx, 1);
    prxi_attn_init_ref(&ops);
    ops.nearest[km->dtype] = seeds_nearest;
    km->ops = &ops;
    memcpy(km->centroids, a->centroids, all * prxi_dtype_size(km->dtype));
    a->fresh = 0;
    a->tolerance = 0;
    int good = m->cluster(dev, (int)km->dtype, a) == PRX_OK && m->sync(dev) == PRX_OK;
    seeds_labels = a->labels;
    prxi_kmeans_run(&s, km);
    for (size_t i = 0; i < all && good; i++) {
        const int size = km->sizes[i / (size_t)a->head_dim];
        const double want = (double)prxi_load(km->centroids, km->dtype, i), got = (double)prxi_load(a->centroids, km->dtype, i);
        good &= size ? fabs(got - want) <= 1e-4 + (km->dtype ? ldexp(fabs(want), -8) : 0) : got == want;
        seeds_empty += size == 0;
    }
    prxi_stream_close(&s);
    return good;
}

/* The start of each kind, and what becomes of it in two iterations that give empty clusters something. */
static inline int seeds_kinds(const prxi_cuda_module *m, void *dev, prxi_cu_cluster *a, prxi_kmeans *km)
{
    static const int kinds[][2] = { { PRXI_CU_STRIDED, PRXI_SEED_STRIDED }, { PRXI_CU_RANDOM, PRXI_SEED_RANDOM },
                                    { PRXI_CU_FARTHEST, PRXI_SEED_FARTHEST } };
    const size_t bytes = (size_t)a->heads * (size_t)a->k * (size_t)a->head_dim * prxi_dtype_size(km->dtype);
    prxi_mem mem;
    prxi_ctx ctx = { .mem = &mem };
    prxi_stream s;
    prxi_mem_init(&mem, NULL);
    prxi_stream_init(&s, &ctx, 1);
    int good = 1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && good; i++) {
        a->seeding = kinds[i][0];
        a->fresh = 1;
        a->tolerance = 1e30;                /* the start stays */
        good = m->cluster(dev, (int)km->dtype, a) == PRX_OK && m->sync(dev) == PRX_OK;
        prxi_kmeans_seed(&s, km, (prxi_seeding)kinds[i][1], a->seed);
        good = good && memcmp(a->centroids, km->centroids, bytes) == 0;
        for (int round = 0; round < 2 && good; round++)
            good = seeds_adopted(m, dev, a, km);
    }
    prxi_stream_close(&s);
    return good;
}

/* Whole: few values, and every token twice: equal distances, and start centroids that leave each other without members. */
static inline void seeds_points(void *x, prxi_dtype t, test_random *rng, int n, int row, int whole)
{
    const int half = n / 2 * row;
    for (int i = 0; i < n * row; i++)
        prxi_store(x, t, (size_t)i, whole ? (float)(random_below(rng, 3) - 1) : (float)random_normal(rng));
    for (int i = 0; whole && i < half; i++)
        prxi_store(x, t, (size_t)(half + i), prxi_load(x, t, (size_t)i));
}

static inline int seeds_right(const prxi_cuda_module *m, void *dev, test_random *rng, prxi_dtype t, int heads, int d, int n, int k)
{
    const size_t points = (size_t)(heads * n), centroids = (size_t)(heads * k);
    const size_t chunks = (size_t)((n + PRXI_CU_CHUNK - 1) / PRXI_CU_CHUNK), candidates = (size_t)(n < 4 * k ? n : 4 * k);
    const int row = heads * d + 3, whole = random_below(rng, 4) > 0;
    prxi_cu_cluster a = { .heads = heads, .head_dim = d, .k = k, .iters = 1, .n = n, .ldx = row, .reseed = 1,
                          .seed = (uint64_t)random_below(rng, 1 << 30) << 33 };
    prxi_kmeans km = { .dtype = t, .heads = heads, .head_dim = d, .k = k, .n = n, .ldx = row, .max_iters = 1, .reseed = 1 };
    void *x;
    struct {
        void **p;
        size_t bytes;
    } all[] = {
        { &x, (size_t)(n * row) * 4 }, { &a.centroids, centroids * (size_t)d * 4 }, { &a.means, centroids * (size_t)d * 4 },
        { (void **)&a.labels, points * 4 }, { (void **)&a.perm, points * 4 }, { (void **)&a.start, (centroids + (size_t)heads) * 4 },
        { (void **)&a.counts, centroids * chunks * 4 }, { (void **)&a.stopped, 4 }, { (void **)&a.halves, centroids * 4 },
        { (void **)&a.moved, centroids * 8 }, { (void **)&a.far, points * 4 }, { (void **)&a.gaps, (size_t)heads * candidates * 8 },
        { &km.centroids, centroids * (size_t)d * 4 }, { (void **)&km.labels, points * 4 }, { (void **)&km.sizes, centroids * 4 },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        *all[i].p = malloc(all[i].bytes);
        REQUIRE(*all[i].p, "memory");
        memset(*all[i].p, 0x7f, all[i].bytes);
    }
    seeds_points(x, t, rng, n, row, whole);
    a.x = km.x = x;
    const int good = seeds_kinds(m, dev, &a, &km);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(*all[i].p);
    return good;
}

#endif
