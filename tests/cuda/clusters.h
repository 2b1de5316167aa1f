/* One round of clustering attention on the device, checked step by step against plain sums on the host: start centroids, labels,
 * the order of tokens, means, what a query cluster keeps, tiles, the queue. Included after under_test.h. */
#ifndef PRXI_TESTS_CUDA_CLUSTERS_H
#define PRXI_TESTS_CUDA_CLUSTERS_H

#include <math.h>

#include "attention/svg2_select.h"
#include "tests/random.h"

typedef struct clusters {
    prxi_dtype t;
    int heads, d, cq, ck, n, whole;         /* whole: points are whole numbers, so that distances are exact, and many of them equal */
    void *x, *c[2], *means;                 /* points; centroids of queries (cq) and keys (ck), of the same points */
    int32_t *labels, *perm[2], *start[2], *counts, *stopped, *keys, *cols;
    float *halves;
    double *moved, *kept;
    int64_t *row_ptr, *row_end;
    prxi_cu_tile *tiles, *items;
    int tiles_each, n_items;
} clusters;

static inline double clusters_value(const clusters *s, const void *p, int64_t i)
{
    return (double)prxi_load(p, s->t, (size_t)i);
}

static inline double clusters_point(const clusters *s, int h, int64_t i, int e)
{
    return clusters_value(s, s->x, (i * s->heads + h) * s->d + e);
}

/* Labels name a nearest one of `centroids`, up to what f32 sums lose, or the first of the nearest; perm and start are the stable order. */
static inline int clusters_labels_right(const clusters *s, const void *centroids, int k, int side, int exact)
{
    int32_t *perm = malloc((size_t)s->n * sizeof *perm), *start = malloc((size_t)(k + 1) * sizeof *start);
    int good = 1;
    for (int h = 0; h < s->heads && good; h++) {
        const int32_t *labels = s->labels + (int64_t)h * s->n;
        for (int64_t i = 0; i < s->n; i++) {
            double best = INFINITY, mine = INFINITY;
            int first = 0;
            for (int j = 0; j < k; j++) {
                double far = 0;
                for (int e = 0; e < s->d; e++)
                    far += pow(clusters_point(s, h, i, e) - clusters_value(s, centroids, ((int64_t)h * k + j) * s->d + e), 2);
                first = far < best ? j : first;
                best = fmin(best, far);
                mine = j == labels[i] ? far : mine;
            }
            good &= exact ? labels[i] == first : mine <= best + 1e-4 * s->d;
        }
        prxi_svg2_sort(labels, s->n, k, perm, start);
        good &= memcmp(perm, s->perm[side] + (int64_t)h * s->n, (size_t)s->n * sizeof *perm) == 0;
        good &= memcmp(start, s->start[side] + (int64_t)h * (k + 1), (size_t)(k + 1) * sizeof *start) == 0;
    }
    free(perm), free(start);
    return good;
}

/* Centroids are the means of what is labelled so, empty ones as they were. */
static inline int clusters_means_right(const clusters *s, const void *before, const void *after, int k)
{
    int good = 1;
    for (int64_t c = 0; c < (int64_t)s->heads * k; c++)
        for (int e = 0; e < s->d; e++) {
            double sum = 0;
            int count = 0;
            for (int64_t i = 0; i < s->n; i++)
                if (s->labels[c / k * s->n + i] == c % k) {
                    sum += clusters_point(s, (int)(c / k), i, e);
                    count++;
                }
            const double want = count ? sum / count : clusters_value(s, before, c * s->d + e);
            good &= fabs(clusters_value(s, after, c * s->d + e) - want) <= 1e-4 + (s->t ? ldexp(fabs(want), -8) : 0);
        }
    return good;
}

