/* LeMiCa: which steps are computed comes from a schedule file, or from the model's graph solved for a budget (caching.md section 2);
 * caching/replay.c does the rest. */
#include "dag.h"
#include "registry.h"
#include "replay.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The option's third choice, after those of PRXI_REUSE_*: as the schedule or graph says. */
enum { REUSE_AUTO = 2 };

typedef struct lemica {
    prxi_replay replay;
    char schedule_path[PRXI_OPT_STRING_MAX], graph_path[PRXI_OPT_STRING_MAX], budget[PRXI_OPT_STRING_MAX];
    double cost;
    prxi_dag_cost step_cost;
    int objective;
} lemica;

#define AT(field) offsetof(lemica, field)

static const prxi_option options[] = {
    { "schedule", PRXI_OPT_STRING, AT(schedule_path), 0, 0, NULL, "", "schedule file (--schedule)" },
    { "budget", PRXI_OPT_STRING, AT(budget), 0, 0, NULL, "",
      "computed steps, of two experts also as 6+5: solves the model's graph instead of reading a schedule" },
    { "cost", PRXI_OPT_DOUBLE, AT(cost), 0, PRXI_DAG_MAX_STEPS, NULL, "0",
      "as budget, of a graph with sparse jumps: time in dense steps, spent on dense, sparse and cached ones" },
    { "sparse_cost", PRXI_OPT_DOUBLE, AT(step_cost.sparse), 0, 10, NULL, "0", "for cost: time of a sparse step, a dense one being 1" },
    { "cached_cost", PRXI_OPT_DOUBLE, AT(step_cost.cached), 0, 10, NULL, "0", "for cost: of a cached step" },
    { "graph", PRXI_OPT_STRING, AT(graph_path), 0, 0, NULL, "", "graph file for budget and cost (MODEL/lemica_graph.json)" },
    { "objective", PRXI_OPT_CHOICE, AT(objective), 0, 0, "minimax|sum", "minimax",
      "for budget: lexicographic minimax, or the shortest sum" },
    PRXI_REPLAY_OPTIONS(lemica, replay, "residual|velocity|auto", "auto"),
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

static int check_model(prxi_ctx *c, const char *path, const char *made_for, const prxi_cache_env *env)
{
    if (!*made_for || !env->model || strcmp(made_for, env->model) == 0)
        return PRX_OK;
    return prxi_fail(c, PRX_EINVAL, "%s: made for model %s, not for %s (remove its \"model\" to use it all the same)", path, made_for,
                     env->model);
}

static int from_schedule(const lemica *l, prxi_ctx *c, prxi_schedule *s)
{
    prxi_json j;
    int err = prxi_json_open(c, &j, l->schedule_path, 0);
    if (err < 0)
        return err;
    err = prxi_schedule_read(c, s, &j);
    prxi_json_close(c, &j);
    return err;
}

/* Solves the graph for the budget; the graph's own sigmas make the result fit other step counts. */
static int solve(const lemica *l, prxi_ctx *c, const prxi_json *j, prxi_schedule *s)
{
    prxi_dag g;
    prxi_dag_path path;
    prxi_dag_budget budget = { 0, 0 };
    int err;
    if ((*l->budget && (err = prxi_dag_budget_parse(c, l->budget, &budget)) < 0) || (err = prxi_dag_read(c, &g, j)) < 0)
        return err;
    if (l->cost > 0 && !g.sparse)
        err = prxi_fail(c, PRX_EINVAL, "%s: has no sparse jumps, which cache.cost is for; schedule build --sparse measures them", j->path);
    else if (l->cost > 0)
        err = prxi_dag_solve_joint(c, &g, l->cost, &l->step_cost, &path);
    else
        err = prxi_dag_solve(c, &g, budget, (prxi_dag_objective)l->objective, &path);
    s->steps = g.steps;
    prxi_dag_close(c, &g);
    if (err < 0 || (err = prxi_schedule_read_origin(c, s, j)) < 0)
        return err;
    s->n = path.n;
    memcpy(s->computed, path.step, (size_t)path.n * sizeof *path.step);
    s->has_attention = l->cost > 0;
    memcpy(s->sparse, path.sparse, (size_t)path.n);
    s->worst_edge = path.n_weights ? path.weights[0] : 0;
    return PRX_OK;
}

/* path: where the graph is, for messages. */
static int from_graph(const lemica *l, prxi_ctx *c, const prxi_cache_env *env, prxi_schedule *s, char *path, size_t n)
{
    prxi_json j;
    if (*l->graph_path)
        snprintf(path, n, "%s", l->graph_path);
    else
        snprintf(path, n, "%s/lemica_graph.json", env->model_dir ? env->model_dir : ".");
    int err = prxi_json_open(c, &j, path, 0);
    if (err < 0)
        return err;
    err = solve(l, c, &j, s);
    prxi_json_close(c, &j);
    return err;
}

/* The schedule of this job in s, mapped to its steps; and what it was measured with, where the settings leave that open. */
static int resolve(lemica *l, prxi_ctx *c, const prxi_cache_env *env, prxi_schedule *s)
{
    char path[4096];
    int err;
    snprintf(path, sizeof path, "%s", l->schedule_path);
    err = *l->schedule_path ? from_schedule(l, c, s) : from_graph(l, c, env, s, path, sizeof path);
    if (err < 0 || (err = check_model(c, path, s->model, env)) < 0)
        return err;
    if (s->boundary && env->experts < 2)
        return prxi_fail(c, PRX_EINVAL, "%s: for a model of two experts; this one has one", path);
    if (l->replay.reuse == REUSE_AUTO)
        l->replay.reuse = strcmp(s->reuse, "velocity") == 0 ? PRXI_REUSE_VELOCITY : PRXI_REUSE_RESIDUAL;
    const prxi_job_steps job = { env->steps, prxi_cache_boundary(env), env->sigmas };
    return prxi_schedule_map(c, s, &job, l->replay.computed);
}

/* What will run, for the plan. An expert's first step has nothing to reuse: it is computed whatever the schedule says. */
static void describe(lemica *l, const prxi_cache_env *env, int has_attention, prxi_cache_plan *out)
{
    uint8_t *kinds = l->replay.computed;
    const int boundary = prxi_cache_boundary(env);
    int n[2] = { 0, 0 }, sparse = 0;
    char how[64] = "", experts[96] = "";
    if (boundary < env->steps && kinds[boundary] == PRXI_STEP_CACHED)
        kinds[boundary] = has_attention ? PRXI_STEP_DENSE : PRXI_STEP_COMPUTED;
    for (int i = 0; i < env->steps; i++) {
        n[i >= boundary] += kinds[i] != PRXI_STEP_CACHED;
        sparse += kinds[i] == PRXI_STEP_COMPUTED;
    }
    out->computed_steps = n[0] + n[1];
    out->steps = has_attention ? kinds : NULL;
    if (has_attention)
        snprintf(how, sizeof how, ", %d of them with sparse attention", sparse);
    if (env->experts > 1)
        snprintf(experts, sizeof experts, " (%d of %d high-noise, %d of %d low-noise)", n[0], boundary, n[1], env->steps - boundary);
    snprintf(out->note, sizeof out->note, "%d of %d steps are computed%s%s, the others reuse the %s", out->computed_steps, env->steps,
             experts, how, l->replay.reuse == PRXI_REUSE_VELOCITY ? "velocity" : "residual");
}

static int plan(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *out)
{
    lemica *l = priv;
    if (env->steps > PRXI_SCHEDULE_MAX)
        return prxi_fail(c, PRX_EINVAL, "steps: %d; at most %d with this cache", env->steps, PRXI_SCHEDULE_MAX);
    const int given = (*l->schedule_path != 0) + (*l->budget != 0) + (l->cost > 0);
    if (given != 1)
        return prxi_fail(c, PRX_EINVAL, "cache lemica: %s", given ? "cache.schedule, cache.budget and cache.cost exclude each other"
                                                                  : "needs --schedule FILE, --set cache.budget=N or cache.cost=X");
    if (l->cost > 0 && !(l->step_cost.sparse > 0))
        return prxi_fail(c, PRX_EINVAL, "cache.sparse_cost: missing: cache.cost needs the time of a sparse step, a dense one being 1");
    prxi_schedule *s = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, 1, sizeof *s);
    if (!s)
        return prxi_fail_nomem(c, "schedule", sizeof *s);
    const int err = resolve(l, c, env, s);
    if (err < 0) {
        prxi_free(c->mem, s);
        return err;
    }
    describe(l, env, s->has_attention, out);
    prxi_free(c->mem, s);
    return prxi_replay_open(c, &l->replay, env, &out->bytes);
}

static const prxi_cache_advice advice[] = {
    { "schedule", "a schedule that computes fewer steps: a smaller cache.budget, or more steps" },
    { NULL, NULL },
};

const prxi_cache_policy prxi_cache_lemica = {
    .name = "lemica",
    .help = "replay a schedule of computed steps, reuse between them",
    .priv_size = sizeof(lemica),
    .options = options,
    .advice = advice,
    .plan = plan,
    .begin_step = prxi_replay_begin_step,
    .end_step = prxi_replay_end_step,
    .at_block = prxi_replay_at_block,
    .close = prxi_replay_close,
};
