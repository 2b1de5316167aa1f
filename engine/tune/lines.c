/* Bisection and halving: no trial is run here. */
#include "lines.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void prxi_line_init(prxi_line *l, const char *name)
{
    *l = (prxi_line) { .expected = NAN, .best = PRXI_NO_CANDIDATE };
    snprintf(l->name, sizeof l->name, "%s", name);
    for (int a = 0; a < PRXI_TUNE_AXES; a++)
        l->ladder[a] = -1;
    for (int i = 0; i < PRXI_TUNE_RUNGS; i++)
        l->candidate[i] = PRXI_NO_CANDIDATE;
}

double prxi_line_place(const prxi_line *l, int axis, int rung)
{
    return l->from[axis] + (l->to[axis] - l->from[axis]) * rung / (PRXI_TUNE_RUNGS - 1);
}

int prxi_line_axes(const prxi_line *l)
{
    int bits = 0;
    for (int a = 0; a < PRXI_TUNE_AXES; a++)
        bits |= (l->ladder[a] >= 0) << a;
    return bits;
}

static int at(const signed char *known, int n, int mirrored, int i)
{
    return known[mirrored ? n - 1 - i : i];
}

/* In the order in which holding ends; -1: none holds. */
static int last_holding(const signed char *known, int n, int mirrored)
{
    int i = n - 1;
    while (i >= 0 && at(known, n, mirrored, i) != 1)
        i--;
    return i;
}

int prxi_edge(const signed char *known, int n, int mirrored)
{
    const int i = last_holding(known, n, mirrored);
    return i < 0 ? -1 : mirrored ? n - 1 - i : i;
}

int prxi_bisect(const signed char *known, int n, int mirrored)
{
    const int low = last_holding(known, n, mirrored);
    int high = low + 1, best = -1;
    while (high < n && at(known, n, mirrored, high) != -1)
        high++;
    for (int i = low + 1; i < high; i++)
        if (at(known, n, mirrored, i) == 0 && (best < 0 || abs(2 * i - low - high) < abs(2 * best - low - high)))
            best = i;
    return best < 0 ? -1 : mirrored ? n - 1 - best : best;
}

static int beats(const prxi_line_score *a, const prxi_line_score *b)
{
    return a->alive && a->axes == b->axes && a->cost <= b->cost && a->quality >= b->quality
           && (a->cost < b->cost || a->quality > b->quality);
}

void prxi_halve(const prxi_line_score *s, int n, int keep, signed char *flags)
{
    for (int i = 0; i < n; i++) {
        flags[i] = s[i].alive ? PRXI_KEPT : PRXI_OUT_MISSES;
        for (int k = 0; k < n && flags[i] == PRXI_KEPT; k++)
            if (k != i && beats(&s[k], &s[i]))
                flags[i] = PRXI_OUT_BEATEN;
    }
    for (int i = 0; i < n; i++) {
        int before = 0;
        for (int k = 0; k < n; k++)
            before += flags[k] != PRXI_OUT_MISSES && flags[k] != PRXI_OUT_BEATEN && k != i
                      && (s[k].cost < s[i].cost || (s[k].cost == s[i].cost && k < i));
        if (flags[i] == PRXI_KEPT && before >= keep)
            flags[i] = PRXI_OUT_HALVED;
    }
}
