/* VAE decoder, one clip: models.md 2.2 and 2.3 in their whole-clip form, evaluated frame by frame.
 *
 * A frame goes depth first: a stage that doubles the frame rate hands on its first output frame, lets it run to the end, then
 * makes the second. So one travelling frame is enough for all stages. It lives in one buffer: an operation that changes the
 * size of the frame reads at the far end and writes at the near end, strip by strip, and the offsets are chosen so that it
 * never overtakes itself. Each 3x3x3 convolution keeps its last two input frames in a ring of rows; the new frame's rows
 * replace the oldest's as soon as they are no longer needed. */
#include "vae_int.h"

#include <string.h>

/* ---- places ---- */

typedef struct layout {
    unsigned char *base;
    size_t used;
} layout;

static void *take(layout *l, size_t bytes)
{
    unsigned char *p = l->base ? l->base + l->used : NULL;
    l->used = prxi_add(l->used, bytes > SIZE_MAX - 63 ? SIZE_MAX : prxi_carve_size(bytes));
    return p;
}

static size_t pixel_bytes(const prxi_vae_core *k, int64_t c)
{
    return (size_t)prxi_conv_pitch(c) * prxi_dtype_size(k->v->dtype);
}

/* Rows with a zero pixel between them, before the first and after the last. */
static size_t padded_bytes(const prxi_vae_core *k, int64_t rows, int64_t w, int64_t c)
{
    return prxi_mul(prxi_add(prxi_mul((size_t)rows, (size_t)w + 1), 1), pixel_bytes(k, c));
}

/* kt - 1 frames, the rows that are being written (strip + 1 at most) and the two above that the next outputs still read. */
static void place_ring(prxi_vae_core *k, layout *l, prxi_vae_ring *r, int kt, int64_t h, int64_t w, int64_t c,
                       int64_t strip)
{
    const int64_t least = (kt - 1) * h + strip + 3, all = kt * h;
    const size_t px = pixel_bytes(k, c);
    r->height = h;
    r->frames = 0;
    r->plane.rows = least < all ? least : all;
    r->plane.pitch = (w + 1) * (int64_t)px;
    r->plane.first = 0;
    unsigned char *p = take(l, padded_bytes(k, r->plane.rows, w, c));
    r->plane.base = p ? p + px : NULL;
}

/* Strips of at least 128 pixels: few rows cost little memory, and blocks of channels give the threads enough to share. A device gets a
 * whole frame in one call. */
static int64_t strip_rows(const prxi_vae *v, int64_t h, int64_t w)
{
    const int64_t rows = v->k.device ? h : (128 + w - 1) / w;
    return rows < 2 ? 2 : rows < h ? rows : h;
}

static prxi_vae_geom geom(int c, int64_t h, int64_t w)
{
    return (prxi_vae_geom) { c, h, w, 0 };
}

/* Least offset of `in` so that strips of `out`, which has `scale` rows for a row of `in`, never overwrite rows of `in` that
 * are still needed: when rows up to r + strip + 2 are written, rows from r - 1 on are. */
static size_t least_offset(const prxi_vae_core *k, const prxi_vae_geom *in, const prxi_vae_geom *out, int64_t scale,
                           int64_t strip)
{
    size_t least = out->offset;
    for (int64_t r = 0; r < in->h; r++) {
        const int64_t end = r + strip + 2 < in->h ? r + strip + 2 : in->h;
        const size_t written = prxi_add(out->offset, padded_bytes(k, end * scale, out->w, out->c));
        const size_t kept = prxi_mul((size_t)(r > 0 ? r - 1 : 0) * (size_t)(in->w + 1), pixel_bytes(k, in->c));
        if (written > kept && written - kept > least)
            least = written - kept;
    }
    return least > SIZE_MAX - 63 ? SIZE_MAX : prxi_carve_size(least);
}

static void grow(size_t *x, size_t at_least)
{
    if (*x < at_least)
        *x = at_least;
}

