/* One decode of a model of published shape with random weights. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "bench_attn.h"
#include "bench_size.h"
#include "job.h"
#include "video_io/video.h"

/* Convolutions of the decoder by stage, as models.md section 7 counts them: 9.57 TFLOP for 256 x 256 x 17 at base 96. */
static double conv_gflop(double positions, double in, double out, double taps)
{
    return 2e-9 * positions * in * out * taps;
}

static double decode_gflop(const prxi_bench_size *z)
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

/* Latents in, and where frames go: on the device what a decoder there takes, and planes on the host as for an encoder. */
typedef struct clip {
    prx_engine *e;
    prxi_vae *v;
    prxi_vae_job job;
    int width, height;
    float *latents, *rgb;
    uint8_t *bytes, *planes;    /* with a device: room for planes there, planes on the host */
} clip;

static void planes_to_host(const clip *k, prxi_stream *s, int n)
{
    const size_t pixels = (size_t)k->width * (size_t)k->height * 3;
    for (int i = 0; i < n && s->device; i++)
        prxi_engine_model_kernels(k->e)->latent.planes(s, k->width, k->height, k->rgb + (size_t)i * pixels, k->bytes, k->planes);
}

static int decode_once(prxi_ctx *c, prxi_stream *s, const clip *k, double *t)
{
    prxi_decoder *d = NULL;
    const double begin = prxi_now();
    int n = 0, err = prxi_decoder_open(c, &d, k->v, &k->job);
    for (int i = 0; i < k->job.frames && err == PRX_OK; i++)
        if ((err = prxi_decoder_next(c, s, d, k->latents, i, k->rgb, &n)) == PRX_OK)
            planes_to_host(k, s, n);        /* waits */
    *t = prxi_now() - begin;
    prxi_decoder_close(c, &d);
    return err == PRX_OK ? prxi_stream_error(s) : err;
}

static void close_clip(prxi_ctx *c, prxi_stream *s, clip *k)
{
    prxi_device_free(c, s->device, k->latents);
    prxi_device_free(c, s->device, k->rgb);
    prxi_device_free(c, s->device, k->bytes);
    prxi_free(c->mem, k->planes);
    prxi_vae_close(c, &k->v);
}

static int open_clip(prx_engine *e, prxi_stream *s, const prxi_bench_size *z, const char *dir, clip *k)
{
    prxi_ctx *c = &e->ctx;
    *k = (clip) { .e = e, .job = { (int)((z->frames - 1) / 4 + 1), (int)z->height / 8, (int)z->width / 8, 0, PRXI_CONV_AUTO },
                  .width = (int)z->width, .height = (int)z->height };
    const size_t latents = 16 * (size_t)k->job.frames * (size_t)k->job.height * (size_t)k->job.width * sizeof(float);
    const size_t pixels = (size_t)z->height * (size_t)z->width * 3, planes = prxi_yuv420_bytes(k->width, k->height);
    k->latents = prxi_device_alloc(c, s->device, PRXI_MEM_FRAMES, latents);
    k->rgb = prxi_device_alloc(c, s->device, PRXI_MEM_FRAMES, 4 * pixels * sizeof(float));
    k->bytes = prxi_device_alloc(c, s->device, PRXI_MEM_FRAMES, pixels + planes);
    k->planes = prxi_alloc(c->mem, PRXI_MEM_FRAMES, planes);
    int err = k->latents && k->rgb && k->bytes && k->planes ? prxi_device_zero(c, s->device, k->latents, latents)
                                                            : prxi_fail_nomem(c, "frames", latents + 4 * pixels * sizeof(float));
    if (err == PRX_OK)
        err = prxi_bench_write_vae(c, dir, (int)z->base);
    return err < 0 ? err : prxi_vae_open(c, &k->v, dir, prxi_engine_model_kernels(e), e->dtype);
}

static int with_vae(prx_engine *e, prxi_stream *s, const prxi_bench_size *z, const char *dir, cJSON *rows)
{
    double t[PRXI_BENCH_TURNS], once, workspace = 0;
    char shape[96];
    clip k;
    int err = open_clip(e, s, z, dir, &k);
    for (int i = -1; i < z->repeats && err == PRX_OK; i++) {
        err = decode_once(&e->ctx, s, &k, &once);
        if (i >= 0)
            t[i] = once;
    }
    if (err == PRX_OK)
        workspace = (double)prxi_decoder_bytes(k.v, &k.job);
    close_clip(&e->ctx, s, &k);
    if (err < 0)
        return err;
    const double rate = s->device ? 0 : prxi_bench_gemm_rate(&e->ctx, s, e->kernels.isa, e->dtype);
    snprintf(shape, sizeof shape, "%lldx%lldx%lld, base %lld", (long long)z->width, (long long)z->height, (long long)z->frames,
             (long long)z->base);
    prxi_bench_add_times(rows, "decode", shape, e->dtype, t, (int)z->repeats, decode_gflop(z), rate);
    cJSON_AddNumberToObject(cJSON_GetArrayItem(rows, cJSON_GetArraySize(rows) - 1), "workspace_bytes", workspace);
    return PRX_OK;
}

int prxi_bench_decode(prx_engine *e, prxi_stream *s, const char *text, cJSON *rows)
{
    prxi_bench_size z;
    char dir[] = "/tmp/praxino-bench-XXXXXX";
    int err = prxi_bench_size_parse(&e->ctx, text, &z);
    if (err < 0)
        return err;
    if (!mkdtemp(dir))
        return prxi_fail(&e->ctx, PRX_EIO, "bench: no temporary folder in /tmp");
    err = with_vae(e, s, &z, dir, rows);
    prxi_bench_remove(dir);
    return err;
}
