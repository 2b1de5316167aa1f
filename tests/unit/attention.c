/* Around the kernels: merging partial results, the probe, maps as JSON, the registry, refused memory. */
#include "tests/random.h"
#include "tests/refuse.h"
#include "tests/test.h"

#include "attention/mask.h"
#include "engine/core/cpu.h"
#include "engine/core/json.h"

enum { HEADS = 2, D = 32, N = 150, ROW = HEADS * D };

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };
static prxi_attn_ops ops;
static float q[N * ROW], k[N * ROW], v[N * ROW], o[N * ROW], o2[N * ROW], whole[N * ROW];
static float lse[HEADS * N], lse2[HEADS * N], lse_whole[HEADS * N];

static void fill(uint64_t seed)
{
    test_random r = { seed };
    for (int i = 0; i < N * ROW; i++) {
        q[i] = (float)random_normal(&r);
        k[i] = (float)random_normal(&r);
        v[i] = (float)random_normal(&r);
    }
}

static prxi_attn_args args_of(int64_t first, int64_t n, float *out, float *sums)
{
    return (prxi_attn_args) { HEADS, D, N, n, q, k + first * ROW, v + first * ROW, out, ROW, ROW, ROW, ROW, 1 / sqrtf(D), 0, sums, 0 };
}

static void merge(prxi_stream *s)
{
    static const int cuts[] = { 0, 1, 70, 149, 150 };
    const prxi_attn_args all = args_of(0, N, whole, lse_whole);
    ops.dense[PRXI_F32](s, &all);
    for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
        const prxi_attn_args a = args_of(0, cuts[c], o, lse), b = args_of(cuts[c], N - cuts[c], o2, lse2);
        double off = 0, off_lse = 0;
        ops.dense[PRXI_F32](s, &a);
        ops.dense[PRXI_F32](s, &b);
        prxi_attn_merge(s, PRXI_F32, HEADS, D, N, o, ROW, lse, o2, ROW, lse2);
        for (int i = 0; i < N * ROW; i++)
            off = fmax(off, fabs((double)o[i] - (double)whole[i]));
        for (int i = 0; i < HEADS * N; i++)
            off_lse = fmax(off_lse, fabs((double)lse[i] - (double)lse_whole[i]));
        /* Values below 6 in weights of a few roundings each. */
        CHECK(off < 6 * 16 * ldexp(1, -24) * 4 && off_lse < 1e-5, "cut at %d: off by %g, %g", cuts[c], off, off_lse);
    }
    const prxi_attn_args none = args_of(0, 0, o, lse), nothing = args_of(0, 0, o2, lse2);
    ops.dense[PRXI_F32](s, &none);
    ops.dense[PRXI_F32](s, &nothing);
    prxi_attn_merge(s, PRXI_F32, HEADS, D, N, o, ROW, lse, o2, ROW, lse2);
    CHECK(o[5] == 0 && lse[7] == -INFINITY, "no keys at all: zeros");
}

/* Kept mass and error of a list that keeps the first `kept` of three key blocks, in doubles over the sampled rows. */
static void by_hand(int samples, const int32_t *perm, int kept_tokens, prxi_attn_probe *out)
{
    double mass = 0, off = 0, length = 0;
    for (int i = 0; i < samples; i++)
        for (int h = 0; h < HEADS; h++) {
            const float *x = q + (2 * i + 1) * N / (2 * samples) * ROW + h * D;
            double all = 0, some = 0, dense[D] = { 0 }, sparse[D] = { 0 };
            for (int t = 0; t < N; t++) {
                const int key = perm[h * N + t];
                double dot = 0;
                for (int c = 0; c < D; c++)
                    dot += (double)x[c] * (double)k[key * ROW + h * D + c];
                const double e = exp(dot / sqrt(D));
                all += e;
                some += t < kept_tokens ? e : 0;
                for (int c = 0; c < D; c++) {
                    dense[c] += e * (double)v[key * ROW + h * D + c];
                    sparse[c] += t < kept_tokens ? e * (double)v[key * ROW + h * D + c] : 0;
                }
            }
            mass += some / all;
            for (int c = 0; c < D; c++) {
                off += pow(dense[c] / all - sparse[c] / some, 2);
                length += pow(dense[c] / all, 2);
            }
        }
    *out = (prxi_attn_probe) { mass / (samples * HEADS), sqrt(off / length) };
}