/* Offsets of all geometries, last to first. */
static void place_frame(prxi_vae_core *k, layout *l)
{
    const prxi_vae *v = k->v;
    for (int i = v->cfg.blocks - 1; i >= 0; i--) {
        prxi_vae_stage *g = &k->stage[i];
        if (v->block[i].has_up) {
            g->up.offset = k->stage[i + 1].in.offset;
            g->out.offset = least_offset(k, &g->out, &g->up, 2, g->strip);
        }
        if (i == 0)
            grow(&g->out.offset, prxi_carve_size(prxi_vae_attention_bytes(v, k->h * k->w)));
        g->in.offset = g->in.c == g->out.c ? g->out.offset : least_offset(k, &g->in, &g->out, 1, g->strip);
        grow(&k->x_bytes, prxi_add(g->in.offset, padded_bytes(k, g->h, g->w, g->in.c)));
        grow(&k->x_bytes, prxi_add(g->out.offset, padded_bytes(k, g->h, g->w, g->out.c)));
    }
    k->mid.in = k->mid.out = k->stage[0].in;
    k->x = take(l, k->x_bytes);
}

static void place_stage(prxi_vae_core *k, layout *l, prxi_vae_stage *g, const prxi_vae_res *res, int n)
{
    g->strip = strip_rows(k->v, g->h, g->w);
    for (int r = 0; r < n; r++) {
        place_ring(k, l, &g->ring[r][0], 3, g->h, g->w, res[r].cin, g->strip);
        place_ring(k, l, &g->ring[r][1], 3, g->h, g->w, res[r].cout, g->strip);
    }
}

static size_t strip_bytes(const prxi_vae_core *k, const prxi_vae_stage *g, int c)
{
    return prxi_mul((size_t)(g->strip + 1) * (size_t)g->w, pixel_bytes(k, c));
}

static void place_blocks(prxi_vae_core *k, layout *l)
{
    const prxi_vae *v = k->v;
    int64_t h = k->h, w = k->w;
    size_t strip = strip_bytes(k, &k->mid, v->mid[0].cout);
    for (int i = 0; i < v->cfg.blocks; i++) {
        const prxi_vae_block *b = &v->block[i];
        prxi_vae_stage *g = &k->stage[i];
        g->h = h, g->w = w;
        g->in = geom(b->cin, h, w);
        g->out = geom(b->cout, h, w);
        place_stage(k, l, g, b->res, v->cfg.res_per_block);
        grow(&strip, strip_bytes(k, g, b->cout));
        if (b->temporal)
            place_ring(k, l, &g->time, 3, h, w, b->cout, h);
        if (b->has_up && v->cfg.is_residual)
            g->copy = take(l, prxi_mul((size_t)h * (size_t)w, pixel_bytes(k, b->cin)));
        if (b->has_up) {
            h *= 2, w *= 2;
            g->up = geom(b->up_cout, h, w);
        }
    }
    k->raw_h = h, k->raw_w = w;
    k->strip = take(l, strip);
}

static void scratch_for(prxi_vae_core *k, const prxi_conv *conv, const prxi_vae_stage *g)
{
    if (conv)
        grow(&k->scratch_bytes, prxi_conv_scratch(&k->v->k.conv, conv, g->w, g->strip));
}

static void place_scratch(prxi_vae_core *k, layout *l)
{
    const prxi_vae *v = k->v;
    const prxi_conv *const first[] = { v->conv_in, v->mid[0].conv1, v->mid[0].conv2, v->qkv, v->proj };
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        scratch_for(k, first[i], &k->mid);
    for (int i = 0; i < v->cfg.blocks; i++) {
        const prxi_vae_block *b = &v->block[i];
        for (int r = 0; r < v->cfg.res_per_block; r++) {
            scratch_for(k, b->res[r].conv1, &k->stage[i]);
            scratch_for(k, b->res[r].conv2, &k->stage[i]);
        }
        scratch_for(k, b->time[0], &k->stage[i]);
        scratch_for(k, b->phase[0], &k->stage[i]);
    }
    scratch_for(k, v->conv_out, &k->stage[v->cfg.blocks - 1]);
    k->scratch = take(l, k->scratch_bytes);
}

