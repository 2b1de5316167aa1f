/* Denoising steps, dense and sparse, and one decode of a model of published shape with random weights, beside the linear-layer rate of
 * the same run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench_attn.h"
#include "engine/core/option.h"
#include "engine/core/rng.h"
#include "job.h"

enum { MOST_SETTINGS = 4096 };

typedef struct settings {
    int64_t width, height, frames, heads, layers, ffn, base, repeats, text;
    char attention[PRXI_OPT_STRING_MAX];
} settings;

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
static double gemm_rate(prxi_ctx *c, prxi_stream *s, uint32_t isa, prxi_dtype dtype)
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

static void add_row(cJSON *rows, const char *op, const char *shape, prxi_dtype dtype, const double *t, int n, double gflop,
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

/* ---- step ---- */

/* What the network formally does for one step with guidance: 512 text rows and their keys included, although both are computed once
 * per prompt here. */
static double step_gflop(const settings *z, double density)
{
    const double d = (double)z->heads * 128, ffn = (double)z->ffn, tokens = (double)prxi_bench_tokens(z->width, z->height, z->frames);
    const double linear = 12 * tokens * d * d + 4 * tokens * d * ffn + 4 * 512 * d * d;
    const double attention = 4 * density * tokens * tokens * d + 4 * 512 * tokens * d;
    return 2e-9 * (double)z->layers * (linear + attention);
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
    float *x = prxi_alloc(s->ctx->mem, PRXI_MEM_ACTIVATIONS, 3 * n * sizeof *x);
    if (!x)
        return prxi_fail_nomem(s->ctx, "latents", 3 * n * sizeof *x);
    prxi_rng rng;
    prxi_rng_seed(&rng, 0);
    prxi_rng_normal(&rng, x, n);
    float *const v[PRXI_BRANCHES] = { x + n, x + 2 * n };
    for (int k = 0; k < job->n; k++)
        prxi_dit_prepare(s, run, job->attn[k].policy, job->attn[k].priv);
    for (int i = -1; i < z->repeats; i++)
        for (int k = 0; k < job->n && !prxi_stream_error(s); k++) {
            const double t = prxi_bench_attn_step(s, run, &job->attn[k], i, x, v);
            if (i >= 0)
                job->attn[k].seconds[i] = t;
        }
    prxi_free(s->ctx->mem, x);
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
    const double rate = s->device ? 0 : gemm_rate(&e->ctx, s, e->kernels.isa, e->dtype);
    char shape[96], op[64];
    snprintf(shape, sizeof shape, "%lldx%lldx%lld, layers %lld", (long long)z->width, (long long)z->height, (long long)z->frames,
             (long long)z->layers);
    for (int i = 0; i < job->n; i++) {
        const prxi_bench_attn *a = &job->attn[i];
        const double density = i ? prxi_bench_attn_density(a, cfg) : 1, sparse = (double)(cfg->layers - a->plan.dense_layers) / cfg->layers;
        snprintf(op, sizeof op, "step%s%s", i ? ", " : "", i ? a->policy->name : "");
        add_row(rows, op, shape, e->dtype, a->seconds, (int)z->repeats, step_gflop(z, 1 - sparse * (1 - density)), rate);
        cJSON *row = cJSON_GetArrayItem(rows, cJSON_GetArraySize(rows) - 1);
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

/* ---- decode ---- */

/* Convolutions of the decoder by stage, as models.md section 7 counts them: 9.57 TFLOP for 256 x 256 x 17 at base 96. */
static double conv_gflop(double positions, double in, double out, double taps)
{
    return 2e-9 * positions * in * out * taps;
}

static double decode_gflop(const settings *z)
{
    const double b = (double)z->base, T = (double)((z->frames - 1) / 4 + 1), hw = (double)(z->height / 8) * (double)(z->width / 8);
    const double c[4] = { 4 * b, 4 * b, 2 * b, b }, in[4] = { 4 * b, 2 * b, 2 * b, b };
    double frames = T, area = hw, sum = conv_gflop(T * hw, 16, 4 * b, 27) + 4 * conv_gflop(T * hw, 4 * b, 4 * b, 27) +
                                       conv_gflop(T * hw, 4 * b, 16 * b, 1) + 4e-9 * T * hw * hw * 4 * b;
    for (int i = 0; i < 4; i++) {
        const double n = frames * area;
        sum += conv_gflop(n, in[i], c[i], 27) + 5 * conv_gflop(n, c[i], c[i], 27) + (in[i] != c[i] ? conv_gflop(n, in[i], c[i], 1) : 0);
        if (i < 2) {
            sum += conv_gflop((frames - 1) * area, c[i], 2 * c[i], 3);
            frames = 2 * frames - 1;
        }
        if (i < 3) {
            area *= 4;
            sum += conv_gflop(frames * area, c[i], c[i] / 2, 9);
        }
    }
    return sum + conv_gflop(frames * area, b, 3, 27);
}

static int decode_once(prxi_ctx *c, prxi_stream *s, const prxi_vae *v, const prxi_vae_job *job, const float *z, float *rgb, double *t)
{
    prxi_decoder *d = NULL;
    const double begin = prxi_now();
    int n, err = prxi_decoder_open(c, &d, v, job);
    for (int i = 0; i < job->frames && err == PRX_OK; i++)
        err = prxi_decoder_next(c, s, d, z, i, rgb, &n);
    *t = prxi_now() - begin;
    prxi_decoder_close(c, &d);
    return err == PRX_OK ? prxi_stream_error(s) : err;
}

static int time_decodes(prx_engine *e, prxi_stream *s, const settings *z, const char *dir, double *t, double *workspace)
{
    prxi_ctx *c = &e->ctx;
    prxi_vae *v = NULL;
    const prxi_vae_job job = { (int)((z->frames - 1) / 4 + 1), (int)z->height / 8, (int)z->width / 8, 0, PRXI_CONV_AUTO };
    const size_t n = 16 * (size_t)job.frames * (size_t)job.height * (size_t)job.width;
    const size_t pixels = 4 * (size_t)z->height * (size_t)z->width * 3;
    float *buf = prxi_calloc(c->mem, PRXI_MEM_FRAMES, n + pixels, sizeof *buf);
    int err = buf ? prxi_bench_write_vae(c, dir, (int)z->base) : prxi_fail_nomem(c, "frames", n + pixels);
    if (err == PRX_OK)
        err = prxi_vae_open(c, &v, dir, &e->kernels, e->dtype);
    for (int i = -1; i < z->repeats && err == PRX_OK; i++) {
        double once;
        err = decode_once(c, s, v, &job, buf, buf + n, &once);
        if (i >= 0)
            t[i] = once;
    }
    *workspace = v ? (double)prxi_decoder_bytes(v, &job) : 0;
    prxi_vae_close(c, &v);
    prxi_free(c->mem, buf);
    return err;
}

static int with_vae(prx_engine *e, prxi_stream *s, const settings *z, const char *dir, cJSON *rows)
{
    double t[PRXI_BENCH_TURNS], workspace = 0;
    char shape[96];
    const int err = time_decodes(e, s, z, dir, t, &workspace);
    if (err < 0)
        return err;
    snprintf(shape, sizeof shape, "%lldx%lldx%lld, base %lld", (long long)z->width, (long long)z->height, (long long)z->frames,
             (long long)z->base);
    add_row(rows, "decode", shape, e->dtype, t, (int)z->repeats, decode_gflop(z), gemm_rate(&e->ctx, s, e->kernels.isa, e->dtype));
    cJSON_AddNumberToObject(cJSON_GetArrayItem(rows, cJSON_GetArraySize(rows) - 1), "workspace_bytes", workspace);
    return PRX_OK;
}

int prxi_bench_step(prx_engine *e, prxi_stream *s, const char *text, int decode, cJSON *rows)
{
    settings z;
    char dir[] = "/tmp/praxino-bench-XXXXXX", own[MOST_SETTINGS], policy[MOST_SETTINGS];
    int err = prxi_bench_split(&e->ctx, text, own, policy, MOST_SETTINGS);
    if (err == PRX_OK)
        err = prxi_option_parse(&e->ctx, options, &z, "", decode ? text : own);
    if (err < 0)
        return err;
    if (!mkdtemp(dir))
        return prxi_fail(&e->ctx, PRX_EIO, "bench: no temporary folder in /tmp");
    err = decode ? with_vae(e, s, &z, dir, rows) : with_dit(e, s, &z, policy, dir, rows);
    prxi_bench_remove(dir);
    return err;
}
