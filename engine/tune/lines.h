/* Lines of the search: settings in one row, each stronger than the one before, so that the last that holds is found by bisection.
 * A single ladder is a line; so is a combination of ladders whose rungs grow together. */
#ifndef PRXI_TUNE_LINES_H
#define PRXI_TUNE_LINES_H

#include "ladders.h"

enum { PRXI_TUNE_RUNGS = 33, PRXI_NO_CANDIDATE = -1 };

typedef struct prxi_line {
    char name[96];
    int ladder[PRXI_TUNE_AXES];                              /* -1: the axis stays as the base has it */
    double from[PRXI_TUNE_AXES], to[PRXI_TUNE_AXES];         /* places on the ladders at the first and the last rung */
    int candidate[PRXI_TUNE_RUNGS];                          /* or PRXI_NO_CANDIDATE */
    double expected;                                         /* seconds: of the best, before that by its parts; NaN: not known */
    int best;                                                /* the candidate to go on with, or PRXI_NO_CANDIDATE */
    int dropped;
    char reason[160];
} prxi_line;

/* All axes off. */
void   prxi_line_init(prxi_line *l, const char *name);
double prxi_line_place(const prxi_line *l, int axis, int rung);
int    prxi_line_axes(const prxi_line *l);                   /* a bit for each axis in use */

/* The next rung to try, given what is known of n rungs (1: holds, -1: misses, 0: unknown): the unknown one nearest to the middle between
 * the last that holds and the first after it that misses. -1: the edge is found. Mirrored: strong rungs are the ones that hold. */
int prxi_bisect(const signed char *known, int n, int mirrored);
/* The rung at the edge: the strongest that holds (mirrored: the mildest); -1: none does. */
int prxi_edge(const signed char *known, int n, int mirrored);

/* Which lines go on: of those with a best candidate, in order of cost (less is better), at most `keep`; a line whose best is beaten in cost
 * and equalled in quality by another line on the same axes goes too. keep_flags[i] becomes 1 for those that stay; the rest get a reason. */
typedef struct prxi_line_score {
    int axes, alive;                                         /* alive 0: no candidate that holds */
    double cost, quality;
} prxi_line_score;
void prxi_halve(const prxi_line_score *s, int n, int keep, signed char *keep_flags);
enum { PRXI_KEPT = 1, PRXI_OUT_MISSES = -1, PRXI_OUT_BEATEN = -2, PRXI_OUT_HALVED = -3 };

#endif
