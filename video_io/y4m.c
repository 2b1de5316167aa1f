/* YUV4MPEG2, to a file or to standard output: 4:2:0, BT.709, limited range. The format cannot say which matrix was used, so a
 * comment token does (X tokens are ignored by other programs; libav understands XCOLORRANGE). */
#include <stdio.h>

#include "color.h"
#include "vout.h"
#include "video_int.h"

typedef struct y4m {
    prxi_vout out;
    int width, height;
    size_t bytes;            /* of one frame */
    uint8_t *frame;
    char header[160];        /* written with the first frame, from the thread that writes: a closed pipe must not raise SIGPIPE */
} y4m;

static int y4m_open(void *priv, prxi_ctx *c, const char *path, const prxi_video_spec *spec)
{
    y4m *y = priv;
    y->width = spec->width;
    y->height = spec->height;
    y->bytes = prxi_yuv420_bytes(spec->width, spec->height);
    snprintf(y->header, sizeof y->header,
             "YUV4MPEG2 W%d H%d F%d:%d Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED XMATRIX=BT709\n", spec->width,
             spec->height, spec->fps_num, spec->fps_den);
    const size_t all = prxi_mul(prxi_add(y->bytes, 6), (size_t)spec->frames);
    const int err = prxi_vout_open(c, &y->out, path, all);
    if (err < 0)
        return err;
    y->frame = prxi_alloc(c->mem, PRXI_MEM_FRAMES, y->bytes);
    return y->frame ? PRX_OK : prxi_fail_nomem(c, "y4m frame", y->bytes);
}

static int y4m_header(y4m *y, prxi_ctx *c)
{
    if (!y->header[0])
        return PRX_OK;
    size_t n = 0;
    while (y->header[n])
        n++;
    const int err = prxi_vout_write(c, &y->out, y->header, n);
    y->header[0] = '\0';
    return err;
}

static int y4m_write_yuv(void *priv, prxi_ctx *c, const uint8_t *planes)
{
    y4m *y = priv;
    int err = y4m_header(y, c);
    if (err < 0 || (err = prxi_vout_write(c, &y->out, "FRAME\n", 6)) < 0)
        return err;
    return prxi_vout_write(c, &y->out, planes, y->bytes);
}

static int y4m_write(void *priv, prxi_ctx *c, const uint8_t *rgb)
{
    y4m *y = priv;
    const prxi_planes p = prxi_planes_of(y->frame, y->width, y->height);
    prxi_rgb_to_yuv420(rgb, y->width, y->height, &p);
    return y4m_write_yuv(priv, c, y->frame);
}

static int y4m_finish(void *priv, prxi_ctx *c)
{
    y4m *y = priv;
    const int err = y4m_header(y, c);
    return err < 0 ? err : prxi_vout_finish(c, &y->out);
}

static void y4m_close(void *priv, prxi_ctx *c)
{
    y4m *y = priv;
    prxi_free(c->mem, y->frame);
    prxi_vout_close(c, &y->out);
}

const prxi_muxer prxi_muxer_y4m = {
    .name = "y4m",
    .help = "YUV4MPEG2, uncompressed 4:2:0; \"-\" writes it to standard output",
    .extensions = "y4m",
    .priv_size = sizeof(y4m),
    .open = y4m_open,
    .write = y4m_write,
    .write_yuv = y4m_write_yuv,
    .finish = y4m_finish,
    .close = y4m_close,
};
