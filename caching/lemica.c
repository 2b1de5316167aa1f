/* LeMiCa: replay of a static schedule (caching.md section 2). A cached step reuses either the residual of the whole
 * block stack, per branch, or the
 * guided velocity, for which nothing of the network runs. Nothing is measured and nothing is read back. */
#include "dag.h"
#include "forecast.h"
#include "registry.h"
#include "schedule.h"

#include <math.h>
#include <stdio.h>

typedef struct lemica {
    char schedule_path[PRXI_OPT_STRING_MAX], graph_path[PRXI_OPT_STRING_MAX];
    int64_t budget, order, gap_cap;
    int reuse, calibrator, objective;       /* reuse: 0 residual, 1 velocity */
    prxi_cache_env env;
    uint8_t computed[PRXI_SCHEDULE_MAX];
    prxi_forecast value[PRXI_BRANCHES];     /* residual of each branch; [0]: the velocity */
    void *hold[PRXI_BRANCHES];              /* state before the blocks */
    int expert;
} lemica;

#define AT(field) offsetof(lemica, field)

static const prxi_option options[] = {
    { "schedule", PRXI_OPT_STRING, AT(schedule_path), 0, 0, NULL, "", "schedule file (--schedule)" },
    { "budget", PRXI_OPT_INT, AT(budget), 0, PRXI_DAG_MAX_STEPS, NULL, "0",
      "computed steps: solves the model's graph instead of reading a schedule" },
    { "graph", PRXI_OPT_STRING, AT(graph_path), 0, 0, NULL, "", "graph file for budget (MODEL/lemica_graph.json)" },
    { "objective", PRXI_OPT_CHOICE, AT(objective), 0, 0, "minimax|sum", "minimax",
      "for budget: lexicographic minimax, or the shortest sum" },
    { "reuse", PRXI_OPT_CHOICE, AT(reuse), 0, 0, "residual|velocity", "residual",
      "what a cached step reuses: the blocks' residual, or the guided velocity" },
    { "calibrator", PRXI_OPT_CHOICE, AT(calibrator), 0, 0, "none|taylor|newton", "none", "how it is extrapolated" },
    { "order", PRXI_OPT_INT, AT(order), 1, PRXI_FORECAST_MAX, NULL, "1", "of the calibrator" },
    { "newton_gap", PRXI_OPT_INT, AT(gap_cap), 0, 1000, NULL, "4",
      "beyond this many steps since a computed one newton has order 1 at most; 0: never" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

/* ---- plan ---- */

static int check_model(prxi_ctx *c, const char *path, const char *made_for, const prxi_cache_env *env)
{
    if (!*made_for || !env->model || strcmp(made_for, env->model) == 0)
        return PRX_OK;
    return prxi_fail(c, PRX_EINVAL, "%s: made for model %s, not for %s (remove its \"model\" to use it all the same)", path, made_for,
                     env->model);
}

static int from_schedule(lemica *l, prxi_ctx *c, prxi_schedule *s)
{
    prxi_json j;
    int err = prxi_json_open(c, &j, l->schedule_path, 0);
    if (err < 0)
        return err;
    err = prxi_schedule_read(c, s, &j);
    prxi_json_close(c, &j);
    if (err == PRX_OK)
        err = check_model(c, l->schedule_path, s->model, &l->env);
    return err == PRX_OK ? prxi_schedule_map(c, s, l->env.sigmas, l->env.steps, l->computed) : err;
}

/* Solves the graph for the budget; the graph's own sigmas make the result fit other step counts. */
static int solve(lemica *l, prxi_ctx *c, const prxi_json *j, prxi_schedule *s)
{
    prxi_dag g;
    prxi_dag_path path;
    const char *model = NULL;
    int n = 0, err = prxi_dag_read(c, &g, j);
    if (err < 0)
        return err;
    err = prxi_dag_solve(c, &g, (int)l->budget, (prxi_dag_objective)l->objective, &path);
    s->steps = g.steps;
    prxi_dag_close(c, &g);
    if (err < 0 || (err = prxi_json_str(c, j, "model", &model)) < 0 ||
        (err = prxi_json_nums(c, j, "sigmas", s->sigmas, PRXI_SCHEDULE_MAX, &n)) < 0)
        return err;
    if (n && n != s->steps)
        return prxi_fail(c, PRX_EFORMAT, "%s: sigmas: %d values; %d expected", j->path, n, s->steps);
    s->has_sigmas = n > 0;
    s->n = path.n;
    memcpy(s->computed, path.step, (size_t)path.n * sizeof *path.step);
    s->worst_edge = path.n_weights ? path.weights[0] : 0;
    return check_model(c, j->path, model ? model : "", &l->env);
}

static int from_graph(lemica *l, prxi_ctx *c, prxi_schedule *s)
{
    char path[4096];
    prxi_json j;
    if (*l->graph_path)
        snprintf(path, sizeof path, "%s", l->graph_path);
    else
        snprintf(path, sizeof path, "%s/lemica_graph.json", l->env.model_dir ? l->env.model_dir : ".");
    int err = prxi_json_open(c, &j, path, 0);
    if (err < 0)
        return err;
    err = solve(l, c, &j, s);
    prxi_json_close(c, &j);
    return err == PRX_OK ? prxi_schedule_map(c, s, l->env.sigmas, l->env.steps, l->computed) : err;
}

static int open_buffers(lemica *l, prxi_ctx *c, prxi_cache_plan *out)
{
    const int count = l->reuse ? 1 : l->env.branches;
    const int64_t n = l->reuse ? l->env.latent_elems : l->env.tokens * l->env.dim;
    const prxi_dtype t = l->reuse || l->calibrator == PRXI_FORECAST_NEWTON ? PRXI_F32 : l->env.dtype;
    const size_t hold = l->reuse ? 0 : prxi_mul((size_t)n, prxi_dtype_size(l->env.dtype));
    out->bytes = (size_t)count * (prxi_forecast_bytes((prxi_forecast_kind)l->calibrator, (int)l->order, t, n) + hold);
    for (int i = 0; i < count; i++) {
        const int err = prxi_forecast_open(c, &l->value[i], (prxi_forecast_kind)l->calibrator, (int)l->order, t, n);
        if (err < 0)
            return err;
        l->value[i].gap_cap = (int)l->gap_cap;
        if (hold && !(l->hold[i] = prxi_alloc(c->mem, PRXI_MEM_CACHE, hold)))
            return prxi_fail_nomem(c, "cache buffers", hold);
    }
    return PRX_OK;
}

static int plan(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *out)
{
    lemica *l = priv;
    l->env = *env;
    l->expert = -1;
    if (env->steps > PRXI_SCHEDULE_MAX)
        return prxi_fail(c, PRX_EINVAL, "steps: %d; at most %d with this cache", env->steps, PRXI_SCHEDULE_MAX);
    if (!*l->schedule_path == !l->budget)
        return prxi_fail(c, PRX_EINVAL, "cache lemica: %s", l->budget ? "cache.schedule and cache.budget exclude each other"
                                                                      : "needs --schedule FILE or --set cache.budget=N");
    prxi_schedule *s = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, 1, sizeof *s);
    if (!s)
        return prxi_fail_nomem(c, "schedule", sizeof *s);
    const int err = *l->schedule_path ? from_schedule(l, c, s) : from_graph(l, c, s);
    prxi_free(c->mem, s);
    if (err < 0)
        return err;
    out->computed_steps = 0;
    for (int i = 0; i < env->steps; i++) {
        /* An expert's first step has nothing to reuse. */
        if (i > 0 && env->step_expert && env->step_expert[i] != env->step_expert[i - 1])
            l->computed[i] = 1;
        out->computed_steps += l->computed[i];
    }
    snprintf(out->note, sizeof out->note, "%d of %d steps are computed", out->computed_steps, env->steps);
    return open_buffers(l, c, out);
}

static void close(void *priv, prxi_ctx *c)
{
    lemica *l = priv;
    for (int i = 0; i < PRXI_BRANCHES; i++) {
        prxi_forecast_close(c, &l->value[i]);
        prxi_free(c->mem, l->hold[i]);
    }
}

/* ---- run ---- */

static const char *reason(const lemica *l, int step)
{
    return l->computed[step] ? "schedule" : l->reuse ? "schedule: velocity reused" : "schedule: residual reused";
}

static int begin_step(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports)
{
    lemica *l = priv;
    if (step->expert != l->expert)
        for (int i = 0; i < PRXI_BRANCHES; i++)
            prxi_forecast_reset(&l->value[i]);
    l->expert = step->expert;
    for (int b = 0; b < l->env.branches; b++) {
        reports[b].reason = reason(l, step->index);
        reports[b].cached = !l->computed[step->index];
    }
    if (!l->reuse || l->computed[step->index])
        return 0;
    prxi_forecast_apply(s, &l->value[0], step->index, step->sigma, PRXI_F32, v, 0);
    return 1;
}

static void end_step(void *priv, prxi_stream *s, const prxi_step *step, const float *v)
{
    lemica *l = priv;
    if (l->reuse)
        prxi_forecast_update(s, &l->value[0], step->index, step->sigma, PRXI_F32, v, NULL);
}

static int at_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x)
{
    lemica *l = priv;
    const int b = call->branch, step = call->step->index;
    if (l->reuse || (block != 0 && block != l->env.blocks))
        return block;
    if (!l->computed[step]) {
        if (block == 0)
            prxi_forecast_apply(s, &l->value[b], step, call->step->sigma, l->env.dtype, x, 1);
        return l->env.blocks;
    }
    if (block == 0)
        memcpy(l->hold[b], x, (size_t)(l->env.tokens * l->env.dim) * prxi_dtype_size(l->env.dtype));
    else
        prxi_forecast_update(s, &l->value[b], step, call->step->sigma, l->env.dtype, x, l->hold[b]);
    return block;
}

const prxi_cache_policy prxi_cache_lemica = {
    .name = "lemica",
    .help = "replay a schedule of computed steps, reuse between them",
    .priv_size = sizeof(lemica),
    .options = options,
    .plan = plan,
    .begin_step = begin_step,
    .end_step = end_step,
    .at_block = at_block,
    .close = close,
};
