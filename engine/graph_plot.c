/* The picture of a graph: a heat map of the weights (first step across, length of the jump upwards), and below it each schedule as a row
 * of steps with an arc over every jump, in the colour of its weight; at the bottom steps and sigmas. */
#include "graph_show.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "draw.h"

enum { WIDTH = 1400, LEFT = 96, RIGHT = 130, TOP = 84, ROW = 26, LANE = 128, BOTTOM = 74 };

enum { INK = 0x28282e, FAINT = 0xd0d0d6, EMPTY = 0xf1f1f4, PAPER = PRXI_PAPER };
/* Of a schedule's boxes, and of its frames in the map. */
static const uint32_t colors[] = { 0x26468c, 0x147846, 0x6e3c96, 0x5a5a5a };

typedef struct plot {
    prxi_picture k;
    const prxi_shown *s;
    double column;              /* width of a step */
    double low, high;           /* logarithms of the smallest and largest weight */
} plot;

/* Light for little error, dark for much. */
static uint32_t heat(const plot *p, double w)
{
    static const double stops[5][3] = { { 255, 240, 180 }, { 253, 190, 100 }, { 235, 105, 60 }, { 165, 30, 80 }, { 50, 10, 70 } };
    const double t = p->high > p->low && w > 0 ? fmax(0, fmin(1, (log(w) - p->low) / (p->high - p->low))) * 4 : 0;
    const int i = t < 4 ? (int)t : 3;
    const double f = t - i;
    double v[3];
    for (int c = 0; c < 3; c++)
        v[c] = stops[i][c] + f * (stops[i + 1][c] - stops[i][c]);
    return (uint32_t)v[0] << 16 | (uint32_t)v[1] << 8 | (uint32_t)v[2];
}

static void find_range(plot *p)
{
    const prxi_dag *g = &p->s->g;
    double min = INFINITY, max = 0;
    for (int i = 0; i < g->steps; i++)
        for (int k = 2; k <= g->max_gap && i + k < g->steps; k++) {
            const double w = prxi_dag_weight(g, i, i + k);
            if (w > 0) {
                min = fmin(min, w);
                max = fmax(max, w);
            }
        }
    p->low = max > 0 ? log(min) : 0;
    p->high = max > 0 ? log(max) : 0;
}

static double step_x(const plot *p, double step)
{
    return LEFT + step * p->column;
}

static void write(plot *p, double x, double y, double size, prxi_align align, const char *text)
{
    prxi_draw_text(&p->k, x, y, size, align, INK, text);
}

/* Between the steps of two experts. */
static void draw_boundary(plot *p, double top, double bottom)
{
    const double x = step_x(p, p->s->g.boundary) - 0.5;
    if (p->s->g.boundary)
        prxi_draw_line(&p->k, x, top, x, bottom, 2, INK);
}

/* ---- heat map ---- */

static void draw_map(plot *p)
{
    const prxi_dag *g = &p->s->g;
    char text[64], line[256];
    for (int gap = 2; gap <= g->max_gap; gap++) {
        const double y = TOP + (g->max_gap - gap) * ROW;
        snprintf(text, sizeof text, "%d", gap);
        write(p, LEFT - 10, y + ROW * 0.5 + 5, 10, PRXI_RIGHT, text);
        for (int i = 0; i + gap < g->steps; i++) {
            const double w = prxi_dag_weight(g, i, i + gap), x = step_x(p, i);
            prxi_draw_box(&p->k, x, y, x + p->column - 1, y + ROW - 1, isnan(w) ? EMPTY : heat(p, w));
        }
    }
    draw_boundary(p, TOP, TOP + (g->max_gap - 1) * ROW);
    write(p, LEFT - 10, TOP - 12, 10, PRXI_RIGHT, "jump");
    snprintf(text, sizeof text, "; low-noise expert from step %d", g->boundary);
    snprintf(line, sizeof line, "mean absolute change of the final latents, by the step that is reused and the length of the jump%s",
             g->boundary ? text : "");
    write(p, LEFT, TOP - 12, 10, PRXI_LEFT, line);
}

static void draw_scale(plot *p)
{
    const double x = WIDTH - RIGHT + 22, height = (p->s->g.max_gap - 1) * ROW;
    char text[64];
    if (!(p->high > p->low))
        return;
    for (int i = 0; i < (int)height; i++)
        prxi_draw_box(&p->k, x, TOP + i, x + 16, TOP + i + 1, heat(p, exp(p->high - i / (height - 1) * (p->high - p->low))));
    const int labels = height > 90 ? 5 : 2;
    for (int i = 0; i < labels; i++) {
        const double f = i / (double)(labels - 1);
        snprintf(text, sizeof text, "%.2g", exp(p->high - f * (p->high - p->low)));
        write(p, x + 24, TOP + f * (height - 10) + 10, 10, PRXI_LEFT, text);
    }
}

/* ---- schedules ---- */

static void draw_arc(plot *p, double x0, double x1, double base, double height, double thick, uint32_t color)
{
    enum { PIECES = 48 };
    double last_x = x0, last_y = base;
    for (int i = 1; i <= PIECES; i++) {
        const double a = 3.14159265358979 * i / PIECES;
        const double x = (x0 + x1) / 2 - cos(a) * (x1 - x0) / 2, y = base - sin(a) * height;
        prxi_draw_line(&p->k, last_x, last_y, x, y, thick, color);
        last_x = x, last_y = y;
    }
}

static uint32_t color_of(const plot *p, const prxi_shown_schedule *d)
{
    return colors[(size_t)(d - p->s->schedule) % (sizeof colors / sizeof *colors)];
}

