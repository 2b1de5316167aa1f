/* A palette for a whole clip: the box with the greatest squared error is cut at its mean along the axis of greatest variance
 * (Heckbert 1982 with the cut of Wan, Wong, Prusinkiewicz 1988), then three rounds of k-means. One palette a clip and dithering
 * by position, not by error diffusion, keep still areas still. */
#include "palette.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    double v[3], n;
    int label;
} entry;

typedef struct box {
    size_t first, count;
    double mean[3], error;   /* sum of squared distances from the mean */
    int axis;
} box;

static size_t bin_of(int r, int g, int b)
{
    return (size_t)(r >> 2) << 12 | (size_t)(g >> 2) << 6 | (size_t)(b >> 2);
}

int prxi_palette_open(prxi_ctx *c, prxi_palette *p)
{
    memset(p, 0, sizeof *p);
    p->bins = prxi_calloc(c->mem, PRXI_MEM_FRAMES, PRXI_PALETTE_BINS, sizeof *p->bins);
    p->nearest = prxi_calloc(c->mem, PRXI_MEM_FRAMES, PRXI_PALETTE_BINS, 1);
    p->known = prxi_calloc(c->mem, PRXI_MEM_FRAMES, PRXI_PALETTE_BINS, 1);
    return p->bins && p->nearest && p->known
               ? PRX_OK
               : prxi_fail_nomem(c, "palette", PRXI_PALETTE_BINS * (sizeof *p->bins + 2));
}

void prxi_palette_close(prxi_ctx *c, prxi_palette *p)
{
    prxi_free(c->mem, p->bins);
    prxi_free(c->mem, p->nearest);
    prxi_free(c->mem, p->known);
    memset(p, 0, sizeof *p);
}

void prxi_palette_add(prxi_palette *p, const uint8_t *rgb, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++, rgb += 3) {
        prxi_bin *b = p->bins + bin_of(rgb[0], rgb[1], rgb[2]);
        b->n++;
        for (int k = 0; k < 3; k++)
            b->sum[k] += rgb[k];
    }
}

static void measure(box *b, const entry *e)
{
    double n = 0, sum[3] = { 0 }, var[3] = { 0 };
    for (size_t i = b->first; i < b->first + b->count; i++)
        for (int k = 0; k < 3; k++) {
            sum[k] += e[i].n * e[i].v[k];
            n += k == 0 ? e[i].n : 0;
        }
    for (int k = 0; k < 3; k++)
        b->mean[k] = sum[k] / n;
    for (size_t i = b->first; i < b->first + b->count; i++)
        for (int k = 0; k < 3; k++)
            var[k] += e[i].n * (e[i].v[k] - b->mean[k]) * (e[i].v[k] - b->mean[k]);
    b->axis = var[0] > var[1] ? (var[0] > var[2] ? 0 : 2) : var[1] > var[2] ? 1 : 2;
    b->error = b->count > 1 ? var[0] + var[1] + var[2] : 0;
}

/* Entries at most the mean come first; both parts have some, as the variance is not 0. */
static void cut(box *b, box *other, entry *e)
{
    size_t lo = b->first, hi = b->first + b->count;
    while (lo < hi) {
        if (e[lo].v[b->axis] <= b->mean[b->axis]) {
            lo++;
        } else {
            const entry t = e[--hi];
            e[hi] = e[lo];
            e[lo] = t;
        }
    }
    *other = (box){ .first = lo, .count = b->first + b->count - lo };
    b->count = lo - b->first;
    measure(b, e);
    measure(other, e);
}

static int cut_all(box *boxes, entry *e, size_t n)
{
    int count = 1;
    boxes[0] = (box){ .first = 0, .count = n };
    measure(boxes, e);
    while (count < PRXI_PALETTE_COLORS) {
        int worst = 0;
        for (int i = 1; i < count; i++)
            if (boxes[i].error > boxes[worst].error)
                worst = i;
        if (boxes[worst].error <= 0)
            break;
        cut(boxes + worst, boxes + count, e);
        /* Rounding may leave one side empty when all values are nearly equal. */
        if (boxes[count].count == 0 || boxes[worst].count == 0) {
            if (boxes[worst].count == 0)
                boxes[worst] = boxes[count];
            boxes[worst].error = 0;
            continue;
        }
        count++;
    }
    return count;
}

static double distance(const double *a, const double *b)
{
    return (a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) + (a[2] - b[2]) * (a[2] - b[2]);
}

