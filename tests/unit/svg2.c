/* SVG2: published vectors (svg2_topp.json: selections and upstream_sum; svg2_permute.json: permutation; svg2_hunyuan_text.json:
 * text_clusters; svg2_attention.json: block_attention; svg2_warmup.json: warm_up; svg2_kmeans.json is in kmeans.c); properties over random
 * cases; the policy against dense attention, per-branch state, settings, refused memory. */
#include "tests/random.h"
#include "tests/refuse.h"
#include "tests/test.h"

#include "attention/attention.h"
#include "attention/mask.h"
#include "attention/svg2_select.h"
#include "engine/core/cpu.h"
#include "engine/core/json.h"

#define VECTORS "tests/vectors/attention/"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };
static prxi_attn_ops ops;

static void *must(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    REQUIRE(p, "memory");
    return p;
}

static prxi_json open_file(const char *path)
{
    prxi_json j;
    REQUIRE(prxi_json_open(&ctx, &j, path, 0) == PRX_OK, "%s", ctx.error.text);
    return j;
}

static const cJSON *item(const cJSON *a, int i)
{
    const cJSON *x = cJSON_GetArrayItem(a, i);
    REQUIRE(x, "item %d", i);
    return x;
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(o, key);
    REQUIRE(cJSON_IsNumber(v), "%s", key);
    return v->valuedouble;
}

static int32_t *ints(const cJSON *a, int *n)
{
    *n = cJSON_GetArraySize(a);
    int32_t *x = must((size_t)*n, sizeof *x);
    for (int i = 0; i < *n; i++)
        x[i] = item(a, i)->valueint;
    return x;
}

/* ---- selection ---- */

/* Upstream's types: probabilities rounded to bf16 and every running sum too. With these its published map comes out of our order,
 * and ours is the same set of largest clusters, longer or shorter by one. */
static void upstream_sum(const float *prob, const int32_t *order, int k, double p, int least, const cJSON *map,
                         const unsigned char *keep, int kept, const char *name)
{
    float sum = 0.0f;
    int theirs = 0, wrong = 0, published = 0;
    for (int i = 0; i < k; i++)
        published += item(map, i)->valueint;
    while (theirs < k && (theirs == 0 || theirs < least || !(prxi_bf16_to_f32(prxi_f32_to_bf16(sum)) > (float)p)))
        sum += prxi_bf16_to_f32(prxi_f32_to_bf16(prob[order[theirs++]]));
    CHECK(theirs == published && abs(theirs - kept) <= 1, "%s: %d clusters by bf16 sums, %d published, %d by ours", name, theirs,
          published, kept);
    for (int i = 0; i < k; i++) {
        /* Equal after rounding: either may be first. */
        const float edge = prob[order[theirs - 1]];
        const int tied = fabs((double)prob[order[i]] - (double)edge) <= ldexp((double)edge, -8);
        wrong += !tied && (i < theirs) != item(map, order[i])->valueint;
        wrong += keep[order[i]] != (i < kept);
    }
    CHECK(wrong == 0, "%s: %d clusters of the bf16 map differ", name, wrong);
}