static void draw_steps(plot *p, const prxi_shown_schedule *d, double y)
{
    const double side = fmin(p->column - 4, 24);
    char text[16];
    for (int i = 0; i < p->s->g.steps; i++) {
        const double x = step_x(p, i + 0.5) - side / 2;
        if (d->computed[i])
            prxi_draw_box(&p->k, x, y, x + side, y + side, color_of(p, d));
        else
            prxi_draw_frame(&p->k, x, y, x + side, y + side, 1.5, FAINT);
        snprintf(text, sizeof text, "%d", i);
        if (d->computed[i] && side >= 18)
            prxi_draw_text(&p->k, x + side / 2, y + side / 2 + 4.5, 9, PRXI_CENTER, PAPER, text);
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void draw_schedule(plot *p, const prxi_shown_schedule *d, double y)
{
    const prxi_dag *g = &p->s->g;
    const double base = y + LANE - 34;
    char text[512];
    int used = snprintf(text, sizeof text, "%.200s: %d of %d steps computed", base_name(d->path), d->n, g->steps);
    if (g->boundary)
        used += snprintf(text + used, sizeof text - (size_t)used, " (%d high-noise, %d low-noise)", d->first, d->n - d->first);
    if (d->worst_from >= 0)
        used += snprintf(text + used, sizeof text - (size_t)used, ", worst jump %.3g (%d to %d), sum %.3g", d->worst, d->worst_from,
                         d->worst_to, d->sum);
    if (d->unknown)
        snprintf(text + used, sizeof text - (size_t)used, ", %d jumps that the graph does not have", d->unknown);
    write(p, LEFT, y + 18, 11, PRXI_LEFT, text);
    for (int i = 0, j; (j = prxi_shown_next(p->s, d, i)) > 0; i = j) {
        if (j - i == 1)
            continue;
        const double w = j - i <= g->max_gap ? prxi_dag_weight(g, i, j) : NAN;
        const double x0 = step_x(p, i + 0.5), x1 = step_x(p, j + 0.5), height = 12 + 46.0 * (j - i) / (g->max_gap > 8 ? g->max_gap : 8);
        draw_arc(p, x0, x1, base, height, 6, INK);
        draw_arc(p, x0, x1, base, height, 4, isnan(w) ? FAINT : heat(p, w));
        if (j - i <= g->max_gap) {       /* the same jump in the map */
            const double top = TOP + (g->max_gap - (j - i)) * ROW;
            prxi_draw_frame(&p->k, step_x(p, i) - 2, top - 2, step_x(p, i + 1) + 1, top + ROW + 1, 4.5, PAPER);
            prxi_draw_frame(&p->k, step_x(p, i) - 1, top - 1, step_x(p, i + 1), top + ROW, 2.5, color_of(p, d));
        }
    }
    draw_boundary(p, y + 28, base + 28);
    draw_steps(p, d, base);
}

/* ---- axes ---- */

static void draw_axis(plot *p, double y)
{
    const int steps = p->s->g.steps, every = (int)ceil(44 / p->column);
    char text[32];
    write(p, LEFT - 10, y + 22, 10, PRXI_RIGHT, "step");
    if (p->s->origin.has_sigmas)
        write(p, LEFT - 10, y + 44, 10, PRXI_RIGHT, "sigma");
    prxi_draw_line(&p->k, LEFT, y, step_x(p, steps), y, 1, INK);
    for (int i = 0; i < steps; i++) {
        const double x = step_x(p, i + 0.5);
        const int labelled = i % every == 0;
        prxi_draw_line(&p->k, x, y, x, y + (labelled ? 6 : 3), 1, INK);
        if (!labelled)
            continue;
        snprintf(text, sizeof text, "%d", i);
        write(p, x, y + 22, 10, PRXI_CENTER, text);
        snprintf(text, sizeof text, "%.3f", p->s->origin.sigmas[i]);
        if (p->s->origin.has_sigmas)
            write(p, x, y + 44, 10, PRXI_CENTER, text);
    }
}

static void draw_title(plot *p)
{
    const prxi_shown *s = p->s;
    char text[512];
    int used = snprintf(text, sizeof text, "%.120s", base_name(s->path));
    if (*s->origin.model)
        used += snprintf(text + used, sizeof text - (size_t)used, ": model %.120s", s->origin.model);
    used += snprintf(text + used, sizeof text - (size_t)used, ", %d steps", s->g.steps);
    if (*s->origin.reuse)
        used += snprintf(text + used, sizeof text - (size_t)used, ", %s reused", s->origin.reuse);
    if (s->samples)
        snprintf(text + used, sizeof text - (size_t)used, ", mean of %lld sample%s", (long long)s->samples, s->samples == 1 ? "" : "s");
    write(p, LEFT, 40, 15, PRXI_LEFT, text);
}

int prxi_shown_draw(prxi_ctx *c, const prxi_shown *s, const char *png)
{
    const int map = (s->g.max_gap - 1) * ROW, height = TOP + map + 16 + s->n * LANE + BOTTOM;
    plot p = { .s = s, .column = (double)(WIDTH - LEFT - RIGHT) / s->g.steps };
    int err = prxi_picture_open(c, &p.k, WIDTH, height);
    if (err < 0)
        return err;
    find_range(&p);
    draw_title(&p);
    draw_map(&p);
    draw_scale(&p);
    for (int i = 0; i < s->n; i++)
        draw_schedule(&p, &s->schedule[i], TOP + map + 16 + i * LANE);
    draw_axis(&p, TOP + map + 16 + s->n * LANE);
    err = prxi_picture_write(c, &p.k, png);
    prxi_picture_close(c, &p.k);
    return err;
}
