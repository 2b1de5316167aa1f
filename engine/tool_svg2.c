/* praxino mask svg2: the cluster map of dumped queries and keys (render --dump --set dump_layer=N) as JSON and as a picture. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention/mask.h"
#include "engine.h"
#include "engine/core/json.h"
#include "engine/core/option.h"
#include "engine/picture.h"
#include "engine/qkv.h"
#include "engine/weights/safetensors.h"

enum { MAP_SIDE = 900, GAP = 12, MOST_FRAMES = 12 };

typedef struct tool_settings {
    int64_t head, frames, row;
} tool_settings;

static const prxi_option options[] = {
    { "head", PRXI_OPT_INT, offsetof(tool_settings, head), 0, 1023, NULL, "0", "whose map and picture" },
    { "frames", PRXI_OPT_INT, offsetof(tool_settings, frames), 0, 4096, NULL, "0",
      "latent frames of the picture; 0: by the dump's latents" },
    { "row", PRXI_OPT_INT, offsetof(tool_settings, row), 0, 1 << 16, NULL, "0", "tokens of a row of a frame; 0: by the dump's latents" },
    { .name = NULL },
};

typedef struct tool {
    prxi_ctx *c;
    const char *path;
    tool_settings set;
    prxi_stream *s;
    const prxi_attn_ops *ops;
    prxi_qkv x;                 /* v may be NULL */
    const prxi_block_list *list;
    double density;
    prxi_attn_probe probe;
} tool;

/* ---- the dump ---- */

/* Latents [1, C, F, H, W] lie in patches of 1 x p x p tokens. */
static void take_grid(tool *t, prxi_tensors *file)
{
    const prxi_tensor *x = prxi_tensors_find(file, "latents.000");
    for (int64_t p = 1; x && x->ndim == 5 && p <= 2 && !t->set.frames; p++)
        if (x->shape[2] * (x->shape[3] / p) * (x->shape[4] / p) == t->x.tokens)
            t->set.frames = x->shape[2], t->set.row = x->shape[4] / p;
}

static int read_dump(tool *t)
{
    prxi_tensors *file;
    int err = prxi_tensors_open_file(t->c, &file, t->path);
    if (err == PRX_OK)
        err = prxi_qkv_read(t->c, file, t->path, 0, &t->x);
    if (err == PRX_OK)
        take_grid(t, file);
    prxi_tensors_close(t->c, &file);
    if (err == PRX_OK && t->set.head >= t->x.heads)
        return prxi_fail(t->c, PRX_EINVAL, "head: %lld: 0 to %d expected", (long long)t->set.head, t->x.heads - 1);
    const int64_t f = t->set.frames, w = t->set.row;
    if (err == PRX_OK && ((f > 0) != (w > 0) || (f > 0 && t->x.tokens % (f * w))))
        return prxi_fail(t->c, PRX_EINVAL, "frames, row: %lld and %lld do not divide %lld tokens", (long long)f, (long long)w,
                         (long long)t->x.tokens);
    return err;
}

/* ---- clustering ---- */

/* First call of a first step, nothing dense. */
static int cluster(tool *t, const prxi_attn_policy *p, void *priv, const char *attention)
{
    static const char *const forced[][2] = { { "first_times_fp", "0" }, { "first_layers_fp", "0" }, { "probe", "true" } };
    const prxi_attn_env env = { .layers = 1, .heads = t->x.heads, .head_dim = t->x.head_dim, .branches = 1, .steps = 1, .frames = 1,
                                .grid_h = 1, .grid_w = (int)t->x.tokens, .tokens = t->x.tokens, .family = "wan", .dtype = t->x.dtype,
                                .n_threads = t->s->n_threads, .ops = t->ops };
    const int64_t ld = (int64_t)t->x.heads * t->x.head_dim;
    const void *v = t->x.rows[2] ? t->x.rows[2] : t->x.rows[1];
    const prxi_attn_call call = { .args = { t->x.heads, t->x.head_dim, t->x.tokens, t->x.tokens, t->x.rows[0], t->x.rows[1], v, NULL,
                                            ld, ld, ld, ld, 1.0f / sqrtf((float)t->x.head_dim), 0.0f, NULL } };
    prxi_attn_plan plan;
    int err = prxi_option_parse(t->c, p->options, priv, "attention.", attention);
    for (int i = 0; i < 3 && err == PRX_OK; i++)
        err = prxi_option_set(t->c, p->options, priv, "attention.", forced[i][0], forced[i][1]);
    if (err == PRX_OK)
        err = p->plan(priv, t->c, &env, &plan);
    if (err < 0)
        return err;
    p->select(priv, t->s, &call, &t->list, &t->density);
    p->probe(priv, &t->probe);
    return prxi_stream_error(t->s);
}

