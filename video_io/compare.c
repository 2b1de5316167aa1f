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
    prxi_alignment how;
    int64_t left_out[2];     /* frames at the end that have no partner, of a and b */
    int from[2];             /* size of the clip that is resized; 0, 0: none is */
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

/* Frames to skip at the beginning. */
static int64_t skipped(const prxi_alignment *how, int of_b)
{
    const int64_t n = of_b ? how->offset : -how->offset;
    return n > 0 ? n : 0;
}

/* a and b: frames from where the comparison begins. */
static int refuse_lengths(prxi_ctx *c, const comparison *k, int64_t a, int64_t b)
{
    if (a < 1 || b < 1)
        return prxi_fail(c, PRX_EINVAL, "compare: --offset %lld: no frame is left", (long long)k->how.offset);
    return prxi_fail(c, PRX_EINVAL, "compare: the first has %lld frames, the second %lld%s; --align trim compares the first %lld",
                     (long long)a, (long long)b, k->how.offset ? ", after the offset" : "", (long long)(a < b ? a : b));
}

static int check_pair(prxi_ctx *c, comparison *k)
{
    const prxi_video_spec *a = prxi_reader_spec(k->a), *b = prxi_reader_spec(k->b);
    if (a->width != b->width || a->height != b->height) {
        if (!k->how.resize)
            return prxi_fail(c, PRX_EINVAL, "compare: the first is %dx%d, the second %dx%d; --resize a or b scales to the size of one",
                             a->width, a->height, b->width, b->height);
        const prxi_video_spec *to = k->how.resize == 1 ? a : b, *from = k->how.resize == 1 ? b : a;
        k->from[0] = from->width;
        k->from[1] = from->height;
        const int err = prxi_reader_resize(c, k->how.resize == 1 ? k->b : k->a, to->width, to->height);
        if (err < 0)
            return err;
    }
    const int64_t na = a->frames - skipped(&k->how, 0), nb = b->frames - skipped(&k->how, 1);
    if (a->frames && b->frames && na != nb && !k->how.trim)
        return refuse_lengths(c, k, na, nb);
    return PRX_OK;
}

static int skip(prxi_ctx *c, comparison *k)
{
    const int of_b = k->how.offset > 0;
    const int64_t n = skipped(&k->how, of_b);
    for (int64_t i = 0; i < n; i++) {
        const int got = prxi_reader_next(c, of_b ? k->b : k->a, k->frame[0]);
        if (got < 0)
            return got;
        if (got == 0)
            return prxi_fail(c, PRX_EINVAL, "compare: --offset %lld: the %s has only %lld frames", (long long)k->how.offset,
                             of_b ? "second" : "first", (long long)i);
    }
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

/* One clip ended; the other, which first_goes_on names, is read on so that both lengths can be said. 0: trimmed. */
static int uneven(prxi_ctx *c, comparison *k, int first_goes_on)
{
    int64_t n = k->frames + 1;
    int got;
    while ((got = prxi_reader_next(c, first_goes_on ? k->a : k->b, k->frame[0])) == 1)
        n++;
    if (got < 0)
        return got;
    k->left_out[!first_goes_on] = n - k->frames;
    return k->how.trim ? 0 : refuse_lengths(c, k, first_goes_on ? n : k->frames, first_goes_on ? k->frames : n);
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
    int got = skip(c, k);
    if (got < 0)
        return got;
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

static int report_alignment(const comparison *k, cJSON *root)
{
    const prxi_alignment *how = &k->how;
    if (!how->trim && !how->offset && !how->resize)
        return cJSON_AddNullToObject(root, "alignment") != NULL;
    cJSON *o = cJSON_AddObjectToObject(root, "alignment"), *left = o ? cJSON_AddObjectToObject(o, "left_out") : NULL;
    int ok = left && cJSON_AddBoolToObject(o, "trim", how->trim) && put(o, "offset", (double)how->offset) &&
             put(left, "a", (double)k->left_out[0]) && put(left, "b", (double)k->left_out[1]);
    if (!k->from[0])
        return ok && cJSON_AddNullToObject(o, "resized");
    cJSON *size = cJSON_CreateIntArray(k->from, 2);
    cJSON *resized = ok ? cJSON_AddObjectToObject(o, "resized") : NULL;
    if (!size || !resized || !cJSON_AddItemToObject(resized, "from", size)) {
        cJSON_Delete(size);
        return 0;
    }
    return cJSON_AddStringToObject(resized, "clip", how->resize == 1 ? "b" : "a") &&
           cJSON_AddStringToObject(resized, "filter", PRXI_RESIZE_FILTER);
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
    return ok && o && put(o, "psnr", prxi_psnr(motion)) && put_series(o, "per_frame", &k->temporal) && report_alignment(k, root);
}

int prxi_compare(prxi_ctx *c, prxi_reader *a, prxi_reader *b, const prxi_alignment *how, cJSON **out)
{
    *out = NULL;
    comparison k = { .a = a, .b = b };
    if (how)
        k.how = *how;
    series *const all[] = { &k.psnr, &k.luma, &k.rgb, &k.blocks, &k.ms, &k.temporal };
    int err = check_pair(c, &k);
    for (size_t i = 0; i < sizeof all / sizeof *all && err == PRX_OK; i++)
        if (!(all[i]->list = cJSON_CreateArray()))
            err = prxi_fail_nomem(c, "comparison", 64);
    if (err == PRX_OK)
        err = walk(c, &k);
    if (err == PRX_OK && k.frames == 0)
        err = k.how.offset ? prxi_fail(c, PRX_EINVAL, "compare: --offset %lld: no frame is left", (long long)k.how.offset)
                           : prxi_fail(c, PRX_EFORMAT, "compare: no frames");
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
