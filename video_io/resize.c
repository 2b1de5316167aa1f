/* Frames to another size, through libswscale. */
#include <libswscale/swscale.h>

#include "video_int.h"

struct prxi_resize {
    struct SwsContext *sws;
    int width, height, to_width, to_height;
    int stride, to_stride;
    uint8_t *plane, *to;         /* one channel before and after; rows padded, as libswscale may write beyond them */
};

static int padded(int width)
{
    return (width + 127) / 64 * 64;
}

int prxi_resize_open(prxi_ctx *c, prxi_resize **out, int width, int height, int to_width, int to_height)
{
    *out = NULL;
    prxi_resize *r = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *r);
    if (!r)
        return prxi_fail_nomem(c, "resize", sizeof *r);
    *r = (prxi_resize){ .width = width, .height = height, .to_width = to_width, .to_height = to_height,
                        .stride = padded(width), .to_stride = padded(to_width) };
    const size_t from = prxi_mul((size_t)r->stride, (size_t)height), to = prxi_mul((size_t)r->to_stride, (size_t)to_height);
    r->plane = prxi_calloc(c->mem, PRXI_MEM_FRAMES, from, 1);
    r->to = prxi_calloc(c->mem, PRXI_MEM_FRAMES, to, 1);
    int err = r->plane && r->to ? PRX_OK : prxi_fail_nomem(c, "resize", from + to);
    prxi_av_quiet();
    if (err == PRX_OK)
        r->sws = sws_getContext(width, height, AV_PIX_FMT_GRAY8, to_width, to_height, AV_PIX_FMT_GRAY8,
                                SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT, NULL, NULL, NULL);
    if (err == PRX_OK && !r->sws)
        err = prxi_fail(c, PRX_EINVAL, "resize: %dx%d to %dx%d: libswscale cannot", width, height, to_width, to_height);
    if (err < 0)
        prxi_resize_close(c, &r);
    *out = r;
    return err;
}

/* Channel by channel: libswscale scales RGB by way of YUV, which would round once more. */
int prxi_resize_run(prxi_ctx *c, prxi_resize *r, const uint8_t *rgb, uint8_t *out)
{
    const uint8_t *const from[4] = { r->plane, NULL, NULL, NULL };
    uint8_t *const to[4] = { r->to, NULL, NULL, NULL };
    const int stride[4] = { r->stride, 0, 0, 0 }, to_stride[4] = { r->to_stride, 0, 0, 0 };
    for (size_t ch = 0; ch < 3; ch++) {
        for (size_t y = 0; y < (size_t)r->height; y++)
            for (size_t x = 0; x < (size_t)r->width; x++)
                r->plane[y * (size_t)r->stride + x] = rgb[3 * (y * (size_t)r->width + x) + ch];
        if (sws_scale(r->sws, from, stride, 0, r->height, to, to_stride) != r->to_height)
            return prxi_fail(c, PRX_EFORMAT, "resize: libswscale stopped");
        for (size_t y = 0; y < (size_t)r->to_height; y++)
            for (size_t x = 0; x < (size_t)r->to_width; x++)
                out[3 * (y * (size_t)r->to_width + x) + ch] = r->to[y * (size_t)r->to_stride + x];
    }
    return PRX_OK;
}

void prxi_resize_close(prxi_ctx *c, prxi_resize **pr)
{
    prxi_resize *r = *pr;
    if (!r)
        return;
    sws_freeContext(r->sws);
    prxi_free(c->mem, r->plane);
    prxi_free(c->mem, r->to);
    prxi_free(c->mem, r);
    *pr = NULL;
}
