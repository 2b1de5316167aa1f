/* Measures the weights of LeMiCa's graph (caching.md 2.1): w(i, j) is the mean absolute difference of the final latents between a run
 * that reuses step i up to step j and computes everything else, and one that computes everything. Per sample the computed run is
 * stored step by step. A start i is computed once more and walked to its longest jump, because the shorter jumps are its prefixes, and
 * from every state on that walk the run is finished in full. Finishes are not put in batches: at the sizes that are measured a step
 * alone already keeps the matrix units busy.
 *
 * With `sparse` everything is dense but the start of a jump in the second half of the rows, which takes the job's attention: what one
 * sparse step does to the outcome, alone and reused. */
#include "graph.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const prxi_option options[] = {
    PRXI_REPLAY_OPTIONS(prxi_graph_options, replay, "residual|velocity", "residual"),
    { "max_gap", PRXI_OPT_INT, offsetof(prxi_graph_options, max_gap), 2, PRXI_DAG_MAX_STEPS - 1, NULL, "8",
      "longest jump, in steps" },
    { "quick", PRXI_OPT_BOOL, offsetof(prxi_graph_options, quick), 0, 1, NULL, "0",
      "measure every other end of a jump and interpolate the rest" },
    { "sparse", PRXI_OPT_BOOL, offsetof(prxi_graph_options, sparse), 0, 1, NULL, "0",
      "measure each jump twice: dense, and with the job's attention at its start" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

static const prxi_cache_policy walker = {
    .name = "walk",
    .begin_step = prxi_replay_begin_step,
    .end_step = prxi_replay_end_step,
    .at_block = prxi_replay_at_block,
};

typedef struct build {
    prxi_graph g;
    prxi_prompt_request *texts;     /* [n_prompts + 1]: the last is the negative prompt */
    size_t sched_bytes, state_bytes;
    unsigned char *fresh;           /* scheduler before the first step */
    unsigned char *path;            /* [steps]: scheduler and latents before each step of the computed run */
    unsigned char *walk;            /* [gap + 1]: the same, after 1, 2, ... reused steps */
    float *x0;                      /* final latents of the computed run */
    uint8_t *kinds;                 /* [steps] with sparse: dense but for the start of a walk */
    int shown_prompt;               /* whose text the network holds; -1 none */
    double work, work_done, began;  /* full steps */
    double work_before;             /* of them, done by an earlier call */
    const prxi_cache_policy *none;
    void *none_priv;
} build;

/* ---- input ---- */

static int take_prompts(prxi_ctx *c, prxi_graph *g, const char *prompts)
{
    g->text = prxi_strdup(c->mem, prompts);
    if (!g->text)
        return prxi_fail_nomem(c, "prompts", strlen(prompts));
    for (char *line = g->text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (line[strspn(line, " \t")] == '\0')
            continue;
        if (g->n_prompts == PRXI_GRAPH_PROMPTS)
            return prxi_fail(c, PRX_EINVAL, "prompts: more than %d", PRXI_GRAPH_PROMPTS);
        g->prompt[g->n_prompts++] = line;
    }
    return g->n_prompts ? PRX_OK : prxi_fail(c, PRX_EINVAL, "prompts: none: one a line expected");
}

static int add_seed(prxi_ctx *c, prxi_graph *g, int64_t seed, const char *text)
{
    for (int i = 0; i < g->n_seeds; i++)
        if (g->seed[i] == seed)
            return prxi_fail(c, PRX_EINVAL, "seeds: %.80s: %lld comes twice", text, (long long)seed);
    if (g->n_seeds == PRXI_GRAPH_SEEDS)
        return prxi_fail(c, PRX_EINVAL, "seeds: %.80s: more than %d", text, PRXI_GRAPH_SEEDS);
    g->seed[g->n_seeds++] = seed;
    return PRX_OK;
}

/* "0,1,7-9"; NULL: the job's. */
static int take_seeds(prxi_ctx *c, prxi_graph *g, const char *text)
{
    if (!text)
        return add_seed(c, g, g->job->set.seed, "");
    const char *p = text;
    for (;;) {
        char part[64], *dash;
        int64_t from, to;
        const size_t n = strcspn(p, ",");
        snprintf(part, sizeof part, "%.*s", n < sizeof part ? (int)n : 0, p);
        if ((dash = strchr(part, '-')))
            *dash++ = '\0';
        if (!prxi_parse_int(part, &from) || !prxi_parse_int(dash ? dash : part, &to) || from < 0 || to < from)
            return prxi_fail(c, PRX_EINVAL, "seeds: '%.80s': numbers and ranges such as 0,1,7-9 expected", text);
        for (int64_t seed = from;; seed++) {
            const int err = add_seed(c, g, seed, text);
            if (err < 0)
                return err;
            if (seed == to)
                break;
        }
        if (!p[n])
            return PRX_OK;
        p += n + 1;
    }
}

/* What a measurement cannot be combined with. */
static int check_job(prx_job *j)
{
    static const int unused[] = { PRXI_TEXT_OUTPUT, PRXI_TEXT_DUMP, PRXI_TEXT_LATENTS, PRXI_TEXT_SAVE_STATE, PRXI_TEXT_RESUME };
    static const char *const names[] = { "output", "dump", "latents", "save_state", "resume" };
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
        if (j->text[unused[i]] && *j->text[unused[i]])
            return prxi_fail(&j->ctx, PRX_EINVAL, "%s: not while a graph is measured", names[i]);
    if (j->user_latents)
        return prxi_fail(&j->ctx, PRX_EINVAL, "latents: not while a graph is measured: seeds give the noise");
    if (strcmp(j->set.cache, "none") != 0)
        return prxi_fail(&j->ctx, PRX_EINVAL, "cache: %s: none expected while a graph is measured", j->set.cache);
    if (j->attn->stateful)
        return prxi_fail(&j->ctx, PRX_EINVAL, "attention: %s: remembers from step to step, and a graph is measured out of order",
                         j->attn->name);
    if (j->set.steps < 3 || j->set.steps > PRXI_DAG_MAX_STEPS)
        return prxi_fail(&j->ctx, PRX_EINVAL, "steps: %lld: 3 to %d expected for a graph", (long long)j->set.steps, PRXI_DAG_MAX_STEPS);
    return PRX_OK;
}

static int check_sparse(prx_job *j, const prxi_graph *g)
{
    if (!g->set.sparse)
        return PRX_OK;
    if (!(j->attn_plan.sparse_density < 1))
        return prxi_fail(&j->ctx, PRX_EINVAL, "sparse: attention %s is not: which one a sparse step has, expected", j->attn->name);
    if (j->attn_plan.dense_steps > 0)
        return prxi_fail(&j->ctx, PRX_EINVAL, "sparse: attention %s is dense in its first %d steps; attention.dense_timesteps=0 expected: "
                         "the graph says where to be dense", j->attn->name, j->attn_plan.dense_steps);
    return PRX_OK;
}

/* A jump may end on the first step of an expert, which has nothing to reuse, but never pass it. */
static void find_limits(prxi_graph *g)
{
    const int *expert = g->job->step_expert;
    for (int i = 0; i < g->steps; i++)
        g->first[i] = i && expert[i] == expert[i - 1] ? g->first[i - 1] : i;
    for (int i = g->steps - 1; i >= 0; i--) {
        const int end = i == g->steps - 1 || expert[i] != expert[i + 1] ? i + 1 : g->limit[i + 1];
        g->limit[i] = end < g->steps ? end : g->steps - 1;
    }
}

int prxi_graph_far(const prxi_graph *g, int row)
{
    const int i = prxi_graph_from(g, row), far = i == g->steps - 1 && prxi_graph_sparse(g, row) ? g->steps : g->limit[i];
    return far - i < g->gap ? far : i + g->gap;
}

int prxi_graph_wants(const prxi_graph *g, int sample, int row, int j, int *check)
{
    const int i = prxi_graph_from(g, row);
    *check = 0;
    if (j < prxi_graph_near(g, row) || j > prxi_graph_far(g, row))
        return 0;
    if (!g->set.quick || (g->limit[i] - j) % 2 == 0 || i == g->first[i] || j == g->steps)
        return 1;
    *check = sample == 0 && (i - g->first[i]) % 4 == 2;
    return *check;
}

/* ---- work ---- */

static double row_work(const prxi_graph *g, int sample, int row)
{
    const int i = prxi_graph_from(g, row), start = g->set.replay.calibrator ? g->first[i] : i;
    double n = 0;
    int check;
    for (int j = prxi_graph_near(g, row); j <= prxi_graph_far(g, row); j++)
        if (prxi_graph_wants(g, sample, row, j, &check))
            n += g->steps - j;
    return n > 0 || prxi_graph_sparse(g, row) ? n + (i - start) + 1 : 0;
}

static double sample_work(const prxi_graph *g, int sample, int all)
{
    double n = 0;
    for (int r = 0; r < g->rows; r++)
        if (all || !g->done[sample * g->rows + r])
            n += row_work(g, sample, r);
    return n > 0 ? n + g->steps : 0;
}

static int tell(build *b)
{
    prx_job *j = b->g.job;
    const double now = prxi_now() - b->began, did = b->work_done - b->work_before;
    const prx_progress p = { PRX_PHASE_MEASURE, (int)b->work_done, (int)b->work, now,
                             did > 0 ? now / did * (b->work - b->work_done) : -1.0 };
    if (j->on_progress && j->on_progress(j->progress_cookie, &p))
        return prxi_fail(&j->ctx, PRX_ECANCELED, "cancelled");
    return PRX_OK;
}

/* One step from where the job stands. */
static int advance(build *b, int counts)
{
    const int err = prxi_run_denoise(b->g.job);
    if (err < 0)
        return err;
    b->work_done += counts;
    return counts ? tell(b) : PRX_OK;
}

/* ---- states ---- */

static void keep(const build *b, unsigned char *to)
{
    prx_job *j = b->g.job;
    prxi_sched_save(j->sched, to);
    memcpy(to + b->sched_bytes, prxi_run_latents(j), j->latent_elems * sizeof(float));
}

static int go_to(build *b, const unsigned char *from, int step)
{
    prx_job *j = b->g.job;
    prxi_run_set_latents(j, (const float *)(const void *)(from + b->sched_bytes));
    j->step = step;
    return prxi_sched_restore(&j->ctx, j->sched, from, b->sched_bytes);
}

static void use_cache(build *b, int walking)
{
    b->g.job->cache = walking ? &walker : b->none;
    b->g.job->cache_priv = walking ? (void *)&b->g.set : b->none_priv;
    b->g.job->step_kinds = b->kinds;
}

/* ---- one sample ---- */

static void show_prompt(build *b, int prompt)
{
    prx_job *j = b->g.job;
    if (b->shown_prompt == prompt)
        return;
    b->shown_prompt = prompt;
    prxi_run_drop_network(j, j->model->experts == 1);
    j->prompts[0] = b->texts[prompt];
    j->prompts[1] = b->texts[b->g.n_prompts];
}

/* The computed run: every state on it, and its end. */
static int run_reference(build *b, int sample)
{
    prxi_graph *g = &b->g;
    prx_job *j = g->job;
    j->set.seed = g->seed[sample % g->n_seeds];
    j->step = 0;
    prxi_run_noise(j);
    use_cache(b, 0);
    int err = prxi_sched_restore(&j->ctx, j->sched, b->fresh, b->sched_bytes);
    for (int i = 0; i < g->steps && err == PRX_OK; i++) {
        keep(b, b->path + (size_t)i * b->state_bytes);
        err = advance(b, 1);
    }
    memcpy(b->x0, prxi_run_latents(j), j->latent_elems * sizeof(float));
    return err;
}

/* Computes the step of the row, then reuses it; the state after k reused steps, which is where a jump of k + 1 ends, goes to walk[k]. */
static int walk(build *b, int row, int end)
{
    prxi_graph *g = &b->g;
    const int i = prxi_graph_from(g, row), start = g->set.replay.calibrator ? g->first[i] : i;
    memset(g->set.replay.computed, 1, (size_t)g->steps);
    memset(g->set.replay.computed + i + 1, 0, (size_t)(end - i - 1));
    prxi_replay_reset(&g->set.replay);
    use_cache(b, 1);
    if (b->kinds && prxi_graph_sparse(g, row))
        b->kinds[i] = PRXI_STEP_COMPUTED;
    int err = go_to(b, b->path + (size_t)start * b->state_bytes, start);
    for (int k = start; k < end && err == PRX_OK; k++) {
        err = advance(b, k <= i);
        if (k >= i)
            keep(b, b->walk + (size_t)(k - i) * b->state_bytes);
    }
    if (b->kinds)
        b->kinds[i] = PRXI_STEP_DENSE;
    return err;
}

static double distance(build *b)
{
    const prx_job *j = b->g.job;
    const float *x = prxi_run_latents(b->g.job);
    double sum = 0;
    for (size_t k = 0; k < j->latent_elems; k++)
        sum += fabs((double)x[k] - b->x0[k]);
    return sum / (double)j->latent_elems;
}

/* Runs a state on from step `from` to step `stop`. */
static int finish_part(build *b, unsigned char *state, int from, int stop)
{
    prx_job *j = b->g.job;
    int err = go_to(b, state, from);
    while (j->step < stop && err == PRX_OK)
        err = advance(b, 1);
    return err;
}

/* Finishes from the ends of the jumps up to `end`, and measures what became of them. One expert after the other: the networks of two are
 * never held at once, and so each is loaded once for a row. */
static int finish_runs(build *b, int sample, int row, int end, double *weight)
{
    prxi_graph *g = &b->g;
    const int i = prxi_graph_from(g, row), second = g->first[g->steps - 1];
    int err = PRX_OK, check;
    for (int last = 0; last < 2; last++)
        for (int j = prxi_graph_near(g, row); j <= end && err == PRX_OK; j++) {
            unsigned char *state = b->walk + (size_t)(j - i - 1) * b->state_bytes;
            if (!prxi_graph_wants(g, sample, row, j, &check) || (!last && j >= second))
                continue;
            err = finish_part(b, state, last && j < second ? second : j, last ? g->steps : second);
            if (last)
                weight[j - i] = distance(b);
            else
                keep(b, state);
        }
    return err;
}

static int measure_row(build *b, int sample, int row)
{
    prxi_graph *g = &b->g;
    double weight[PRXI_DAG_MAX_STEPS];
    const int i = prxi_graph_from(g, row), near = prxi_graph_near(g, row);
    int end = 0, check, err = PRX_OK;
    for (int j = near; j <= prxi_graph_far(g, row); j++)
        if (prxi_graph_wants(g, sample, row, j, &check))
            end = j;
    if (end)
        err = walk(b, row, end);
    use_cache(b, 0);
    if (err == PRX_OK)
        err = finish_runs(b, sample, row, end, weight);
    if (err < 0)
        return err;
    for (int j = near; j <= end; j++)
        if (prxi_graph_wants(g, sample, row, j, &check))
            prxi_graph_row(g, sample, row)[j - i] = weight[j - i];
    g->done[sample * g->rows + row] = 1;
    return prxi_now() - g->saved_at > 2 ? prxi_graph_state_save(g) : PRX_OK;
}

static int measure_sample(build *b, int sample)
{
    if (sample_work(&b->g, sample, 0) <= 0)
        return PRX_OK;
    show_prompt(b, sample / b->g.n_seeds);
    int err = run_reference(b, sample);
    for (int r = 0; r < b->g.rows && err == PRX_OK; r++)
        if (!b->g.done[sample * b->g.rows + r])
            err = measure_row(b, sample, r);
    return err;
}

/* ---- the whole ---- */

/* Memory beyond that of a job: the states, and what a walk reuses. */
static int open_buffers(build *b)
{
    prxi_graph *g = &b->g;
    prx_job *j = g->job;
    const size_t rows = (size_t)g->samples * (size_t)g->rows, weights = rows * ((size_t)g->gap + 1);
    prxi_cache_env env;
    size_t reuse = 0;
    prxi_plan_cache_env(j, &env);
    b->sched_bytes = prxi_sched_state_size(j->sched);
    b->state_bytes = prxi_add(b->sched_bytes, j->latent_elems * sizeof(float));
    const size_t states = prxi_mul(b->state_bytes, (size_t)(g->steps + g->gap + 1)), have = prxi_memory_available();
    if (prxi_add(states, j->plan_bytes) > have && !j->model->dit[0])
        return prxi_fail(&j->ctx, PRX_ENOMEM, "memory: %.1f GiB needed (%.1f of it for the states of a run), %.1f GiB free; a smaller "
                         "size or fewer frames need less", (double)prxi_add(states, j->plan_bytes) / 0x1p30, (double)states / 0x1p30,
                         (double)have / 0x1p30);
    int err = prxi_replay_open(&j->ctx, &g->set.replay, &env, &reuse);
    if (err < 0)
        return err;
    b->fresh = prxi_alloc(j->ctx.mem, PRXI_MEM_MISC, b->sched_bytes);
    b->path = prxi_alloc(j->ctx.mem, PRXI_MEM_ACTIVATIONS, prxi_mul(b->state_bytes, (size_t)g->steps));
    b->walk = prxi_alloc(j->ctx.mem, PRXI_MEM_ACTIVATIONS, prxi_mul(b->state_bytes, (size_t)g->gap + 1));
    b->x0 = prxi_alloc(j->ctx.mem, PRXI_MEM_ACTIVATIONS, j->latent_elems * sizeof(float));
    g->weight = prxi_alloc(j->ctx.mem, PRXI_MEM_MISC, weights * sizeof *g->weight);
    g->done = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, rows, 1);
    b->kinds = g->set.sparse ? prxi_alloc(j->ctx.mem, PRXI_MEM_MISC, (size_t)g->steps) : NULL;
    if (!b->fresh || !b->path || !b->walk || !b->x0 || !g->weight || !g->done || (g->set.sparse && !b->kinds))
        return prxi_fail_nomem(&j->ctx, "states", states);
    if (b->kinds)
        memset(b->kinds, PRXI_STEP_DENSE, (size_t)g->steps);
    for (size_t i = 0; i < weights; i++)
        g->weight[i] = NAN;
    prxi_sched_save(j->sched, b->fresh);
    return PRX_OK;
}