static inline int clusters_side(clusters *s, const prxi_cuda_module *m, void *dev, int side)
{
    const int k = side ? s->ck : s->cq;
    const size_t bytes = (size_t)(s->heads * k * s->d) * prxi_dtype_size(s->t);
    void *before = malloc(bytes), *c = s->c[side];
    prxi_cu_cluster a = { s->heads, s->d, k, 1, 1, s->n, (int64_t)s->heads * s->d, 0, s->x, c, s->means, s->labels, s->perm[side],
                          s->start[side], s->counts, s->stopped, s->halves, s->moved, PRXI_CU_STRIDED, 0, 0, NULL, NULL };
    int good = 1;
    a.tolerance = 1e30;                     /* nothing moves so far: the start stays */
    good &= m->cluster(dev, (int)s->t, &a) == PRX_OK && m->sync(dev) == PRX_OK;
    for (int64_t i = 0; i < (int64_t)s->heads * k * s->d; i++) {
        const int64_t from = (2 * (i / s->d % k) + 1) * s->n / (2 * k);
        good &= clusters_value(s, c, i) == clusters_point(s, (int)(i / s->d / k), from, (int)(i % s->d));
    }
    good &= clusters_labels_right(s, c, k, side, s->whole);
    a.tolerance = 0;
    for (a.fresh = 1; a.fresh >= 0 && good; a.fresh--) {
        memcpy(before, c, bytes);
        good &= m->cluster(dev, (int)s->t, &a) == PRX_OK && m->sync(dev) == PRX_OK;
        good &= clusters_labels_right(s, before, k, side, 0) && clusters_means_right(s, before, c, k);
    }
    free(before);
    return good;
}

/* What query cluster `row` keeps, by the host's rule on the same products. */
static inline int clusters_row_right(const clusters *s, int h, int row, float scale, double top_p, int least)
{
    float *logits = malloc((size_t)s->ck * sizeof *logits), *prob = malloc((size_t)s->ck * sizeof *prob);
    int32_t *sizes = malloc((size_t)s->ck * sizeof *sizes), *order = malloc(2 * (size_t)s->ck * sizeof *order);
    unsigned char *keep = malloc((size_t)s->ck);
    const int32_t *start = s->start[1] + h * (s->ck + 1);
    const int64_t at = (int64_t)h * s->cq + row;
    int64_t p = s->row_ptr[at];
    int keys = 0, good = 1;
    for (int j = 0; j < s->ck; j++) {
        float dot = 0;
        for (int e = 0; e < s->d; e++)
            dot = fmaf((float)clusters_value(s, s->c[0], at * s->d + e),
                       (float)clusters_value(s, s->c[1], ((int64_t)h * s->ck + j) * s->d + e), dot);
        logits[j] = dot * scale;
        sizes[j] = start[j + 1] - start[j];
    }
    prxi_svg2_row(logits, sizes, s->ck, top_p, least, prob, order, order + s->ck, keep);
    for (int j = 0; j < s->ck; j++)
        if (keep[j]) {
            good &= p < s->row_end[at] && s->cols[p] == j;
            keys += sizes[j];
            p++;
        }
    good &= p == s->row_end[at] && s->keys[at] == keys;
    free(logits), free(prob), free(sizes), free(order), free(keep);
    return good;
}

/* Every query of every cluster once, clusters with more keys first, nothing after the last; the share of pairs. */
static inline int clusters_tiles_right(const clusters *s, int h)
{
    const int32_t *start = s->start[0] + h * (s->cq + 1);
    int32_t *next = malloc((size_t)s->cq * sizeof *next);
    int good = 1, last = INT32_MAX, ended = 0;
    double pairs = 0;
    memcpy(next, start, (size_t)s->cq * sizeof *next);
    for (int i = 0; i < s->tiles_each; i++) {
        const prxi_cu_tile *t = &s->tiles[h * s->tiles_each + i];
        ended |= t->rows == 0;
        good &= t->head == h && (t->rows == 0) == ended;
        if (t->rows == 0)
            continue;
        good &= t->block >= 0 && t->block < s->cq && t->first == next[t->block] && t->rows <= PRXI_CU_TILE_ROWS;
        if (!good)
            break;
        next[t->block] += t->rows;
        good &= s->keys[h * s->cq + t->block] <= last;
        last = s->keys[h * s->cq + t->block];
    }
    for (int c = 0; c < s->cq; c++) {
        good &= next[c] == start[c + 1];
        pairs += (double)s->keys[h * s->cq + c] * (start[c + 1] - start[c]);
    }
    good &= fabs(s->kept[h] - pairs / ((double)s->n * s->n)) <= 1e-12;
    free(next);
    return good;
}

