/* Frames go nowhere: for measuring everything but the encoder. */
#include "video_int.h"

static int null_open(void *priv, prxi_ctx *c, const char *path, const prxi_video_spec *spec)
{
    (void)priv, (void)c, (void)path, (void)spec;
    return PRX_OK;
}

static int null_write(void *priv, prxi_ctx *c, const uint8_t *rgb)
{
    (void)priv, (void)c, (void)rgb;
    return PRX_OK;
}

static int null_finish(void *priv, prxi_ctx *c)
{
    (void)priv, (void)c;
    return PRX_OK;
}

static void null_close(void *priv, prxi_ctx *c)
{
    (void)priv, (void)c;
}

const prxi_muxer prxi_muxer_null = {
    .name = "null",
    .help = "drops every frame",
    .extensions = "null",
    .priv_size = 1,
    .open = null_open,
    .write = null_write,
    .finish = null_finish,
    .close = null_close,
};