size_t prxi_vae_core_init(prxi_vae_core *k, const prxi_vae *v, int64_t h, int64_t w, unsigned char *base)
{
    layout l = { base, 0 };
    memset(k, 0, sizeof *k);
    k->v = v;
    k->h = h, k->w = w;
    k->mid.h = h, k->mid.w = w;
    k->mid.strip = strip_rows(v, h, w);
    place_ring(k, &l, &k->in, 3, h, w, v->cfg.z_dim, h);
    place_stage(k, &l, &k->mid, v->mid, 2);
    place_blocks(k, &l);
    place_frame(k, &l);
    place_scratch(k, &l);
    const prxi_vae_stage *last = &k->stage[v->cfg.blocks - 1];
    const size_t co = (size_t)v->cfg.out_channels, pixels = prxi_mul((size_t)k->raw_h, (size_t)k->raw_w);
    place_ring(k, &l, &k->out, 1, k->raw_h, k->raw_w, last->out.c, last->strip);
    k->carry[0] = take(&l, prxi_mul(pixels, co * sizeof(float)));
    k->carry[1] = take(&l, prxi_mul(pixels, co * sizeof(float)));
    k->taps = take(&l, prxi_mul((size_t)(last->strip + 1) * (size_t)k->raw_w,
                                (size_t)prxi_conv_pitch(3 * (int64_t)co) * sizeof(float)));
    k->raw = take(&l, prxi_mul(pixels, co * sizeof(float)));
    return l.used;
}

/* ---- frames and rings ---- */

static prxi_plane frame_plane(const prxi_vae_core *k, const prxi_vae_geom *g)
{
    const int64_t px = (int64_t)pixel_bytes(k, g->c);
    return (prxi_plane) { k->x + g->offset + px, (g->w + 1) * px, g->h, 0 };
}

/* The frame written `back` frames before the current one. */
static prxi_plane ring_plane(const prxi_vae_ring *r, int back)
{
    prxi_plane p = r->plane;
    const int64_t frame = r->frames - 1 - back;
    if (frame < 0)
        p.base = NULL;
    else
        p.first = frame * r->height % p.rows;
    return p;
}

static void causal_sources(prxi_conv_args *a, const prxi_vae_ring *r, int kt)
{
    for (int t = 0; t < kt; t++)
        a->src[t] = ring_plane(r, kt - 1 - t);
}

/* The zero pixels round rows [begin, end) of the travelling frame: its buffer held something else before. */
static void zero_pads(const prxi_vae_core *k, prxi_stream *s, const prxi_vae_geom *g, int64_t begin, int64_t end)
{
    const prxi_frame_clear a = { frame_plane(k, g), begin, end, pixel_bytes(k, g->c) };
    k->v->k.frame.clear(s, &a);
}

void prxi_vae_norm(const prxi_vae *v, prxi_stream *s, int64_t begin, int64_t end, int64_t w, int64_t c,
                   const prxi_plane *x, const float *gamma, int silu, const prxi_plane *out)
{
    const prxi_frame_norm a = { v->dtype, begin, end, w, c, *x, *out, gamma, silu, &v->k.conv };
    if (end > begin)
        v->k.frame.norm(s, &a);
}

/* A 3x3 convolution lags a row behind its input, until the last row is in. */
static int64_t ready(int64_t rows, int64_t h)
{
    return rows == h ? h : rows > 0 ? rows - 1 : 0;
}

static prxi_conv_args conv3_args(const prxi_vae_core *k, const prxi_vae_stage *g, const prxi_conv *conv,
                                 const prxi_vae_ring *ring, const prxi_plane *out, int c)
{
    prxi_conv_args a = { .conv = conv, .height = g->h, .width = g->w, .dy = -1, .dx = -1, .out = *out, .scale = 1,
                         .out_pitch = prxi_conv_pitch(c), .out_dtype = k->v->dtype };
    causal_sources(&a, ring, 3);
    return a;
}