/* The queue is the one that the host makes of the same list; after its last item there are none. */
static inline int clusters_queue_right(const clusters *s, int group)
{
    prxi_mem mem;
    prxi_ctx ctx = { .mem = &mem };
    int64_t *row_ptr = malloc((size_t)(s->heads * (s->cq + 1)) * sizeof *row_ptr), at = 0;
    int32_t *cols = malloc((size_t)(s->heads * s->cq * s->ck) * sizeof *cols);
    prxi_mem_init(&mem, NULL);
    for (int i = 0; i < s->heads * s->cq; i++) {
        row_ptr[i / s->cq + i] = at;
        for (int64_t x = s->row_ptr[i]; x < s->row_end[i]; x++)
            cols[at++] = s->cols[x];
        row_ptr[i / s->cq + i + 1] = at;
    }
    const prxi_block_list list = { 1, s->cq, s->ck, s->start[0], s->start[1], row_ptr, cols, NULL, NULL, 0, NULL };
    const int n = prxi_cuda_queue_count(&list, s->heads);
    prxi_cu_tile *want = malloc((size_t)(n + 1) * sizeof *want);
    int good = n <= s->n_items && prxi_cuda_queue(&ctx, &list, s->heads, group, s->n, want) == PRX_OK;
    good = good && memcmp(s->items, want, (size_t)n * sizeof *want) == 0;
    for (int i = n; i < s->n_items; i++)
        good &= s->items[i].rows == 0;
    free(want), free(row_ptr), free(cols);
    return good;
}

static inline int clusters_select(clusters *s, const prxi_cuda_module *m, void *dev, float top_p, int least)
{
    const float scale = 1 / sqrtf((float)s->d);
    const int group = 1 + s->n % 5;
    const prxi_cu_select a = { s->heads, s->d, s->cq, s->ck, least, s->tiles_each, s->n, scale, top_p, s->c[0], s->c[1], s->start[0],
                               s->start[1], s->cols, s->keys, s->row_ptr, s->row_end, s->tiles, s->kept, s->n_items, group,
                               s->items };
    memset(s->tiles, 0x55, (size_t)(s->heads * s->tiles_each) * sizeof *s->tiles);      /* as an earlier step left them */
    memset(s->items, 0x55, (size_t)s->n_items * sizeof *s->items);
    int good = m->select(dev, (int)s->t, &a) == PRX_OK && m->sync(dev) == PRX_OK;
    good = good && (s->n_items == 0 || clusters_queue_right(s, group));
    for (int h = 0; h < s->heads && good; h++) {
        for (int i = 0; i < s->cq; i++)
            good &= clusters_row_right(s, h, i, scale, (double)top_p, least);
        good &= clusters_tiles_right(s, h);
    }
    return good;
}

/* The queue alone: heads with clusters of any size, empty ones too, of which each keeps one to three. */
static inline int clusters_queue_of(const prxi_cuda_module *m, void *dev, test_random *rng, int heads, int cq, int group)
{
    enum { CK = 3 };
    const int n = 2000 + random_below(rng, 500), entries = heads * cq;
    clusters s = { .t = PRXI_F32, .heads = heads, .d = 1, .cq = cq, .ck = CK, .n = n, .tiles_each = n / PRXI_CU_TILE_ROWS + cq,
                   .n_items = heads * (n / PRXI_CU_QUEUE_ROWS + cq) };
    float *q = malloc((size_t)entries * 4), *k = malloc((size_t)(heads * CK) * 4);
    int32_t *start[2] = { malloc((size_t)(heads * (cq + 1)) * 4), malloc((size_t)(heads * (CK + 1)) * 4) };
    s.cols = malloc((size_t)(entries * CK) * 4), s.keys = malloc((size_t)entries * 4), s.kept = malloc((size_t)heads * 8);
    s.row_ptr = malloc((size_t)entries * 8), s.row_end = malloc((size_t)entries * 8);
    s.tiles = malloc((size_t)(heads * s.tiles_each) * sizeof *s.tiles), s.items = malloc((size_t)s.n_items * sizeof *s.items);
    for (int i = 0; i < entries; i++)
        q[i] = (float)random_normal(rng);
    for (int i = 0; i < heads * CK; i++)
        k[i] = 4 * (float)random_normal(rng);
    for (int side = 0; side < 2; side++)
        for (int h = 0, c = side ? CK : cq; h < heads; h++) {
            int32_t *at = start[side] + h * (c + 1);
            at[0] = 0;
            for (int i = 1; i <= c; i++)
                at[i] = i == c ? n : at[i - 1] + random_below(rng, 2 * (n - at[i - 1]) / (c + 1 - i) + 1);
            for (int i = 1; i <= c; i++)
                at[i] = at[i] < n ? at[i] : n;
        }
    s.start[0] = start[0], s.start[1] = start[1];
    memset(s.items, 0x55, (size_t)s.n_items * sizeof *s.items);
    const prxi_cu_select a = { heads, 1, cq, CK, 1, s.tiles_each, n, 1, 0.6f, q, k, start[0], start[1], s.cols, s.keys, s.row_ptr,
                               s.row_end, s.tiles, s.kept, s.n_items, group, s.items };
    const int good = m->select(dev, PRXI_F32, &a) == PRX_OK && m->sync(dev) == PRX_OK && clusters_queue_right(&s, group);
    void *all[] = { q, k, start[0], start[1], s.cols, s.keys, s.kept, s.row_ptr, s.row_end, s.tiles, s.items };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return good;
}