/* ---- JSON ---- */

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* "prefix_smallest", "_median", "_largest", "_empty" of n cluster sizes; scratch holds n. */
static void add_sizes(cJSON *o, const char *prefix, const int32_t *start, int n, int32_t *scratch)
{
    static const char *const names[] = { "smallest", "median", "largest", "empty" };
    int empty = 0;
    for (int i = 0; i < n; i++) {
        scratch[i] = start[i + 1] - start[i];
        empty += scratch[i] == 0;
    }
    qsort(scratch, (size_t)n, sizeof *scratch, ascending);
    const int values[] = { scratch[0], scratch[n / 2], scratch[n - 1], empty };
    for (int i = 0; i < 4; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s_%s", prefix, names[i]);
        cJSON_AddNumberToObject(o, key, values[i]);
    }
}

static int add_heads(const tool *t, cJSON *o)
{
    const prxi_block_list *b = t->list;
    const size_t most = (size_t)(b->nq > b->nk ? b->nq : b->nk);
    int32_t *scratch = prxi_alloc(t->c->mem, PRXI_MEM_SCRATCH, most * sizeof *scratch);
    cJSON *rows = cJSON_AddArrayToObject(o, "per_head");
    if (!scratch)
        return prxi_fail_nomem(t->c, "cluster sizes", most * sizeof *scratch);
    for (int h = 0; h < t->x.heads; h++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddNumberToObject(row, "head", h);
        cJSON_AddNumberToObject(row, "density", prxi_list_density(b, h));
        add_sizes(row, "q", b->q_start + (size_t)h * (size_t)(b->nq + 1), b->nq, scratch);
        add_sizes(row, "k", b->k_start + (size_t)h * (size_t)(b->nk + 1), b->nk, scratch);
        cJSON_AddItemToArray(rows, row);
    }
    prxi_free(t->c->mem, scratch);
    return PRX_OK;
}

static int make_json(const tool *t, char **json)
{
    char *text = NULL;
    size_t n = 0;
    prxi_json map;
    int err = prxi_list_json(t->c, t->list, (int)t->set.head, &text, &n);
    if (err == PRX_OK)
        err = prxi_json_parse(t->c, &map, "cluster map", text, n);
    prxi_free(t->c->mem, text);
    if (err < 0)
        return err;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "tokens", (double)t->x.tokens);
    cJSON_AddNumberToObject(o, "heads", t->x.heads);
    cJSON_AddNumberToObject(o, "head_dim", t->x.head_dim);
    cJSON_AddNumberToObject(o, "q_clusters", t->list->nq);
    cJSON_AddNumberToObject(o, "k_clusters", t->list->nk);
    cJSON_AddNumberToObject(o, "density", t->density);
    cJSON_AddNumberToObject(o, "recall", t->probe.recall);
    if (t->x.rows[2])
        cJSON_AddNumberToObject(o, "error", t->probe.error);
    err = add_heads(t, o);
    cJSON_AddNumberToObject(o, "head", (double)t->set.head);
    cJSON_AddItemToObject(o, "map", cJSON_Duplicate(map.root, 1));
    prxi_json_close(t->c, &map);
    if (err == PRX_OK)
        return prxi_json_text(t->c, o, json);
    cJSON_Delete(o);
    return err;
}

/* ---- picture ---- */

/* The map with clusters as large as their tokens, so that the dark share is the density: queries down, keys across. Lines between
 * clusters where they are wide enough to be seen. */
static void draw_map(const tool *t, prxi_picture *p, int side)
{
    const prxi_block_list *b = t->list;
    const size_t h = (size_t)t->set.head;
    const int32_t *qs = b->q_start + h * (size_t)(b->nq + 1), *ks = b->k_start + h * (size_t)(b->nk + 1);
    const int64_t *rp = b->row_ptr + h * (size_t)(b->nq + 1);
    const double scale = (double)side / (double)t->x.tokens;
    for (int i = 0; i < b->nq; i++) {
        const int y = (int)(qs[i] * scale), bottom = (int)(qs[i + 1] * scale);
        for (int64_t x = rp[i]; x < rp[i + 1]; x++) {
            const int left = (int)(ks[b->cols[x]] * scale), right = (int)(ks[b->cols[x] + 1] * scale);
            prxi_picture_fill(p, left, y, right - left, bottom - y, PRXI_INK);
        }
    }
    for (int i = 1; i < b->nq && side / b->nq >= 6; i++)
        prxi_picture_fill(p, 0, (int)(qs[i] * scale), side, 1, PRXI_GREY);
    for (int i = 1; i < b->nk && side / b->nk >= 6; i++)
        prxi_picture_fill(p, (int)(ks[i] * scale), 0, 1, side, PRXI_GREY);
    prxi_picture_fill(p, side, 0, 2, side + 2, PRXI_LINE);
    prxi_picture_fill(p, 0, side, side + 2, 2, PRXI_LINE);
}

