/* One denoising step and one decode of a model of published shape with random weights, beside the linear-layer rate of the same run. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench_model.h"
#include "engine/core/option.h"
#include "engine/core/rng.h"
#include "engine/estimate.h"
#include "job.h"

typedef struct settings {
    int64_t width, height, frames, heads, layers, ffn, base, repeats, text;
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
    { "repeats", PRXI_OPT_INT, AT(repeats), 1, 100, NULL, "3", "timed runs" },
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
    double sorted[100];
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
static double step_gflop(const settings *z, double tokens)
{
    const double d = (double)z->heads * 128, ffn = (double)z->ffn;
    const double linear = 12 * tokens * d * d + 4 * tokens * d * ffn + 4 * 512 * d * d;
    const double attention = 4 * tokens * tokens * d + 4 * 512 * tokens * d;
    return 2e-9 * (double)z->layers * (linear + attention);
}

static int time_steps(prxi_ctx *c, prxi_stream *s, const settings *z, prxi_dit_run *run, double *t)
{
    const prxi_bench_clip clip = prxi_bench_clip_of(z->width, z->height, z->frames, z->text);
    const size_t n = prxi_bench_latents(&clip);
    float *x = prxi_alloc(c->mem, PRXI_MEM_ACTIVATIONS, 3 * n * sizeof *x);
    if (!x)
        return prxi_fail_nomem(c, "latents", 3 * n * sizeof *x);
    prxi_rng rng;
    prxi_rng_seed(&rng, 0);
    prxi_rng_normal(&rng, x, n);
    prxi_cache_report reports[PRXI_BRANCHES];
    const prxi_dit_hooks hooks = { prxi_attn_policy_find("dense"), NULL, NULL, NULL, reports, NULL, NULL };
    float *const v[PRXI_BRANCHES] = { x + n, x + 2 * n };
    for (int i = -1; i < z->repeats && !prxi_stream_error(s); i++) {
        const prxi_step st = { .index = 0, .steps = 1, .sigma = 1, .timestep = 999 };
        const double begin = prxi_now();
        memset(reports, 0, sizeof reports);
        prxi_dit_forward(s, run, &st, x, &hooks, v);
        if (i >= 0)
            t[i] = prxi_now() - begin;
    }
    prxi_free(c->mem, x);
    return prxi_stream_error(s);
}

typedef struct timed {
    const settings *z;
    double *t;
} timed;

static int time_run(void *cookie, prxi_stream *s, prxi_dit_run *run)
{
    const timed *job = cookie;
    return time_steps(s->ctx, s, job->z, run, job->t);
}

/* What the plan of such a job says before it starts. */
static int expect(prx_engine *e, prxi_stream *s, const settings *z, const prxi_dit_config *cfg, double *seconds)
{
    const prxi_attn_plan dense = { .density = 1.0, .sparse_density = 1.0 };
    const prxi_estimate_env env = {
        .kernels = &e->kernels, .dit = cfg, .dtype = e->dtype, .branches = 2, .attn = &dense,
        .tokens = prxi_bench_tokens(z->width, z->height, z->frames),
    };
    prxi_estimate out;
    const int err = prxi_estimate_run(&e->ctx, s, &env, &out);
    *seconds = out.dense_step;
    return err;
}

static int with_dit(prx_engine *e, prxi_stream *s, const settings *z, const char *dir, double *t, double *expected)
{
    const prxi_dit_config cfg = prxi_bench_dit(z->heads, z->layers, z->ffn);
    const prxi_bench_clip clip = prxi_bench_clip_of(z->width, z->height, z->frames, z->text);
    timed job = { z, t };
    const int err = s->device ? PRX_OK : expect(e, s, z, &cfg, expected);       /* plans for a device have no times */
    return err < 0 ? err : prxi_bench_with_dit(e, s, dir, &cfg, &clip, time_run, &job);
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

static int with_vae(prx_engine *e, prxi_stream *s, const settings *z, const char *dir, double *t, double *workspace)
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

int prxi_bench_step(prx_engine *e, prxi_stream *s, const char *text, int decode, cJSON *rows)
{
    settings z;
    double t[100], workspace = 0, expected = 0;
    char dir[] = "/tmp/praxino-bench-XXXXXX", shape[96];
    int err = prxi_option_parse(&e->ctx, options, &z, "", text);
    if (err < 0)
        return err;
    if (!mkdtemp(dir))
        return prxi_fail(&e->ctx, PRX_EIO, "bench: no temporary folder in /tmp");
    err = decode ? with_vae(e, s, &z, dir, t, &workspace) : with_dit(e, s, &z, dir, t, &expected);
    prxi_bench_remove(dir);
    if (err < 0)
        return err;
    const double tokens = (double)prxi_bench_tokens(z.width, z.height, z.frames);
    snprintf(shape, sizeof shape, "%lldx%lldx%lld, %s %lld", (long long)z.width, (long long)z.height, (long long)z.frames,
             decode ? "base" : "layers", (long long)(decode ? z.base : z.layers));
    add_row(rows, decode ? "decode" : "step", shape, e->dtype, t, (int)z.repeats, decode ? decode_gflop(&z) : step_gflop(&z, tokens),
            s->device ? 0 : gemm_rate(&e->ctx, s, e->kernels.isa, e->dtype));
    cJSON *row = cJSON_GetArrayItem(rows, cJSON_GetArraySize(rows) - 1);
    if (decode) {
        cJSON_AddNumberToObject(row, "workspace_bytes", workspace);
    } else if (!s->device) {
        cJSON_AddNumberToObject(row, "expected_seconds", expected);
        cJSON_AddNumberToObject(row, "expected_over_measured", expected / cJSON_GetObjectItem(row, "seconds_median")->valuedouble);
    }
    return PRX_OK;
}