static void select_row(const cJSON *one, int head, int row)
{
    const char *name = cJSON_GetObjectItem(one, "name")->valuestring;
    const cJSON *scores = item(item(item(cJSON_GetObjectItem(one, "scores"), 0), head), row);
    const cJSON *probs = item(item(item(cJSON_GetObjectItem(one, "probs"), 0), head), row);
    const cJSON *map = item(item(item(cJSON_GetObjectItem(one, "map"), 0), head), row);
    const int exact = strcmp(cJSON_GetObjectItem(one, "dtype")->valuestring, "bfloat16") != 0;
    int k, wrong = 0;
    int32_t *sizes = ints(item(item(cJSON_GetObjectItem(one, "k_sizes"), 0), head), &k);
    float *logits = must((size_t)k, sizeof *logits), *prob = must((size_t)k, sizeof *prob);
    int32_t *order = must((size_t)k, sizeof *order), *spare = must((size_t)k, sizeof *spare);
    unsigned char *keep = must((size_t)k, 1);
    for (int i = 0; i < k; i++)
        logits[i] = (float)item(scores, i)->valuedouble;
    const int least = (int)(number(one, "min_kc_ratio") * k);
    const int kept = prxi_svg2_row(logits, sizes, k, number(one, "p"), least, prob, order, spare, keep);
    const cJSON *sorted = item(item(item(cJSON_GetObjectItem(one, "sorted_probs"), 0), head), row);
    const cJSON *sums = item(item(item(cJSON_GetObjectItem(one, "cumsum"), 0), head), row);
    double sum = 0;
    for (int i = 0; i < k; i++) {
        const double want = item(sorted, i)->valuedouble;
        sum += (double)prob[order[i]];
        CHECK(fabs((double)prob[order[i]] - want) <= (exact ? 1e-6 : ldexp(want, -8) + 1e-6), "%s: rank %d", name, i);
        CHECK(fabs(sum - item(sums, i)->valuedouble) <= (exact ? 1e-5 : 0.02), "%s: running sum %d is %g", name, i, sum);
    }
    if (!exact)
        upstream_sum(prob, order, k, number(one, "p"), least, map, keep, kept, name);
    for (int i = 0; i < k; i++) {
        wrong += exact && keep[i] != item(map, i)->valueint;
        CHECK(fabs((double)prob[i] - item(probs, i)->valuedouble) <= (exact ? 1e-6 : 0.01), "%s: probability %d is %g", name, i,
              (double)prob[i]);
    }
    CHECK(wrong == 0, "%s: head %d row %d: %d clusters differ, %d kept", name, head, row, wrong, kept);
    free(sizes), free(logits), free(prob), free(order), free(spare), free(keep);
}

static void selections(void)
{
    prxi_json j = open_file(VECTORS "svg2_topp.json");
    const cJSON *one;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j.root, "cases")) {
        const cJSON *heads = item(cJSON_GetObjectItem(one, "scores"), 0);
        for (int h = 0; h < cJSON_GetArraySize(heads); h++)
            for (int r = 0; r < cJSON_GetArraySize(item(heads, h)); r++)
                select_row(one, h, r);
    }
    prxi_json_close(&ctx, &j);
}

/* The kept set grows with p and with the least count, holds the largest, and its mass exceeds p. */
static void selection_properties(int cases)
{
    enum { K = 200 };
    static float logits[K], prob[K];
    static int32_t sizes[K], order[K], spare[K];
    static unsigned char keep[K], before[K];
    test_random r = { 21 };
    for (int i = 0; i < cases; i++) {
        const int k = 1 + random_below(&r, K);
        int least = 0, shrunk = 0, unsorted = 0;
        double p = 0;
        memset(before, 0, sizeof before);
        for (int c = 0; c < k; c++) {
            logits[c] = (float)(random_normal(&r) * (1 + i % 5));
            sizes[c] = random_below(&r, 50);
        }
        for (int step = 0; step < 6; step++) {
            const int kept = prxi_svg2_row(logits, sizes, k, p, least, prob, order, spare, keep);
            double mass = 0;
            int n = 0;
            for (int c = 0; c < k; c++) {
                shrunk += before[c] && !keep[c];
                n += keep[c];
                mass += keep[c] ? (double)prob[c] : 0;
                unsorted += c && prob[order[c - 1]] < prob[order[c]];
            }
            CHECK(n == kept && kept >= 1 && kept >= (least < k ? least : k) && shrunk == 0 && unsorted == 0
                      && (mass > p - 1e-5 || kept == k) && keep[order[0]],
                  "k=%d p=%g least=%d kept=%d mass=%g", k, p, least, kept, mass);
            memcpy(before, keep, sizeof before);
            p = p + (1.0 - p) * random_uniform(&r);
            least = step > 2 ? least + random_below(&r, 4) : 0;
        }
        CHECK(prxi_svg2_row(logits, sizes, k, 1.0, 0, prob, order, spare, keep) == k, "p = 1 keeps all");
    }
}

