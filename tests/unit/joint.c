/* Dense, sparse or skipped: paths for a budget of time against exhaustive search on random graphs; a measured graph's sparse weights
 * against separate runs of that one schedule; what a schedule says of attention reaches the network. */
#include "tests/test.h"

#include <unistd.h>

#include <cjson/cJSON.h>
#include <praxino/praxino.h>

#include "caching/dag.h"
#include "caching/schedule.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

/* ---- exhaustive search ---- */

enum { MOST = 8 };

typedef struct walk {
    const prxi_dag *g;
    prxi_dag_cost cost;
    double budget, best_cost, list[MOST], best[MOST];
    int found;
} walk;

static int greater_first(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Weights are integers and costs sums of binary fractions: equal means equal. */
static void arrive(walk *w, int n, double cost)
{
    double sorted[MOST] = { 0 };
    memcpy(sorted, w->list, (size_t)n * sizeof *sorted);
    qsort(sorted, MOST, sizeof *sorted, greater_first);
    int order = 0;
    for (int i = 0; i < MOST && !order; i++)
        order = sorted[i] < w->best[i] ? -1 : sorted[i] > w->best[i];
    if (cost > w->budget || (w->found && (order > 0 || (order == 0 && cost >= w->best_cost))))
        return;
    w->found = 1;
    w->best_cost = cost;
    memcpy(w->best, sorted, sizeof sorted);
}

static void visit(walk *w, int i, int n, double cost)
{
    const prxi_dag *g = w->g;
    const int last = i == g->steps - 1;
    for (int sparse = 0; sparse < 2; sparse++)
        for (int j = i + 1; j <= (last ? g->steps : g->steps - 1) && j - i <= g->max_gap; j++) {
            const double weight = sparse ? prxi_dag_sparse(g, i, j) : last ? 0 : prxi_dag_weight(g, i, j);
            const double now = cost + (sparse ? w->cost.sparse : 1) + (j - i - 1) * w->cost.cached;
            w->list[n] = weight;
            if (!isnan(weight) && last)
                arrive(w, n + 1, now);
            else if (!isnan(weight))
                visit(w, j, n + 1, now);
        }
}

static uint32_t state = 4711;

static int draw(int n)
{
    state = state * 1664525u + 1013904223u;
    return (int)(state >> 8) % n;
}

/* Now and then an edge is missing; few levels make many ties. */
static void fill(prxi_dag *g, int levels)
{
    for (int i = 0; i < g->steps; i++)
        for (int k = 1; k <= g->max_gap; k++) {
            const int at = i * (g->max_gap + 1) + k;
            if (k > 1 && i + k < g->steps && draw(12))
                g->weight[at] = draw(levels) + 1;
            if ((i + k < g->steps || (i == g->steps - 1 && k == 1)) && draw(12))
                g->sparse[at] = draw(levels);
        }
}

/* The path's own weights and cost, from the graph. */
static void check_sums(const prxi_dag *g, const prxi_dag_path *p, const prxi_dag_cost *cost, int round)
{
    double list[MOST] = { 0 }, sum = 0;
    int n = 0, sparse = 0;
    CHECK(p->n >= 2 && p->step[0] == 0 && p->step[p->n - 1] == g->steps - 1, "round %d: ends", round);
    for (int k = 0; k < p->n; k++) {
        const int i = p->step[k], j = k + 1 < p->n ? p->step[k + 1] : g->steps;
        const double w = p->sparse[k] ? prxi_dag_sparse(g, i, j) : j == g->steps ? 0 : prxi_dag_weight(g, i, j);
        sum += (p->sparse[k] ? cost->sparse : 1) + (j - i - 1) * cost->cached;
        sparse += p->sparse[k];
        CHECK(j > i && !isnan(w), "round %d: %d to %d is no edge", round, i, j);
        if (w > 0)
            list[n++] = w;
    }
    qsort(list, (size_t)n, sizeof *list, greater_first);
    CHECK(n == p->n_weights && memcmp(list, p->weights, (size_t)n * sizeof *list) == 0, "round %d: weights", round);
    CHECK(sum == p->cost && sparse == p->n_sparse, "round %d: cost %g, not %g", round, p->cost, sum);
}

static void check_random(void)
{
    int infeasible = 0, mixed = 0;
    for (int round = 0; round < 1000; round++) {
        prxi_dag g;
        const int steps = 3 + draw(MOST - 3), gap = 1 + draw(steps - 1);
        const prxi_dag_cost cost = { (1 + draw(8)) / 8.0, draw(3) / 16.0 };
        REQUIRE(prxi_dag_open(&ctx, &g, steps, gap) == PRX_OK && prxi_dag_add_sparse(&ctx, &g) == PRX_OK, "open");
        fill(&g, 1 + draw(9));
        for (int k = 0; k < 4; k++) {
            prxi_dag_path p;
            walk w = { .g = &g, .cost = cost, .budget = 1 + draw(8 * steps) / 8.0 };
            visit(&w, 0, 0, 0);
            prxi_clear(&ctx);
            const int err = prxi_dag_solve_joint(&ctx, &g, w.budget, &cost, &p);
            CHECK((err == PRX_OK) == w.found, "round %d: found %d", round, w.found);
            infeasible += err < 0;
            if (err < 0)
                continue;
            check_sums(&g, &p, &cost, round);
            mixed += p.n_sparse > 0 && p.n_sparse < p.n && p.n < steps;
            double padded[MOST] = { 0 };
            memcpy(padded, p.weights, (size_t)p.n_weights * sizeof *padded);
            CHECK(memcmp(padded, w.best, sizeof padded) == 0 && p.cost == w.best_cost && p.cost <= w.budget,
                  "round %d: budget %g: worst %g, cost %g; exhaustive search has %g, %g", round, w.budget, padded[0], p.cost, w.best[0],
                  w.best_cost);
        }
        prxi_dag_close(&ctx, &g);
    }
    CHECK(infeasible > 50 && mixed > 200, "%d without a path, %d with all three kinds of steps", infeasible, mixed);
}

/* ---- files ---- */

static int read_graph(const char *text)
{
    prxi_json j;
    prxi_dag g;
    prxi_clear(&ctx);
    REQUIRE(prxi_json_parse(&ctx, &j, "g.json", text, strlen(text)) == PRX_OK, "%s", ctx.error.text);
    const int err = prxi_dag_read(&ctx, &g, &j);
    prxi_json_close(&ctx, &j);
    if (err == PRX_OK)
        CHECK(g.sparse && prxi_dag_sparse(&g, 0, 1) == 2 && prxi_dag_sparse(&g, 4, 5) == 3 && isnan(prxi_dag_sparse(&g, 0, 2)), "read");
    prxi_dag_close(&ctx, &g);
    return err;
}

#define SPARSE(rest) "{\"steps\": 5, \"edges\": [{\"from\": 0, \"to\": 1, \"weight\": 2, \"attention\": \"sparse\"}, " rest "]}"

static int read_schedule(const char *attention, uint8_t kinds[5])
{
    char text[200];
    prxi_json j;
    static prxi_schedule s;
    float sigmas[6] = { 1, 0.8f, 0.6f, 0.4f, 0.2f, 0 };
    snprintf(text, sizeof text, "{\"steps\": 5, \"computed\": [0, 1, 4]%s}", attention);
    prxi_clear(&ctx);
    REQUIRE(prxi_json_parse(&ctx, &j, "s.json", text, strlen(text)) == PRX_OK, "%s", ctx.error.text);
    const int err = prxi_schedule_read(&ctx, &s, &j);
    prxi_json_close(&ctx, &j);
    return err < 0 ? err : prxi_schedule_map(&ctx, &s, &(prxi_job_steps) { 5, 5, sigmas }, kinds);
}

static void check_files(void)
{
    uint8_t kinds[5];
    CHECK(read_graph(SPARSE("{\"from\": 4, \"to\": 5, \"weight\": 3, \"attention\": \"sparse\"}")) == PRX_OK, "%s", ctx.error.text);
    CHECK(read_graph(SPARSE("{\"from\": 4, \"to\": 5, \"weight\": 3}")) == PRX_EFORMAT, "a dense step has no error of its own");
    CHECK(read_graph(SPARSE("{\"from\": 3, \"to\": 5, \"weight\": 3, \"attention\": \"sparse\"}")) == PRX_EFORMAT, "beyond the last step");
    CHECK(read_graph(SPARSE("{\"from\": 0, \"to\": 1, \"weight\": 3, \"attention\": \"sparse\"}")) == PRX_EFORMAT, "twice");
    CHECK(read_graph(SPARSE("{\"from\": 0, \"to\": 2, \"weight\": 3, \"attention\": \"radial\"}")) == PRX_EFORMAT &&
          strstr(ctx.error.text, "edge 1"), "%s", ctx.error.text);
    CHECK(read_schedule("", kinds) == PRX_OK && memcmp(kinds, "\1\1\0\0\1", 5) == 0, "attention is the policy's");
    CHECK(read_schedule(", \"attention\": [\"dense\", \"sparse\", \"dense\"]", kinds) == PRX_OK && memcmp(kinds, "\2\1\0\0\2", 5) == 0,
          "kinds %s", ctx.error.text);
    static const char *const bad[] = { "[\"dense\", \"dense\"]", "[\"dense\", \"dense\", 1]", "\"dense\"",
                                       "[\"dense\", \"dense\", \"radial\"]" };
    for (int i = 0; i < 4; i++) {
        char text[80];
        snprintf(text, sizeof text, ", \"attention\": %s", bad[i]);
        CHECK(read_schedule(text, kinds) == PRX_EFORMAT && strstr(ctx.error.text, "attention"), "%s: %s", bad[i], ctx.error.text);
    }
}

/* ---- a measured graph ---- */

enum { STEPS = 5, GAP = 3 };
static char path[] = "/tmp/praxino-joint-XXXXXX";

static void set(prx_job *j, const char *key, const char *value)
{
    REQUIRE(prx_job_set(j, key, value) == PRX_OK, "%s", prx_job_last_error(j));
}

static prx_job *open_job(prx_model *m, int sparse)
{
    static const char *const size[][2] = { { "steps", "5" }, { "width", "64" }, { "height", "64" }, { "frames", "33" }, { "guidance", "4" },
                                           { "prompt", "a red ball" } };
    static const char *const radial[][2] = { { "attention", "radial" }, { "attention.block", "64" }, { "attention.dense_timesteps", "0" } };
    prx_job *j;
    REQUIRE(prx_job_open(&j, m) == PRX_OK, "job");
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        set(j, size[i][0], size[i][1]);
    for (int i = 0; sparse && i < 3; i++)
        set(j, radial[i][0], radial[i][1]);
    return j;
}

/* Step i is computed (sparse or dense), what is between i and `to` is cached, all else is dense. to 0: everything is computed dense. */
static void use_schedule(prx_job *j, int i, int to, int sparse)
{
    FILE *f = fopen(path, "w");
    REQUIRE(f, "%s", path);
    fprintf(f, "{\"steps\": %d, \"computed\": [0", STEPS);
    for (int k = 1; k < STEPS; k++)
        if (k <= i || k >= to)
            fprintf(f, ", %d", k);
    fprintf(f, "], \"attention\": [\"%s\"", i == 0 && sparse ? "sparse" : "dense");
    for (int k = 1; k < STEPS; k++)
        if (k <= i || k >= to)
            fprintf(f, ", \"%s\"", k == i && sparse ? "sparse" : "dense");
    fprintf(f, "]}\n");
    REQUIRE(fclose(f) == 0, "write");
    set(j, "cache", "lemica");
    set(j, "schedule", path);
}

static size_t run(prx_job *j, float **out)
{
    int64_t shape[4];
    const float *data;
    REQUIRE(prx_job_run(j) == PRX_OK, "%s", prx_job_last_error(j));
    REQUIRE(prx_job_get_latents(j, &data, shape) == PRX_OK, "latents");
    const size_t n = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
    *out = malloc(n * sizeof **out);
    REQUIRE(*out, "memory");
    memcpy(*out, data, n * sizeof **out);
    return n;
}

static double distance(prx_model *m, const float *dense, int i, int to, int sparse)
{
    float *x;
    double sum = 0;
    prx_job *j = open_job(m, 1);
    use_schedule(j, i, to, sparse);
    const size_t n = run(j, &x);
    for (size_t k = 0; k < n; k++)
        sum += fabs((double)x[k] - dense[k]);
    free(x);
    prx_job_close(&j);
    return sum / (double)n;
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    REQUIRE(cJSON_IsNumber(v), "%s", key);
    return v->valuedouble;
}

/* Every weight of both kinds is that of a run of that one schedule. */
static void check_graph(prx_engine *e, prx_model *m)
{
    char *text = NULL;
    float *dense;
    int kinds[2] = { 0 };
    const cJSON *x;
    prx_job *j = open_job(m, 0);
    run(j, &dense);
    prx_job_close(&j);
    j = open_job(m, 1);
    REQUIRE(prx_schedule_build(j, "a red ball\n", NULL, "max_gap=3,sparse=true", NULL, &text) == PRX_OK, "%s", prx_job_last_error(j));
    prx_job_close(&j);
    cJSON *g = cJSON_Parse(text);
    cJSON_ArrayForEach(x, cJSON_GetObjectItemCaseSensitive(g, "edges"))
    {
        const int i = (int)number(x, "from"), to = (int)number(x, "to");
        const int sparse = cJSON_GetObjectItemCaseSensitive(x, "attention") != NULL;
        const double w = distance(m, dense, i, to, sparse);
        CHECK(fabs(number(x, "weight") - w) <= 1e-12 * w && w > 0, "%s %d to %d: %g, not %g", sparse ? "sparse" : "dense", i, to,
              number(x, "weight"), w);
        kinds[sparse]++;
    }
    CHECK(kinds[0] == 5 && kinds[1] == 10, "%d dense jumps, %d sparse", kinds[0], kinds[1]);
    prx_text_free(e, text);
    cJSON_Delete(g);
    free(dense);
}

/* Density as stats have it: 1 where the schedule is dense, the policy's where it is not, none where nothing ran. */
static void check_stats(prx_engine *e, prx_model *m)
{
    char *text = NULL;
    float *x;
    int i = 0;
    const cJSON *step;
    prx_job *j = open_job(m, 1);
    use_schedule(j, 1, 3, 1);
    run(j, &x);
    REQUIRE(prx_job_stats(j, &text) == PRX_OK, "%s", prx_job_last_error(j));
    cJSON *stats = cJSON_Parse(text);
    cJSON_ArrayForEach(step, cJSON_GetObjectItemCaseSensitive(stats, "steps"))
    {
        const cJSON *b = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(step, "branches"), 0);
        const cJSON *density = cJSON_GetObjectItemCaseSensitive(b, "attention_density");
        CHECK(i == 2 ? !cJSON_IsNumber(density) : i == 1 ? density->valuedouble < 1 : density->valuedouble == 1, "step %d", i);
        i++;
    }
    CHECK(i == STEPS, "%d steps", i);
    cJSON_Delete(stats);
    prx_text_free(e, text);
    free(x);
    prx_job_close(&j);
    j = open_job(m, 0);
    use_schedule(j, 1, 3, 1);
    CHECK(prx_job_plan(j, NULL) == PRX_EINVAL && strstr(prx_job_last_error(j), "sparse"), "no sparse attention: %s", prx_job_last_error(j));
    prx_job_close(&j);
}

