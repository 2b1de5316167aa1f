/* The plan's expectation: FLOPs counted by hand, step times that add up, warm-up and cached steps in the total, refused memory. */
#include "tests/refuse.h"
#include "tests/test.h"

#include "engine/core/cpu.h"
#include "engine/estimate.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };
static prxi_kernels kernels;
static const prxi_dit_config dit = { .heads = 2, .head_dim = 64, .layers = 4, .ffn_dim = 512, .patch = { 1, 2, 2 } };

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(o, key);
    REQUIRE(cJSON_IsNumber(v), "%s", key);
    return v->valuedouble;
}

static void counted(prxi_stream *s)
{
    const prxi_attn_plan dense = { .density = 1, .sparse_density = 1 };
    const prxi_attn_plan sparse = { .density = 0.5, .sparse_density = 0.25, .dense_steps = 3, .dense_layers = 1 };
    prxi_estimate_env env = { &kernels, &dit, PRXI_F32, 600, 2, &dense };
    prxi_estimate a, b;
    REQUIRE(prxi_estimate_run(&ctx, s, &env, &a) == PRX_OK, "%s", ctx.error.text);
    CHECK(a.linear_flop == 2.0 * 2 * 4 * 600 * (6 * 128 * 128 + 2 * 128 * 512) && a.attention_flop == 4.0 * 2 * 4 * 600 * 600 * 128,
          "%g, %g", a.linear_flop, a.attention_flop);
    CHECK(a.dense_step > 0 && a.dense_step == a.sparse_step && a.density == 1 && a.spent > 0 && isfinite(a.dense_step), "%g %g",
          a.dense_step, a.sparse_step);
    const size_t held = atomic_load(&mem.total);     /* the worker threads' */
    env.attn = &sparse;
    REQUIRE(prxi_estimate_run(&ctx, s, &env, &b) == PRX_OK, "%s", ctx.error.text);
    CHECK(b.sparse_step > 0 && b.sparse_step < b.dense_step && b.density == 0.25, "%g %g", b.sparse_step, b.dense_step);
    /* three of four layers keep a quarter */
    CHECK(fabs(b.dense_step - b.sparse_step - 3 * 0.75 * b.density_slope) < 1e-9 * b.dense_step, "%g %g", b.dense_step, b.sparse_step);
    const prxi_attn_plan ragged = { .density = 0.5, .sparse_density = 0.25, .dense_steps = 3, .dense_layers = 1, .pair_cost = 4 };
    env.attn = &ragged;
    REQUIRE(prxi_estimate_run(&ctx, s, &env, &b) == PRX_OK, "%s", ctx.error.text);
    CHECK(fabs(b.sparse_step / b.dense_step - 1) < 1e-9, "a quarter at four times the cost: %g %g", b.sparse_step, b.dense_step);
    CHECK(atomic_load(&mem.total) == held, "scratch is freed");
}

static void totals(void)
{
    const prxi_estimate e = { .linear_flop = 100e9, .attention_flop = 300e9, .density = 0.2, .dense_step = 4, .sparse_step = 2 };
    const prxi_attn_plan sparse = { .density = 0.5, .sparse_density = 0.2, .dense_steps = 3, .dense_layers = 1 };
    const prxi_attn_plan dense = { .density = 1, .sparse_density = 1 }, unknown = { .density = NAN, .sparse_density = NAN };
    cJSON *o = prxi_estimate_json(&e, &sparse, 4, 10, -1);
    CHECK(number(o, "dense_step_gflop") == 400 && number(o, "attention_share") == 0.75, "flops");
    /* 7 of 10 steps and 3 of 4 layers at 0.2 */
    CHECK(fabs(number(o, "flops_saved") - 0.7 * 0.75 * 0.8 * 0.75) < 1e-12, "%g", number(o, "flops_saved"));
    CHECK(fabs(number(o, "attention_density") - (1 - 0.7 * 0.75 * 0.8)) < 1e-12, "%g", number(o, "attention_density"));
    CHECK(number(o, "denoise_seconds_at_most") == 3 * 4 + 7 * 2 && !cJSON_GetObjectItem(o, "denoise_seconds"), "a cache may skip");
    cJSON_Delete(o);
    o = prxi_estimate_json(&e, &sparse, 4, 10, 5);
    CHECK(number(o, "denoise_seconds") == 3 * 4 + 2 * 2, "%g", number(o, "denoise_seconds"));
    cJSON_Delete(o);
    o = prxi_estimate_json(&e, &dense, 4, 10, 10);
    CHECK(number(o, "denoise_seconds") == 40 && !cJSON_GetObjectItem(o, "flops_saved"), "dense");
    cJSON_Delete(o);
    o = prxi_estimate_json(&e, &unknown, 4, 10, 10);
    CHECK(cJSON_IsTrue(cJSON_GetObjectItem(o, "sparse_density_is_assumed")), "content decides: said");
    cJSON_Delete(o);
}

static void refused_memory(void)
{
    const prx_allocator a = { count_alloc, count_free, NULL };
    const prxi_attn_plan dense = { .density = 1, .sparse_density = 1 };
    const prxi_estimate_env env = { &kernels, &dit, PRXI_F32, 40, 1, &dense };
    int failures = 0;
    for (int n = 0; n < 12; n++) {
        prxi_mem small;
        prxi_ctx c = { .mem = &small };
        prxi_stream s;
        prxi_estimate e;
        prxi_mem_init(&small, &a);
        prxi_stream_init(&s, &c, 1);
        countdown = n;
        failures += prxi_estimate_run(&c, &s, &env, &e) == PRX_ENOMEM;
        prxi_stream_close(&s);
        CHECK(atomic_load(&small.total) == 0, "%d allocations: %zu bytes leak", n, atomic_load(&small.total));
    }
    CHECK(failures >= 5, "%d of 12 fail", failures);
}

int main(void)
{
    prxi_stream s;
    prxi_mem_init(&mem, NULL);
    prxi_kernels_init(&kernels, prxi_cpu_detect());
    prxi_stream_init(&s, &ctx, 2);
    counted(&s);
    totals();
    refused_memory();
    prxi_stream_close(&s);
    CHECK(atomic_load(&mem.total) == 0, "nothing leaks");
    return TEST_END();
}