/* Gather and scatter are the kernels' own: with one key a query, the output of query i is the value of its key. Queries and
 * keys in permuted order against one block a token, values come out where they went in; with the queries in token order
 * they come out permuted. */
static void permuted_rows(const cJSON *x, const cJSON *want, const int32_t *perm, int n)
{
    const int d = cJSON_GetArraySize(item(x, 0));
    float *v = must((size_t)(n * d), sizeof *v), *o = must((size_t)(n * d), sizeof *o);
    int32_t *start = must((size_t)n + 1, sizeof *start), *cols = must((size_t)n, sizeof *cols);
    int64_t *rows = must((size_t)n + 1, sizeof *rows);
    const prxi_attn_args a = { 1, d, n, n, v, v, v, o, d, d, d, d, 1, 0, NULL, 0 };
    prxi_stream s;
    prxi_stream_init(&s, &ctx, 1);
    for (int i = 0; i <= n; i++) {
        start[i] = i;
        rows[i] = i;
        for (int t = 0; t < d && i < n; t++)
            v[i * d + t] = (float)item(item(x, i), t)->valuedouble;
        if (i < n)
            cols[i] = i;
    }
    for (int undo = 0; undo < 2; undo++) {
        const prxi_block_list b = { 0, n, n, start, start, rows, cols, undo ? perm : NULL, perm, 0, NULL };
        int wrong = 0;
        ops.blocks[PRXI_F32](&s, &a, &b);
        for (int i = 0; i < n * d; i++) {       /* p v / p: two roundings */
            const double to = undo ? (double)v[i] : item(item(want, i / d), i % d)->valuedouble;
            wrong += !(fabs((double)o[i] - to) <= fabs(to) * ldexp(1, -22));
        }
        CHECK(wrong == 0 && prxi_stream_error(&s) == PRX_OK, "undo %d: %d values differ", undo, wrong);
    }
    prxi_stream_close(&s);
    free(v), free(o), free(start), free(cols), free(rows);
}

static void permutation(void)
{
    prxi_json j = open_file(VECTORS "svg2_permute.json");
    const cJSON *labels = cJSON_GetObjectItem(j.root, "labels"), *want = cJSON_GetObjectItem(j.root, "sorted_index");
    const cJSON *sizes = cJSON_GetObjectItem(j.root, "cluster_sizes");
    const int k = (int)number(j.root, "num_clusters");
    for (int h = 0; h < cJSON_GetArraySize(labels); h++) {
        int n;
        int32_t *label = ints(item(labels, h), &n);
        int32_t *perm = must((size_t)n, sizeof *perm), *start = must((size_t)k + 1, sizeof *start);
        prxi_svg2_sort(label, n, k, perm, start);
        for (int i = 0; i < n; i++)
            CHECK(perm[i] == item(item(want, h), i)->valueint, "position %d: %d", i, perm[i]);
        for (int c = 0; c < k; c++)
            CHECK(start[c + 1] - start[c] == item(item(sizes, h), c)->valueint, "cluster %d", c);
        permuted_rows(item(cJSON_GetObjectItem(j.root, "x"), h), item(cJSON_GetObjectItem(j.root, "permuted"), h), perm, n);
        free(label), free(perm), free(start);
    }
    prxi_json_close(&ctx, &j);
}

static void text_clusters(void)
{
    prxi_json j = open_file(VECTORS "svg2_hunyuan_text.json");
    const cJSON *map = cJSON_GetObjectItem(cJSON_GetObjectItem(j.root, "input"), "map");
    const cJSON *want = cJSON_GetObjectItem(cJSON_GetObjectItem(j.root, "output"), "map");
    const int q = cJSON_GetArraySize(map), k = cJSON_GetArraySize(item(map, 0));
    unsigned char *narrow = must((size_t)(q * k), 1), *wide = must((size_t)((q + 2) * (k + 2)), 1);
    for (int i = 0; i < q * k; i++)
        narrow[i] = (unsigned char)item(item(map, i / k), i % k)->valueint;
    prxi_svg2_add_text(narrow, q, k, wide);
    for (int i = 0; i < (q + 2) * (k + 2); i++)
        CHECK(wide[i] == item(item(want, i / (k + 2)), i % (k + 2))->valueint, "row %d col %d", i / (k + 2), i % (k + 2));
    free(narrow), free(wide);
    prxi_json_close(&ctx, &j);
}

