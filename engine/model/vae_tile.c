/* Spatial tiling (models.md 2.6): tiles of 256 pixels every 192, each decoded over the whole clip with a fresh history, blended
 * with the tile above and then with the tile to the left. The workspace is that of a tile, but a tile needs all its frames
 * before the next one begins: the clip is decoded at the first call and finished frames are kept until they are asked for. Blending is the
 * host's, whatever decodes. */
#include "vae_int.h"

#include <string.h>

#include "engine/core/device.h"

/* Sizes in raw units: pixels before unpatchify. */
typedef struct prxi_vae_tiles {
    int64_t tile, stride;               /* latent units */
    int64_t unit;                       /* raw pixels of a latent */
    int64_t blend;                      /* raw */
    int64_t raw_h, raw_w, frames;
    int co;
    float *frame;                       /* of the running tile: scale_temporal frames of [tile][tile][co] */
    float *above, *left;                /* last `blend` rows of the tiles above; last `blend` columns of the tile left */
    float *canvas;                      /* [frames][raw_h][raw_w][co] */
    int64_t tile_h, tile_w;             /* of the running tile */
} tiles;

static tiles geometry(const prxi_vae *v, const prxi_vae_job *job)
{
    const prxi_vae_dims *g = &v->cfg;
    tiles t = { .tile = PRXI_VAE_TILE / g->scale_spatial, .stride = PRXI_VAE_STRIDE / g->scale_spatial,
                .unit = g->scale_spatial / g->patch, .co = g->out_channels };
    t.blend = PRXI_VAE_TILE / g->patch - PRXI_VAE_STRIDE / g->patch;
    t.raw_h = job->height * t.unit;
    t.raw_w = job->width * t.unit;
    t.frames = (job->frames - 1) * (int64_t)g->scale_temporal + 1;
    return t;
}

int prxi_vae_is_tiled(const prxi_vae *v, const prxi_vae_job *job)
{
    const tiles t = geometry(v, job);
    return job->tiling && t.stride > 0 && (job->height > t.tile || job->width > t.tile);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Floats of one frame of each buffer; the columns of all tiles above lie side by side. */
static size_t above_size(const tiles *t, int width)
{
    const int64_t columns = (width + t->stride - 1) / t->stride;
    return (size_t)(columns * t->tile * t->unit * t->blend * t->co);
}

static size_t left_size(const tiles *t)
{
    return (size_t)(t->tile * t->unit * t->blend * t->co);
}

static size_t frame_size(const tiles *t)
{
    return (size_t)(t->tile * t->unit * t->tile * t->unit * t->co);
}

/* The largest workspace over the tiles' sizes: whole ones and those cut at the right and bottom. */
static size_t tile_bytes(const prxi_vae *v, const prxi_vae_job *job, const tiles *t)
{
    size_t most = 0;
    prxi_vae_core k;
    for (int64_t y = 0; y < job->height; y += t->stride)
        for (int64_t x = 0; x < job->width; x += t->stride) {
            const size_t n = prxi_vae_core_init(&k, v, least(t->tile, job->height - y), least(t->tile, job->width - x),
                                                NULL);
            most = n > most ? n : most;
        }
    return most;
}

size_t prxi_vae_tile_bytes(const prxi_vae *v, const prxi_vae_job *job)
{
    const tiles t = geometry(v, job);
    return tile_bytes(v, job, &t);
}

size_t prxi_vae_tiles_bytes(const prxi_vae *v, const prxi_vae_job *job)
{
    const tiles t = geometry(v, job);
    const size_t kept = prxi_add(prxi_add(above_size(&t, job->width), left_size(&t)),
                                 prxi_mul((size_t)t.raw_h * (size_t)t.raw_w, (size_t)t.co));
    const size_t floats = prxi_add(prxi_mul((size_t)t.frames, kept), frame_size(&t) * (size_t)v->cfg.scale_temporal);
    return prxi_add(tile_bytes(v, job, &t), prxi_mul(floats, sizeof(float)));
}

int prxi_vae_tiles_open(prxi_ctx *c, prxi_decoder *d)
{
    const tiles g = geometry(d->v, &d->job);
    tiles *t = d->tiles = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *t);
    if (!t)
        return prxi_fail_nomem(c, "VAE tiles", sizeof *t);
    *t = g;
    const size_t n = (size_t)g.frames, canvas = prxi_mul((size_t)g.raw_h * (size_t)g.raw_w, (size_t)g.co);
    d->bytes = tile_bytes(d->v, &d->job, &g);
    d->base = prxi_device_alloc(c, d->v->k.device, PRXI_MEM_ACTIVATIONS, d->bytes);
    t->frame = prxi_calloc(c->mem, PRXI_MEM_ACTIVATIONS, frame_size(&g) * (size_t)d->v->cfg.scale_temporal, sizeof(float));
    t->above = prxi_calloc(c->mem, PRXI_MEM_ACTIVATIONS, prxi_mul(n, above_size(&g, d->job.width)), sizeof(float));
    t->left = prxi_calloc(c->mem, PRXI_MEM_ACTIVATIONS, prxi_mul(n, left_size(&g)), sizeof(float));
    t->canvas = prxi_calloc(c->mem, PRXI_MEM_ACTIVATIONS, prxi_mul(n, canvas), sizeof(float));
    if (!d->base || !t->frame || !t->above || !t->left || !t->canvas)
        return prxi_fail_nomem(c, "VAE tiles", prxi_vae_tiles_bytes(d->v, &d->job));
    return PRX_OK;
}

