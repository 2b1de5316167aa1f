/* Denoising steps, dense and sparse, of a model of published shape with random weights, beside the linear-layer rate of the same run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench_attn.h"
#include "bench_size.h"
#include "engine/core/device.h"
#include "engine/core/option.h"
#include "engine/core/rng.h"
#include "job.h"

typedef prxi_bench_size settings;

enum { MOST_SETTINGS = 4096 };

#define AT(field) offsetof(settings, field)

static const prxi_option options[] = {
    { "width", PRXI_OPT_INT, AT(width), 16, 4096, NULL, "256", "pixels" },
    { "height", PRXI_OPT_INT, AT(height), 16, 4096, NULL, "256", "pixels" },
    { "frames", PRXI_OPT_INT, AT(frames), 1, 1000, NULL, "17", "frames" },
    { "heads", PRXI_OPT_INT, AT(heads), 1, 64, NULL, "12", "of 128" },
    { "layers", PRXI_OPT_INT, AT(layers), 1, 128, NULL, "30", "blocks" },
    { "ffn", PRXI_OPT_INT, AT(ffn), 16, 65536, NULL, "8960", "FFN width" },
    { "base", PRXI_OPT_INT, AT(base), 8, 256, NULL, "96", "VAE base width" },
    { "text", PRXI_OPT_INT, AT(text), 1, 512, NULL, "20", "valid rows of both prompts" },
    { "repeats", PRXI_OPT_INT, AT(repeats), 1, PRXI_BENCH_TURNS, NULL, "3", "timed runs" },
    { "linear_rate", PRXI_OPT_DOUBLE, AT(linear_rate), 0, 1e9, NULL, "0", "TFLOP/s that linear layers reach: with the next one, a floor" },
    { "attention_rate", PRXI_OPT_DOUBLE, AT(attention_rate), 0, 1e9, NULL, "0", "TFLOP/s that dense attention reaches" },
    { "attention", PRXI_OPT_STRING, AT(attention), 0, 0, NULL, "dense", "a sparse one: its steps too, in turns with dense ones" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

static double median(double *t, int n)
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && t[j] < t[j - 1]; j--) {
            const double swap = t[j];
            t[j] = t[j - 1];
            t[j - 1] = swap;
        }
    return n % 2 ? t[n / 2] : 0.5 * (t[n / 2 - 1] + t[n / 2]);
}

/* The best linear layer of this run in this dtype, ours or oneDNN's. */
double prxi_bench_gemm_rate(prxi_ctx *c, prxi_stream *s, uint32_t isa, prxi_dtype dtype)
{
    cJSON *rows = cJSON_CreateArray();
    const cJSON *row;
    double best = 0;
    if (prxi_bench_gemm(c, s, isa, rows) == PRX_OK)
        cJSON_ArrayForEach(row, rows)
        {
            const cJSON *t = cJSON_GetObjectItemCaseSensitive(row, "dtype");
            const cJSON *ours = cJSON_GetObjectItemCaseSensitive(row, "gflops");
            const cJSON *theirs = cJSON_GetObjectItemCaseSensitive(row, "onednn_gflops");
            if (!cJSON_IsString(t) || strcmp(t->valuestring, prxi_dtype_name(dtype)) != 0)
                continue;
            best = fmax(best, cJSON_IsNumber(ours) ? ours->valuedouble : 0);
            best = fmax(best, cJSON_IsNumber(theirs) ? theirs->valuedouble : 0);
        }
    cJSON_Delete(rows);
    return best;
}

void prxi_bench_add_times(cJSON *rows, const char *op, const char *shape, prxi_dtype dtype, const double *t, int n, double gflop,
                          double rate)
{
    double sorted[PRXI_BENCH_TURNS];
    memcpy(sorted, t, (size_t)n * sizeof *t);
    const double m = median(sorted, n);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "op", op);
    cJSON_AddStringToObject(o, "shape", shape);
    cJSON_AddStringToObject(o, "dtype", prxi_dtype_name(dtype));
    cJSON_AddNumberToObject(o, "seconds_median", m);
    cJSON_AddNumberToObject(o, "seconds_min", sorted[0]);
    cJSON_AddNumberToObject(o, "seconds_max", sorted[n - 1]);
    cJSON_AddNumberToObject(o, "gflop", gflop);
    cJSON_AddNumberToObject(o, "gflops", gflop / m);
    if (rate > 0) {
        cJSON_AddNumberToObject(o, "gemm_gflops", rate);
        cJSON_AddNumberToObject(o, "share", gflop / m / rate);
    }
    cJSON_AddItemToArray(rows, o);
}