/* ---- published block attention ---- */

static float *tokens(const cJSON *x)        /* [head][token][dim] to [token][head][dim] */
{
    const int heads = cJSON_GetArraySize(x), n = cJSON_GetArraySize(item(x, 0)), d = cJSON_GetArraySize(item(item(x, 0), 0));
    float *out = must((size_t)(heads * n * d), sizeof *out);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < n; i++)
            for (int t = 0; t < d; t++)
                out[(i * heads + h) * d + t] = (float)item(item(item(x, h), i), t)->valuedouble;
    return out;
}

static void starts(const cJSON *sizes, int32_t *start)
{
    start[0] = 0;
    for (int i = 0; i < cJSON_GetArraySize(sizes); i++)
        start[i + 1] = start[i] + item(sizes, i)->valueint;
}

static void block_attention(const prxi_attn_ops *table)
{
    prxi_json j = open_file(VECTORS "svg2_attention.json");
    const cJSON *one;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j.root, "cases")) {
        const cJSON *qs = cJSON_GetObjectItem(one, "q_sizes"), *ks = cJSON_GetObjectItem(one, "k_sizes");
        const cJSON *map = cJSON_GetObjectItem(one, "map"), *x = cJSON_GetObjectItem(one, "q");
        const int heads = cJSON_GetArraySize(qs), nq = cJSON_GetArraySize(item(qs, 0)), nk = cJSON_GetArraySize(item(ks, 0));
        const int n = cJSON_GetArraySize(item(x, 0)), d = cJSON_GetArraySize(item(item(x, 0), 0));
        float *q = tokens(x), *k = tokens(cJSON_GetObjectItem(one, "k")), *v = tokens(cJSON_GetObjectItem(one, "v"));
        float *want = tokens(cJSON_GetObjectItem(one, "out")), *o = must((size_t)(n * heads * d), sizeof *o);
        int32_t *q_start = must((size_t)(heads * (nq + 1)), 4), *k_start = must((size_t)(heads * (nk + 1)), 4);
        int32_t *cols = must((size_t)(heads * nq * nk), 4);
        int64_t *row = must((size_t)(heads * (nq + 1)), 8), at = 0;
        double worst = 0;
        prxi_stream s;
        for (int h = 0; h < heads; h++) {
            starts(item(qs, h), q_start + h * (nq + 1));
            starts(item(ks, h), k_start + h * (nk + 1));
            for (int i = 0; i < nq; i++) {
                row[h * (nq + 1) + i] = at;
                for (int c = 0; c < nk; c++)
                    if (item(item(item(map, h), i), c)->valueint)
                        cols[at++] = c;
            }
            row[h * (nq + 1) + nq] = at;
        }
        const int64_t ld = heads * d;
        const int m = cJSON_GetArraySize(item(cJSON_GetObjectItem(one, "k"), 0));
        const prxi_attn_args a = { heads, d, n, m, q, k, v, o, ld, ld, ld, ld, 1 / sqrtf((float)d), 0, NULL, 0 };
        const prxi_block_list list = { 1, nq, nk, q_start, k_start, row, cols, NULL, NULL, 0, NULL };
        prxi_stream_init(&s, &ctx, 2);
        table->blocks[PRXI_F32](&s, &a, &list);
        for (int i = 0; i < n * heads * d; i++)
            worst = fabs((double)o[i] - (double)want[i]) > worst ? fabs((double)o[i] - (double)want[i]) : worst;
        CHECK(worst <= 1e-5, "%s: off by %g", cJSON_GetObjectItem(one, "name")->valuestring, worst);
        if (cJSON_GetObjectItem(one, "dense_out")) {
            float *dense = tokens(cJSON_GetObjectItem(one, "dense_out"));
            table->dense[PRXI_F32](&s, &a);
            for (int i = 0; i < n * heads * d; i++)
                CHECK(fabs((double)o[i] - (double)dense[i]) <= 1e-5, "dense: value %d", i);
            free(dense);
        }
        prxi_stream_close(&s);
        free(q), free(k), free(v), free(want), free(o), free(q_start), free(k_start), free(cols), free(row);
    }
    prxi_json_close(&ctx, &j);
}

