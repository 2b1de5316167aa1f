/* K-means: published runs iteration by iteration, ties, empty clusters, seeding, a double-precision oracle over random
 * cases on every rung, the same bytes for any thread count, refused memory. */
#include "tests/random.h"
#include "tests/refuse.h"
#include "tests/test.h"

#include "attention/kmeans.h"
#include "attention/tile.h"
#include "engine/core/cpu.h"
#include "engine/core/json.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

static void init(prxi_attn_ops *ops, uint32_t isa)
{
    prxi_attn_init_ref(ops);
    prxi_attn_init_x86(ops, isa);
    if (isa & PRXI_ISA_AVX512_BF16)
        prxi_attn_init_avx512bf16(ops);
}

static void *must(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    REQUIRE(p, "memory");
    return p;
}

static double at3(const cJSON *a, int i, int j, int k)
{
    const cJSON *row = cJSON_GetArrayItem(cJSON_GetArrayItem(a, i), j);
    return k < 0 ? row->valuedouble : cJSON_GetArrayItem(row, k)->valuedouble;
}

static void drop(prxi_kmeans *km)
{
    free((void *)(uintptr_t)km->x);
    free(km->centroids);
    free(km->labels);
    free(km->sizes);
}

static prxi_kmeans load(const cJSON *one, const prxi_attn_ops *ops)
{
    const cJSON *x = cJSON_GetObjectItem(one, "x"), *c = cJSON_GetObjectItem(one, "init_centroids");
    prxi_kmeans km = { .ops = ops, .tolerance = cJSON_GetObjectItem(one, "tol")->valuedouble };
    km.dtype = strcmp(cJSON_GetObjectItem(one, "dtype")->valuestring, "bfloat16") ? PRXI_F32 : PRXI_BF16;
    km.heads = cJSON_GetArraySize(x);
    km.n = cJSON_GetArraySize(cJSON_GetArrayItem(x, 0));
    km.k = cJSON_GetArraySize(cJSON_GetArrayItem(c, 0));
    km.head_dim = cJSON_GetArraySize(cJSON_GetArrayItem(cJSON_GetArrayItem(x, 0), 0));
    km.ldx = km.heads * km.head_dim;
    const size_t heads = (size_t)km.heads, n = (size_t)km.n, k = (size_t)km.k, d = (size_t)km.head_dim;
    void *points = must(heads * n * d, 4);
    km.centroids = must(heads * k * d, 4);
    km.labels = must(heads * n, 4);
    km.sizes = must(heads * k, 4);
    km.x = points;
    for (size_t h = 0; h < heads; h++)
        for (size_t t = 0; t < d; t++) {
            for (size_t i = 0; i < n; i++)
                prxi_store(points, km.dtype, (i * heads + h) * d + t, (float)at3(x, (int)h, (int)i, (int)t));
            for (size_t i = 0; i < k; i++)
                prxi_store(km.centroids, km.dtype, (h * k + i) * d + t, (float)at3(c, (int)h, (int)i, (int)t));
        }
    return km;
}

static void compare(const prxi_kmeans *km, const cJSON *labels, const cJSON *sizes, const cJSON *c, const char *name)
{
    int wrong = 0;
    double worst = 0;
    for (int h = 0; h < km->heads; h++) {
        for (int i = 0; i < km->n; i++)
            wrong += km->labels[(int64_t)h * km->n + i] != (int)at3(labels, h, i, -1);
        for (int i = 0; i < km->k; i++) {
            wrong += km->sizes[h * km->k + i] != (int)at3(sizes, h, i, -1);
            for (int t = 0; t < km->head_dim; t++) {
                const double got = (double)prxi_load(km->centroids, km->dtype,
                                                     (size_t)((h * km->k + i) * km->head_dim + t));
                const double want = at3(c, h, i, t), e = fabs(got - want) / (1 + fabs(want));
                worst = e > worst ? e : worst;
            }
        }
    }
    /* f32 means in another order; bf16 results are equal or one rounding apart. */
    CHECK(wrong == 0, "%s: %d labels or sizes differ", name, wrong);
    CHECK(worst <= (km->dtype == PRXI_F32 ? 1e-6 : ldexp(1, -8)), "%s: centroids differ by %g", name, worst);
}