/* What the network formally does for one step with guidance: 512 text rows and their keys included, although both are computed once
 * per prompt here. */
typedef struct work {
    double linear, attention;   /* GFLOP */
} work;

static work step_work(const settings *z, double density)
{
    const double d = (double)z->heads * 128, ffn = (double)z->ffn, tokens = (double)prxi_bench_tokens(z->width, z->height, z->frames);
    const double linear = 12 * tokens * d * d + 4 * tokens * d * ffn + 4 * 512 * d * d;
    const double attention = 4 * density * tokens * tokens * d + 4 * 512 * tokens * d;
    return (work) { 2e-9 * (double)z->layers * linear, 2e-9 * (double)z->layers * attention };
}

static double step_gflop(const settings *z, double density)
{
    const work w = step_work(z, density);
    return w.linear + w.attention;
}

/* Seconds at the rates that were given; lists of blocks reach 0.8 of the dense rate (gpu.md 1.4). */
static void add_floor(cJSON *row, const settings *z, double density)
{
    const double efficiency = density < 1 ? 0.8 : 1;
    const work w = step_work(z, density);
    if (!(z->linear_rate > 0 && z->attention_rate > 0))
        return;
    const double seconds = 1e-3 * (w.linear / z->linear_rate + w.attention / (efficiency * z->attention_rate));
    cJSON_AddNumberToObject(row, "floor_seconds", seconds);
    cJSON_AddNumberToObject(row, "over_floor", cJSON_GetObjectItem(row, "seconds_median")->valuedouble / seconds);
}

/* Policies by turns. */
typedef struct timed {
    const settings *z;
    prxi_bench_attn *attn;      /* dense, and what was asked for beside it */
    int n;
} timed;

static int time_run(void *cookie, prxi_stream *s, prxi_dit_run *run)
{
    const timed *job = cookie;
    const settings *z = job->z;
    const prxi_bench_clip clip = prxi_bench_clip_of(z->width, z->height, z->frames, z->text);
    const size_t n = prxi_bench_latents(&clip);
    float *noise = prxi_alloc(s->ctx->mem, PRXI_MEM_ACTIVATIONS, n * sizeof *noise);
    float *x = prxi_device_alloc(s->ctx, s->device, PRXI_MEM_ACTIVATIONS, 3 * n * sizeof *x);
    prxi_rng rng;
    prxi_rng_seed(&rng, 0);
    if (noise && x)
        prxi_rng_normal(&rng, noise, n);
    const int err = noise && x ? prxi_device_put(s->ctx, s->device, x, noise, n * sizeof *noise)
                               : prxi_fail_nomem(s->ctx, "latents", 3 * n * sizeof *x);
    prxi_free(s->ctx->mem, noise);
    float *const v[PRXI_BRANCHES] = { x + n, x + 2 * n };
    if (err < 0) {
        prxi_device_free(s->ctx, s->device, x);
        return err;
    }
    for (int k = 0; k < job->n; k++)
        prxi_dit_prepare(s, run, job->attn[k].policy, job->attn[k].priv);
    for (int i = -1; i < z->repeats; i++)
        for (int k = 0; k < job->n && !prxi_stream_error(s); k++) {
            const double t = prxi_bench_attn_step(s, run, &job->attn[k], i, x, v);
            if (i >= 0)
                job->attn[k].seconds[i] = t;
        }
    prxi_device_free(s->ctx, s->device, x);
    return prxi_stream_error(s);
}