/* ---- the policy ---- */

typedef struct rig {
    const prxi_attn_policy *p;
    void *priv;
    prxi_attn_env env;
    prxi_attn_plan plan;
    float *q, *k, *v, *o;
} rig;

static int set(rig *r, const char *name, const char *value)
{
    prxi_clear(&ctx);
    return prxi_option_set(&ctx, r->p->options, r->priv, "attention.", name, value);
}

static rig make_rig(prxi_ctx *c, int frames, int grid, int text, uint64_t seed)
{
    rig r = { .p = prxi_attn_policy_find("svg2") };
    test_random g = { seed };
    r.env = (prxi_attn_env) { .layers = 3, .heads = 2, .head_dim = 24, .branches = 2, .steps = 5, .frames = frames,
                              .grid_h = grid, .grid_w = grid, .tokens = (int64_t)frames * grid * grid,
                              .text_tokens = text, .family = text ? "hunyuan" : "wan", .dtype = PRXI_F32,
                              .n_threads = 2, .ops = &ops };
    REQUIRE(r.p, "registered");
    r.priv = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, r.p->priv_size);
    if (r.priv)
        REQUIRE(prxi_option_defaults(c, r.p->options, r.priv) == PRX_OK, "%s", c->error.text);
    const size_t n = (size_t)(r.env.tokens + text) * 48;
    float **all[] = { &r.q, &r.k, &r.v, &r.o };
    for (int i = 0; i < 4; i++) {
        *all[i] = must(n, sizeof(float));
        for (size_t x = 0; x < n; x++)      /* groups of tokens that look alike */
            (*all[i])[x] = (float)(random_normal(&g) + (i < 2 ? 3.0 * (double)((x / 48 * 7 + x % 48) % 5 == 0) : 0));
    }
    return r;
}

static void drop_rig(prxi_ctx *c, rig *r)
{
    if (r->priv)
        r->p->close(r->priv, c);
    prxi_free(c->mem, r->priv);
    free(r->q), free(r->k), free(r->v), free(r->o);
}

static prxi_attn_call call_of(const rig *r, int step, int layer, int branch)
{
    const int64_t n = r->env.tokens + r->env.text_tokens;
    return (prxi_attn_call) { step, layer, branch,
                              { 2, 24, n, n, r->q, r->k, r->v, r->o, 48, 48, 48, 48, 1 / sqrtf(24), 0, NULL, 0 } };
}

static const prxi_block_list *choose(rig *r, prxi_stream *s, int step, int layer, int branch, double *density)
{
    const prxi_attn_call call = call_of(r, step, layer, branch);
    const prxi_block_list *list = NULL;
    r->p->select(r->priv, s, &call, &list, density);
    return list;
}

/* A list is whole: permutations are permutations, every query row that has queries has keys, density is what it keeps. */
static void whole(const rig *r, const prxi_block_list *b, double density)
{
    const size_t n = (size_t)(r->env.tokens + r->env.text_tokens);
    double sum = 0;
    int bad = 0, hungry = 0;
    unsigned char *seen = must(n, 1);
    for (int h = 0; h < r->env.heads; h++) {
        const int32_t *perms[2] = { b->q_perm + (size_t)h * n, b->k_perm + (size_t)h * n };
        const int32_t *qs = b->q_start + h * (b->nq + 1);
        const int64_t *row = b->row_ptr + h * (b->nq + 1);
        for (int side = 0; side < 2; side++) {
            memset(seen, 0, n);
            for (size_t i = 0; i < n; i++)
                bad += seen[perms[side][i]]++ != 0;
        }
        for (int i = 0; i < b->nq; i++)
            hungry += qs[i + 1] > qs[i] && row[i + 1] == row[i];
        sum += prxi_list_density(b, h);
    }
    CHECK(bad == 0 && hungry == 0, "%d tokens double, %d rows without keys", bad, hungry);
    CHECK(fabs(density - sum / r->env.heads) < 1e-12, "density %g, counted %g", density, sum / r->env.heads);
    free(seen);
}