/* All prompts with one opening of the text encoder, which is gone before the transformer comes. */
static int embed(build *b)
{
    prxi_graph *g = &b->g;
    prx_job *j = g->job;
    b->texts = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, (size_t)g->n_prompts + 1, sizeof *b->texts);
    if (!b->texts)
        return prxi_fail_nomem(&j->ctx, "prompts", (size_t)g->n_prompts * sizeof *b->texts);
    for (int i = 0; i < g->n_prompts; i++)
        b->texts[i].text = g->prompt[i];
    b->texts[g->n_prompts].text = j->text[PRXI_TEXT_NEGATIVE] ? j->text[PRXI_TEXT_NEGATIVE] : "";
    return prxi_model_embed(&j->ctx, &j->stream, j->model, (int)j->set.max_text, b->texts, g->n_prompts + (j->branches == 2));
}

static int prepare(build *b, const char *prompts, const char *seeds, const char *settings)
{
    prxi_graph *g = &b->g;
    prx_job *j = g->job;
    int err;
    if ((err = prxi_option_parse(&j->ctx, options, &g->set, "", settings)) < 0 || (err = take_prompts(&j->ctx, g, prompts)) < 0 ||
        (err = take_seeds(&j->ctx, g, seeds)) < 0 || (err = prx_job_set(j, "prompt", g->prompt[0])) < 0 ||
        (err = prxi_plan(j)) < 0 || (err = check_job(j)) < 0 || (err = check_sparse(j, g)) < 0)
        return err;
    b->none = j->cache;
    b->none_priv = j->cache_priv;
    g->steps = (int)j->set.steps;
    g->gap = g->set.max_gap < g->steps ? (int)g->set.max_gap : g->steps - 1;
    g->rows = (1 + g->set.sparse) * g->steps;
    g->samples = g->n_prompts * g->n_seeds;
    find_limits(g);
    if ((err = open_buffers(b)) < 0 || (err = prxi_graph_state_load(g)) < 0)
        return err;
    for (int s = 0; s < g->samples; s++) {
        const double all = sample_work(g, s, 1);
        b->work += all;
        b->work_before += all - sample_work(g, s, 0);
    }
    b->work_done = b->work_before;
    return PRX_OK;
}

