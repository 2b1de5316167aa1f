/* The path solver against the vectors and against exhaustive search on 1,000 random graphs of one expert and as many of two; bad graphs and
 * budgets. */
#include "tests/vectors.h"

#include "caching/dag.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

static void check_path(const prxi_dag *g, const cJSON *r, const char *name)
{
    const int budget = (int)vec_num(r, "B"), feasible = (int)vec_num_or(r, "feasible", 1);
    prxi_dag_path p;
    prxi_clear(&ctx);
    const int err = prxi_dag_solve(&ctx, g, (prxi_dag_budget) { budget, 0 }, PRXI_DAG_MINIMAX, &p);
    CHECK((err == PRX_OK) == feasible, "%s B %d: %s", name, budget, ctx.error.text);
    if (!feasible || err < 0)
        return;
    const cJSON *path = vec_get(r, "path"), *weights = vec_get(r, "sorted_weights");
    int same = cJSON_GetArraySize(path) == p.n && cJSON_GetArraySize(weights) == p.n_weights;
    for (int i = 0; same && i < p.n; i++)
        same = cJSON_GetArrayItem(path, i)->valueint == p.step[i];
    for (int i = 0; same && i < p.n_weights; i++)
        same = cJSON_GetArrayItem(weights, i)->valuedouble == p.weights[i];
    CHECK(same, "%s B %d: minimax path or weights", name, budget);
    REQUIRE(prxi_dag_solve(&ctx, g, (prxi_dag_budget) { budget, 0 }, PRXI_DAG_SUM, &p) == PRX_OK, "%s", ctx.error.text);
    double sum = 0;
    for (int i = 0; i < p.n_weights; i++)
        sum += p.weights[i];
    CHECK(fabs(sum - vec_num(r, "shortest_sum")) <= 1e-9 * (1 + sum), "%s B %d: sum %g", name, budget, sum);
}

static void check_vectors(void)
{
    cJSON *root = vectors_load("caching/cache_lemica_dags.json");
    const cJSON *c, *e, *r;
    int n = 0;
    cJSON_ArrayForEach(c, vec_get(root, "cases"))
    {
        prxi_dag g;
        REQUIRE(prxi_dag_open(&ctx, &g, (int)vec_num(c, "T"), (int)vec_num(c, "Lmax")) == PRX_OK, "open");
        cJSON_ArrayForEach(e, vec_get(c, "edges"))
        {
            const int i = cJSON_GetArrayItem(e, 0)->valueint, j = cJSON_GetArrayItem(e, 1)->valueint;
            g.weight[i * (g.max_gap + 1) + j - i] = cJSON_GetArrayItem(e, 2)->valuedouble;
        }
        cJSON_ArrayForEach(r, vec_get(c, "results")) check_path(&g, r, vec_str(c, "name")), n++;
        prxi_dag_close(&ctx, &g);
    }
    CHECK(n > 80, "%d budgets", n);
    cJSON_Delete(root);
}

/* ---- exhaustive search ---- */

typedef struct best {
    int n, found, path[16];
    double list[16], sum;
} best;

