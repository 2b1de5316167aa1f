/* Animated GIF. The palette is chosen for the whole clip, so frames wait in a nameless file beside the target until the end. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "libav_write.h"
#include "palette.h"

typedef struct gif {
    prxi_av_output av;
    prxi_palette palette;
    char *spool_name;        /* while it has one */
    int spool, has_spool;
    int width, height;
    size_t bytes;
    int64_t frames;
    uint8_t *rgb;
} gif;

static int gif_open_encoder(gif *g, prxi_ctx *c, const prxi_video_spec *s)
{
    prxi_av_output *o = &g->av;
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_GIF);
    if (!codec)
        return prxi_fail(c, PRX_ENOTSUP, "%s: libavcodec here cannot write GIF", o->out.shown);
    o->enc = avcodec_alloc_context3(codec);
    if (!o->enc)
        return prxi_av_fail(c, o, "encoder", AVERROR(ENOMEM));
    o->enc->width = s->width;
    o->enc->height = s->height;
    o->enc->pix_fmt = AV_PIX_FMT_PAL8;
    o->enc->framerate = (AVRational){ s->fps_num, s->fps_den };
    o->enc->time_base = (AVRational){ s->fps_den, s->fps_num };
    o->enc->flags |= AV_CODEC_FLAG_BITEXACT;
    const int err = avcodec_open2(o->enc, codec, NULL);
    if (err < 0)
        return prxi_av_fail(c, o, "encoder", err);
    o->frame->format = AV_PIX_FMT_PAL8;
    o->frame->width = s->width;
    o->frame->height = s->height;
    return av_frame_get_buffer(o->frame, 0) < 0 ? prxi_av_fail(c, o, "frame", AVERROR(ENOMEM)) : PRX_OK;
}

static int gif_open(void *priv, prxi_ctx *c, const char *path, const prxi_video_spec *s)
{
    gif *g = priv;
    g->width = s->width;
    g->height = s->height;
    g->bytes = 3 * (size_t)s->width * (size_t)s->height;
    if (s->width > 65535 || s->height > 65535)
        return prxi_fail(c, PRX_EINVAL, "%s: GIF is at most 65535 pixels wide and high", path);
    if (s->fps_num > 50LL * s->fps_den)
        prxi_logf(c, PRX_LOG_WARN, "%s: browsers slow a GIF of more than 50 frames a second down", path);
    int err = prxi_av_open(c, &g->av, "gif", path);
    if (err < 0 || (err = gif_open_encoder(g, c, s)) < 0 || (err = prxi_palette_open(c, &g->palette)) < 0)
        return err;
    g->rgb = prxi_alloc(c->mem, PRXI_MEM_FRAMES, g->bytes);
    if (!g->rgb)
        return prxi_fail_nomem(c, "GIF frame", g->bytes);
    const char *target = g->av.out.target;
    if ((err = prxi_out_room(c, target, path, prxi_mul(g->bytes, (size_t)s->frames))) < 0 ||
        (err = prxi_out_temp(c, target, path, &g->spool_name, &g->spool)) < 0)
        return err;
    g->has_spool = 1;
    unlink(g->spool_name);
    return PRX_OK;
}

static int gif_write(void *priv, prxi_ctx *c, const uint8_t *rgb)
{
    gif *g = priv;
    prxi_vout spool = { .open = 1, .fd = g->spool, .shown = g->av.out.shown };
    prxi_palette_add(&g->palette, rgb, g->bytes / 3);
    g->frames++;
    return prxi_vout_write(c, &spool, rgb, g->bytes);
}

static int read_back(gif *g, prxi_ctx *c, int64_t i)
{
    for (size_t done = 0; done < g->bytes;) {
        const ssize_t r = pread(g->spool, g->rgb + done, g->bytes - done, (off_t)(i * (int64_t)g->bytes + (int64_t)done));
        if (r > 0)
            done += (size_t)r;
        else if (r == 0 || errno != EINTR)
            return prxi_out_fail(c, g->av.out.shown, "reading frames back", r == 0 ? EIO : errno);
    }
    return PRX_OK;
}

static int gif_finish(void *priv, prxi_ctx *c)
{
    gif *g = priv;
    AVFrame *f = g->av.frame;
    if (g->frames == 0)
        return prxi_fail(c, PRX_EINVAL, "%s: a GIF needs a frame", g->av.out.shown);
    int err = prxi_palette_choose(c, &g->palette);
    if (err < 0 || (err = prxi_av_begin(c, &g->av, "loop=0", NULL)) < 0)
        return err;
    for (int64_t i = 0; i < g->frames; i++) {
        if ((err = read_back(g, c, i)) < 0)
            return err;
        if (av_frame_make_writable(f) < 0)
            return prxi_av_fail(c, &g->av, "frame", AVERROR(ENOMEM));
        /* Entry 255 is transparent: the encoder uses it for pixels that did not change. */
        uint32_t colors[256] = { 0 };
        for (int j = 0; j < g->palette.colors; j++)
            colors[j] = 0xff000000u | (uint32_t)g->palette.rgb[j][0] << 16 | (uint32_t)g->palette.rgb[j][1] << 8 |
                        g->palette.rgb[j][2];
        for (int j = g->palette.colors; j < 255; j++)
            colors[j] = 0xff000000u;
        memcpy(f->data[1], colors, sizeof colors);
        prxi_palette_map(&g->palette, g->rgb, g->width, g->height, f->data[0], f->linesize[0]);
        f->pts = i;
        if ((err = prxi_av_send(c, &g->av, 0)) < 0)
            return err;
    }
    return prxi_av_end(c, &g->av);
}

static void gif_close(void *priv, prxi_ctx *c)
{
    gif *g = priv;
    if (g->has_spool)
        close(g->spool);
    prxi_free(c->mem, g->spool_name);
    prxi_free(c->mem, g->rgb);
    prxi_palette_close(c, &g->palette);
    prxi_av_close(c, &g->av);
}

const prxi_muxer prxi_muxer_gif = {
    .name = "gif",
    .help = "animated GIF, one palette for the clip",
    .extensions = "gif",
    .priv_size = sizeof(gif),
    .open = gif_open,
    .write = gif_write,
    .finish = gif_finish,
    .close = gif_close,
};