static int measure(build *b)
{
    prx_job *j = b->g.job;
    int err;
    b->began = prxi_now();
    j->state = PRXI_JOB_FAILED;      /* until the end is reached: the job cannot render after this */
    if ((err = tell(b)) < 0 || (err = embed(b)) < 0 || (err = prxi_run_alloc(j)) < 0)
        return err;
    for (int s = 0; s < b->g.samples && err == PRX_OK; s++)
        err = measure_sample(b, s);
    if (err == PRX_OK)
        j->state = PRXI_JOB_DONE;
    return err;
}

static void close_build(build *b)
{
    prx_job *j = b->g.job;
    prxi_mem *m = j->ctx.mem;
    if (b->none)
        use_cache(b, 0);
    j->step_kinds = NULL;
    prxi_run_drop_network(j, j->set.keep_weights && j->model->experts == 1);
    memset(j->prompts, 0, sizeof j->prompts);
    for (int i = 0; b->texts && i <= b->g.n_prompts; i++)
        prxi_free(m, b->texts[i].out);
    prxi_replay_close(&b->g.set.replay, &j->ctx);
    void *const buffers[] = { b->texts, b->fresh, b->path, b->walk, b->x0, b->g.weight, b->g.done, b->g.text, b->kinds, b };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        prxi_free(m, buffers[i]);
}

PRX_API int prx_schedule_build(prx_job *j, const char *prompts, const char *seeds, const char *settings, const char *state, char **json)
{
    prxi_clear(&j->ctx);
    *json = NULL;
    if (j->state > PRXI_JOB_PLANNED)
        return prxi_fail(&j->ctx, PRX_ESTATE, "the job has run already");
    build *b = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, 1, sizeof *b);
    if (!b)
        return prxi_fail_nomem(&j->ctx, "graph", sizeof *b);
    b->g.job = j;
    b->g.state_path = state;
    b->g.saved_at = prxi_now();
    b->shown_prompt = -1;
    j->expert = -1;
    int err = prepare(b, prompts, seeds, settings);
    if (err == PRX_OK) {
        err = measure(b);
        const int saved = err == PRX_OK ? PRX_OK : prxi_graph_state_save(&b->g);
        err = err < 0 ? err : saved;
    }
    if (err == PRX_OK)
        err = prxi_graph_json(&b->g, json);
    close_build(b);
    return err;
}