static int greater_first(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* first: nodes before the boundary; 0: any number. */
static void visit(const prxi_dag *g, int *path, int n, int budget, int first, best *minimax, double *least_sum)
{
    const int last = path[n - 1];
    if (n == budget) {
        double list[16] = { 0 }, sum = 0;
        int before = 0;
        for (int i = 0; i < n; i++)
            before += path[i] < g->boundary;
        if (last != g->steps - 1 || (first && before != first))
            return;
        for (int i = 1; i < n; i++) {
            list[i - 1] = prxi_dag_weight(g, path[i - 1], path[i]);
            sum += list[i - 1];
        }
        qsort(list, (size_t)(n - 1), sizeof *list, greater_first);
        int better = !minimax->found;
        for (int i = 0; !better && i < n - 1 && list[i] <= minimax->list[i]; i++)
            if (list[i] < minimax->list[i])
                better = 1;
        if (better) {       /* paths come in lexicographic order: the first of equals stays */
            minimax->found = 1;
            memcpy(minimax->list, list, sizeof list);
            memcpy(minimax->path, path, (size_t)n * sizeof *path);
        }
        *least_sum = fmin(*least_sum, sum);
        return;
    }
    for (int j = last + 1; j < g->steps && j - last <= g->max_gap; j++)
        if (!isnan(prxi_dag_weight(g, last, j))) {
            path[n] = j;
            visit(g, path, n + 1, budget, first, minimax, least_sum);
        }
}

/* Few levels make many ties; now and then an edge is missing. With a boundary no edge passes it. */
static void random_graph(uint32_t *seed, int experts, prxi_dag *g)
{
    *seed = *seed * 1664525u + 1013904223u;
    const int steps = 3 + (int)(*seed >> 8) % 8, gap = 1 + (int)(*seed >> 16) % (steps - 1), levels = 1 + (int)(*seed >> 20) % 9;
    REQUIRE(prxi_dag_open(&ctx, g, steps, gap) == PRX_OK, "open");
    if (experts)
        g->boundary = 1 + (int)(*seed >> 24) % (steps - 1);
    for (int i = 0; i < steps; i++)
        for (int k = 2; k <= gap && i + k < steps; k++) {
            *seed = *seed * 1664525u + 1013904223u;
            if ((*seed >> 28) != 0 && !(i < g->boundary && g->boundary < i + k))
                g->weight[i * (gap + 1) + k] = (double)((int)(*seed >> 8) % levels + 1);
        }
}

/* 1 when there is such a path. */
static int check_budget(const prxi_dag *g, prxi_dag_budget b, best *want)
{
    int path[16] = { 0 };
    double least = INFINITY, sum = 0;
    prxi_dag_path p;
    *want = (best) { 0 };
    visit(g, path, 1, b.total, b.first, want, &least);
    prxi_clear(&ctx);
    const int err = prxi_dag_solve(&ctx, g, b, PRXI_DAG_MINIMAX, &p);
    CHECK((err == PRX_OK) == want->found, "budget %d, %d: found %d: %s", b.total, b.first, want->found, ctx.error.text);
    if (err < 0)
        return 0;
    CHECK(memcmp(p.step, want->path, (size_t)b.total * sizeof(int)) == 0, "budget %d, %d: path", b.total, b.first);
    REQUIRE(prxi_dag_solve(&ctx, g, b, PRXI_DAG_SUM, &p) == PRX_OK, "sum");
    for (int i = 0; i < p.n_weights; i++)
        sum += p.weights[i];
    CHECK(sum == least, "budget %d, %d: sum %g, least %g", b.total, b.first, sum, least);
    return 1;
}

static void check_random(void)
{
    uint32_t seed = 12345;
    best want;
    for (int round = 0; round < 1000; round++) {
        prxi_dag g;
        random_graph(&seed, 0, &g);
        for (int budget = 2; budget <= g.steps; budget++)
            check_budget(&g, (prxi_dag_budget) { budget, 0 }, &want);
        prxi_dag_close(&ctx, &g);
    }
}

/* Two experts: every pair of budgets is exact, and a budget for both is the best of its pairs. */
static void check_experts(void)
{
    uint32_t seed = 777;
    int found = 0;
    for (int round = 0; round < 1000; round++) {
        prxi_dag g;
        random_graph(&seed, 1, &g);
        for (int budget = 2; budget <= g.steps; budget++) {
            best whole, best_pair = { 0 }, pair;
            check_budget(&g, (prxi_dag_budget) { budget, 0 }, &whole);
            for (int first = 1; first < budget; first++) {
                if (!check_budget(&g, (prxi_dag_budget) { budget, first }, &pair))
                    continue;
                found++;
                int better = !best_pair.found;
                for (int i = 0; !better && i < budget - 1 && pair.list[i] <= best_pair.list[i]; i++)
                    better = pair.list[i] < best_pair.list[i];
                if (better)
                    best_pair = pair;
            }
            CHECK(whole.found == best_pair.found && memcmp(whole.list, best_pair.list, sizeof whole.list) == 0, "budget %d of %d steps",
                  budget, g.steps);
        }
        prxi_dag_close(&ctx, &g);
    }
    CHECK(found > 5000, "%d", found);
}

static void refuse(const prxi_dag *g, const char *text, const char *says)
{
    prxi_dag_budget b;
    prxi_dag_path p;
    prxi_clear(&ctx);
    int err = prxi_dag_budget_parse(&ctx, text, &b);
    if (err == PRX_OK)
        err = prxi_dag_solve(&ctx, g, b, PRXI_DAG_MINIMAX, &p);
    CHECK(err == PRX_EINVAL && strstr(ctx.error.text, says), "%s: %d %s", text, err, ctx.error.text);
}

/* What a budget is, and which of them a graph of 10 steps with jumps of 3 has, the second expert from step 4 on. */
static void check_budgets(void)
{
    static const char *const bad[] = { "", "x", "-3", "+", "+5", "5+", "5+-1", "0+5", "4.5", "3 ", " 3", "201", "3+201", "1+2+3", "3++4",
                                       "99999999999999999999", "11111111111111111111111111111111111111111+2" };
    prxi_dag g;
    prxi_dag_budget b;
    REQUIRE(prxi_dag_open(&ctx, &g, 10, 3) == PRX_OK, "open");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(&g, bad[i], "as 6+5");
    CHECK(prxi_dag_budget_parse(&ctx, "11", &b) == PRX_OK && b.total == 11 && b.first == 0, "11");
    CHECK(prxi_dag_budget_parse(&ctx, "6+5", &b) == PRX_OK && b.total == 11 && b.first == 6, "6+5");
    refuse(&g, "3+3", "one expert");
    for (int i = 0; i < 10; i++)
        for (int k = 2; k <= 3 && i + k < 10; k++)
            g.weight[i * 4 + k] = 1;
    refuse(&g, "3", "between 4 and 10 of 10");
    g.boundary = 4;
    for (int i = 0; i < 4; i++)
        for (int k = 2; k <= 3; k++)
            g.weight[i * 4 + k] = i + k > 4 ? NAN : 1;
    refuse(&g, "4", "between 5 and 10 of 10");
    refuse(&g, "1+4", "of the 4 of the high-noise expert between 2 and 4");
    refuse(&g, "5+4", "of the 4 of the high-noise expert between 2 and 4");
    refuse(&g, "2+2", "of the 6 of the low-noise expert between 3 and 6");
    refuse(&g, "4+7", "of the 6 of the low-noise expert between 3 and 6");
    prxi_dag_close(&ctx, &g);
}

static void check_bad(void)
{
    static const char *const bad[] = {
        "{}",
        "{\"steps\": 5}",
        "{\"steps\": 1, \"edges\": []}",
        "{\"steps\": 5, \"max_gap\": 9, \"edges\": []}",
        "{\"steps\": 1e9, \"edges\": []}",
        "{\"steps\": 5, \"edges\": [{\"from\": 3, \"to\": 1, \"weight\": 1}]}",
        "{\"steps\": 5, \"edges\": [{\"from\": 2, \"to\": 2, \"weight\": 1}]}",
        "{\"steps\": 5, \"edges\": [{\"from\": 0, \"to\": 5, \"weight\": 1}]}",
        "{\"steps\": 5, \"edges\": [{\"from\": 0.5, \"to\": 2, \"weight\": 1}]}",
        "{\"steps\": 5, \"edges\": [{\"from\": 0, \"to\": 2, \"weight\": -1}]}",
        "{\"steps\": 5, \"edges\": [{\"from\": 0, \"to\": 2, \"weight\": 1e999}]}",
        "{\"steps\": 5, \"edges\": [{\"from\": 0, \"to\": 2, \"weight\": null}]}",
        "{\"steps\": 5, \"edges\": [{\"from\": 0, \"to\": 2, \"weight\": 1}, {\"from\": 0, \"to\": 2, \"weight\": 1}]}",
        "{\"steps\": 5, \"max_gap\": 2, \"edges\": [{\"from\": 0, \"to\": 3, \"weight\": 1}]}",
        "{\"steps\": 5, \"boundary_step\": 2, \"edges\": [{\"from\": 1, \"to\": 3, \"weight\": 1}]}",
        "{\"steps\": 5, \"boundary_step\": 5, \"edges\": []}",
        "{\"steps\": 5, \"boundary_step\": 0, \"edges\": []}",
        "{\"steps\": 5, \"boundary_step\": \"2\", \"edges\": []}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        prxi_json j;
        prxi_dag g;
        prxi_clear(&ctx);
        int err = prxi_json_parse(&ctx, &j, "graph.json", bad[i], strlen(bad[i]));
        if (err == PRX_OK) {
            err = prxi_dag_read(&ctx, &g, &j);
            prxi_json_close(&ctx, &j);
        }
        CHECK(err == PRX_EFORMAT && strstr(ctx.error.text, "graph.json"), "%s: %d %s", bad[i], err, ctx.error.text);
        if (err == PRX_OK)
            prxi_dag_close(&ctx, &g);
    }
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    check_vectors();
    check_random();
    check_experts();
    check_budgets();
    check_bad();
    CHECK(atomic_load(&mem.total) == 0, "leak");
    return TEST_END();
}