static void vectors(const prxi_attn_ops *ops, int threads)
{
    prxi_json j;
    const cJSON *one;
    REQUIRE(prxi_json_open(&ctx, &j, "tests/vectors/attention/svg2_kmeans.json", 0) == PRX_OK, "%s", ctx.error.text);
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j.root, "cases")) {
        const cJSON *steps = cJSON_GetObjectItem(one, "iterations"), *last = cJSON_GetObjectItem(one, "returned");
        const char *name = cJSON_GetObjectItem(one, "name")->valuestring;
        const int most = cJSON_GetObjectItem(one, "max_iters")->valueint, n = cJSON_GetArraySize(steps);
        for (int i = 1; i <= n; i++) {
            prxi_kmeans km = load(one, ops);
            prxi_stream s;
            prxi_stream_init(&s, &ctx, threads);
            km.max_iters = i == n ? most : i;
            prxi_kmeans_run(&s, &km);
            const cJSON *step = cJSON_GetArrayItem(steps, i - 1);
            const double shift = cJSON_GetObjectItem(step, "shift")->valuedouble;
            CHECK(prxi_stream_error(&s) == PRX_OK && km.iters == i, "%s: %d iterations", name, km.iters);
            CHECK(fabs(km.shift - shift) <= 1e-5 * (1 + shift) + (km.dtype == PRXI_BF16 ? 0.02 : 0), "%s: shift %g, not %g",
                  name, km.shift, shift);
            compare(&km, cJSON_GetObjectItem(step, "labels"), cJSON_GetObjectItem(step, "counts"),
                    cJSON_GetObjectItem(step, "centroids"), name);
            if (i == n)
                compare(&km, cJSON_GetObjectItem(last, "labels"), cJSON_GetObjectItem(last, "sizes"),
                        cJSON_GetObjectItem(last, "centroids"), name);
            prxi_stream_close(&s);
            drop(&km);
        }
    }
    prxi_json_close(&ctx, &j);
}

/* ---- random cases ---- */

static prxi_kmeans random_case(test_random *r, const prxi_attn_ops *ops)
{
    prxi_kmeans km = { .ops = ops, .dtype = random_below(r, 2) ? PRXI_BF16 : PRXI_F32, .heads = 1 + random_below(r, 3),
                       .head_dim = 1 + random_below(r, 140), .k = 1 + random_below(r, random_below(r, 4) ? 40 : 300),
                       .n = 1 + random_below(r, 400), .max_iters = 1 + random_below(r, 4), .tolerance = 0,
                       .reseed = random_below(r, 2) };
    const size_t heads = (size_t)km.heads, d = (size_t)km.head_dim, k = (size_t)km.k, n = (size_t)km.n;
    km.ldx = km.heads * km.head_dim + random_below(r, 5);
    void *x = must(n * (size_t)km.ldx, 4);
    for (size_t i = 0; i < n * (size_t)km.ldx; i++)
        prxi_store(x, km.dtype, i, NAN);
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < heads * d; t++)
            prxi_store(x, km.dtype, i * (size_t)km.ldx + t, (float)random_normal(r));
    km.x = x;
    km.centroids = must(heads * k * d, 4);
    km.labels = must(heads * n, 4);
    km.sizes = must(heads * k, 4);
    return km;
}

