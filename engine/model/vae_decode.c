/* The decoder object: order of calls, pixels out. */
#include "vae_int.h"

#include <string.h>

/* Channel (c * p + b) * p + a of a patch is pixel (row a, column b): the column is the slower index. */
void prxi_vae_finish_row(const prxi_vae *v, int64_t raw_w, int64_t y, const float *row, float *rgb)
{
    const int p = v->cfg.patch, n = v->cfg.out_channels;
    for (int a = 0; a < p; a++) {
        float *out = rgb + (y * p + a) * raw_w * p * 3;
        for (int64_t x = 0; x < raw_w; x++)
            for (int b = 0; b < p; b++)
                for (int c = 0; c < 3; c++) {
                    const float u = row[x * n + (c * p + b) * p + a] * 0.5f + 0.5f;
                    *out++ = u < 0.0f ? 0.0f : u > 1.0f ? 1.0f : u;
                }
    }
}

static void to_rgb(void *cookie, int frame, int64_t y, const float *row)
{
    const prxi_decoder *d = cookie;
    const int64_t p = d->v->cfg.patch, pixels = d->core.raw_h * d->core.raw_w * p * p;
    prxi_vae_finish_row(d->v, d->core.raw_w, y, row, d->rgb + frame * pixels * 3);
}

static size_t core_bytes(const prxi_vae *v, int64_t h, int64_t w)
{
    prxi_vae_core k;
    return prxi_vae_core_init(&k, v, h, w, NULL);
}

size_t prxi_decoder_bytes(const prxi_vae *v, const prxi_vae_job *job)
{
    return prxi_vae_is_tiled(v, job) ? prxi_vae_tiles_bytes(v, job) : core_bytes(v, job->height, job->width);
}

static int check_job(prxi_ctx *c, const prxi_vae_job *job)
{
    const int max = 1 << 14;
    if (job->frames < 1 || job->frames > 1 << 20 || job->height < 1 || job->width < 1 || job->height > max ||
        job->width > max)
        return prxi_fail(c, PRX_EINVAL, "VAE decode: latents of %d x %d x %d: sizes from 1 to %d expected", job->frames,
                         job->height, job->width, max);
    return PRX_OK;
}

int prxi_decoder_open(prxi_ctx *c, prxi_decoder **out, const prxi_vae *v, const prxi_vae_job *job)
{
    *out = NULL;
    int err = check_job(c, job);
    if (err < 0)
        return err;
    prxi_decoder *d = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *d);
    if (!d)
        return prxi_fail_nomem(c, "VAE decoder", sizeof *d);
    d->v = v;
    d->job = *job;
    if (prxi_vae_is_tiled(v, job)) {
        err = prxi_vae_tiles_open(c, d);
    } else {
        d->bytes = core_bytes(v, job->height, job->width);
        d->base = prxi_calloc(c->mem, PRXI_MEM_ACTIVATIONS, d->bytes, 1);
        if (d->base)
            prxi_vae_core_init(&d->core, v, job->height, job->width, d->base);
        else
            err = prxi_fail_nomem(c, "VAE decode", d->bytes);
    }
    if (err < 0) {
        prxi_decoder_close(c, &d);
        return err;
    }
    d->core.sink = to_rgb;
    d->core.cookie = d;
    *out = d;
    return PRX_OK;
}

void prxi_decoder_close(prxi_ctx *c, prxi_decoder **d)
{
    if (!*d)
        return;
    prxi_vae_tiles_close(c, *d);
    prxi_free(c->mem, (*d)->base);
    prxi_free(c->mem, *d);
    *d = NULL;
}

int prxi_decoder_next(prxi_ctx *c, prxi_stream *s, prxi_decoder *d, const float *latents, int t, float *rgb, int *n)
{
    const prxi_vae_job *job = &d->job;
    const int64_t plane = (int64_t)job->height * job->width;
    if (t != d->next || t >= job->frames)
        return prxi_fail(c, PRX_EINVAL, "VAE decode: latent frame %d: %d of %d is next", t, d->next, job->frames);
    *n = t == 0 ? 1 : d->v->cfg.scale_temporal;
    if (d->tiles) {
        const int err = prxi_vae_tiles_next(c, s, d, latents, t, rgb, *n);
        if (err < 0)
            return err;
    } else {
        d->rgb = rgb;
        prxi_vae_core_next(&d->core, s, latents + t * plane, job->frames * plane, job->width);
    }
    if (prxi_stream_error(s) < 0)
        return prxi_stream_error(s);
    if (prxi_vae_stop(s))
        return prxi_fail(c, PRX_ECANCELED, "VAE decode: canceled");
    d->next++;
    return PRX_OK;
}
