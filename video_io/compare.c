/* Walks two clips together and collects the metrics of quality.h. */
#include "compare.h"

#include <math.h>
#include <string.h>

#include "quality.h"

/* Running mean of the values that exist, and the list with null for the others. */
typedef struct series {
    double sum;
    int64_t n;
    cJSON *list;
} series;

typedef struct comparison {
    prxi_reader *a, *b;
    size_t bytes;
    uint8_t *frame[4];       /* a, b; the frames before them */
    int64_t frames, identical;
    double sse, motion_sse;
    series psnr, luma, rgb, blocks, ms, temporal;
} comparison;

static int add(prxi_ctx *c, series *s, double v)
{
    cJSON *item = isfinite(v) ? cJSON_CreateNumber(v) : cJSON_CreateNull();
    if (!item || !s->list || !cJSON_AddItemToArray(s->list, item)) {
        cJSON_Delete(item);
        return prxi_fail_nomem(c, "comparison", 64);
    }
    if (isfinite(v)) {
        s->sum += v;
        s->n++;
    }
    return PRX_OK;
}

static int check_pair(prxi_ctx *c, const comparison *k)
{
    const prxi_video_spec *a = prxi_reader_spec(k->a), *b = prxi_reader_spec(k->b);
    if (a->width != b->width || a->height != b->height)
        return prxi_fail(c, PRX_EINVAL, "compare: the first is %dx%d, the second %dx%d", a->width, a->height, b->width,
                         b->height);
    if (a->frames && b->frames && a->frames != b->frames)
        return prxi_fail(c, PRX_EINVAL, "compare: the first has %lld frames, the second %lld", (long long)a->frames,
                         (long long)b->frames);
    return PRX_OK;
}

static int measure(prxi_ctx *c, comparison *k)
{
    const prxi_video_spec *s = prxi_reader_spec(k->a);
    const uint8_t *a = k->frame[0], *b = k->frame[1];
    const uint64_t sse = prxi_sse_u8(a, b, k->bytes);
    int ok[3];
    const double luma = prxi_ssim_luma(c->mem, a, b, s->width, s->height, ok);
    const double rgb = prxi_ssim_rgb(c->mem, a, b, s->width, s->height, ok + 1);
    const double ms = prxi_ms_ssim_luma(c->mem, a, b, s->width, s->height, ok + 2);
    if (!ok[0] || !ok[1] || !ok[2])
        return prxi_fail_nomem(c, "SSIM", prxi_mul(32, prxi_mul((size_t)s->width, (size_t)s->height)));
    int err;
    if ((err = add(c, &k->psnr, prxi_psnr((double)sse / (double)k->bytes))) < 0 || (err = add(c, &k->luma, luma)) < 0 ||
        (err = add(c, &k->rgb, rgb)) < 0 || (err = add(c, &k->ms, ms)) < 0 ||
        (err = add(c, &k->blocks, prxi_ssim_blocks(a, b, s->width, s->height))) < 0)
        return err;
    double motion = INFINITY;
    if (k->frames > 0) {
        const uint64_t d = prxi_sse_motion(k->frame[2], a, k->frame[3], b, k->bytes);
        motion = prxi_psnr((double)d / (double)k->bytes);
        k->motion_sse += (double)d;
    }
    k->sse += (double)sse;
    k->identical += sse == 0;
    return add(c, &k->temporal, motion);
}

/* One clip ended; the other, which first_goes_on names, is read on so that both lengths can be said. */
static int uneven(prxi_ctx *c, comparison *k, int first_goes_on)
{
    int64_t n = k->frames + 1;
    int got;
    while ((got = prxi_reader_next(c, first_goes_on ? k->a : k->b, k->frame[0])) == 1)
        n++;
    if (got < 0)
        return got;
    return prxi_fail(c, PRX_EINVAL, "compare: the first has %lld frames, the second %lld",
                     (long long)(first_goes_on ? n : k->frames), (long long)(first_goes_on ? k->frames : n));
}

static int next_pair(prxi_ctx *c, comparison *k)
{
    uint8_t *const older[2] = { k->frame[2], k->frame[3] };
    k->frame[2] = k->frame[0];
    k->frame[3] = k->frame[1];
    k->frame[0] = older[0];
    k->frame[1] = older[1];
    const int a = prxi_reader_next(c, k->a, k->frame[0]);
    if (a < 0)
        return a;
    const int b = prxi_reader_next(c, k->b, k->frame[1]);
    if (b < 0)
        return b;
    return a == b ? a : uneven(c, k, a);
}

