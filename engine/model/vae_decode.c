/* The decoder object: order of calls, pixels out. */
#include "vae_int.h"

#include "engine/core/device.h"

static void to_rgb(void *cookie, prxi_stream *s, const prxi_vae_core *k, int frame)
{
    const prxi_decoder *d = cookie;
    const int64_t p = d->v->cfg.patch, pixels = k->raw_h * k->raw_w * p * p;
    const prxi_frame_rgb a = { k->raw_h, k->raw_w, d->v->cfg.patch, k->raw, d->rgb + frame * pixels * 3 };
    d->v->k.frame.rgb(s, &a);
}

static size_t core_bytes(const prxi_vae *v, int64_t h, int64_t w)
{
    prxi_vae_core k;
    return prxi_vae_core_init(&k, v, h, w, NULL);
}

prxi_device *prxi_decoder_device(const prxi_vae *v, const prxi_vae_job *job)
{
    return prxi_vae_is_tiled(v, job) ? NULL : v->k.device;
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
        d->base = prxi_device_alloc(c, v->k.device, PRXI_MEM_ACTIVATIONS, d->bytes);
        err = d->base ? prxi_device_zero(c, v->k.device, d->base, d->bytes) : prxi_fail_nomem(c, "VAE decode", d->bytes);
        if (err == PRX_OK)
            prxi_vae_core_init(&d->core, v, job->height, job->width, d->base);
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
    prxi_device_free(c, (*d)->v->k.device, (*d)->base);
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
        d->core.by = (prxi_conv_by)job->conv;
        if (t == 0)
            prxi_vae_core_prepare(&d->core, s);
        prxi_vae_core_next(&d->core, s, latents + t * plane, job->frames * plane, job->width);
    }
    if (prxi_stream_error(s) < 0)
        return prxi_stream_error(s);
    if (prxi_vae_stop(s))
        return prxi_fail(c, PRX_ECANCELED, "VAE decode: canceled");
    d->next++;
    return PRX_OK;
}
