/* Benchmarks that take inputs: q, k and v of a file against a double-precision oracle; a step with sparse attention beside what the plan
 * expects. Times are not looked at. */
#include <praxino/praxino.h>

#include <sys/stat.h>
#include <unistd.h>

#include "engine/bench_attn.h"
#include "engine/engine.h"
#include "engine/weights/safetensors.h"
#include "tests/random.h"
#include "tests/test.h"

enum { TOKENS = 70, HEADS = 2, D = 24, ALL = TOKENS * HEADS * D };

static char dir[] = "/tmp/praxino-bench-test-XXXXXX", in[64], out[64];
static float rows[3][ALL];

/* ---- a file ---- */

static void write_rows(prx_engine *e, int n)
{
    static const char *const names[] = { "q", "k", "v" };
    test_random r = { 3 };
    prxi_tensor_out t[3];
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < ALL; k++)
            rows[i][k] = (float)random_normal(&r);
        t[i] = (prxi_tensor_out) { "", PRXI_F32, 3, { TOKENS, HEADS, D }, rows[i] };
        snprintf(t[i].name, sizeof t[i].name, "%s", names[i]);
    }
    REQUIRE(prxi_tensors_write(&e->ctx, in, t, n, NULL) == PRX_OK, "%s", prx_engine_last_error(e));
}

static double exact(int head, int query, int x)
{
    double sum = 0, value = 0;
    for (int key = 0; key < TOKENS; key++) {
        double dot = 0;
        for (int i = 0; i < D; i++)
            dot += (double)rows[0][(query * HEADS + head) * D + i] * (double)rows[1][(key * HEADS + head) * D + i];
        const double p = exp(dot / sqrt(D));
        sum += p;
        value += p * (double)rows[2][(key * HEADS + head) * D + x];
    }
    return value / sum;
}

static void check_file(prx_engine *e)
{
    char set[200], *json = NULL;
    prxi_tensors *f = NULL;
    const prxi_tensor *o = NULL;
    const int64_t shape[] = { TOKENS, HEADS, D };
    snprintf(set, sizeof set, "file=%s,output=%s,repeats=1", in, out);
    write_rows(e, 2);
    CHECK(prx_bench(e, "qkv", set, &json) == PRX_EFORMAT && strstr(prx_engine_last_error(e), "tensor v"), "%s", prx_engine_last_error(e));
    CHECK(access(out, F_OK) != 0, "an output of nothing");
    write_rows(e, 3);
    REQUIRE(prx_bench(e, "qkv", set, &json) == PRX_OK, "%s", prx_engine_last_error(e));
    CHECK(strstr(json, "\"2x70x24\"") && strstr(json, "\"f32\""), "%s", json);
    prx_text_free(e, json);
    REQUIRE(prxi_tensors_open_file(&e->ctx, &f, out) == PRX_OK && prxi_tensors_get(&e->ctx, f, "o", 3, shape, &o) == PRX_OK, "%s",
            prx_engine_last_error(e));
    double worst = 0;
    for (int i = 0; i < ALL; i++)
        worst = fmax(worst, fabs((double)((const float *)o->data)[i] - exact(i / D % HEADS, i / D / HEADS, i % D)));
    CHECK(worst < 1e-5, "off by %g", worst);
    prxi_tensors_close(&e->ctx, &f);
    CHECK(prx_bench(e, "qkv", "repeats=1", &json) == PRX_EINVAL, "no file");
    CHECK(prx_bench(e, "qkv", "file=/nowhere/x.safetensors", &json) < 0, "a file that is not there");
    unlink(in), unlink(out);
}

/* ---- a step ---- */

static const prxi_dit_config cfg = { .heads = 2, .head_dim = 128, .layers = 3, .ffn_dim = 32, .text_dim = 4096, .in_channels = 16,
                                     .out_channels = 16 };
static const prxi_bench_clip clip = { 7, 16, 16, 4 };       /* 448 tokens */

typedef struct sparse_case {
    const char *name, *settings;
} sparse_case;

static int two_steps(void *cookie, prxi_stream *s, prxi_dit_run *run)
{
    const size_t n = prxi_bench_latents(&clip);
    float *x = calloc(3 * n, sizeof *x), *const v[PRXI_BRANCHES] = { x + n, x + 2 * n };
    REQUIRE(x, "memory");
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(i % 17) / 8 - 1;
    for (int i = -1; i < 1; i++)
        CHECK(prxi_bench_attn_step(s, run, cookie, i, x, v) > 0, "no time");
    free(x);
    return prxi_stream_error(s);
}