static int walk(prxi_ctx *c, comparison *k)
{
    const prxi_video_spec *s = prxi_reader_spec(k->a);
    k->bytes = prxi_mul(3, prxi_mul((size_t)s->width, (size_t)s->height));
    for (int i = 0; i < 4; i++)
        if (!(k->frame[i] = prxi_alloc(c->mem, PRXI_MEM_FRAMES, k->bytes)))
            return prxi_fail_nomem(c, "frames to compare", k->bytes);
    int got;
    while ((got = next_pair(c, k)) == 1) {
        const int err = measure(c, k);
        if (err < 0)
            return err;
        k->frames++;
    }
    return got;
}

/* Adds a number, or null when it does not exist. */
static int put(cJSON *o, const char *name, double v)
{
    return (isfinite(v) ? cJSON_AddNumberToObject(o, name, v) : cJSON_AddNullToObject(o, name)) != NULL;
}

/* The list of s becomes the object's. */
static int put_series(cJSON *o, const char *name, series *s)
{
    if (!cJSON_AddItemToObject(o, name, s->list))
        return 0;
    s->list = NULL;
    return 1;
}

static double mean(const series *s)
{
    return s->n ? s->sum / (double)s->n : NAN;
}

static int report(comparison *k, cJSON *root)
{
    const prxi_video_spec *s = prxi_reader_spec(k->a);
    const double samples = (double)k->bytes * (double)k->frames;
    const double motion = k->frames > 1 ? k->motion_sse / ((double)k->bytes * (double)(k->frames - 1)) : 0;
    int ok = put(root, "frames", (double)k->frames) && put(root, "width", s->width) && put(root, "height", s->height) &&
             cJSON_AddBoolToObject(root, "identical", k->identical == k->frames);
    cJSON *o = cJSON_AddObjectToObject(root, "psnr");
    ok = ok && o && put(o, "mean_of_frames", mean(&k->psnr)) && put(o, "clip", prxi_psnr(k->sse / samples)) &&
         put(o, "identical_frames", (double)k->identical) && put_series(o, "per_frame", &k->psnr);
    o = cJSON_AddObjectToObject(root, "ssim");
    ok = ok && o && put(o, "luma", mean(&k->luma)) && put(o, "rgb", mean(&k->rgb)) &&
         put(o, "blocks", mean(&k->blocks)) &&
         put_series(o, "luma_per_frame", &k->luma) && put_series(o, "rgb_per_frame", &k->rgb);
    o = cJSON_AddObjectToObject(root, "ms_ssim");
    ok = ok && o && put(o, "luma", mean(&k->ms)) && put_series(o, "luma_per_frame", &k->ms);
    o = cJSON_AddObjectToObject(root, "temporal");
    return ok && o && put(o, "psnr", prxi_psnr(motion)) && put_series(o, "per_frame", &k->temporal);
}

int prxi_compare(prxi_ctx *c, prxi_reader *a, prxi_reader *b, cJSON **out)
{
    *out = NULL;
    comparison k = { .a = a, .b = b };
    series *const all[] = { &k.psnr, &k.luma, &k.rgb, &k.blocks, &k.ms, &k.temporal };
    int err = check_pair(c, &k);
    for (size_t i = 0; i < sizeof all / sizeof *all && err == PRX_OK; i++)
        if (!(all[i]->list = cJSON_CreateArray()))
            err = prxi_fail_nomem(c, "comparison", 64);
    if (err == PRX_OK)
        err = walk(c, &k);
    if (err == PRX_OK && k.frames == 0)
        err = prxi_fail(c, PRX_EFORMAT, "compare: no frames");
    cJSON *root = err == PRX_OK ? cJSON_CreateObject() : NULL;
    if (err == PRX_OK && (!root || !report(&k, root))) {
        cJSON_Delete(root);
        root = NULL;
        err = prxi_fail_nomem(c, "comparison", 1024);
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        cJSON_Delete(all[i]->list);
    for (int i = 0; i < 4; i++)
        prxi_free(c->mem, k.frame[i]);
    *out = root;
    return err;
}
