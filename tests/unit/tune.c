/* Searching for settings: Student's t against tables, bounds, verdicts, the split, bisection and halving on synthetic trials. */
#include "tests/test.h"

#include <unistd.h>

#include "engine/core/option.h"
#include "engine/tune/lines.h"
#include "engine/tune/split.h"
#include "engine/tune/stats.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

/* ---- numbers ---- */

/* Printed tables, to their last digit. */
static void check_t(void)
{
    static const struct {
        double p;
        int degrees;
        double x;
    } rows[] = { { 0.9, 1, 3.078 },    { 0.9, 2, 1.886 },   { 0.9, 3, 1.638 },    { 0.9, 7, 1.415 },   { 0.9, 10, 1.372 },
                 { 0.9, 30, 1.310 },   { 0.9, 120, 1.289 }, { 0.95, 1, 6.314 },   { 0.95, 5, 2.015 },  { 0.975, 9, 2.262 },
                 { 0.99, 4, 3.747 },   { 0.995, 15, 2.947 }, { 0.9995, 2, 31.599 }, { 0.75, 1, 1.000 }, { 0.9, 100000, 1.28156 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double x = prxi_t_quantile(rows[i].p, rows[i].degrees);
        CHECK(fabs(x - rows[i].x) <= 5e-4, "t(%g, %d) = %.6f, not %g", rows[i].p, rows[i].degrees, x, rows[i].x);
    }
    /* closed forms: one degree is tan(pi (p - 1/2)), two are a root */
    for (double p = 0.55; p < 0.999; p += 0.01) {
        const double a = 2 * p - 1;
        CHECK(fabs(prxi_t_quantile(p, 1) - tan(acos(-1.0) * (p - 0.5))) < 1e-9 * (1 + tan(acos(-1.0) * (p - 0.5))), "one degree, p %g", p);
        CHECK(fabs(prxi_t_quantile(p, 2) - a * sqrt(2 / (1 - a * a))) < 1e-9 * (1 + 1 / (1 - a)), "two degrees, p %g", p);
    }
}

static void check_bound(void)
{
    const double v[] = { 31, 29, 33, 31 };               /* mean 31, deviation sqrt(8 / 3), t 1.637744 */
    const prxi_sample s = prxi_sample_of(v, 4, 0.9, 30);
    CHECK(s.mean == 31 && s.worst == 29 && s.worst_at == 1 && s.median == 31 && s.share == 0.75, "sample");
    CHECK(fabs(s.bound - (31 - 1.637744 * sqrt(8.0 / 3) / 2)) < 1e-5, "bound %.6f", s.bound);
    CHECK(prxi_sample_of(v, 1, 0.9, 30).bound == -INFINITY, "one value proves nothing");
    CHECK(isnan(prxi_sample_of(v, 0, 0.9, 30).mean) && isnan(prxi_median(v, 0)), "no value");
    const double same[] = { 5, 5, 5 };
    CHECK(prxi_sample_of(same, 3, 0.9, 5).bound == 5, "no spread, no margin");
}

/* How often the bound lies above the true mean of a normal sample: one in ten. */
static void check_coverage(void)
{
    uint64_t state = 12345;
    int above = 0;
    enum { RUNS = 20000, N = 8 };
    for (int r = 0; r < RUNS; r++) {
        double v[N];
        for (int i = 0; i < N; i++) {
            v[i] = 0;
            for (int k = 0; k < 12; k++) {               /* twelve uniform numbers: normal enough */
                state = state * 6364136223846793005u + 1442695040888963407u;
                v[i] += (double)(state >> 11) / 9007199254740992.0 - 0.5;
            }
        }
        above += prxi_sample_of(v, N, 0.9, 0).bound > 0;
    }
    /* three standard deviations of the count: 3 sqrt(0.1 * 0.9 / 20000) = 0.0064, and the tails are a little short */
    CHECK(fabs((double)above / RUNS - 0.1) < 0.01, "%d of %d bounds are too high", above, RUNS);
}

static void check_verdicts(void)
{
    const prxi_goal g = { .target = 30, .confidence = 0.9, .spread = 2, .held_out = 8 };
    const double one = prxi_t_quantile(0.9, 7) * 2 / sqrt(8);
    const double v = 30 + one + 1e-9, w = 30 - one - 1e-9, x = 30;
    CHECK(fabs(prxi_goal_margin(&g, &v, 1) - one) < 1e-12, "margin of one value: the assumed spread");
    CHECK(prxi_goal_judge(&g, &v, 1) == PRXI_HOLDS, "holds");
    CHECK(prxi_goal_judge(&g, &x, 1) == PRXI_MISSES, "at the target the bound is below it");
    CHECK(prxi_goal_judge(&g, &w, 1) == PRXI_MISSES_CLEARLY, "clearly");
    const double calm[] = { 30.6, 30.5, 30.7, 30.6, 30.5, 30.7, 30.6, 30.6 };
    CHECK(prxi_goal_judge(&g, calm, 1) == PRXI_MISSES, "one prompt leaves doubt");
    CHECK(prxi_goal_judge(&g, calm, 8) == PRXI_HOLDS, "the spread that was seen replaces the assumed one");
}

/* ---- split ---- */

static int write_prompts(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    return f && fputs(text, f) >= 0 && fclose(f) == 0;
}

static void check_split(void)
{
    char path[] = "/tmp/praxino-split-XXXXXX", text[2000] = "";
    prxi_split a, b;
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0, "temporary file");
    close(fd);
    CHECK(prxi_split_held_out(16) == 8 && prxi_split_held_out(17) == 9 && prxi_split_held_out(4) == 2 && prxi_split_held_out(5) == 3,
          "held out");
    for (int i = 0; i < 17; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "# comment\n\n  prompt %d \r\n", i);
    REQUIRE(write_prompts(path, text) && prxi_split_read(&ctx, &a, path) == PRX_OK, "%s", ctx.error.text);
    CHECK(a.n == 17 && a.calibration == 8, "%d prompts, %d to learn from", a.n, a.calibration);
    text[0] = '\0';
    for (int i = 16; i >= 0; i--)
        snprintf(text + strlen(text), sizeof text - strlen(text), "prompt %d\n", i);
    REQUIRE(write_prompts(path, text) && prxi_split_read(&ctx, &b, path) == PRX_OK, "%s", ctx.error.text);
    int same = a.n == b.n;
    for (int i = 0; same && i < a.n; i++)
        same = strcmp(a.prompts[i], b.prompts[i]) == 0;
    CHECK(same, "the order of the file matters");
    prxi_split_close(&ctx, &a);
    prxi_split_close(&ctx, &b);
    REQUIRE(write_prompts(path, "a\nb\nc\n"), "write");
    CHECK(prxi_split_read(&ctx, &a, path) == PRX_EINVAL && strstr(ctx.error.text, "3 prompts; at least 4"), "%s", ctx.error.text);
    prxi_split_close(&ctx, &a);
    prxi_clear(&ctx);
    REQUIRE(write_prompts(path, "a\nb\nc\nd\n b\n"), "write");
    CHECK(prxi_split_read(&ctx, &a, path) == PRX_EINVAL && strstr(ctx.error.text, "'b' is there twice"), "%s", ctx.error.text);
    prxi_split_close(&ctx, &a);
    prxi_clear(&ctx);
    unlink(path);
}

