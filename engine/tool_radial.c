/* praxino mask radial: the block mask as JSON and as a picture. */
#include <stddef.h>
#include <string.h>

#include "attention/mask.h"
#include "engine.h"
#include "engine/core/option.h"
#include "engine/picture.h"

typedef struct mask_settings {
    int64_t frames, tokens_per_frame, text_tokens;
    int block, model_type, distance_one, sink, tile;
    double decay;
} mask_settings;

#define AT(field) offsetof(mask_settings, field)

static const prxi_option mask_options[] = {
    { "frames", PRXI_OPT_INT, AT(frames), 1, 4096, NULL, "21", "latent frames" },
    { "tokens_per_frame", PRXI_OPT_INT, AT(tokens_per_frame), 1, 1 << 20, NULL, "3600", "tokens of a latent frame" },
    { "text_tokens", PRXI_OPT_INT, AT(text_tokens), 0, 1 << 20, NULL, "0", "text tokens at the tail" },
    { "block", PRXI_OPT_CHOICE, AT(block), 0, 0, "64|128", "128", "tokens of a block" },
    { "decay", PRXI_OPT_DOUBLE, AT(decay), 1e-6, 100, NULL, "0.2", "shrinks the bands of distant frames" },
    { "model_type", PRXI_OPT_CHOICE, AT(model_type), 0, 0, "wan|hunyuan", "wan", "family of the rule" },
    { "distance_one", PRXI_OPT_CHOICE, AT(distance_one), 0, 0, "whole|half", "whole", "band of neighbouring frames" },
    { "sink", PRXI_OPT_CHOICE, AT(sink), 0, 0, "auto|on|off", "auto", "every frame sees the first; auto: as the family has it" },
    { "tile", PRXI_OPT_CHOICE, AT(tile), 0, 0, "block|64x128|128x64", "block",
      "grid of the JSON: queries x keys; int8 kernels have their own" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

/* Kept blocks dark on white, thin lines where frames begin; at least a pixel a block, about a thousand pixels in all. */
static int draw_mask(prxi_ctx *c, const prxi_block_mask *m, const prxi_radial *r, const char *path)
{
    const int cell = m->n < 512 ? 1024 / m->n : 1, side = m->n * cell;
    prxi_picture p;
    int err = prxi_picture_open(c, &p, side, side);
    if (err < 0)
        return err;
    for (int y = 0; y < m->n; y++)
        for (int x = 0; x < m->n; x++)
            if (prxi_mask_get(m, y, x))
                prxi_picture_fill(&p, x * cell, y * cell, cell, cell, PRXI_INK);
    for (int f = 1; f <= r->frames; f++) {
        const int64_t at = f * r->tokens_per_frame * cell / r->block;
        if (at < side) {
            prxi_picture_fill(&p, 0, (int)at, side, 1, PRXI_LINE);
            prxi_picture_fill(&p, (int)at, 0, 1, side, PRXI_LINE);
        }
    }
    err = prxi_picture_write(c, &p, path);
    prxi_picture_close(c, &p);
    return err;
}

PRX_API int prx_mask_radial(prx_engine *e, const char *settings, const char *png, char **json)
{
    static const int tiles[][2] = { { 0, 0 }, { 64, 128 }, { 128, 64 } };
    mask_settings z;
    prxi_block_mask m;
    size_t n;
    prxi_ctx *c = &e->ctx;
    prxi_clear(c);
    *json = NULL;
    memset(&m, 0, sizeof m);
    int err = prxi_option_parse(c, mask_options, &z, "", settings);
    if (err < 0)
        return err;
    const prxi_radial r = { .frames = (int)z.frames, .tokens_per_frame = z.tokens_per_frame, .text_tokens = z.text_tokens,
                            .block = z.block ? 128 : 64, .decay = z.decay, .hunyuan = z.model_type, .half = z.distance_one,
                            .sink = z.sink ? z.sink == 1 : !z.model_type };
    const int q = tiles[z.tile][0], k = tiles[z.tile][1];
    if ((err = prxi_radial_mask(c, &r, &m)) == PRX_OK)
        err = prxi_mask_json(c, &m, q ? q : m.block, k ? k : m.block, json, &n);
    if (err == PRX_OK && png)
        err = draw_mask(c, &m, &r, png);
    prxi_mask_close(c, &m);
    if (err < 0) {
        prxi_free(c->mem, *json);
        *json = NULL;
    }
    return err;
}
