/* Calibrators against caching.md's streams: TaylorSeer as published, Newton's exactness for polynomials up to its order. */
#include "tests/vectors.h"

#include "caching/forecast.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };
static prxi_stream stream;

static const struct {
    const char *name;
    double c[4];
} polynomials[] = { { "const", { 2 } }, { "linear", { 1, 0.5 } }, { "quadratic", { 1, 0.5, 0.25 } }, { "cubic", { 1, -0.5, 0.25,
    0.125 } } };

static double truth(const char *name, double t)
{
    for (size_t i = 0; i < sizeof polynomials / sizeof *polynomials; i++)
        if (strcmp(polynomials[i].name, name) == 0) {
            const double *c = polynomials[i].c;
            return c[0] + t * (c[1] + t * (c[2] + t * c[3]));
        }
    return pow(1.25, t);
}

/* Runs one stream in f64 and compares every prediction with a column of the vectors, to 1e-9 relative. */
static void check_case(const cJSON *c, const char *schedule, prxi_forecast_kind kind, const char *column)
{
    const char *name = vec_str(c, "function");
    const int order = (int)vec_num(c, "order");
    prxi_forecast f;
    REQUIRE(prxi_forecast_open(&ctx, &f, kind, order, PRXI_F64, 3) == PRX_OK, "open");
    const cJSON *p = cJSON_GetObjectItemCaseSensitive(c, "predictions")->child;
    for (int step = 0; schedule[step]; step++) {
        const double t = truth(name, step), y[3] = { t, -t, 2 * t };
        double got[3] = { 0, 1, 0 };
        if (schedule[step] == 'F') {
            prxi_forecast_update(&stream, &f, step, step, PRXI_F64, y, NULL);
            continue;
        }
        REQUIRE(p && (int)vec_num(p, "step") == step, "%s: prediction of step %d", name, step);
        prxi_forecast_apply(&stream, &f, step, step, PRXI_F64, got, 0);
        const double want = vec_num(p, column), tol = 1e-9 * (1 + fabs(want));
        CHECK(fabs(got[0] - want) <= tol && fabs(got[1] + want) <= tol && fabs(got[2] - 2 * want) <= 2 * tol,
              "%s order %d step %d %s: %.12g, expected %.12g", name, order, step, column, got[0], want);
        p = p->next;
    }
    prxi_forecast_close(&ctx, &f);
}

/* Uneven abscissae, random polynomials: exact to rounding once order + 1 values are known; in f32 to its resolution. */
static void check_newton_exact(prxi_dtype elem, double tol)
{
    uint32_t seed = 7;
    for (int round = 0; round < 500; round++) {
        const int order = round % (PRXI_FORECAST_MAX + 1);
        double c[PRXI_FORECAST_MAX + 1], x = 1.0, scale = 0;
        prxi_forecast f;
        REQUIRE(prxi_forecast_open(&ctx, &f, PRXI_FORECAST_NEWTON, order, elem, 1) == PRX_OK, "open");
        for (int i = 0; i <= order; i++) {
            seed = seed * 1664525u + 1013904223u;
            c[i] = (double)(seed >> 8) * 0x1p-23 - 1;
        }
        for (int k = 0; k <= order + 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            x -= 0.05 + 0.1 * (double)(seed >> 8) * 0x1p-24;
            double y = 0, got = 0;
            for (int i = order; i >= 0; i--)
                y = y * x + c[i];
            scale = fmax(scale, fabs(y));
            if (k <= order + 1) {
                prxi_forecast_update(&stream, &f, k, x, PRXI_F64, &y, NULL);
                continue;
            }
            prxi_forecast_apply(&stream, &f, k, x, PRXI_F64, &got, 0);
            CHECK(fabs(got - y) <= tol * (1 + scale), "order %d: error %g", order, got - y);
        }
        prxi_forecast_close(&ctx, &f);
    }
}

/* Adding to a state, a residual against `before`, and a length that is no multiple of a run; thread counts agree. */
static void check_residual(void)
{
    enum { N = 1300 };
    static float before[N], after[N], x[N], x3[N];
    prxi_forecast f;
    REQUIRE(prxi_forecast_open(&ctx, &f, PRXI_FORECAST_NONE, 0, PRXI_F32, N) == PRX_OK, "open");
    for (int i = 0; i < N; i++)
        before[i] = (float)i, after[i] = (float)i + 0.25f * (float)(i % 7), x[i] = x3[i] = (float)(i % 11);
    prxi_forecast_update(&stream, &f, 0, 0, PRXI_F32, after, before);
    prxi_forecast_apply(&stream, &f, 1, 0, PRXI_F32, x, 1);
    stream.n_threads = 3;
    prxi_forecast_apply(&stream, &f, 1, 0, PRXI_F32, x3, 1);
    stream.n_threads = 1;
    int bad = 0;
    for (int i = 0; i < N; i++)
        bad += x[i] != (float)(i % 11) + 0.25f * (float)(i % 7);
    CHECK(bad == 0, "%d wrong", bad);
    CHECK(memcmp(x, x3, sizeof x) == 0, "three threads");
    prxi_forecast_close(&ctx, &f);
    prxi_stream_close(&stream);
    CHECK(atomic_load(&mem.total) == 0, "freed");
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    prxi_stream_init(&stream, &ctx, 1);
    cJSON *root = vectors_load("caching/cache_taylorseer.json");
    const cJSON *schedules = cJSON_GetObjectItemCaseSensitive(root, "schedules"), *c;
    int cases = 0;
    cJSON_ArrayForEach(c, cJSON_GetObjectItemCaseSensitive(root, "cases"))
    {
        const char *schedule = vec_str(schedules, vec_str(c, "schedule"));
        check_case(c, schedule, PRXI_FORECAST_TAYLOR, "taylorseer");
        check_case(c, schedule, PRXI_FORECAST_NEWTON, "newton");
        cases++;
    }
    CHECK(cases == 50, "%d cases", cases);
    cJSON_Delete(root);
    check_newton_exact(PRXI_F64, 1e-9);
    /* Divided differences in f32 lose about order digits' worth: nodes 0.05 apart, orders up to 4. */
    check_newton_exact(PRXI_F32, 2e-2);
    check_residual();
    return TEST_END();
}