void prxi_vae_tiles_close(prxi_ctx *c, prxi_decoder *d)
{
    tiles *t = d->tiles;
    if (!t)
        return;
    prxi_free(c->mem, t->frame);
    prxi_free(c->mem, t->above);
    prxi_free(c->mem, t->left);
    prxi_free(c->mem, t->canvas);
    prxi_free(c->mem, t);
    d->tiles = NULL;
}

static void to_tile(void *cookie, prxi_stream *s, const prxi_vae_core *k, int frame)
{
    const tiles *t = cookie;
    prxi_stream_get(s, t->frame + (size_t)frame * frame_size(t), k->raw, (size_t)(t->tile_h * t->tile_w * t->co) * sizeof(float));
}

/* out = a * (1 - i / extent) + out * (i / extent); the factors as Python rounds them. */
static void mix(float *out, const float *a, int64_t n, int64_t i, int64_t extent)
{
    const float wa = (float)(1.0 - (double)i / (double)extent), wb = (float)((double)i / (double)extent);
    for (int64_t x = 0; x < n; x++)
        out[x] = a[x] * wa + out[x] * wb;
}

typedef struct place {
    int64_t row, column;                /* of tiles */
    int64_t above_h, left_w;            /* sizes of those neighbours */
    int64_t frame;                      /* of the clip */
} place;

/* Edge buffers hold the last min(size, blend) rows or columns of the neighbour, first one first. */
static void blend_tile(const tiles *t, const place *p, float *f)
{
    const int64_t h = t->tile_h, w = t->tile_w, co = t->co, edge = t->tile * t->unit;
    const int64_t columns = (t->raw_w / t->unit + t->stride - 1) / t->stride;
    float *above = t->above + ((p->frame * columns + p->column) * t->blend) * edge * co;
    float *left = t->left + p->frame * edge * t->blend * co;
    if (p->row > 0) {
        const int64_t have = least(p->above_h, t->blend), extent = least(h, have);
        for (int64_t y = 0; y < extent; y++)
            mix(f + y * w * co, above + (have - extent + y) * edge * co, w * co, y, extent);
    }
    if (p->column > 0) {
        const int64_t have = least(p->left_w, t->blend), extent = least(w, have);
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < extent; x++)
                mix(f + (y * w + x) * co, left + (y * t->blend + have - extent + x) * co, co, x, extent);
    }
    const int64_t rows = least(h, t->blend), cols = least(w, t->blend);
    for (int64_t y = 0; y < rows; y++)
        memcpy(above + y * edge * co, f + (h - rows + y) * w * co, (size_t)(w * co) * sizeof(float));
    for (int64_t y = 0; y < h; y++)
        memcpy(left + y * t->blend * co, f + (y * w + w - cols) * co, (size_t)(cols * co) * sizeof(float));
}