/* ---- bisection ---- */

/* Every edge of a monotone line is found, in at most ceil(log2(n + 1)) trials; mirrored lines too. */
static void check_bisection(void)
{
    enum { N = PRXI_TUNE_RUNGS };
    for (int mirrored = 0; mirrored < 2; mirrored++)
        for (int holding = 0; holding <= N; holding++) {
            signed char known[N] = { 0 };
            int trials = 0, i;
            while ((i = prxi_bisect(known, N, mirrored)) >= 0 && trials < 100) {
                const int from_mild = mirrored ? N - 1 - i : i;
                known[i] = from_mild < holding ? 1 : -1;
                trials++;
            }
            const int want = holding == 0 ? -1 : mirrored ? N - holding : holding - 1;
            CHECK(prxi_edge(known, N, mirrored) == want, "%d hold, mirrored %d: edge %d", holding, mirrored, prxi_edge(known, N, mirrored));
            CHECK(trials <= (int)ceil(log2(N + 1)), "%d trials", trials);
        }
    const signed char noisy[] = { 1, -1, 1, 0, 0, 0, -1 };
    CHECK(prxi_bisect(noisy, 7, 0) == 4 && prxi_edge(noisy, 7, 0) == 2, "the strongest that holds counts");
    const signed char settled[] = { 1, 1, -1, 0, 0 };
    CHECK(prxi_bisect(settled, 5, 0) == -1, "nothing beyond a miss");
}

/* ---- halving ---- */

static void check_halving(void)
{
    const prxi_line_score s[] = {
        { 1, 1, 10, 31 },            /* best of axis 1 */
        { 1, 1, 12, 30.5 },          /* beaten by it in both */
        { 1, 1, 12, 33 },            /* slower but better: stays */
        { 2, 1, 14, 30 },            /* beaten by none on its own axis */
        { 2, 0, 1, 99 },             /* nothing of it holds */
        { 3, 1, 9, 30 },
        { 3, 1, 9, 30 },             /* the same: neither beats the other */
    };
    enum { N = sizeof s / sizeof *s };
    static const signed char all[N] = { 1, PRXI_OUT_BEATEN, 1, 1, PRXI_OUT_MISSES, 1, 1 };
    static const signed char three[N] = { 1, PRXI_OUT_BEATEN, PRXI_OUT_HALVED, PRXI_OUT_HALVED, PRXI_OUT_MISSES, 1, 1 };
    signed char flags[N];
    prxi_halve(s, N, N, flags);
    for (int i = 0; i < N; i++)
        CHECK(flags[i] == all[i], "line %d of all: %d", i, flags[i]);
    prxi_halve(s, N, 3, flags);
    for (int i = 0; i < N; i++)
        CHECK(flags[i] == three[i], "line %d of three: %d", i, flags[i]);
}