/* Expected beside measured: at the density that came about, which the plan can only assume where content decides. */
static void add_expected(cJSON *row, const prxi_bench_attn *a, const prxi_dit_config *cfg, double density)
{
    const double seconds = cJSON_GetObjectItem(row, "seconds_median")->valuedouble;
    const double expected = prxi_bench_attn_expected(a, cfg, density);
    cJSON_AddNumberToObject(row, "expected_seconds", expected);
    cJSON_AddNumberToObject(row, "expected_over_measured", expected / seconds);
}

static void add_steps(prx_engine *e, prxi_stream *s, const timed *job, const prxi_dit_config *cfg, cJSON *rows)
{
    const settings *z = job->z;
    const double rate = s->device ? 0 : prxi_bench_gemm_rate(&e->ctx, s, e->kernels.isa, e->dtype);
    char shape[96], op[64];
    snprintf(shape, sizeof shape, "%lldx%lldx%lld, layers %lld", (long long)z->width, (long long)z->height, (long long)z->frames,
             (long long)z->layers);
    for (int i = 0; i < job->n; i++) {
        const prxi_bench_attn *a = &job->attn[i];
        const double density = i ? prxi_bench_attn_density(a, cfg) : 1, sparse = (double)(cfg->layers - a->plan.dense_layers) / cfg->layers;
        snprintf(op, sizeof op, "step%s%s", i ? ", " : "", i ? a->policy->name : "");
        const double overall = 1 - sparse * (1 - density);
        prxi_bench_add_times(rows, op, shape, e->dtype, a->seconds, (int)z->repeats, step_gflop(z, overall), rate);
        cJSON *row = cJSON_GetArrayItem(rows, cJSON_GetArraySize(rows) - 1);
        add_floor(row, z, overall);
        if (i)
            cJSON_AddNumberToObject(row, "density", density);
        if (i && !isnan(a->plan.sparse_density))
            cJSON_AddNumberToObject(row, "planned_density", a->plan.sparse_density);
        else if (i && !s->device)
            cJSON_AddNumberToObject(row, "assumed_density", a->expected.density);
        if (!s->device)
            add_expected(row, a, cfg, density);
    }
}

static int with_dit(prx_engine *e, prxi_stream *s, const settings *z, const char *policy, const char *dir, cJSON *rows)
{
    const prxi_dit_config cfg = prxi_bench_dit(z->heads, z->layers, z->ffn);
    const prxi_bench_clip clip = prxi_bench_clip_of(z->width, z->height, z->frames, z->text);
    const int dense = strcmp(z->attention, "dense") == 0;
    prxi_bench_attn attn[2] = { { .policy = NULL }, { .policy = NULL } };
    timed job = { z, attn, dense ? 1 : 2 };
    int err = prxi_bench_attn_open(e, s, &cfg, &clip, "dense", dense ? policy : "", &attn[0]);
    if (err == PRX_OK && !dense)
        err = prxi_bench_attn_open(e, s, &cfg, &clip, z->attention, policy, &attn[1]);
    if (err == PRX_OK)
        err = prxi_bench_with_dit(e, s, dir, &cfg, &clip, time_run, &job);
    if (err == PRX_OK)
        add_steps(e, s, &job, &cfg, rows);
    prxi_bench_attn_close(&e->ctx, &attn[0]);
    prxi_bench_attn_close(&e->ctx, &attn[1]);
    return err;
}

int prxi_bench_size_parse(prxi_ctx *c, const char *text, prxi_bench_size *z)
{
    return prxi_option_parse(c, options, z, "", text);
}

int prxi_bench_step(prx_engine *e, prxi_stream *s, const char *text, cJSON *rows)
{
    settings z;
    char dir[] = "/tmp/praxino-bench-XXXXXX", own[MOST_SETTINGS], policy[MOST_SETTINGS];
    int err = prxi_bench_split(&e->ctx, text, own, policy, MOST_SETTINGS);
    if (err == PRX_OK)
        err = prxi_bench_size_parse(&e->ctx, own, &z);
    if (err < 0)
        return err;
    if (!mkdtemp(dir))
        return prxi_fail(&e->ctx, PRX_EIO, "bench: no temporary folder in /tmp");
    err = with_dit(e, s, &z, policy, dir, rows);
    prxi_bench_remove(dir);
    return err;
}
