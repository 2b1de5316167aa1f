/* Clips in memory: kept as files, compared, written as videos. */
#include <math.h>
#include <string.h>

#include "engine/dump.h"
#include "engine/weights/safetensors.h"
#include "lab.h"
#include "video_io/compare.h"
#include "video_io/quality.h"

static size_t frame_bytes(const prxi_clip *k)
{
    return prxi_mul(3, prxi_mul((size_t)k->width, (size_t)k->height));
}

void prxi_clip_close(prxi_ctx *c, prxi_clip *k)
{
    prxi_free(c->mem, k->frames);
    prxi_free(c->mem, k->latents);
    *k = (prxi_clip) { 0 };
}

int prxi_clip_save(prxi_ctx *c, const prxi_clip *k, const char *path)
{
    const prxi_tensor_out list[] = {
        { "latents", PRXI_F32, 1, { (int64_t)k->latent_elems }, NULL },
        { "frames", PRXI_U8, 4, { k->n, k->height, k->width, 3 }, NULL },
    };
    prxi_dump *d;
    int err = prxi_dump_open(c, &d, path, list, 2);
    if (err == PRX_OK)
        err = prxi_dump_write(c, d, "latents", 0, k->latents, k->latent_elems * sizeof(float));
    if (err == PRX_OK)
        err = prxi_dump_write(c, d, "frames", 0, k->frames, frame_bytes(k) * (size_t)k->n);
    if (err == PRX_OK)
        err = prxi_dump_finish(c, d);
    prxi_dump_close(c, &d);
    return err;
}

int prxi_clip_load(prxi_ctx *c, prxi_clip *k, const char *path)
{
    prxi_tensors *t = NULL;
    *k = (prxi_clip) { 0 };
    int err = prxi_tensors_open_file(c, &t, path);
    const prxi_tensor *f = err == PRX_OK ? prxi_tensors_find(t, "frames") : NULL;
    const prxi_tensor *x = err == PRX_OK ? prxi_tensors_find(t, "latents") : NULL;
    if (err == PRX_OK && (!f || f->dtype != PRXI_U8 || f->ndim != 4 || f->shape[3] != 3 || !x || x->dtype != PRXI_F32 || x->ndim != 1))
        err = prxi_fail(c, PRX_EFORMAT, "%s: frames and latents expected: not a reference clip", path);
    if (err == PRX_OK) {
        k->n = f->shape[0], k->height = f->shape[1], k->width = f->shape[2];
        k->latent_elems = (size_t)x->shape[0];
        const size_t bytes = prxi_mul(frame_bytes(k), (size_t)k->n), latents = prxi_mul(k->latent_elems, sizeof(float));
        k->frames = prxi_alloc(c->mem, PRXI_MEM_FRAMES, bytes);
        k->latents = prxi_alloc(c->mem, PRXI_MEM_FRAMES, latents);
        if (!k->frames || !k->latents) {
            err = prxi_fail_nomem(c, path, prxi_add(bytes, latents));
            prxi_clip_close(c, k);
        } else {
            memcpy(k->frames, f->data, bytes);
            memcpy(k->latents, x->data, latents);
        }
    }
    prxi_tensors_close(c, &t);
    return err;
}

static double value(const cJSON *o, const char *group, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(o, group), key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static double smallest(const cJSON *o, const char *group, const char *key)
{
    const cJSON *v;
    double least = NAN;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(o, group), key))
        if (cJSON_IsNumber(v) && !(v->valuedouble >= least))
            least = v->valuedouble;
    return least;
}

static void read_quality(const cJSON *o, prxi_quality *q)
{
    q->identical = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "identical"));
    q->psnr = value(o, "psnr", "clip");
    q->psnr_frames = value(o, "psnr", "mean_of_frames");
    q->psnr_worst = smallest(o, "psnr", "per_frame");
    q->ssim = value(o, "ssim", "luma");
    q->ssim_rgb = value(o, "ssim", "rgb");
    q->ms_ssim = value(o, "ms_ssim", "luma");
    q->motion_psnr = value(o, "temporal", "psnr");
}

int prxi_clip_measure(prxi_ctx *c, const prxi_clip *k, const prxi_clip *reference, prxi_quality *q)
{
    prxi_reader *a = NULL, *b = NULL;
    cJSON *o = NULL;
    int err = prxi_reader_open_frames(c, &a, reference->frames, reference->n, reference->height, reference->width);
    if (err == PRX_OK)
        err = prxi_reader_open_frames(c, &b, k->frames, k->n, k->height, k->width);
    if (err == PRX_OK)
        err = prxi_compare(c, a, b, NULL, &o);
    prxi_reader_close(c, &a);
    prxi_reader_close(c, &b);
    if (err < 0)
        return err;
    read_quality(o, q);
    cJSON_Delete(o);
    q->measured = 1;
    q->latent_error = k->latent_elems == reference->latent_elems
                          ? prxi_relative_error(k->latents, reference->latents, k->latent_elems) : NAN;
    return PRX_OK;
}

int prxi_clip_write(prxi_ctx *c, const prxi_clip *k, int fps, const char *path)
{
    const prxi_video_spec spec = { .width = (int)k->width, .height = (int)k->height, .fps_num = fps, .fps_den = 1, .frames = k->n,
                                   .crf = -1 };
    prxi_writer *w = NULL;
    int err = prxi_writer_open(c, &w, NULL, path, &spec);
    for (int64_t i = 0; i < k->n && err == PRX_OK; i++)
        err = prxi_writer_frame(c, w, k->frames + (size_t)i * frame_bytes(k));
    if (err == PRX_OK)
        err = prxi_writer_finish(c, w);
    prxi_writer_close(c, &w);
    return err;
}