static double off_from_dense(rig *r, const prxi_block_list *list)
{
    const prxi_attn_call call = call_of(r, 0, 0, 0);
    const size_t n = (size_t)(r->env.tokens + r->env.text_tokens) * 48;
    float *dense = must(n, sizeof *dense);
    prxi_attn_args a = call.args;
    prxi_stream s;
    double worst = 0;
    prxi_stream_init(&s, &ctx, 2);
    ops.blocks[PRXI_F32](&s, &a, list);
    a.o = dense;
    ops.dense[PRXI_F32](&s, &a);
    for (size_t i = 0; i < n; i++)
        worst = fabs((double)dense[i] - (double)r->o[i]) > worst ? fabs((double)dense[i] - (double)r->o[i]) : worst;
    prxi_stream_close(&s);
    free(dense);
    return worst;
}

static void warm_up(void)
{
    prxi_json j = open_file(VECTORS "svg2_warmup.json");
    const cJSON *row;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(j.root, "rows")) {
        rig r = make_rig(&ctx, 2, 4, 0, 1);
        char text[64];
        const int layers = (int)number(row, "layers"), steps = (int)number(row, "steps");
        const int dense_steps = (int)number(row, "dense_steps"), dense_layers = (int)number(row, "dense_layers");
        int wrong = 0;
        prxi_stream s;
        prxi_stream_init(&s, &ctx, 1);
        r.env.layers = layers;
        r.env.steps = steps;
        snprintf(text, sizeof text, "%.17g", number(row, "first_times_fp"));
        CHECK(set(&r, "first_times_fp", text) == PRX_OK, "%s", ctx.error.text);
        snprintf(text, sizeof text, "%.17g", number(row, "first_layers_fp"));
        CHECK(set(&r, "first_layers_fp", text) == PRX_OK, "%s", ctx.error.text);
        set(&r, "num_k_centroids", "4");
        REQUIRE(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_OK, "%s", ctx.error.text);
        for (int step = 0; step < steps; step++)
            for (int layer = 0; layer < layers; layer += layer < 2 ? 1 : 13) {
                double density;
                const int sparse = choose(&r, &s, step, layer, 0, &density) != NULL;
                wrong += sparse != (step >= dense_steps && layer >= dense_layers);
            }
        CHECK(wrong == 0 && prxi_stream_error(&s) == PRX_OK, "%s: %d calls", cJSON_GetObjectItem(row, "name")->valuestring,
              wrong);
        prxi_stream_close(&s);
        drop_rig(&ctx, &r);
    }
    prxi_json_close(&ctx, &j);
}

