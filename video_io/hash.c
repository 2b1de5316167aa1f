/* Digest of frames as text, for tests: one SHA-256 a frame and one over the clip (sizes included). */
#include <stdio.h>

#include "engine/core/sha256.h"
#include "vout.h"
#include "video_int.h"

typedef struct digest {
    prxi_vout out;
    prxi_sha256 clip;
    size_t frame_bytes;
    int64_t frames;
} digest;

static int digest_open(void *priv, prxi_ctx *c, const char *path, const prxi_video_spec *spec)
{
    digest *d = priv;
    char line[128];
    const int n = snprintf(line, sizeof line, "size %dx%d\n", spec->width, spec->height);
    d->frame_bytes = prxi_mul(3, prxi_mul((size_t)spec->width, (size_t)spec->height));
    prxi_sha256_init(&d->clip);
    prxi_sha256_add(&d->clip, line, (size_t)n);
    const int err = prxi_vout_open(c, &d->out, path, 0);
    return err < 0 ? err : prxi_vout_write(c, &d->out, line, (size_t)n);
}

static int digest_write(void *priv, prxi_ctx *c, const uint8_t *rgb)
{
    digest *d = priv;
    prxi_sha256 s;
    char hex[65], line[128];
    prxi_sha256_init(&s);
    prxi_sha256_add(&s, rgb, d->frame_bytes);
    prxi_sha256_hex(&s, hex);
    prxi_sha256_add(&d->clip, hex, 64);
    const int n = snprintf(line, sizeof line, "frame %lld %s\n", (long long)d->frames++, hex);
    return prxi_vout_write(c, &d->out, line, (size_t)n);
}

static int digest_finish(void *priv, prxi_ctx *c)
{
    digest *d = priv;
    char hex[65], line[128];
    prxi_sha256_hex(&d->clip, hex);
    const int n = snprintf(line, sizeof line, "clip %lld %s\n", (long long)d->frames, hex);
    const int err = prxi_vout_write(c, &d->out, line, (size_t)n);
    return err < 0 ? err : prxi_vout_finish(c, &d->out);
}

static void digest_close(void *priv, prxi_ctx *c)
{
    digest *d = priv;
    prxi_vout_close(c, &d->out);
}

const prxi_muxer prxi_muxer_hash = {
    .name = "hash",
    .help = "SHA-256 of every frame and of the clip, as text",
    .extensions = "digest",
    .priv_size = sizeof(digest),
    .open = digest_open,
    .write = digest_write,
    .finish = digest_finish,
    .close = digest_close,
};
