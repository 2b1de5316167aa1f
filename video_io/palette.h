/* 255 colours for a clip and ordered dithering to them; for GIF. */
#ifndef PRXI_PALETTE_H
#define PRXI_PALETTE_H

#include "engine/core/ctx.h"

enum { PRXI_PALETTE_COLORS = 255, PRXI_PALETTE_BINS = 1 << 18 };

/* Pixels of one 6-bit cell of the RGB cube. */
typedef struct prxi_bin {
    uint64_t n, sum[3];
} prxi_bin;

typedef struct prxi_palette {
    prxi_bin *bins;          /* [PRXI_PALETTE_BINS] */
    uint8_t *nearest;        /* [PRXI_PALETTE_BINS] colour of a cell, where known */
    uint8_t *known;
    int colors;
    uint8_t rgb[PRXI_PALETTE_COLORS][3];
    int step;                /* amplitude of the dither */
} prxi_palette;

int prxi_palette_open(prxi_ctx *c, prxi_palette *p);
void prxi_palette_close(prxi_ctx *c, prxi_palette *p);
void prxi_palette_add(prxi_palette *p, const uint8_t *rgb, size_t pixels);
/* Chooses the colours from what was added. */
int prxi_palette_choose(prxi_ctx *c, prxi_palette *p);
/* rgb [height, width, 3] -> indices [height, stride]. */
void prxi_palette_map(prxi_palette *p, const uint8_t *rgb, int width, int height, uint8_t *out, int stride);

#endif
