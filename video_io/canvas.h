/* A small RGB picture to draw diagrams on: filled boxes, smooth lines, text in strokes. Coordinates are pixels, y down. */
#ifndef PRXI_CANVAS_H
#define PRXI_CANVAS_H

#include "engine/core/ctx.h"

typedef struct prxi_canvas {
    int width, height;
    uint8_t *rgb;
} prxi_canvas;

typedef struct prxi_color {
    uint8_t r, g, b;
} prxi_color;

typedef enum prxi_align { PRXI_LEFT, PRXI_CENTER, PRXI_RIGHT } prxi_align;

/* White. */
int  prxi_canvas_open(prxi_ctx *c, prxi_canvas *k, int width, int height);
void prxi_canvas_close(prxi_ctx *c, prxi_canvas *k);
/* Writes a picture; the kind by the extension of path. */
int  prxi_canvas_write(prxi_ctx *c, const prxi_canvas *k, const char *path);
/* What lies outside of the picture is cut off. */
void prxi_canvas_box(prxi_canvas *k, double x0, double y0, double x1, double y1, prxi_color color);
void prxi_canvas_frame(prxi_canvas *k, double x0, double y0, double x1, double y1, double thick, prxi_color color);
void prxi_canvas_line(prxi_canvas *k, double x0, double y0, double x1, double y1, double thick, prxi_color color);
/* ASCII, others as small boxes; size is the height of a capital, (x, y) the baseline. */
void prxi_canvas_text(prxi_canvas *k, double x, double y, double size, prxi_align align, prxi_color color, const char *text);
double prxi_canvas_text_width(double size, const char *text);

#endif