static void probe(prxi_stream *s)
{
    static int32_t perm[HEADS * N];
    static const int32_t q_start[] = { 0, 60, N }, k_start[] = { 0, 40, 40, 110, N }, cols[] = { 0, 1, 2, 3, 0, 1, 2, 3 };
    test_random r = { 5 };
    for (int h = 0; h < HEADS; h++) {
        for (int i = 0; i < N; i++)
            perm[h * N + i] = i;
        for (int i = N - 1; i > 0; i--) {
            const int j = random_below(&r, i + 1);
            const int32_t t = perm[h * N + i];
            perm[h * N + i] = perm[h * N + j];
            perm[h * N + j] = t;
        }
    }
    const prxi_attn_args a = args_of(0, N, o, NULL);
    for (int keep = 1; keep <= 4; keep++) {
        const int64_t rows[] = { 0, keep, keep + 4 };     /* the second block row keeps all */
        const prxi_block_list uneven = { .nq = 2, .nk = 4, .q_start = q_start, .k_start = k_start, .row_ptr = rows, .cols = cols,
                                         .q_perm = perm, .k_perm = perm };
        const int32_t one_start[] = { 0, N };
        const prxi_block_list even = { .nq = 1, .nk = 4, .q_start = one_start, .k_start = k_start, .row_ptr = rows, .cols = cols,
                                       .q_perm = perm, .k_perm = perm };
        prxi_attn_probe got, want;
        by_hand(20, perm, k_start[keep], &want);
        prxi_attn_probe_list(s, &ops, PRXI_F32, &a, &even, 20, &got);
        CHECK(fabs(got.recall - want.recall) < 1e-5 && fabs(got.error - want.error) < 1e-5, "keep %d: %g %g, not %g %g", keep,
              got.recall, got.error, want.recall, want.error);
        prxi_attn_probe_list(s, &ops, PRXI_F32, &a, &uneven, 1000, &got);
        CHECK(got.recall <= 1 + 1e-6 && (keep < 4) == (got.recall < 1 - 1e-4) && (keep < 4) == (got.error > 1e-4),
              "keep %d: %g %g", keep, got.recall, got.error);
    }
}

static void map_json(void)
{
    static const int32_t q_start[] = { 0, 3, 3, 5 }, k_start[] = { 0, 2, 10 }, cols[] = { 1, 0, 1 };
    static const int64_t rows[] = { 0, 1, 1, 3 };
    const prxi_block_list b = { .nq = 3, .nk = 2, .q_start = q_start, .k_start = k_start, .row_ptr = rows, .cols = cols };
    prxi_json j;
    char *text;
    size_t n;
    REQUIRE(prxi_list_json(&ctx, &b, 0, &text, &n) == PRX_OK && strlen(text) == n, "json");
    REQUIRE(prxi_json_parse(&ctx, &j, "map", text, n) == PRX_OK, "%s", ctx.error.text);
    const cJSON *mask = cJSON_GetObjectItem(j.root, "mask"), *sizes = cJSON_GetObjectItem(j.root, "q_sizes");
    CHECK(!strcmp(cJSON_GetArrayItem(mask, 0)->valuestring, "01") && !strcmp(cJSON_GetArrayItem(mask, 1)->valuestring, "00")
              && !strcmp(cJSON_GetArrayItem(mask, 2)->valuestring, "11"), "%s", text);
    CHECK(cJSON_GetArrayItem(sizes, 2)->valueint == 2 && cJSON_GetObjectItem(j.root, "kept")->valueint == 3, "%s", text);
    CHECK(fabs(cJSON_GetObjectItem(j.root, "density")->valuedouble - (3 * 8 + 2 * 10) / 50.0) < 1e-12, "%s", text);
    prxi_json_close(&ctx, &j);
    prxi_free(&mem, text);
}

static void registry(void)
{
    int n = 0;
    for (const prxi_attn_policy *p; (p = prxi_attn_policy_at(n)); n++)
        CHECK(prxi_attn_policy_find(p->name) == p && p->help && p->options && p->plan && p->select && p->close, "%s", p->name);
    CHECK(n == 3 && !prxi_attn_policy_find("flash") && !prxi_attn_policy_at(-1), "%d policies", n);
}

static void refused_memory(void)
{
    const prx_allocator a = { count_alloc, count_free, NULL };
    const prxi_attn_args args = args_of(0, N, o, lse);
    const int32_t start[] = { 0, N }, cols[] = { 0 };
    const int64_t rows[] = { 0, 1 };
    const prxi_block_list all = { .nq = 1, .nk = 1, .q_start = start, .k_start = start, .row_ptr = rows, .cols = cols };
    int failures = 0;
    for (int n = 0; n < 40; n++) {
        prxi_mem small;
        prxi_ctx c = { .mem = &small };
        prxi_stream s;
        prxi_attn_probe p;
        prxi_mem_init(&small, &a);
        prxi_stream_init(&s, &c, 2);
        countdown = n;
        ops.dense[PRXI_F32](&s, &args);
        prxi_attn_probe_list(&s, &ops, PRXI_F32, &args, &all, 8, &p);
        failures += prxi_stream_error(&s) == PRX_ENOMEM;
        prxi_stream_close(&s);
        CHECK(atomic_load(&small.total) == 0, "%d allocations: %zu bytes leak", n, atomic_load(&small.total));
    }
    CHECK(failures > 10 && failures < 40, "%d of 40 fail", failures);
}

int main(void)
{
    prxi_stream s;
    prxi_mem_init(&mem, NULL);
    prxi_attn_init_ref(&ops);
    prxi_attn_init_x86(&ops, prxi_cpu_detect());
    prxi_stream_init(&s, &ctx, 2);
    fill(1);
    merge(&s);
    probe(&s);
    CHECK(prxi_stream_error(&s) == PRX_OK, "%s", ctx.error.text);
    map_json();
    registry();
    refused_memory();
    prxi_stream_close(&s);
    CHECK(atomic_load(&mem.total) == 0, "nothing leaks");
    return TEST_END();
}
