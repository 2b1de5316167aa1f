/* Rectangles into an RGB picture, written by the video writers. */
#include "engine/picture.h"

#include <math.h>
#include <string.h>

#include "video_io/video.h"

int prxi_picture_open(prxi_ctx *c, prxi_picture *p, int width, int height)
{
    const size_t bytes = prxi_mul((size_t)width * (size_t)height, 3);
    *p = (prxi_picture) { width, height, prxi_alloc(c->mem, PRXI_MEM_FRAMES, bytes) };
    if (!p->rgb)
        return prxi_fail_nomem(c, "picture", bytes);
    memset(p->rgb, 0xff, bytes);
    return PRX_OK;
}

void prxi_picture_fill(prxi_picture *p, int x, int y, int width, int height, uint32_t colour)
{
    const int right = x + width < p->width ? x + width : p->width, bottom = y + height < p->height ? y + height : p->height;
    for (int i = y > 0 ? y : 0; i < bottom; i++)
        for (int j = x > 0 ? x : 0; j < right; j++) {
            uint8_t *to = p->rgb + 3 * ((size_t)i * (size_t)p->width + (size_t)j);
            to[0] = (uint8_t)(colour >> 16), to[1] = (uint8_t)(colour >> 8), to[2] = (uint8_t)colour;
        }
}

/* Hues a golden angle apart, in three lightnesses. */
uint32_t prxi_picture_colour(int i)
{
    const double hue = fmod(i * 0.6180339887498949, 1.0) * 6, light = 0.55 + 0.2 * (i % 3);
    uint32_t out = 0;
    for (int channel = 0; channel < 3; channel++) {
        const double at = fabs(fmod(hue + 6 - 2 * channel, 6) - 3);          /* 3 at the pure hue, 0 opposite */
        const double v = at - 1 < 0 ? 0 : at - 1 > 1 ? 1 : at - 1;
        out = out << 8 | (uint32_t)(255 * light * (0.25 + 0.75 * v) + 0.5);
    }
    return out;
}

int prxi_picture_write(prxi_ctx *c, const prxi_picture *p, const char *path)
{
    const prxi_video_spec spec = { .width = p->width, .height = p->height, .fps_num = 1, .fps_den = 1, .frames = 1, .crf = -1 };
    prxi_writer *w = NULL;
    int err = prxi_writer_open(c, &w, NULL, path, &spec);
    if (err == PRX_OK)
        err = prxi_writer_frame(c, w, p->rgb);
    if (err == PRX_OK)
        err = prxi_writer_finish(c, w);
    prxi_writer_close(c, &w);
    return err;
}

void prxi_picture_close(prxi_ctx *c, prxi_picture *p)
{
    prxi_free(c->mem, p->rgb);
    p->rgb = NULL;
}