/* One round of Lloyd's algorithm; returns the sum of squared distances before the move. */
static double refine(box *boxes, int count, entry *e, size_t n)
{
    double error = 0, weight[PRXI_PALETTE_COLORS] = { 0 }, sum[PRXI_PALETTE_COLORS][3];
    memset(sum, 0, sizeof sum);
    for (size_t i = 0; i < n; i++) {
        double best = INFINITY;
        for (int j = 0; j < count; j++) {
            const double d = distance(e[i].v, boxes[j].mean);
            if (d < best) {
                best = d;
                e[i].label = j;
            }
        }
        error += e[i].n * best;
        weight[e[i].label] += e[i].n;
        for (int k = 0; k < 3; k++)
            sum[e[i].label][k] += e[i].n * e[i].v[k];
    }
    for (int j = 0; j < count; j++)
        for (int k = 0; k < 3 && weight[j] > 0; k++)
            boxes[j].mean[k] = sum[j][k] / weight[j];
    return error;
}

int prxi_palette_choose(prxi_ctx *c, prxi_palette *p)
{
    size_t n = 0;
    double pixels = 0;
    for (size_t i = 0; i < PRXI_PALETTE_BINS; i++)
        n += p->bins[i].n > 0;
    if (n == 0)
        return PRX_OK;
    entry *e = prxi_alloc(c->mem, PRXI_MEM_FRAMES, prxi_mul(n, sizeof *e));
    box *boxes = prxi_calloc(c->mem, PRXI_MEM_FRAMES, PRXI_PALETTE_COLORS, sizeof *boxes);
    if (e && boxes) {
        size_t to = 0;
        for (size_t i = 0; i < PRXI_PALETTE_BINS; i++) {
            const prxi_bin *b = p->bins + i;
            if (b->n == 0)
                continue;
            const double w = (double)b->n;
            e[to++] = (entry){ { (double)b->sum[0] / w, (double)b->sum[1] / w, (double)b->sum[2] / w }, w, 0 };
            pixels += w;
        }
        p->colors = cut_all(boxes, e, n);
        double error = 0;
        for (int i = 0; i < 3; i++)
            error = refine(boxes, p->colors, e, n);
        /* Colours of a uniform quantiser with this error lie sqrt(12 mse) apart. */
        p->step = (int)(sqrt(12 * error / (3 * pixels)) + 0.5);
        p->step = p->step > 48 ? 48 : p->step;
        for (int j = 0; j < p->colors; j++)
            for (int k = 0; k < 3; k++)
                p->rgb[j][k] = (uint8_t)(boxes[j].mean[k] + 0.5);
    }
    prxi_free(c->mem, e);
    prxi_free(c->mem, boxes);
    return e && boxes ? PRX_OK : prxi_fail_nomem(c, "palette", prxi_mul(n, sizeof *e));
}

static int clamp(int v)
{
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

/* The palette colour of a cell: nearest to the mean of its pixels, or to its middle. */
static int nearest(prxi_palette *p, int r, int g, int b)
{
    const size_t bin = bin_of(r, g, b);
    if (p->known[bin])
        return p->nearest[bin];
    const prxi_bin *h = p->bins + bin;
    int want[3] = { (r & ~3) + 2, (g & ~3) + 2, (b & ~3) + 2 };
    for (int k = 0; k < 3 && h->n; k++)
        want[k] = (int)((h->sum[k] + h->n / 2) / h->n);
    int best = INT32_MAX, at = 0;
    for (int j = 0; j < p->colors; j++) {
        const int dr = want[0] - p->rgb[j][0], dg = want[1] - p->rgb[j][1], db = want[2] - p->rgb[j][2];
        const int d = dr * dr + dg * dg + db * db;
        if (d < best) {
            best = d;
            at = j;
        }
    }
    p->known[bin] = 1;
    p->nearest[bin] = (uint8_t)at;
    return at;
}

/* Position in the 8 x 8 ordered dither matrix (Bayer 1973): bits of x ^ y and y, reversed and interleaved. */
static int bayer(int x, int y)
{
    const int a = x ^ y;
    return (a & 1) << 5 | (y & 1) << 4 | (a & 2) << 2 | (y & 2) << 1 | (a & 4) >> 1 | (y & 4) >> 2;
}

static int offset(const prxi_palette *p, int x, int y)
{
    return (2 * bayer(x & 7, y & 7) - 63) * p->step / 128;
}

void prxi_palette_map(prxi_palette *p, const uint8_t *rgb, int width, int height, uint8_t *out, int stride)
{
    for (int y = 0; y < height; y++, out += stride)
        for (int x = 0; x < width; x++, rgb += 3) {
            int at = nearest(p, rgb[0], rgb[1], rgb[2]);
            const uint8_t *near = p->rgb[at];
            /* A colour that the palette has stays flat. */
            if (near[0] != rgb[0] || near[1] != rgb[1] || near[2] != rgb[2]) {
                /* Each channel has its own phase, so that hues mix and not only brightness. */
                at = nearest(p, clamp(rgb[0] + offset(p, x, y)), clamp(rgb[1] + offset(p, x + 5, y + 2)),
                             clamp(rgb[2] + offset(p, x + 2, y + 5)));
            }
            out[x] = (uint8_t)at;
        }
}