void prxi_vae_conv(prxi_vae_core *k, prxi_stream *s, prxi_conv_args a)
{
    a.scratch = k->scratch;
    a.scratch_bytes = k->scratch_bytes;
    a.by = k->by;
    prxi_conv_run(s, &k->v->k.conv, &a);
}

static void prepare(const prxi_vae_core *k, prxi_stream *s, prxi_conv_args a)
{
    a.end = a.height;
    a.by = k->by;
    prxi_conv_prepare(s, &a);
}

/* ---- residual block ---- */

/* conv1 of a strip. */
static prxi_plane strip_plane(const prxi_vae_core *k, const prxi_vae_stage *g, const prxi_vae_res *r)
{
    return (prxi_plane) { k->strip, g->w * (int64_t)pixel_bytes(k, r->cout), g->strip + 1, 0 };
}

static prxi_conv_args second_args(const prxi_vae_core *k, const prxi_vae_stage *g, const prxi_vae_res *r, const prxi_vae_ring *ring,
                                  const prxi_plane *x, const prxi_plane *y)
{
    prxi_conv_args a = conv3_args(k, g, r->conv2, &ring[1], y, r->cout);
    a.shortcut = *x;
    a.add = r->cin == r->cout;
    return a;
}

static void run_res(prxi_vae_core *k, prxi_stream *s, prxi_vae_stage *g, const prxi_vae_res *r, prxi_vae_ring *ring,
                    const prxi_vae_geom *in, const prxi_vae_geom *out)
{
    const prxi_plane x = frame_plane(k, in), y = frame_plane(k, out), mid = strip_plane(k, g, r);
    ring[0].frames++;
    ring[1].frames++;
    const prxi_plane h1 = ring_plane(&ring[0], 0), h2 = ring_plane(&ring[1], 0);
    prxi_conv_args a1 = conv3_args(k, g, r->conv1, &ring[0], &mid, r->cout), a2 = second_args(k, g, r, ring, &x, &y);
    for (int64_t row = 0; row < g->h && !prxi_vae_stop(s);) {
        const int64_t end = row + g->strip < g->h ? row + g->strip : g->h;
        prxi_vae_norm(k->v, s, row, end, g->w, r->cin, &x, r->norm1, 1, &h1);
        a1.end = ready(end, g->h);
        prxi_vae_conv(k, s, a1);
        prxi_vae_norm(k->v, s, a1.begin, a1.end, g->w, r->cout, &mid, r->norm2, 1, &h2);
        a2.end = ready(a1.end, g->h);
        if (!a2.add && a2.end > a2.begin)
            zero_pads(k, s, out, a2.begin, a2.end);
        prxi_vae_conv(k, s, a2);
        row = end;
        a1.begin = a1.end;
        a2.begin = a2.end;
    }
}

/* ---- upsampling ---- */

/* The block's input, repeated, is added to the doubled picture. */
static void shortcut(prxi_vae_core *k, prxi_stream *s, const prxi_vae_stage *g, const prxi_vae_block *b, int sub, int64_t begin,
                     int64_t end)
{
    const prxi_plane in = { g->copy, g->w * (int64_t)pixel_bytes(k, g->in.c), g->h, 0 };
    const prxi_frame_dup a = { k->v->dtype, in, frame_plane(k, &g->up), begin, end, g->up.w, g->in.c, g->up.c,
                               b->temporal ? 2 : 1, sub };
    k->v->k.frame.dup(s, &a);
}

