/* Diagrams on a picture: boxes and lines with smooth edges, text in strokes. Coordinates are pixels, y down. */
#ifndef PRXI_DRAW_H
#define PRXI_DRAW_H

#include "picture.h"

typedef enum prxi_align { PRXI_LEFT, PRXI_CENTER, PRXI_RIGHT } prxi_align;

/* What lies outside of the picture is cut off. */
void prxi_draw_box(prxi_picture *p, double x0, double y0, double x1, double y1, uint32_t color);
void prxi_draw_frame(prxi_picture *p, double x0, double y0, double x1, double y1, double thick, uint32_t color);
void prxi_draw_line(prxi_picture *p, double x0, double y0, double x1, double y1, double thick, uint32_t color);
/* ASCII, others as small boxes; size is the height of a capital, (x, y) the baseline. */
void prxi_draw_text(prxi_picture *p, double x, double y, double size, prxi_align align, uint32_t color, const char *text);
double prxi_text_width(double size, const char *text);

#endif