/* The chosen centroid is nearest up to rounding; sizes count labels; with a single iteration the means are the members'. */
static void judge(const prxi_kmeans *km, const void *start, const char *rung)
{
    const size_t d = (size_t)km->head_dim, k = (size_t)km->k;
    int wrong = 0, bad_size = 0;
    for (int h = 0; h < km->heads; h++) {
        int32_t *count = must(k, sizeof *count);
        for (int64_t i = 0; i < km->n; i++) {
            const int32_t label = km->labels[h * km->n + i];
            double best = INFINITY, mine = 0, scale = 0;
            REQUIRE(label >= 0 && label < km->k, "label %d", label);
            count[label]++;
            for (size_t c = 0; c < k; c++) {
                double sum = 0;
                for (size_t t = 0; t < d; t++) {
                    const double a = (double)prxi_load(km->x, km->dtype, (size_t)(i * km->ldx) + (size_t)h * d + t);
                    const double b = (double)prxi_load(start, km->dtype, ((size_t)h * k + c) * d + t);
                    sum += (a - b) * (a - b);
                    scale = fabs(a * b) + b * b > scale ? fabs(a * b) + b * b : scale;
                }
                best = sum < best ? sum : best;
                mine = (size_t)label == c ? sum : mine;
            }
            wrong += mine > best + 4 * (double)(d + 4) * (double)d * scale * ldexp(1, -24) + 1e-6;
        }
        for (size_t c = 0; c < k; c++)
            bad_size += count[c] != km->sizes[(size_t)h * k + c];
        free(count);
    }
    CHECK(wrong == 0 && bad_size == 0, "%s: %d labels not nearest, %d sizes wrong", rung, wrong, bad_size);
}

static void random_runs(uint32_t isa, const char *name, int cases)
{
    prxi_attn_ops ops;
    test_random r = { 11 + isa };
    if ((prxi_cpu_detect() & isa) != isa)
        return;
    init(&ops, isa);
    for (int i = 0; i < cases; i++) {
        prxi_kmeans km = random_case(&r, &ops);
        const size_t bytes = (size_t)km.heads * (size_t)km.k * (size_t)km.head_dim * prxi_dtype_size(km.dtype);
        const size_t n = (size_t)km.heads * (size_t)km.n;
        void *start = must(bytes, 1), *first = must(bytes, 1);
        int32_t *labels = must(n, sizeof *labels);
        prxi_stream s;
        for (int threads = 1; threads <= 3; threads += 2) {
            prxi_stream_init(&s, &ctx, threads);
            prxi_kmeans_seed(&s, &km, (prxi_seeding)(i % 3), 5);
            if (threads == 1) {
                const int most = km.max_iters;
                memcpy(start, km.centroids, bytes);
                km.max_iters = 1;
                prxi_kmeans_run(&s, &km);
                judge(&km, start, name);
                km.max_iters = most;
                memcpy(km.centroids, start, bytes);
            }
            prxi_kmeans_run(&s, &km);
            CHECK(prxi_stream_error(&s) == PRX_OK, "%s", ctx.error.text);
            if (threads == 1) {
                memcpy(first, km.centroids, bytes);
                memcpy(labels, km.labels, n * sizeof *labels);
            }
            prxi_stream_close(&s);
        }
        CHECK(!memcmp(first, km.centroids, bytes) && !memcmp(labels, km.labels, n * sizeof *labels),
              "%s: bytes depend on the threads", name);
        free(start);
        free(first);
        free(labels);
        drop(&km);
    }
}

static void seeds_are_points(void)
{
    prxi_attn_ops ops;
    test_random r = { 3 };
    init(&ops, 0);
    for (int i = 0; i < 60; i++) {
        prxi_kmeans km = random_case(&r, &ops);
        const size_t es = prxi_dtype_size(km.dtype), row = (size_t)km.head_dim * es;
        prxi_stream s;
        int missing = 0, twice = 0;
        prxi_stream_init(&s, &ctx, 1);
        prxi_kmeans_seed(&s, &km, (prxi_seeding)(i % 3), (uint64_t)i);
        const unsigned char *c = km.centroids, *x = km.x;
        for (int a = 0; a < km.k; a++) {
            int found = 0;
            for (int64_t t = 0; t < km.n && !found; t++)
                found = !memcmp(c + (size_t)a * row, x + (size_t)(t * km.ldx) * es, row);
            missing += !found;
            for (int b = 0; b < a; b++)
                twice += km.head_dim > 4 && km.k <= km.n && !memcmp(c + (size_t)a * row, c + (size_t)b * row, row);
        }
        CHECK(missing == 0 && twice == 0, "seeding %d: %d centroids are no points, %d are double", i % 3, missing, twice);
        prxi_stream_close(&s);
        drop(&km);
    }
}

