/* Schedulers: tables bit for bit, traces, save and restore, bad settings. */
#include "tests/test.h"

#include "schedulers/scheduler.h"
#include "tests/vectors/golden/sched.h"

static prxi_mem mem;
static prxi_ctx ctx;

static prxi_sched_config config(double shift, int order, int old)
{
    const prxi_sched_config c = { shift, order, 1000, old, 1 };
    return c;
}

static prxi_sched *open_sched(const char *name, double shift, int order, int old, int steps, size_t n)
{
    prxi_sched *st;
    const prxi_sched_config cfg = config(shift, order, old);
    prxi_clear(&ctx);
    const int rc = prxi_sched_open(&ctx, &st, prxi_scheduler_find(name), &cfg, steps, n);
    REQUIRE(rc == PRX_OK, "%s: %s", name, ctx.error.text);
    return st;
}

static float value(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint64_t fnv(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3ull;
    return h;
}

static void check_hex(double shift, int old, const uint32_t *sigmas, const int *timesteps)
{
    prxi_sched *st = open_sched("unipc", shift, 2, old, 10, 1);
    for (int i = 0; i < 10; i++) {
        CHECK(prxi_sched_sigmas(st)[i] == value(sigmas[i]), "shift %g old %d sigma %d is %.9g", shift, old, i,
              (double)prxi_sched_sigmas(st)[i]);
        CHECK(prxi_sched_timesteps(st)[i] == (float)timesteps[i], "shift %g old %d timestep %d", shift, old, i);
    }
    CHECK(prxi_sched_sigmas(st)[10] == 0, "last sigma");
    prxi_sched_close(&ctx, &st);
}

/* models.md 4.1 */
static void check_spec_tables(void)
{
    check_hex(3, 0, (const uint32_t[]){ 0x3f7fffef, 0x3f76ddf0, 0x3f6c5496, 0x3f600a3d, 0x3f51849b, 0x3f401890, 0x3f2acf0d,
                                        0x3f1035b7, 0x3edc0e07, 0x3e80f564 },
              (const int[]){ 999, 964, 923, 875, 818, 750, 667, 563, 429, 251 });
    check_hex(3, 1, (const uint32_t[]){ 0x3f7fea24, 0x3f76c4d8, 0x3f6c377d, 0x3f5fe818, 0x3f515bfa, 0x3f3fe769, 0x3f2a9262,
                                        0x3f0fe8f4, 0x3edb4594, 0x3e7fc961 },
              (const int[]){ 999, 963, 922, 874, 817, 749, 666, 562, 428, 249 });
    check_hex(5, 0, (const uint32_t[]){ 0x3f7fffef, 0x3f7a70da, 0x3f73d2f4, 0x3f6bd0e9, 0x3f61ed37, 0x3f556787, 0x3f45095d,
                                        0x3f2ebaf8, 0x3f0e89a7, 0x3eb80796 },
              (const int[]){ 999, 978, 952, 921, 882, 833, 769, 682, 556, 359 });
    check_hex(5, 1, (const uint32_t[]){ 0x3f7ff2e2, 0x3f7a615b, 0x3f73c05e, 0x3f6bba35, 0x3f61d0dd, 0x3f55431e, 0x3f44d8e8,
                                        0x3f2e7751, 0x3f0e24a7, 0x3eb6b9fb },
              (const int[]){ 999, 978, 952, 920, 882, 833, 768, 681, 555, 356 });
}

static void check_all_tables(void)
{
    for (size_t k = 0; k < sizeof sched_tables / sizeof *sched_tables; k++) {
        uint64_t h = 0xcbf29ce484222325ull;
        for (int n = 1; n <= 100; n++) {
            prxi_sched *st = open_sched(sched_tables[k].name, sched_tables[k].shift, 2, sched_tables[k].old, n, 1);
            h = fnv(h, prxi_sched_sigmas(st), ((size_t)n + 1) * sizeof(float));
            h = fnv(h, prxi_sched_timesteps(st), (size_t)n * sizeof(float));
            prxi_sched_close(&ctx, &st);
        }
        CHECK(h == sched_tables[k].hash, "%s shift %g old %d: a table of 1 to 100 steps differs", sched_tables[k].name,
              sched_tables[k].shift, sched_tables[k].old);
    }
}

static void velocity(const float *x, int i, float *v)
{
    for (int k = 0; k < 3; k++)
        v[k] = (float)(0.5 * x[k] + sin(i + k));
}

/* diffusers evaluates logarithms and coefficients in float32, here they are double: 1.8e-6 of the largest value was the most
 * over 1..100 steps, 10 shifts and both orders; 5e-6 allows for another libm. */
static void check_traces(void)
{
    for (size_t t = 0; t < sizeof sched_traces / sizeof *sched_traces; t++) {
        const int steps = sched_traces[t].steps;
        prxi_sched *st = open_sched(sched_traces[t].name, sched_traces[t].shift, sched_traces[t].order, sched_traces[t].old,
                                    steps, 3);
        float x[3] = { 1, 1, 1 }, v[3];
        double worst = 0;
        for (int i = 0; i < steps; i++) {
            velocity(x, i, v);
            prxi_sched_step(st, i, v, x);
            for (int k = 0; k < 3; k++)
                worst = fmax(worst, fabs(x[k] - (double)value(sched_traces[t].x[3 * i + k])));
        }
        CHECK(worst < 5e-6, "trace %zu (%s): %g", t, sched_traces[t].name, worst);
        prxi_sched_close(&ctx, &st);
    }
}

static void check_spec_trace(const char *name, double shift, int old, int n, const double *want)
{
    prxi_sched *st = open_sched(name, shift, 2, old, n, 1);
    float x = 1;
    for (int i = 0; i < n; i++) {
        const float v = (float)(0.5 * x + sin(i));
        prxi_sched_step(st, i, &v, &x);
        CHECK(fabs(x - want[i]) < 2e-6, "%s shift %g old %d step %d: %.7f", name, shift, old, i, (double)x);
    }
    prxi_sched_close(&ctx, &st);
}

static void check_spec_traces(void)
{
    check_spec_trace("unipc", 3, 0, 10, (const double[]){ .982163, .912285, .846151, .849696, .908217, .942997, .856639,
                                                          .624276, .364771, .215032 });
    check_spec_trace("unipc", 3, 1, 10, (const double[]){ .982137, .910554, .845761, .849389, .908021, .942880, .856307,
                                                          .623231, .362582, .214354 });
    check_spec_trace("unipc", 5, 0, 10, (const double[]){ .989143, .945088, .901357, .902424, .943004, .968974, .896414,
                                                          .676904, .389116, .171056 });
    check_spec_trace("unipc", 5, 1, 4, (const double[]){ .968733, .800933, .530995, .276986 });
    check_spec_trace("dpmpp", 3, 0, 10, (const double[]){ .982137, .924281, .857659, .843943, .895814, .947355, .887854,
                                                          .660699, .370778, .221526 });
}

/* Stop after every possible step, take up in a fresh object: the same bits. */
static void check_restore(const char *name, int solver_order)
{
    enum { STEPS = 6 };
    float want[3] = { 1, 1, 1 }, v[3];
    prxi_sched *st = open_sched(name, 3, solver_order, 0, STEPS, 3);
    for (int i = 0; i < STEPS; i++) {
        velocity(want, i, v);
        prxi_sched_step(st, i, v, want);
    }
    prxi_sched_close(&ctx, &st);
    for (int cut = 0; cut <= STEPS; cut++) {
        float x[3] = { 1, 1, 1 };
        prxi_sched *a = open_sched(name, 3, solver_order, 0, STEPS, 3), *b = open_sched(name, 3, solver_order, 0, STEPS, 3);
        for (int i = 0; i < cut; i++) {
            velocity(x, i, v);
            prxi_sched_step(a, i, v, x);
        }
        const size_t size = prxi_sched_state_size(a);
        unsigned char *state = malloc(size);
        REQUIRE(state, "memory");
        prxi_sched_save(a, state);
        CHECK(prxi_sched_restore(&ctx, b, state, size) == PRX_OK, "%s: %s", name, ctx.error.text);
        for (int i = cut; i < STEPS; i++) {
            velocity(x, i, v);
            prxi_sched_step(b, i, v, x);
        }
        CHECK(!memcmp(x, want, sizeof x), "%s: continued after step %d", name, cut);
        free(state);
        prxi_sched_close(&ctx, &a);
        prxi_sched_close(&ctx, &b);
    }
}

static void check_bad_restore(void)
{
    prxi_sched *a = open_sched("unipc", 3, 2, 0, 6, 3), *b = open_sched("unipc", 5, 2, 0, 6, 3),
               *e = open_sched("euler", 3, 2, 0, 6, 3);
    const size_t size = prxi_sched_state_size(a);
    unsigned char *state = malloc(size);
    REQUIRE(state, "memory");
    prxi_sched_save(a, state);
    CHECK(prxi_sched_restore(&ctx, a, state, size - 1) == PRX_EFORMAT, "short state");
    CHECK(prxi_sched_restore(&ctx, b, state, size) == PRX_EFORMAT, "another shift");
    CHECK(prxi_sched_restore(&ctx, e, state, size) == PRX_EFORMAT, "another scheduler");
    const float nan = NAN;
    memcpy(state + size - sizeof nan, &nan, sizeof nan);
    prxi_clear(&ctx);
    CHECK(prxi_sched_restore(&ctx, a, state, size) == PRX_EFORMAT && strstr(ctx.error.text, "finite"), "NaN: %s",
          ctx.error.text);
    free(state);
    prxi_sched_close(&ctx, &a);
    prxi_sched_close(&ctx, &b);
    prxi_sched_close(&ctx, &e);
}

static void check_refused(const char *name, prxi_sched_config cfg, int steps, const char *word)
{
    prxi_sched *st;
    prxi_clear(&ctx);
    CHECK(prxi_sched_open(&ctx, &st, prxi_scheduler_find(name), &cfg, steps, 4) == PRX_EINVAL && !st &&
          strstr(ctx.error.text, word), "%s: \"%s\"", word, ctx.error.text);
}

static int load(const char *text, prxi_sched_config *cfg, const prxi_scheduler **which)
{
    prxi_json j;
    prxi_clear(&ctx);
    REQUIRE(prxi_json_parse(&ctx, &j, "scheduler_config.json", text, strlen(text)) == PRX_OK, "%s", ctx.error.text);
    const int rc = prxi_sched_config_load(&ctx, &j, cfg, which);
    prxi_json_close(&ctx, &j);
    return rc;
}

static void check_bad_config(const char *text, const char *word)
{
    prxi_sched_config cfg;
    const prxi_scheduler *which;
    CHECK(load(text, &cfg, &which) == PRX_EFORMAT && strstr(ctx.error.text, word), "%s: \"%s\"", word, ctx.error.text);
}

#define UNIPC "{\"_class_name\": \"UniPCMultistepScheduler\", "
#define FLOW "\"prediction_type\": \"flow_prediction\", \"use_flow_sigmas\": true"

static void check_config(void)
{
    prxi_sched_config cfg;
    const prxi_scheduler *which;
    CHECK(prxi_sched_config_load(&ctx, NULL, &cfg, &which) == PRX_OK && cfg.shift == 3 && cfg.order == 2, "no file");
    CHECK(load(UNIPC FLOW ", \"flow_shift\": 5.0, \"disable_corrector\": [], \"solver_p\": null, \"solver_type\": \"bh2\","
               "\"use_karras_sigmas\": false, \"lower_order_final\": true, \"beta_end\": 0.02}", &cfg, &which) == PRX_OK &&
          which == prxi_scheduler_find("unipc") && cfg.shift == 5 && cfg.lower_order_final, "%s", ctx.error.text);
    CHECK(load("{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"shift\": 7}", &cfg, &which) == PRX_OK &&
          which == prxi_scheduler_find("euler") && cfg.shift == 7, "%s", ctx.error.text);
    CHECK(load("{\"_class_name\": \"DPMSolverMultistepScheduler\", " FLOW ", \"solver_order\": 1}", &cfg, &which) == PRX_OK &&
          which == prxi_scheduler_find("dpmpp") && cfg.shift == 1 && cfg.order == 1, "%s", ctx.error.text);
    check_bad_config("{}", "_class_name");
    check_bad_config("{\"_class_name\": \"DDIMScheduler\"}", "DDIMScheduler");
    check_bad_config("{\"_class_name\": 3}", "_class_name");
    check_bad_config("{\"_class_name\": \"UniPCMultistepScheduler\"}", "prediction_type");
    check_bad_config(UNIPC "\"prediction_type\": \"flow_prediction\"}", "use_flow_sigmas");
    check_bad_config(UNIPC FLOW ", \"solver_order\": 4}", "solver_order");
    check_bad_config("{\"_class_name\": \"DPMSolverMultistepScheduler\", " FLOW ", \"solver_order\": 3}", "solver_order");
    check_bad_config(UNIPC FLOW ", \"flow_shift\": 0}", "flow_shift");
    check_bad_config(UNIPC FLOW ", \"use_karras_sigmas\": true}", "use_karras_sigmas");
    check_bad_config(UNIPC FLOW ", \"disable_corrector\": [0]}", "disable_corrector");
    check_bad_config(UNIPC FLOW ", \"solver_type\": \"bh1\"}", "solver_type");
    check_bad_config(UNIPC FLOW ", \"predict_x0\": false}", "predict_x0");
    check_bad_config(UNIPC FLOW ", \"use_dynamic_shifting\": true}", "use_dynamic_shifting");
    check_bad_config("{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\", \"stochastic_sampling\": true}", "stochastic");
    check_bad_config("{\"_class_name\": \"DPMSolverMultistepScheduler\", " FLOW ", \"algorithm_type\": \"sde-dpmsolver++\"}",
                     "algorithm_type");
}

static void check_registry(void)
{
    int n = 0;
    for (const prxi_scheduler *s; (s = prxi_scheduler_at(n)); n++)
        CHECK(prxi_scheduler_find(s->name) == s && prxi_scheduler_for_class(s->diffusers_class) == s && s->help[0],
              "%s", s->name);
    CHECK(n == 3 && !prxi_scheduler_at(-1) && !prxi_scheduler_find("none") && !prxi_scheduler_for_class("DDIMScheduler"),
          "%d schedulers", n);
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    check_registry();
    check_config();
    check_spec_tables();
    check_all_tables();
    check_traces();
    check_spec_traces();
    check_restore("unipc", 2);
    check_restore("unipc", 3);
    check_restore("euler", 2);
    check_restore("dpmpp", 2);
    check_bad_restore();
    check_refused("unipc", config(0, 2, 0), 10, "shift");
    check_refused("unipc", config(NAN, 2, 0), 10, "shift");
    check_refused("unipc", config(1000, 2, 0), 10, "shift");
    check_refused("unipc", config(3, 4, 0), 10, "order");
    check_refused("dpmpp", config(3, 3, 0), 10, "order");
    check_refused("euler", config(3, 2, 0), 0, "steps");
    check_refused("dpmpp", config(3, 2, 0), 1001, "steps");
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leaked", atomic_load(&mem.total));

    /* lower_order_final false: the step to sigma 0 is of order 1 all the same. */
    prxi_sched_config cfg = config(3, 2, 0);
    cfg.lower_order_final = 0;
    prxi_sched *st;
    REQUIRE(prxi_sched_open(&ctx, &st, prxi_scheduler_find("unipc"), &cfg, 3, 3) == PRX_OK, "open");
    float x[3] = { 1, 1, 1 }, v[3];
    for (int i = 0; i < 3; i++) {
        velocity(x, i, v);
        prxi_sched_step(st, i, v, x);
    }
    CHECK(isfinite(x[0]) && isfinite(x[1]) && isfinite(x[2]), "finite");
    prxi_sched_close(&ctx, &st);
    return TEST_END();
}