static void check_refusals(prx_model *m)
{
    char *text = NULL;
    prx_job *j = open_job(m, 0);
    CHECK(prx_schedule_build(j, "x\n", NULL, "sparse=true", NULL, &text) == PRX_EINVAL && strstr(prx_job_last_error(j), "sparse"),
          "dense: %s", prx_job_last_error(j));
    prx_job_close(&j);
    j = open_job(m, 1);
    set(j, "attention.dense_timesteps", "2");
    CHECK(prx_schedule_build(j, "x\n", NULL, "sparse=true", NULL, &text) == PRX_EINVAL && strstr(prx_job_last_error(j), "dense_timesteps"),
          "a warm-up: %s", prx_job_last_error(j));
    prx_job_close(&j);
}

int main(void)
{
    prx_engine *e;
    prx_model *m;
    prx_engine_params p;
    prxi_mem_init(&mem, NULL);
    check_random();
    check_files();
    CHECK(atomic_load(&mem.total) == 0, "leak");
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0, "temporary file");
    close(fd);
    prx_engine_default_params(&p);
    p.dtype = "f32";
    p.threads = 2;
    REQUIRE(prx_engine_open(&e, &p) == PRX_OK, "engine");
    REQUIRE(prx_model_open(&m, e, PRX_VECTORS_DIR "/golden/wan21_unipc/model") == PRX_OK, "%s", prx_engine_last_error(e));
    check_graph(e, m);
    check_stats(e, m);
    check_refusals(m);
    prx_model_close(&m);
    prx_engine_close(&e);
    unlink(path);
    return TEST_END();
}
