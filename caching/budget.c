/* Budgets of computed steps: one for all steps, or one for each of two experts; and what to say of one that no path meets. */
#include "dag.h"

#include <math.h>
#include <string.h>

/* Of n digits; -1: something else, or beyond every graph. */
static int count_of(const char *digits, size_t n)
{
    int v = n ? 0 : -1;
    for (size_t i = 0; i < n && v >= 0; i++)
        v = digits[i] < '0' || digits[i] > '9' || v > PRXI_DAG_MAX_STEPS ? -1 : 10 * v + digits[i] - '0';
    return v <= PRXI_DAG_MAX_STEPS ? v : -1;
}

int prxi_dag_budget_parse(prxi_ctx *c, const char *text, prxi_dag_budget *out)
{
    const char *plus = strchr(text, '+'), *last = plus ? plus + 1 : text;
    const int first = plus ? count_of(text, (size_t)(plus - text)) : 0, rest = count_of(last, strlen(last));
    if (rest < 0 || first < 0 || (plus && first == 0))
        return prxi_fail(c, PRX_EINVAL, "budget: '%.40s': computed steps expected, 2 to %d, or those of each of two experts, as 6+5", text,
                         PRXI_DAG_MAX_STEPS);
    *out = (prxi_dag_budget) { first + rest, first };
    return PRX_OK;
}

/* Nodes of the shortest path. Neighbours are always joined, so there is one. */
static int fewest(const prxi_dag *g, int from, int to)
{
    int need[PRXI_DAG_MAX_STEPS];
    need[from] = 1;
    for (int j = from + 1; j <= to; j++) {
        need[j] = need[j - 1] + 1;
        for (int i = j - g->max_gap > from ? j - g->max_gap : from; i < j - 1; i++)
            if (!isnan(prxi_dag_weight(g, i, j)) && need[i] + 1 < need[j])
                need[j] = need[i] + 1;
    }
    return need[to];
}

static int fail_expert(prxi_ctx *c, prxi_dag_budget b, const char *noise, int least, int steps)
{
    return prxi_fail(c, PRX_EINVAL, "budget: %d+%d: no path of so many computed steps; of the %d of the %s-noise expert between %d and %d "
                     "can be tried", b.first, b.total - b.first, steps, noise, least, steps);
}

int prxi_dag_budget_fail(prxi_ctx *c, const prxi_dag *g, prxi_dag_budget b)
{
    if (!b.first)
        return prxi_fail(c, PRX_EINVAL, "budget: %d: no path of so many computed steps; between %d and %d of %d steps can be tried",
                         b.total, fewest(g, 0, g->steps - 1), g->steps, g->steps);
    if (!g->boundary)
        return prxi_fail(c, PRX_EINVAL, "budget: %d+%d: the graph is of a model with one expert; one number expected", b.first,
                         b.total - b.first);
    const int high = fewest(g, 0, g->boundary) - 1, low = fewest(g, g->boundary, g->steps - 1);
    if (b.first < high || b.first > g->boundary)
        return fail_expert(c, b, "high", high, g->boundary);
    return fail_expert(c, b, "low", low, g->steps - g->boundary);
}
