/* What a cached step costs: every cache on a Wan-like model with random weights, forced to cache, beside steps that are computed; and what
 * DBCache's gate adds to a step that it tests and computes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench_model.h"
#include "engine/core/option.h"
#include "engine/core/rng.h"
#include "job.h"

enum { MAX_REPEATS = 50, COMPUTED = 2 };

typedef struct settings {
    int64_t width, height, frames, heads, layers, ffn, repeats, text;
} settings;

#define AT(field) offsetof(settings, field)

static const prxi_option options[] = {
    { "width", PRXI_OPT_INT, AT(width), 16, 4096, NULL, "128", "pixels" },
    { "height", PRXI_OPT_INT, AT(height), 16, 4096, NULL, "128", "pixels" },
    { "frames", PRXI_OPT_INT, AT(frames), 1, 1000, NULL, "17", "frames" },
    { "heads", PRXI_OPT_INT, AT(heads), 1, 64, NULL, "4", "of 128" },
    { "layers", PRXI_OPT_INT, AT(layers), 10, 128, NULL, "30", "blocks" },
    { "ffn", PRXI_OPT_INT, AT(ffn), 16, 65536, NULL, "2048", "FFN width" },
    { "text", PRXI_OPT_INT, AT(text), 1, 512, NULL, "20", "valid rows of both prompts" },
    { "repeats", PRXI_OPT_INT, AT(repeats), 1, MAX_REPEATS, NULL, "5", "timed cached steps of each cache" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

/* Settings under which step 0, or 0 and 1, are computed and all later ones cached, the gates testing as they would. Of a gate's row all
 * steps are computed, the later ones because their test said so, and only the policy's own work up to the test is timed. */
static const struct {
    const char *label, *policy, *set;
    int blocks;                  /* that a cached step runs; of a gate's row those before the test */
    double allowance;            /* beyond their share */
    int gate;
} caches[] = {
    { "dbcache gate F1", "dbcache", "max_warmup_steps=2,residual_diff_threshold=1e-9", 1, 0.005, 1 },
    { "dbcache F1 B0", "dbcache", "max_warmup_steps=2,max_continuous_cached_steps=-1,residual_diff_threshold=0.99", 1, 0.03, 0 },
    { "dbcache F1 B0 newton", "dbcache",
      "max_warmup_steps=2,max_continuous_cached_steps=-1,residual_diff_threshold=0.99,calibrator=newton", 1, 0.03, 0 },
    { "dbcache F4 B2", "dbcache",
      "max_warmup_steps=2,max_continuous_cached_steps=-1,residual_diff_threshold=0.99,Fn_compute_blocks=4,Bn_compute_blocks=2",
      6, 0.03, 0 },
    { "lemica residual", "lemica", "schedule=%s/schedule.json", 0, 0.03, 0 },
    { "lemica velocity", "lemica", "schedule=%s/schedule.json,reuse=velocity", 0, 0.005, 0 },
    { "lemica velocity newton", "lemica", "schedule=%s/schedule.json,reuse=velocity,calibrator=newton", 0, 0.005, 0 },
    { "teacache", "teacache", "coefficients=%s/teacache.json,teacache_thresh=1000000", 0, 0.03, 0 },
    { "magcache", "magcache", "mag_ratios=%s/magcache.json,magcache_K=1000,retention_ratio=0.01", 0, 0.03, 0 },
    { "easycache", "easycache", "ret_steps=2,thresh=1000000", 0, 0.005, 0 },
    { "dbprune F1", "dbprune", "max_warmup_steps=2,max_continuous_cached_steps=-1,residual_diff_threshold=0.99", 1, NAN, 0 },
};

enum { CACHES = sizeof caches / sizeof *caches };

typedef struct bench {
    prx_engine *e;
    const settings *z;
    const char *dir;
    cJSON *rows;
    size_t n;                    /* elements of the latents */
    float *x, *v[PRXI_BRANCHES];
    float sigmas[MAX_REPEATS + COMPUTED + 2];
    double plain[2 * CACHES];
    int n_plain;
    double cached[CACHES][MAX_REPEATS], computed[CACHES][COMPUTED];
} bench;

/* The fastest is the one that other programs disturbed least. */
static double fastest(const double *t, int n)
{
    double best = INFINITY;
    for (int i = 0; i < n; i++)
        best = fmin(best, t[i]);
    return best;
}

/* ---- files that caches read ---- */

static int write_file(bench *b, const char *name, const char *text)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    return prxi_write_file(&b->e->ctx, path, text, strlen(text));
}

static int write_files(bench *b)
{
    char text[200];
    snprintf(text, sizeof text, "{\"steps\": %d, \"computed\": [0, 1]}", (int)b->z->repeats + COMPUTED + 1);
    int err = write_file(b, "schedule.json", text);
    if (err == PRX_OK)
        err = write_file(b, "teacache.json", "{\"policy\": \"teacache\", \"coefficients\": [0, 0, 0, 0, 0.1], \"fit\": [0, 1]}");
    return err < 0 ? err : write_file(b, "magcache.json", "{\"policy\": \"magcache\", \"cond\": [1, 1]}");
}

