/* Frames in: a file through libav, or frames that lie in memory (dumps, which the caller opens: this folder knows no tensors). */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "video_int.h"

struct prxi_reader {
    prxi_video_spec spec;
    prxi_av_input *av;
    const uint8_t *frames;   /* borrowed */
    int64_t next;
    size_t bytes;            /* of a frame as it is stored */
    prxi_resize *resize;     /* or NULL */
    uint8_t *stored;         /* the frame that resize takes */
};

int prxi_reader_open(prxi_ctx *c, prxi_reader **out, const char *path)
{
    *out = NULL;
    if (!path || !*path)
        return prxi_fail(c, PRX_EINVAL, "input: the file name is empty");
    if (strcasecmp(prxi_extension(path), "safetensors") == 0)
        return prxi_fail(c, PRX_EINVAL, "%s: a dump is read by its tensor `frames`, not as a video", path);
    prxi_reader *r = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *r);
    if (!r)
        return prxi_fail_nomem(c, "video reader", sizeof *r);
    const int err = prxi_av_input_open(c, &r->av, path, &r->spec);
    r->bytes = 3 * (size_t)r->spec.width * (size_t)r->spec.height;
    if (err < 0)
        prxi_reader_close(c, &r);
    *out = r;
    return err;
}

int prxi_reader_open_frames(prxi_ctx *c, prxi_reader **out, const uint8_t *frames, int64_t n, int64_t height,
                            int64_t width)
{
    *out = NULL;
    if (n < 1 || height < 1 || width < 1 || n > INT32_MAX || height > 32768 || width > 32768)
        return prxi_fail(c, PRX_EFORMAT, "frames: [%lld, %lld, %lld, 3] is not a clip", (long long)n, (long long)height,
                         (long long)width);
    prxi_reader *r = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *r);
    if (!r)
        return prxi_fail_nomem(c, "video reader", sizeof *r);
    r->spec = (prxi_video_spec){ .width = (int)width, .height = (int)height, .frames = n, .crf = -1 };
    r->frames = frames;
    r->bytes = 3 * (size_t)width * (size_t)height;
    *out = r;
    return PRX_OK;
}

const prxi_video_spec *prxi_reader_spec(const prxi_reader *r)
{
    return &r->spec;
}

int prxi_reader_resize(prxi_ctx *c, prxi_reader *r, int width, int height)
{
    r->stored = prxi_alloc(c->mem, PRXI_MEM_FRAMES, r->bytes);
    if (!r->stored)
        return prxi_fail_nomem(c, "frame to resize", r->bytes);
    const int err = prxi_resize_open(c, &r->resize, r->spec.width, r->spec.height, width, height);
    if (err < 0)
        return err;
    r->spec.width = width;
    r->spec.height = height;
    return PRX_OK;
}

static int next_stored(prxi_ctx *c, prxi_reader *r, uint8_t *rgb)
{
    if (r->av) {
        const int got = prxi_av_input_next(c, r->av, rgb);
        r->next += got == 1;
        return got;
    }
    if (r->next == r->spec.frames)
        return 0;
    memcpy(rgb, r->frames + (size_t)r->next++ * r->bytes, r->bytes);
    return 1;
}

int prxi_reader_next(prxi_ctx *c, prxi_reader *r, uint8_t *rgb)
{
    if (!r->resize)
        return next_stored(c, r, rgb);
    const int got = next_stored(c, r, r->stored);
    if (got != 1)
        return got;
    const int err = prxi_resize_run(c, r->resize, r->stored, rgb);
    return err < 0 ? err : 1;
}

double prxi_reader_time(const prxi_reader *r)
{
    return r->av ? prxi_av_input_time(r->av) : NAN;
}

void prxi_reader_close(prxi_ctx *c, prxi_reader **pr)
{
    prxi_reader *r = *pr;
    if (!r)
        return;
    prxi_av_input_close(c, &r->av);
    prxi_resize_close(c, &r->resize);
    prxi_free(c->mem, r->stored);
    prxi_free(c->mem, r);
    *pr = NULL;
}
