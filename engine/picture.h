/* A picture of coloured rectangles, for the tools that draw. */
#ifndef PRXI_PICTURE_H
#define PRXI_PICTURE_H

#include "engine/core/ctx.h"

enum { PRXI_PAPER = 0xffffff, PRXI_INK = 0x183c78, PRXI_LINE = 0xe67828, PRXI_GREY = 0xc8c8c8 };

typedef struct prxi_picture {
    int width, height;
    uint8_t *rgb;
} prxi_picture;

/* White. */
int  prxi_picture_open(prxi_ctx *c, prxi_picture *p, int width, int height);
/* Cut at the borders. */
void prxi_picture_fill(prxi_picture *p, int x, int y, int width, int height, uint32_t colour);
/* The i-th of colours that neighbours in i can be told apart by. */
uint32_t prxi_picture_colour(int i);
int  prxi_picture_write(prxi_ctx *c, const prxi_picture *p, const char *path);
void prxi_picture_close(prxi_ctx *c, prxi_picture *p);

#endif