static void remove_files(const char *dir)
{
    static const char *const names[] = { "schedule.json", "teacache.json", "magcache.json" };
    char path[4200];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
}

/* ---- steps ---- */

/* A policy in whose place the network calls: the time that it takes itself, up to and with the hook before block `last`. */
typedef struct timer {
    const prxi_cache_policy *policy;
    void *priv;
    int last;
    double seconds;
} timer;

static int timed_begin(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports)
{
    timer *t = priv;
    t->seconds = 0;
    return t->policy->begin_step(t->priv, s, step, v, reports);
}

static int timed_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x)
{
    timer *t = priv;
    const double begin = prxi_now();
    const int next = t->policy->at_block(t->priv, s, call, block, x);
    if (block <= t->last)
        t->seconds += prxi_now() - begin;
    return next;
}

static void timed_end(void *priv, prxi_stream *s, const prxi_step *step, const float *v)
{
    timer *t = priv;
    t->policy->end_step(t->priv, s, step, v);
}

static const prxi_cache_policy timed_policy = { .name = "timed", .begin_step = timed_begin, .at_block = timed_block,
                                                .end_step = timed_end };

/* One step as the sampler runs it, without the scheduler; p NULL: no cache. Returns its seconds. */
static double one_step(bench *b, prxi_stream *s, prxi_dit_run *run, const prxi_cache_policy *p, void *priv, int index,
                       prxi_cache_report *reports)
{
    const int steps = (int)b->z->repeats + COMPUTED + 1;
    const prxi_step st = { .index = index, .steps = steps, .expert_index = index, .expert_steps = steps, .sigma = b->sigmas[index],
                           .sigma_next = b->sigmas[index + 1], .timestep = 1000 * b->sigmas[index], .latents = b->x };
    const prxi_dit_hooks hooks = { prxi_attn_policy_find("dense"), NULL, p, priv, reports, NULL, NULL };
    for (int i = 0; i < PRXI_BRANCHES; i++)
        reports[i] = (prxi_cache_report) { .diff = NAN };
    for (size_t i = 0; i < b->n; i++)
        b->x[i] *= 0.999f;
    const double begin = prxi_now();
    if (!p || !p->begin_step || !p->begin_step(priv, s, &st, b->v[0], reports)) {
        prxi_dit_forward(s, run, &st, b->x, &hooks, b->v);
        if (p && p->at_output)
            p->at_output(priv, s, &st, b->v);
        if (p && p->end_step)
            p->end_step(priv, s, &st, b->v[0]);
    }
    return prxi_now() - begin;
}

static int plan_cache(bench *b, int which, const prxi_cache_policy *p, void *priv)
{
    char set[4500];
    prxi_cache_plan plan = { 0 };
    const settings *z = b->z;
    const prxi_cache_env env = {
        .blocks = (int)z->layers, .branches = 2, .steps = (int)z->repeats + COMPUTED + 1,
        .tokens = prxi_bench_tokens(z->width, z->height, z->frames), .dim = z->heads * 128, .latent_elems = (int64_t)b->n,
        .dtype = b->e->dtype, .n_threads = b->e->threads, .experts = 1, .sigmas = b->sigmas, .act = &b->e->kernels.act,
    };
    const char *at = strstr(caches[which].set, "%s");
    if (at)
        snprintf(set, sizeof set, "%.*s%s%s", (int)(at - caches[which].set), caches[which].set, b->dir, at + 2);
    else
        snprintf(set, sizeof set, "%s", caches[which].set);
    const int err = prxi_option_parse(&b->e->ctx, p->options, priv, "cache.", set);
    return err < 0 ? err : p->plan(priv, &b->e->ctx, &env, &plan);
}

/* Step i was what this row is to time: cached, or tested and computed. */
static int check_step(prxi_ctx *c, int which, int i, const prxi_cache_report *r)
{
    const int as_meant = caches[which].gate ? !r->cached && isfinite(r->diff) : r->cached;
    return i < COMPUTED || as_meant ? PRX_OK
                                    : prxi_fail(c, PRX_EINTERNAL, "bench: %s: step %d is %s", caches[which].label, i, r->reason);
}