typedef struct strip {
    int frames, per_row, cell, rows, columns;       /* shown frames, frames side by side, pixels of a token, tokens of a frame */
} strip;

static strip lay_out(const tool *t, int side)
{
    strip s = { 0 };
    if (!t->set.frames)
        return s;
    s.frames = t->set.frames < MOST_FRAMES ? (int)t->set.frames : MOST_FRAMES;
    s.per_row = s.frames < 6 ? s.frames : 6;
    s.columns = (int)t->set.row;
    s.rows = (int)(t->x.tokens / t->set.frames / t->set.row);
    s.cell = (side - GAP * (s.per_row - 1)) / (s.per_row * s.columns);
    s.cell = s.cell < 1 ? 1 : s.cell;
    return s;
}

static int strip_height(const strip *s)
{
    return s->frames ? (s->frames + s->per_row - 1) / s->per_row * (s->rows * s->cell + GAP) + GAP : 0;
}

/* Frames, evenly chosen, a colour a cluster. */
static void draw_clusters(const tool *t, prxi_picture *p, const strip *s, int top, int keys)
{
    const prxi_block_list *b = t->list;
    const size_t h = (size_t)t->set.head, n = (size_t)(keys ? b->nk : b->nq);
    const int32_t *start = (keys ? b->k_start : b->q_start) + h * (n + 1);
    const int32_t *perm = (keys ? b->k_perm : b->q_perm) + h * (size_t)t->x.tokens;
    const int frame = s->rows * s->columns;
    for (size_t c = 0; c < n; c++)
        for (int32_t i = start[c]; i < start[c + 1]; i++) {
            const int at = perm[i] / frame, y = perm[i] % frame / s->columns, x = perm[i] % s->columns;
            for (int f = 0; f < s->frames; f++)
                if (at == (int)((int64_t)f * t->set.frames / s->frames))
                    prxi_picture_fill(p, f % s->per_row * (s->columns * s->cell + GAP) + x * s->cell,
                                      top + GAP + f / s->per_row * (s->rows * s->cell + GAP) + y * s->cell, s->cell, s->cell,
                                      prxi_picture_colour((int)c));
        }
}

static int draw(const tool *t, const char *path)
{
    const int side = t->x.tokens < MAP_SIDE ? MAP_SIDE / (int)t->x.tokens * (int)t->x.tokens : MAP_SIDE;
    const strip s = lay_out(t, side);
    const int high = strip_height(&s), need = s.frames ? s.per_row * (s.columns * s.cell + GAP) - GAP : 0;
    prxi_picture p;
    int err = prxi_picture_open(t->c, &p, need > side + 2 ? need : side + 2, side + 2 + 2 * high);
    if (err < 0)
        return err;
    draw_map(t, &p, side);
    if (s.frames) {
        draw_clusters(t, &p, &s, side + 2, 0);
        prxi_picture_fill(&p, 0, side + 2 + high, p.width, 2, PRXI_LINE);
        draw_clusters(t, &p, &s, side + 2 + high, 1);
    }
    err = prxi_picture_write(t->c, &p, path);
    prxi_picture_close(t->c, &p);
    return err;
}

PRX_API int prx_mask_svg2(prx_engine *e, const char *dump, const char *settings, const char *attention, const char *png, char **json)
{
    const prxi_attn_policy *p = prxi_attn_policy_find("svg2");
    prxi_stream s;
    tool t = { .c = &e->ctx, .path = dump, .s = &s, .ops = &e->kernels.attn };
    prxi_clear(t.c);
    *json = NULL;
    int err = prxi_option_parse(t.c, options, &t.set, "", settings);
    if (err < 0)
        return err;
    if (e->cuda)
        prxi_logf(t.c, PRX_LOG_INFO, "mask svg2: a tool on a file: it runs on the CPU");
    void *priv = prxi_calloc(t.c->mem, PRXI_MEM_MISC, 1, p->priv_size);
    if (!priv)
        return prxi_fail_nomem(t.c, "svg2", p->priv_size);
    prxi_stream_init(&s, t.c, e->threads);
    err = read_dump(&t);
    if (err == PRX_OK)
        err = cluster(&t, p, priv, attention);
    if (err == PRX_OK && png)
        err = draw(&t, png);
    if (err == PRX_OK)
        err = make_json(&t, json);
    prxi_stream_close(&s);
    p->close(priv, t.c);
    prxi_free(t.c->mem, priv);
    prxi_qkv_close(t.c, &t.x);
    return err;
}