static void crop_tile(const tiles *t, const place *p, const float *f)
{
    const int64_t stride = t->stride * t->unit, co = t->co;
    const int64_t y0 = p->row * stride, x0 = p->column * stride;
    const int64_t h = least(least(t->tile_h, stride), t->raw_h - y0), w = least(least(t->tile_w, stride), t->raw_w - x0);
    for (int64_t y = 0; y < h; y++)
        memcpy(t->canvas + ((p->frame * t->raw_h + y0 + y) * t->raw_w + x0) * co, f + y * t->tile_w * co,
               (size_t)(w * co) * sizeof(float));
}

static void decode_tile(prxi_stream *s, prxi_decoder *d, const float *latents, int64_t row, int64_t column)
{
    tiles *t = d->tiles;
    const prxi_vae_job *job = &d->job;
    const int64_t y = row * t->stride, x = column * t->stride, plane = (int64_t)job->height * job->width;
    const int64_t h = least(t->tile, job->height - y), w = least(t->tile, job->width - x);
    place p = { row, column, least(t->tile, job->height - y + t->stride) * t->unit,
                least(t->tile, job->width - x + t->stride) * t->unit, 0 };
    if (prxi_device_zero(s->ctx, d->v->k.device, d->base, d->bytes) < 0)
        prxi_stream_fail(s, PRX_EIO, "VAE tiles", "the workspace cannot be cleared");
    prxi_vae_core_init(&d->core, d->v, h, w, d->base);
    d->core.sink = to_tile;
    d->core.cookie = t;
    d->core.by = (prxi_conv_by)job->conv;
    prxi_vae_core_prepare(&d->core, s);
    t->tile_h = h * t->unit;
    t->tile_w = w * t->unit;
    for (int64_t i = 0; i < job->frames; i++) {
        prxi_vae_core_next(&d->core, s, latents + i * plane + y * job->width + x, job->frames * plane, job->width);
        if (prxi_vae_stop(s))
            return;
        for (int f = 0; f < d->core.emitted; f++, p.frame++) {
            float *pixels = t->frame + (size_t)f * frame_size(t);
            blend_tile(t, &p, pixels);
            crop_tile(t, &p, pixels);
        }
    }
}

int prxi_vae_tiles_next(prxi_ctx *c, prxi_stream *s, prxi_decoder *d, const float *latents, int t, float *rgb, int n)
{
    const tiles *g = d->tiles;
    const prxi_vae_dims *cfg = &d->v->cfg;
    (void)c;
    if (t == 0)
        for (int64_t row = 0; row * g->stride < d->job.height; row++)
            for (int64_t column = 0; column * g->stride < d->job.width && !prxi_vae_stop(s); column++)
                decode_tile(s, d, latents, row, column);
    const int64_t first = t == 0 ? 0 : (int64_t)(t - 1) * cfg->scale_temporal + 1;
    prxi_frame_ops host;
    prxi_frame_init_ref(&host);
    for (int f = 0; f < n; f++) {
        const prxi_frame_rgb a = { g->raw_h, g->raw_w, cfg->patch, g->canvas + (first + f) * g->raw_h * g->raw_w * g->co,
                                   rgb + f * g->raw_h * g->raw_w * cfg->patch * cfg->patch * 3 };
        host.rgb(s, &a);
    }
    return PRX_OK;
}