static int time_cache(bench *b, prxi_stream *s, prxi_dit_run *run, int which)
{
    prxi_ctx *c = &b->e->ctx;
    const int gate = caches[which].gate;
    const prxi_cache_policy *p = prxi_cache_policy_find(caches[which].policy);
    prxi_cache_report reports[PRXI_BRANCHES];
    void *priv = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, p->priv_size);
    int err = priv ? plan_cache(b, which, p, priv) : prxi_fail_nomem(c, caches[which].label, p->priv_size);
    timer timed = { p, priv, caches[which].blocks, 0 };
    b->plain[b->n_plain++] = err == PRX_OK ? one_step(b, s, run, NULL, NULL, 0, reports) : 0;
    for (int i = 0; i < COMPUTED + (int)b->z->repeats && err == PRX_OK; i++) {
        const double t = one_step(b, s, run, gate ? &timed_policy : p, gate ? &timed : priv, i, reports);
        if (i >= COMPUTED)
            b->cached[which][i - COMPUTED] = gate ? timed.seconds : t;
        else
            b->computed[which][i] = reports[0].cached ? INFINITY : t;
        if ((err = prxi_stream_error(s)) == PRX_OK)
            err = check_step(c, which, i, &reports[0]);
    }
    if (priv)
        p->close(priv, c);
    prxi_free(c->mem, priv);
    return err;
}

static void add_rows(bench *b)
{
    char shape[96];
    const settings *z = b->z;
    const double plain = fastest(b->plain, b->n_plain);
    snprintf(shape, sizeof shape, "%lldx%lldx%lld, layers %lld", (long long)z->width, (long long)z->height, (long long)z->frames,
             (long long)z->layers);
    for (int i = 0; i < CACHES; i++) {
        cJSON *o = cJSON_CreateObject();
        const double cached = fastest(b->cached[i], (int)z->repeats);
        cJSON_AddStringToObject(o, "cache", caches[i].label);
        cJSON_AddStringToObject(o, "shape", shape);
        cJSON_AddStringToObject(o, "dtype", prxi_dtype_name(b->e->dtype));
        cJSON_AddNumberToObject(o, "step_seconds", plain);
        cJSON_AddNumberToObject(o, "cached_seconds", cached);
        cJSON_AddNumberToObject(o, "share", cached / plain);
        if (isfinite(caches[i].allowance))
            cJSON_AddNumberToObject(o, "bound", (caches[i].gate ? 0 : caches[i].blocks / (double)z->layers) + caches[i].allowance);
        cJSON_AddNumberToObject(o, "computed_share", fastest(b->computed[i], COMPUTED) / plain);
        cJSON_AddItemToArray(b->rows, o);
    }
}

static int time_all(void *cookie, prxi_stream *s, prxi_dit_run *run)
{
    bench *b = cookie;
    prxi_cache_report reports[PRXI_BRANCHES];
    int err = PRX_OK;
    one_step(b, s, run, NULL, NULL, 0, reports);         /* warms up */
    for (int i = 0; i < CACHES && err == PRX_OK; i++)
        err = time_cache(b, s, run, i);
    if (err == PRX_OK)
        add_rows(b);
    return err;
}

int prxi_bench_cache(prx_engine *e, prxi_stream *s, const char *text, cJSON *rows)
{
    settings z;
    char dir[] = "/tmp/praxino-bench-XXXXXX";
    int err = prxi_option_parse(&e->ctx, options, &z, "", text);
    if (err < 0)
        return err;
    bench *b = prxi_calloc(e->ctx.mem, PRXI_MEM_MISC, 1, sizeof *b);
    if (!b)
        return prxi_fail_nomem(&e->ctx, "bench", sizeof *b);
    *b = (bench) { .e = e, .z = &z, .dir = dir, .rows = rows };
    const prxi_bench_clip clip = prxi_bench_clip_of(z.width, z.height, z.frames, z.text);
    const prxi_dit_config cfg = prxi_bench_dit(z.heads, z.layers, z.ffn);
    b->n = prxi_bench_latents(&clip);
    for (int i = 0; i <= (int)z.repeats + COMPUTED; i++)
        b->sigmas[i] = 1 - (float)i / (float)(z.repeats + COMPUTED + 1);
    b->x = prxi_alloc(e->ctx.mem, PRXI_MEM_ACTIVATIONS, 3 * b->n * sizeof *b->x);
    prxi_rng rng;
    prxi_rng_seed(&rng, 0);
    if (!b->x) {
        err = prxi_fail_nomem(&e->ctx, "latents", 3 * b->n * sizeof *b->x);
    } else if (!mkdtemp(dir)) {
        err = prxi_fail(&e->ctx, PRX_EIO, "bench: no temporary folder in /tmp");
    } else {
        b->v[0] = b->x + b->n, b->v[1] = b->x + 2 * b->n;
        prxi_rng_normal(&rng, b->x, b->n);
        if ((err = write_files(b)) == PRX_OK)
            err = prxi_bench_with_dit(e, s, dir, &cfg, &clip, time_all, b);
        remove_files(dir);
        prxi_bench_remove(dir);
    }
    prxi_free(e->ctx.mem, b->x);
    prxi_free(e->ctx.mem, b);
    return err;
}