/* Points 1 and 3, centroids 2, 2, 0, 4: both ties go to cluster 0. */
static void tie(const prxi_attn_ops *ops)
{
    const float x[2] = { 1, 3 };
    float c[4] = { 2, 2, 0, 4 };
    int32_t labels[2], sizes[4];
    prxi_stream s;
    prxi_kmeans km = { .ops = ops, .heads = 1, .head_dim = 1, .k = 4, .n = 2, .x = x, .ldx = 1, .max_iters = 1,
                       .centroids = c, .labels = labels, .sizes = sizes };
    prxi_stream_init(&s, &ctx, 1);
    prxi_kmeans_run(&s, &km);
    CHECK(labels[0] == 0 && labels[1] == 0 && sizes[0] == 2 && sizes[1] == 0, "labels %d %d", labels[0], labels[1]);
    CHECK(c[0] == 2 && c[1] == 2 && c[2] == 0 && c[3] == 4, "empty clusters stay");
    const float y[3] = { 0, 1, 10 };
    float e[2] = { 0.5f, 0.5f };
    km = (prxi_kmeans) { .ops = ops, .heads = 1, .head_dim = 1, .k = 2, .n = 3, .x = y, .ldx = 1, .max_iters = 1,
                         .reseed = 1, .centroids = e, .labels = (int32_t[3]) { 0 }, .sizes = sizes };
    prxi_kmeans_run(&s, &km);
    CHECK(e[1] == 10, "the empty cluster takes the worst placed point, not %g", (double)e[1]);
    prxi_stream_close(&s);
}

static void refused_memory(uint32_t isa)
{
    const prx_allocator a = { count_alloc, count_free, NULL };
    prxi_attn_ops ops;
    test_random r = { 4 };
    prxi_kmeans km;
    int failures = 0;
    init(&ops, isa);
    do
        km = random_case(&r, &ops), km.k < 2 ? drop(&km) : (void)0;
    while (km.k < 2);
    for (int n = 0; n < 40; n++) {
        prxi_mem small;
        prxi_ctx c = { .mem = &small };
        prxi_stream s;
        prxi_mem_init(&small, &a);
        prxi_stream_init(&s, &c, 2);
        countdown = n;
        km.reseed = 1;
        prxi_kmeans_seed(&s, &km, PRXI_SEED_RANDOM, 1);
        prxi_kmeans_run(&s, &km);
        failures += prxi_stream_error(&s) == PRX_ENOMEM;
        prxi_stream_close(&s);
        CHECK(atomic_load(&small.total) == 0, "%d allocations: %zu bytes leak", n, atomic_load(&small.total));
    }
    CHECK(failures > 3 && failures < 40, "%d of 40 fail", failures);
    drop(&km);
}

int main(void)
{
    const uint32_t best = prxi_cpu_detect(), avx512 = PRXI_ISA_AVX2 | PRXI_ISA_AVX512;
    prxi_attn_ops ref, fast;
    prxi_mem_init(&mem, NULL);
    init(&ref, 0);
    init(&fast, best);
    vectors(&ref, 1);
    vectors(&fast, 2);
    tie(&ref);
    tie(&fast);
    random_runs(0, "ref", 15);
    random_runs(PRXI_ISA_AVX2, "avx2", 40);
    random_runs(avx512, "avx512", 40);
    random_runs(avx512 | PRXI_ISA_AVX512_BF16, "avx512_bf16", 40);
    seeds_are_points();
    refused_memory(best);
    CHECK(atomic_load(&mem.total) == 0, "nothing leaks");
    return TEST_END();
}