static void check_step(prx_engine *e, prxi_stream *s, const sparse_case *k)
{
    prxi_bench_attn a = { .policy = NULL };
    REQUIRE(prxi_bench_attn_open(e, s, &cfg, &clip, k->name, k->settings, &a) == PRX_OK, "%s", prx_engine_last_error(e));
    REQUIRE(prxi_bench_with_dit(e, s, dir, &cfg, &clip, two_steps, &a) == PRX_OK, "%s", prx_engine_last_error(e));
    const double density = prxi_bench_attn_density(&a, &cfg), half = prxi_bench_attn_expected(&a, &cfg, 0.5);
    CHECK(density > 0 && density < 1, "%s: density %g", k->name, density);
    CHECK(isnan(a.plan.sparse_density) || fabs(a.plan.sparse_density - density) < 1e-12, "%s: planned %g, not %g", k->name,
          a.plan.sparse_density, density);
    CHECK(a.density[0] == 1 || a.plan.dense_layers == 0, "%s: layer 0 is dense: %g", k->name, a.density[0]);
    CHECK(fabs(prxi_bench_attn_expected(&a, &cfg, a.expected.density) - a.expected.sparse_step) < 1e-15, "%s: the plan's", k->name);
    CHECK(half > 0 && half < prxi_bench_attn_expected(&a, &cfg, 0.75), "%s: more pairs, more time", k->name);
    prxi_bench_attn_close(&e->ctx, &a);
    prxi_bench_remove(dir);
    REQUIRE(mkdir(dir, 0700) == 0, "%s", dir);
}

static void check_refusals(prx_engine *e, prxi_stream *s)
{
    static const sparse_case bad[] = { { "nope", "" }, { "radial", "decay=-1" }, { "svg2", "top_p=0.5" }, { "radial", "dense_layers=3" },
                                       { "dense", "decay=1" }, { "svg2", "num_k_centroids=100000" } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        prxi_bench_attn a = { .policy = NULL };
        const int err = prxi_bench_attn_open(e, s, &cfg, &clip, bad[i].name, bad[i].settings, &a);
        CHECK(err == PRX_EINVAL, "%s %s: %d", bad[i].name, bad[i].settings, err);
        prxi_bench_attn_close(&e->ctx, &a);
    }
}

static void check_split(prx_engine *e)
{
    char own[100], policy[100];
    CHECK(prxi_bench_split(&e->ctx, "width=32,attention.decay=0.2,attention=radial,attention.block=64", own, policy, 100) == PRX_OK &&
              strcmp(own, "width=32,attention=radial") == 0 && strcmp(policy, "decay=0.2,block=64") == 0, "'%s' '%s'", own, policy);
    CHECK(prxi_bench_split(&e->ctx, "attention.a=1,2\nb=3,4", own, policy, 100) == PRX_OK && strcmp(own, "b=3,4") == 0 &&
              strcmp(policy, "a=1,2") == 0, "'%s' '%s'", own, policy);
    CHECK(prxi_bench_split(&e->ctx, NULL, own, policy, 100) == PRX_OK && !*own && !*policy, "nothing");
    CHECK(prxi_bench_split(&e->ctx, "width=32", own, policy, 8) == PRX_EINVAL, "too long");
}

int main(void)
{
    static const sparse_case cases[] = { { "radial", "block=64,decay=0.2,dense_layers=1" },
                                         { "svg2", "num_q_centroids=6,num_k_centroids=20,min_kc_ratio=0,top_p_kmeans=0.3" } };
    prx_engine *e = NULL;
    prx_engine_params p;
    prxi_stream s;
    prx_engine_default_params(&p);
    p.threads = 2;
    REQUIRE(mkdtemp(dir) && prx_engine_open(&e, &p) == PRX_OK, "engine");
    snprintf(in, sizeof in, "%s/qkv.safetensors", dir);
    snprintf(out, sizeof out, "%s/o.safetensors", dir);
    prxi_stream_init(&s, &e->ctx, 2);
    check_file(e);
    check_split(e);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_step(e, &s, &cases[i]);
    check_refusals(e, &s);
    prxi_stream_close(&s);
    prx_engine_close(&e);
    CHECK(rmdir(dir) == 0, "something is left in %s", dir);
    return TEST_END();
}