static void upsample(prxi_vae_core *k, prxi_stream *s, prxi_vae_stage *g, const prxi_vae_block *b, int sub)
{
    const prxi_plane x = frame_plane(k, &g->out), y = frame_plane(k, &g->up);
    for (int64_t row = 0; row < g->h && !prxi_vae_stop(s); row += g->strip) {
        const int64_t end = row + g->strip < g->h ? row + g->strip : g->h;
        zero_pads(k, s, &g->up, 2 * row, 2 * end);
        for (int p = 0; p < 4; p++) {
            const prxi_conv_args a = { .conv = b->phase[p], .src = { x }, .height = g->h, .width = g->w, .begin = row,
                                       .end = end, .dy = p / 2 - 1, .dx = p % 2 - 1, .out = y, .scale = 2,
                                       .oy = p / 2, .ox = p % 2, .out_pitch = prxi_conv_pitch(b->up_cout),
                                       .out_dtype = k->v->dtype };
            prxi_vae_conv(k, s, a);
        }
        if (g->copy)
            shortcut(k, s, g, b, sub, 2 * row, 2 * end);
    }
}

static prxi_conv_args time_args(const prxi_vae_core *k, const prxi_vae_stage *g, const prxi_vae_block *b, int sub)
{
    prxi_conv_args a = { .conv = b->time[sub], .height = g->h, .width = g->w, .end = g->h,
                         .out = frame_plane(k, &g->out), .scale = 1, .out_pitch = prxi_conv_pitch(b->cout),
                         .out_dtype = k->v->dtype };
    causal_sources(&a, &g->time, 3);
    return a;
}

/* Output frame `sub` of 2: the travelling frame is in the ring by now, its buffer is free. */
static void time_conv(prxi_vae_core *k, prxi_stream *s, prxi_vae_stage *g, const prxi_vae_block *b, int sub)
{
    zero_pads(k, s, &g->out, 0, g->h);
    prxi_vae_conv(k, s, time_args(k, g, b, sub));
}

static void copy_rows(const prxi_vae_core *k, prxi_stream *s, const prxi_plane *from, const prxi_plane *to, int64_t rows, size_t bytes)
{
    const prxi_frame_copy a = { *from, *to, rows, bytes };
    k->v->k.frame.copy(s, &a);
}

/* ---- head ---- */

static void head(prxi_vae_core *k, prxi_stream *s, const prxi_vae_stage *g)
{
    const int64_t pitch = prxi_conv_pitch(3 * (int64_t)k->v->cfg.out_channels);
    const prxi_plane x = frame_plane(k, &g->out);
    const prxi_plane taps = { (unsigned char *)k->taps, k->raw_w * pitch * (int64_t)sizeof(float), g->strip + 1, 0 };
    k->out.frames++;
    const prxi_plane h = ring_plane(&k->out, 0);
    prxi_conv_args a = { .conv = k->v->conv_out, .src = { h }, .height = g->h, .width = g->w, .dy = -1, .dx = -1,
                         .out = taps, .scale = 1, .out_pitch = pitch, .out_dtype = PRXI_F32 };
    for (int64_t row = 0; row < g->h && !prxi_vae_stop(s); row += g->strip) {
        const int64_t end = row + g->strip < g->h ? row + g->strip : g->h;
        prxi_vae_norm(k->v, s, row, end, g->w, g->out.c, &x, k->v->norm_out, 1, &h);
        a.end = ready(end, g->h);
        prxi_vae_conv(k, s, a);
        const prxi_frame_carry c = { a.begin, a.end, k->raw_w, pitch, k->v->cfg.out_channels, taps, k->carry[0], k->carry[1],
                                     k->raw, k->v->out_bias };
        k->v->k.frame.carry(s, &c);
        a.begin = a.end;
    }
    if (!prxi_vae_stop(s))
        k->sink(k->cookie, s, k, k->emitted);
    k->emitted++;
}

/* ---- the walk ---- */