/* ---- ladders ---- */

static void check_ladders(void)
{
    int seen[PRXI_TUNE_AXES] = { 0 };
    const prxi_ladder *l;
    prxi_pairs sparse = { NULL, 0 };
    REQUIRE(prxi_pairs_set(&ctx, &sparse, "attention", "radial") == PRX_OK, "sparse");
    for (int i = 0; (l = prxi_ladder_at(i)); i++) {
        prxi_pairs p = { NULL, 0 };
        prxi_rung_env env = { .graph_steps = 20, .sparse = &sparse, .sparse_cost = 0.73456, .cached_cost = 0.0123 };
        double before = NAN;
        CHECK(strcmp(prxi_tune_axes[prxi_ladder_axis(l)], l->axis) == 0, "%s: axis %s", l->name, l->axis);
        seen[prxi_ladder_axis(l)]++;
        for (int r = 0; r < PRXI_TUNE_RUNGS; r++) {
            double v = 0;
            env.steps = 20;
            REQUIRE(prxi_ladder_apply(&ctx, &p, l, r / (PRXI_TUNE_RUNGS - 1.0), &env) == PRX_OK, "%s", ctx.error.text);
            CHECK(prxi_parse_num(prxi_pairs_get(&p, l->key), &v), "%s: %s", l->name, prxi_pairs_get(&p, l->key));
            CHECK(r == 0 || (l->strong > l->mild ? v >= before : v <= before), "%s: rung %d goes back", l->name, r);
            CHECK(strlen(prxi_pairs_get(&p, l->key)) <= 7, "%s: %s has too many digits", l->name, prxi_pairs_get(&p, l->key));
            before = v;
        }
        if (l->kind == PRXI_RUNG_COST)
            CHECK(strcmp(prxi_pairs_get(&p, "cache.sparse_cost"), "0.735") == 0
                  && strcmp(prxi_pairs_get(&p, "cache.cached_cost"), "0.0123") == 0
                  && strcmp(prxi_pairs_get(&p, "attention"), "radial") == 0, "%s: what its graph is solved for", l->name);
        prxi_pairs_close(&ctx, &p);
    }
    for (int a = 0; a < PRXI_TUNE_AXES; a++)
        CHECK(seen[a] > 0, "%s has no ladder", prxi_tune_axes[a]);

    /* shares are of the steps that the first axis leaves */
    prxi_pairs p = { NULL, 0 };
    prxi_rung_env env = { .steps = 20, .sparse = &sparse };
    for (int i = 0; (l = prxi_ladder_at(i)); i++)
        if (strcmp(l->name, "steps") == 0 || strcmp(l->name, "dbcache") == 0)
            REQUIRE(prxi_ladder_apply(&ctx, &p, l, 1, &env) == PRX_OK, "%s", ctx.error.text);
    CHECK(strcmp(prxi_pairs_get(&p, "steps"), "1") == 0, "steps %s", prxi_pairs_get(&p, "steps"));
    CHECK(strcmp(prxi_pairs_get(&p, "cache.max_warmup_steps"), "1") == 0, "warm-up %s", prxi_pairs_get(&p, "cache.max_warmup_steps"));
    for (int i = 0; (l = prxi_ladder_at(i)); i++)
        if (l->kind == PRXI_RUNG_GRAPH || l->kind == PRXI_RUNG_COST) {
            CHECK(prxi_ladder_apply(&ctx, &p, l, 0.5, &env) == PRX_EINVAL, "%s without a graph", l->name);
            prxi_clear(&ctx);
            env = (prxi_rung_env) { .steps = 20, .graph_steps = 20, .sparse = &sparse, .sparse_cost = 1.2 };
            CHECK(l->kind == PRXI_RUNG_GRAPH || prxi_ladder_apply(&ctx, &p, l, 0.5, &env) == PRX_EINVAL, "a sparse step is no cheaper");
            prxi_clear(&ctx);
            env = (prxi_rung_env) { .steps = 20, .sparse = &sparse };
        }
    prxi_pairs_close(&ctx, &p);
    prxi_pairs_close(&ctx, &sparse);
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    check_t();
    check_bound();
    check_coverage();
    check_verdicts();
    check_split();
    check_bisection();
    check_halving();
    check_ladders();
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leaked", atomic_load(&mem.total));
    return TEST_END();
}