static void random_policies(int cases)
{
    test_random g = { 31 };
    static const char *const seeding[] = { "strided", "farthest", "random" };
    for (int i = 0; i < cases; i++) {
        rig r = make_rig(&ctx, 1 + random_below(&g, 4), 2 + random_below(&g, 8), random_below(&g, 2) * random_below(&g, 20),
                         (uint64_t)i);
        char number_text[32];
        double density = 0;
        prxi_stream s;
        prxi_stream_init(&s, &ctx, 1 + i % 2);
        set(&r, "first_times_fp", "0");
        set(&r, "first_layers_fp", "0");
        set(&r, "kmeans_iter_init", "3");
        set(&r, "seeding", seeding[i % 3]);
        set(&r, "empty_clusters", i % 2 ? "keep" : "reseed");
        set(&r, "top_p_kmeans", i % 4 ? "0.7" : "1");
        set(&r, "min_kc_ratio", "0");
        snprintf(number_text, sizeof number_text, "%d", 1 + random_below(&g, (int)r.env.tokens));
        set(&r, "num_q_centroids", number_text);
        snprintf(number_text, sizeof number_text, "%d", 2 + random_below(&g, (int)r.env.tokens - 1));
        set(&r, "num_k_centroids", number_text);
        REQUIRE(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_OK, "%s", ctx.error.text);
        const prxi_block_list *list = choose(&r, &s, 0, 1, 1, &density);
        CHECK(list && prxi_stream_error(&s) == PRX_OK, "%s", ctx.error.text);
        if (list) {
            whole(&r, list, density);
            const double off = off_from_dense(&r, list);
            if (i % 4 == 0)     /* every cluster kept: dense in another order */
                CHECK(density > 1 - 1e-12 && off < 1e-4, "p = 1: density %g, off by %g", density, off);
            else
                CHECK(isfinite(off), "output is finite");
        }
        prxi_stream_close(&s);
        drop_rig(&ctx, &r);
    }
}

static float first_centre(const rig *r, const prxi_block_list *b)      /* a fingerprint of the clustering */
{
    float sum = 0;
    for (int i = 0; i < b->nq; i++)
        sum = sum * 1.01f + (float)b->q_start[i] + (float)b->q_perm[i % (int)r->env.tokens];
    return sum;
}

/* State is per branch and starts anew with an earlier step or a new plan. */
static void state(void)
{
    rig r = make_rig(&ctx, 3, 8, 0, 9);
    prxi_stream s;
    double density;
    float *other = r.q, *mine = must((size_t)r.env.tokens * 48, sizeof *mine);
    test_random g = { 77 };
    prxi_stream_init(&s, &ctx, 2);
    for (size_t i = 0; i < (size_t)r.env.tokens * 48; i++)
        mine[i] = (float)random_normal(&g);
    set(&r, "first_times_fp", "0");
    set(&r, "first_layers_fp", "0");
    set(&r, "num_q_centroids", "20");
    set(&r, "kmeans_iter_init", "1");
    set(&r, "kmeans_iter_step", "1");
    REQUIRE(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_OK, "%s", ctx.error.text);
    const float a0 = first_centre(&r, choose(&r, &s, 0, 0, 0, &density));
    const float a1 = first_centre(&r, choose(&r, &s, 1, 0, 0, &density));
    const float again = first_centre(&r, choose(&r, &s, 0, 0, 0, &density));
    CHECK(a0 == again && a0 != a1, "an earlier step is a new video (%g, %g); a later one goes on (%g)",
          (double)a0, (double)again, (double)a1);
    r.q = mine;
    choose(&r, &s, 0, 0, 1, &density);
    r.q = other;
    CHECK(first_centre(&r, choose(&r, &s, 1, 0, 0, &density)) == a1, "branches do not share centroids");
    REQUIRE(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_OK, "%s", ctx.error.text);
    CHECK(first_centre(&r, choose(&r, &s, 4, 0, 0, &density)) == a0, "a new plan starts anew");
    r.q = other;
    free(mine);
    prxi_stream_close(&s);
    drop_rig(&ctx, &r);
}