static inline int clusters_right(const prxi_cuda_module *m, void *dev, test_random *rng, prxi_dtype t, int heads, int d, int n, int cq,
                                 int ck, float top_p, int least, int queue)
{
    const size_t points = (size_t)(heads * n), most = (size_t)(heads * (cq > ck ? cq : ck));
    const int chunks = (n + PRXI_CU_CHUNK - 1) / PRXI_CU_CHUNK;
    clusters s = { .t = t, .heads = heads, .d = d, .cq = cq, .ck = ck, .n = n, .tiles_each = n / PRXI_CU_TILE_ROWS + cq,
                   .n_items = queue ? heads * (n / PRXI_CU_QUEUE_ROWS + cq) : 0 };
    struct {
        void **p;
        size_t bytes;
    } all[] = {
        { &s.x, points * (size_t)d * 4 }, { &s.c[0], most * (size_t)d * 4 }, { &s.c[1], most * (size_t)d * 4 },
        { &s.means, most * (size_t)d * 4 },
        { (void **)&s.labels, points * 4 }, { (void **)&s.perm[0], points * 4 }, { (void **)&s.perm[1], points * 4 },
        { (void **)&s.start[0], (most + (size_t)heads) * 4 }, { (void **)&s.start[1], (most + (size_t)heads) * 4 },
        { (void **)&s.counts, most * (size_t)chunks * 4 }, { (void **)&s.stopped, 4 }, { (void **)&s.keys, most * 4 },
        { (void **)&s.cols, (size_t)(heads * cq * ck) * 4 }, { (void **)&s.halves, most * 4 }, { (void **)&s.moved, most * 8 },
        { (void **)&s.kept, (size_t)heads * 8 }, { (void **)&s.row_ptr, most * 8 }, { (void **)&s.row_end, most * 8 },
        { (void **)&s.tiles, (size_t)(heads * s.tiles_each) * sizeof(prxi_cu_tile) },
        { (void **)&s.items, (size_t)s.n_items * sizeof(prxi_cu_tile) },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        *all[i].p = malloc(all[i].bytes);
        REQUIRE(*all[i].p, "memory");
    }
    s.whole = random_below(rng, 2);
    for (size_t i = 0; i < points * (size_t)d; i++)
        prxi_store(s.x, t, i, s.whole ? (float)(random_below(rng, 5) - 2) : (float)random_normal(rng));
    const size_t half = (size_t)(n / 2) * (size_t)(heads * d);
    for (size_t i = 0; s.whole && i < half; i++)         /* every token twice: start centroids that are equal */
        prxi_store(s.x, t, half + i, prxi_load(s.x, t, i));
    const int good = clusters_side(&s, m, dev, 0) && clusters_side(&s, m, dev, 1) && clusters_select(&s, m, dev, top_p, least);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(*all[i].p);
    return good;
}

#endif