static void run_stage(prxi_vae_core *k, prxi_stream *s, int i)
{
    const prxi_vae *v = k->v;
    const prxi_vae_block *b = &v->block[i];
    prxi_vae_stage *g = &k->stage[i];
    const prxi_plane in = frame_plane(k, &g->in), out = frame_plane(k, &g->out);
    g->frames++;
    if (g->copy) {
        const prxi_plane copy = { g->copy, g->w * (int64_t)pixel_bytes(k, g->in.c), g->h, 0 };
        copy_rows(k, s, &in, &copy, g->h, (size_t)copy.pitch);
    }
    for (int r = 0; r < v->cfg.res_per_block; r++)
        run_res(k, s, g, &b->res[r], g->ring[r], r ? &g->out : &g->in, &g->out);
    if (prxi_vae_stop(s))
        return;
    if (!b->has_up) {
        head(k, s, g);
        return;
    }
    if (!b->temporal || g->frames == 1) {       /* the first frame bypasses time_conv and is invisible to it */
        upsample(k, s, g, b, b->temporal ? 1 : 0);
        run_stage(k, s, i + 1);
        return;
    }
    g->time.frames++;
    const prxi_plane now = ring_plane(&g->time, 0);
    copy_rows(k, s, &out, &now, g->h, (size_t)g->w * pixel_bytes(k, g->out.c));
    for (int sub = 0; sub < 2; sub++) {
        time_conv(k, s, g, b, sub);
        upsample(k, s, g, b, sub);
        run_stage(k, s, i + 1);
    }
}

void prxi_vae_core_next(prxi_vae_core *k, prxi_stream *s, const float *z, int64_t plane_step, int64_t row_step)
{
    const prxi_vae *v = k->v;
    prxi_vae_stage *g = &k->mid;
    const prxi_plane x = frame_plane(k, &g->in);
    k->emitted = 0;
    k->in.frames++;
    const prxi_plane now = ring_plane(&k->in, 0);
    const prxi_frame_latent l = { v->dtype, v->cfg.z_dim, k->h, k->w, plane_step, row_step, z, v->latent_stats,
                                  v->latent_stats + v->cfg.z_dim, v->post_weight, v->post_bias, now };
    v->k.frame.latent(s, &l);
    prxi_conv_args a = conv3_args(k, g, v->conv_in, &k->in, &x, g->in.c);
    a.end = k->h;
    zero_pads(k, s, &g->in, 0, k->h);
    prxi_vae_conv(k, s, a);
    run_res(k, s, g, &v->mid[0], g->ring[0], &g->in, &g->in);
    prxi_vae_attention(k, s, &x);
    run_res(k, s, g, &v->mid[1], g->ring[1], &g->in, &g->in);
    if (!prxi_vae_stop(s))
        run_stage(k, s, 0);
}

/* ---- before the first frame ---- */

static void prepare_res(prxi_vae_core *k, prxi_stream *s, prxi_vae_stage *g, const prxi_vae_res *r, prxi_vae_ring *ring,
                        const prxi_vae_geom *in, const prxi_vae_geom *out)
{
    const prxi_plane x = frame_plane(k, in), y = frame_plane(k, out), mid = strip_plane(k, g, r);
    ring[0].frames = ring[1].frames = 3;
    prepare(k, s, conv3_args(k, g, r->conv1, &ring[0], &mid, r->cout));
    prepare(k, s, second_args(k, g, r, ring, &x, &y));
    ring[0].frames = ring[1].frames = 0;
}

void prxi_vae_core_prepare(prxi_vae_core *k, prxi_stream *s)
{
    const prxi_vae *v = k->v;
    prxi_vae_stage *g = &k->mid;
    if (!v->k.device)
        return;
    const prxi_plane x = frame_plane(k, &g->in);
    k->in.frames = 3;
    prepare(k, s, conv3_args(k, g, v->conv_in, &k->in, &x, g->in.c));
    k->in.frames = 0;
    for (int i = 0; i < 2; i++)
        prepare_res(k, s, g, &v->mid[i], g->ring[i], &g->in, &g->in);
    for (int i = 0; i < v->cfg.blocks; i++) {
        const prxi_vae_block *b = &v->block[i];
        g = &k->stage[i];
        for (int r = 0; r < v->cfg.res_per_block; r++)
            prepare_res(k, s, g, &b->res[r], g->ring[r], r ? &g->out : &g->in, &g->out);
        if (!b->temporal)
            continue;
        g->time.frames = 3;
        prepare(k, s, time_args(k, g, b, 0));
        g->time.frames = 0;
    }
}