static void settings(void)
{
    rig r = make_rig(&ctx, 2, 4, 0, 2);
    static const char *const bad[][2] = { { "top_p_kmeans", "1.5" }, { "top_p_kmeans", "-0.1" }, { "min_kc_ratio", "2" },
                                          { "first_times_fp", "1.01" }, { "first_layers_fp", "-1" },
                                          { "kmeans_iter_step", "0" }, { "seeding", "kmeans++" }, { "centroids", "3" } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(set(&r, bad[i][0], bad[i][1]) == PRX_EINVAL, "%s=%s is refused", bad[i][0], bad[i][1]);
    static const char *const late[][2] = { { "top_p_kmeans", "0" }, { "num_q_centroids", "33" }, { "num_k_centroids", "40" } };
    for (size_t i = 0; i < sizeof late / sizeof *late; i++) {
        CHECK(set(&r, late[i][0], late[i][1]) == PRX_OK, "%s", ctx.error.text);
        CHECK(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_EINVAL && strstr(ctx.error.text, late[i][0]), "%s=%s: %s",
              late[i][0], late[i][1], ctx.error.text);
        set(&r, late[i][0], i ? "0" : "0.9");
    }
    /* What can only be dense is refused, never run under another name. */
    static const char *const dense[][2] = { { "first_times_fp", "1" }, { "first_layers_fp", "1" }, { "num_k_centroids", "1" } };
    for (size_t i = 0; i < sizeof dense / sizeof *dense; i++) {
        set(&r, "num_k_centroids", "4");
        set(&r, dense[i][0], dense[i][1]);
        CHECK(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_EINVAL && strstr(ctx.error.text, "--attention dense"), "%s=%s: %s",
              dense[i][0], dense[i][1], ctx.error.text);
        set(&r, dense[i][0], "0");
    }
    prxi_clear(&ctx);
    CHECK(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_EINVAL && strstr(ctx.error.text, "one key cluster"), "32 tokens: %s",
          ctx.error.text);
    set(&r, "num_k_centroids", "4");
    set(&r, "min_kc_ratio", "1");
    CHECK(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_OK && strstr(r.plan.note, "keep every cluster"), "%s", r.plan.note);
    set(&r, "min_kc_ratio", "0.1");
    prxi_clear(&ctx);
    CHECK(r.p->plan(r.priv, &ctx, &r.env, &r.plan) == PRX_OK && isnan(r.plan.density) && r.plan.bytes > 0, "plan");
    prxi_stream s;
    prxi_stream_init(&s, &ctx, 1);
    r.env.tokens -= 1;
    double density;
    CHECK(!choose(&r, &s, 4, 2, 0, &density) && prxi_stream_error(&s) == PRX_EINVAL, "another size is refused");
    prxi_clear(&ctx);
    prxi_stream_close(&s);
    drop_rig(&ctx, &r);
}

static void refused_memory(void)
{
    const prx_allocator a = { count_alloc, count_free, NULL };
    int failures = 0;
    for (int n = 0; n < 240; n += n < 30 ? 1 : 7) {
        prxi_mem small;
        prxi_ctx c = { .mem = &small };
        prxi_stream s;
        prxi_mem_init(&small, &a);
        prxi_stream_init(&s, &c, 2);
        countdown = 1000;
        rig r = make_rig(&c, 2, 6, 5, 3);
        double density;
        prxi_option_set(&c, r.p->options, r.priv, "", "first_times_fp", "0");
        countdown = n;
        int err = r.p->plan(r.priv, &c, &r.env, &r.plan);
        if (err == PRX_OK) {
            const prxi_block_list *list = choose(&r, &s, 0, 2, 0, &density);
            err = prxi_stream_error(&s);
            CHECK((list == NULL) == (err != PRX_OK), "%d allocations", n);
        }
        failures += err == PRX_ENOMEM;
        prxi_stream_close(&s);
        drop_rig(&c, &r);
        CHECK(atomic_load(&small.total) == 0, "%d allocations: %zu bytes leak", n, atomic_load(&small.total));
    }
    CHECK(failures > 5 && failures < 60, "%d of 60 runs fail", failures);
}

int main(void)
{
    prxi_attn_ops ref;
    prxi_mem_init(&mem, NULL);
    prxi_attn_init_ref(&ref);
    prxi_attn_init_ref(&ops);
    prxi_attn_init_x86(&ops, prxi_cpu_detect());
    selections();
    selection_properties(3000);
    permutation();
    text_clusters();
    block_attention(&ref);
    block_attention(&ops);
    warm_up();
    random_policies(120);
    state();
    settings();
    refused_memory();
    CHECK(atomic_load(&mem.total) == 0, "nothing leaks");
    return TEST_END();
}
