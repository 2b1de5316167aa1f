/* A race of contenders, turn by turn. */
#define _POSIX_C_SOURCE 200809L
#include "race.h"

#include <stdlib.h>
#include <time.h>

enum { PAUSE_NS = 10000000, MAX_REPEATS = 100 };
static const double short_run = 0.02, settle = 0.02, turn = 0.02;     /* settle: what a system takes to bring threads to their cores */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Seconds of one run as it goes alone: threads that another contender left waiting busily (OpenMP's do, for milliseconds) have
 * gone to sleep, those of this one are awake, and short runs are repeated until a clock can tell. `last`: of its turn before. */
static double take_turn(const prxi_contender *c, double last)
{
    nanosleep(&(struct timespec) { 0, PAUSE_NS }, NULL);
    for (const double woken = now(); last < short_run && now() - woken < settle;)
        c->fn(c->cookie);
    const double start = now();
    double end = start;
    int n = 0;
    for (; n == 0 || (end - start < turn && n < MAX_REPEATS); n++) {
        c->fn(c->cookie);
        end = now();
    }
    return (end - start) / n;
}

void prxi_race(prxi_contender *c, int n, int min_turns, double seconds)
{
    int turns = 0;
    for (int i = 0; i < n; i++)
        c[i].fn(c[i].cookie);       /* not timed: first touch of memory */
    for (const double start = now(); turns < PRXI_RACE_RUNS && (turns < min_turns || now() - start < seconds); turns++)
        for (int i = 0; i < n; i++)
            c[i].seconds[turns] = take_turn(&c[i], turns ? c[i].seconds[turns - 1] : 0);
    for (int i = 0; i < n; i++) {
        qsort(c[i].seconds, (size_t)turns, sizeof *c[i].seconds, by_value);
        c[i].turns = turns;
        c[i].median = c[i].seconds[turns / 2];
        c[i].best = c[i].seconds[0];
    }
}
