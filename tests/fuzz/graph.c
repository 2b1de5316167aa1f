/* A graph file: what is read is a graph with forward edges, and every budget has a path from the first step to the last along them, or
 * an error. */
#include <math.h>

#include "caching/dag.h"
#include "caching/schedule.h"
#include "tests/fuzz/fuzz_json.h"

const int fuzz_rounds = 50000;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("{\"steps\":7,\"max_gap\":3,\"model\":\"tiny\",\"sigmas\":[1,0.9,0.8,0.7,0.6,0.4,0.2],\"edges\":["
              "{\"from\":0,\"to\":2,\"weight\":1},{\"from\":1,\"to\":3,\"weight\":2},{\"from\":2,\"to\":5,\"weight\":3e-1},"
              "{\"from\":4,\"to\":6,\"weight\":3},{\"from\":3,\"to\":6,\"weight\":0}]}"),
    FUZZ_TEXT("{\"steps\":4,\"edges\":[{\"from\":0,\"to\":3,\"weight\":1.5},{\"from\":1,\"to\":2,\"weight\":0}],"
              "\"settings\":{\"reuse\":\"velocity\"}}"),
    FUZZ_TEXT("{\"steps\":5,\"max_gap\":2,\"edges\":[{\"from\":3,\"to\":1,\"weight\":Infinity}],\"sigmas\":[0.5]}"),
    FUZZ_TEXT("{\"steps\":4,\"max_gap\":2,\"edges\":[{\"from\":0,\"to\":2,\"weight\":1.5},{\"from\":0,\"to\":1,\"weight\":0.5,"
              "\"attention\":\"sparse\"},{\"from\":1,\"to\":3,\"weight\":2,\"attention\":\"sparse\"},{\"from\":3,\"to\":4,\"weight\":1,"
              "\"attention\":\"sparse\"},{\"from\":1,\"to\":2,\"attention\":\"dense\",\"weight\":0}]}"),
    FUZZ_TEXT("{\"steps\":7,\"max_gap\":3,\"boundary_step\":3,\"edges\":[{\"from\":0,\"to\":3,\"weight\":1},"
              "{\"from\":1,\"to\":3,\"weight\":2},{\"from\":3,\"to\":5,\"weight\":3},{\"from\":4,\"to\":6,\"weight\":1}]}"),
    { NULL, 0 },
};

static void check_path(const prxi_dag *g, const prxi_dag_path *p, int budget)
{
    if (p->n != budget || p->step[0] != 0 || p->step[budget - 1] != g->steps - 1 || p->n_weights > budget - 1)
        abort();
    for (int i = 1; i < p->n; i++) {
        const int gap = p->step[i] - p->step[i - 1];
        if (gap < 1 || gap > g->max_gap || isnan(prxi_dag_weight(g, p->step[i - 1], p->step[i])))
            abort();
    }
    for (int i = 0; i < p->n_weights; i++)
        if (!(p->weights[i] >= 0) || !isfinite(p->weights[i]) || (i && p->weights[i] > p->weights[i - 1]))
            abort();
}

/* The path computes the first step of the second expert, behind `first` others. */
static void check_experts(const prxi_dag *g, const prxi_dag_path *p, int first)
{
    if (!g->boundary || first >= p->n || p->step[first] != g->boundary)
        abort();
}

/* Small ones: the programme takes the cube of the steps. */
static void check_joint(prxi_ctx *c, const prxi_dag *g)
{
    static const prxi_dag_cost cost = { 0.75, 0.125 };
    prxi_dag_path p;
    double spent = 0;
    prxi_clear(c);
    if (!g->sparse || g->steps > 12 || prxi_dag_solve_joint(c, g, 0.6 * g->steps, &cost, &p) < 0)
        return;
    for (int k = 0; k < p.n; k++) {
        const int i = p.step[k], j = k + 1 < p.n ? p.step[k + 1] : g->steps;
        spent += (p.sparse[k] ? cost.sparse : 1) + (j - i - 1) * cost.cached;
        if (j <= i || (p.sparse[k] ? isnan(prxi_dag_sparse(g, i, j)) : j < g->steps && isnan(prxi_dag_weight(g, i, j))))
            abort();
    }
    if (p.step[0] != 0 || p.step[p.n - 1] != g->steps - 1 || spent != p.cost || !(spent <= 0.6 * g->steps))
        abort();
}

static void check_file(prxi_ctx *c, const prxi_json *j)
{
    static prxi_schedule origin;
    prxi_dag g = { 0 };
    prxi_dag_path p;
    if (prxi_dag_read(c, &g, j) < 0)
        return;
    for (int budget = 0; budget <= g.steps + 1 && budget < 12; budget++)
        for (int o = PRXI_DAG_MINIMAX; o <= PRXI_DAG_SUM; o++) {
            prxi_clear(c);
            if (prxi_dag_solve(c, &g, (prxi_dag_budget) { budget, 0 }, (prxi_dag_objective)o, &p) == PRX_OK)
                check_path(&g, &p, budget);
            for (int first = 1; first < budget; first++) {
                prxi_clear(c);
                if (prxi_dag_solve(c, &g, (prxi_dag_budget) { budget, first }, (prxi_dag_objective)o, &p) == PRX_OK)
                    check_path(&g, &p, budget), check_experts(&g, &p, first);
            }
        }
    check_joint(c, &g);
    origin.steps = g.steps;
    if (prxi_schedule_read_origin(c, &origin, j) == PRX_OK && origin.has_sigmas && !(origin.sigmas[g.steps - 1] > 0))
        abort();
    prxi_dag_close(c, &g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    return fuzz_json(data, n, check_file);
}
