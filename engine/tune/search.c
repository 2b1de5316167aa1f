/* The search on calibration prompts: bisection along lines, combinations of what holds alone, and fewer lines on more prompts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tune.h"

enum { SINGLE_TRIALS = 4, COMBINED_TRIALS = 3, LATER_TRIALS = 2, POLISH_TRIALS = 4, COMBINATIONS = 10, PARTS = 2 };
/* Less is noise of the clock. */
static const double faster = 0.98;

double prxi_tune_cost(const prx_tune *t, int k)
{
    const prxi_candidate *x = &t->candidates[k];
    if (x->identical == x->n)            /* nothing was saved, whatever the clock says */
        return INFINITY;
    if (t->measure == PRXI_BY_SPEEDUP)
        return -prxi_sample_of(x->quality, x->n, t->goal.confidence, 0).mean;
    return prxi_median(x->seconds, x->n);
}

prxi_verdict prxi_tune_judge(const prx_tune *t, int k)
{
    const prxi_candidate *x = &t->candidates[k];
    return x->broken || x->failed || x->n < 1 ? PRXI_MISSES_CLEARLY : prxi_goal_judge(&t->goal, x->held, x->n);
}

/* ---- one line ---- */

static double expected_seconds(const prx_tune *t, const prxi_candidate *x)
{
    const double reference = prxi_tune_reference_time(t);
    const double missing = t->clips[x->n].frames ? 0 : reference;
    return missing + (x->n > 0 ? prxi_median(x->seconds, x->n) : reference);
}

/* On the first `prompts` of the calibration, unless it clearly misses before. */
static int run_on(prx_tune *t, int k, int prompts, const char *phase)
{
    prxi_candidate *x = &t->candidates[k];
    while (x->n < prompts && !x->broken && (x->n == 0 || prxi_tune_judge(t, k) != PRXI_MISSES_CLEARLY)) {
        prxi_score s;
        if (prxi_tune_left(t) < prxi_tune_reserve(t) + expected_seconds(t, x))
            return PRXI_TIME_OVER;
        const int err = prxi_tune_trial(t, k, x->n, phase, &s);
        if (err != PRX_OK)
            return prxi_tune_blame(t, k, x->n, err);
        x->held[x->n] = s.held, x->seconds[x->n] = s.seconds, x->quality[x->n] = s.quality;
        x->identical += s.identical;
        x->n++;
    }
    return PRX_OK;
}

static void read_line(const prx_tune *t, const prxi_line *l, signed char *known)
{
    for (int i = 0; i < PRXI_TUNE_RUNGS; i++) {
        const int k = l->candidate[i];
        known[i] = k == PRXI_NO_CANDIDATE || (!t->candidates[k].broken && t->candidates[k].n == 0) ? 0
                   : prxi_tune_judge(t, k) == PRXI_HOLDS                                            ? 1
                                                                                                    : -1;
    }
}

/* A candidate at the edge that has not seen all prompts: the last that holds, or the first after it that misses narrowly. */
static int unsettled(const prx_tune *t, const prxi_line *l, const signed char *known, int prompts)
{
    const int mirrored = t->measure == PRXI_BY_SPEEDUP, edge = prxi_edge(known, PRXI_TUNE_RUNGS, mirrored), step = mirrored ? -1 : 1;
    int i = edge >= 0 ? edge : mirrored ? PRXI_TUNE_RUNGS : -1;
    if (edge >= 0 && t->candidates[l->candidate[edge]].n < prompts)
        return l->candidate[edge];
    for (i += step; i >= 0 && i < PRXI_TUNE_RUNGS; i += step)
        if (known[i] == -1) {
            const int k = l->candidate[i];
            return prxi_tune_judge(t, k) == PRXI_MISSES && t->candidates[k].n < prompts ? k : PRXI_NO_CANDIDATE;
        }
    return PRXI_NO_CANDIDATE;
}

static int open_rung(prx_tune *t, prxi_line *l, int rung)
{
    double place[PRXI_TUNE_AXES];
    for (int a = 0; a < PRXI_TUNE_AXES; a++)
        place[a] = prxi_line_place(l, a, rung);
    return prxi_tune_candidate(t, l->ladder, place, &l->candidate[rung]);
}

static void choose_best(prx_tune *t, prxi_line *l)
{
    l->best = PRXI_NO_CANDIDATE;
    for (int i = 0; i < PRXI_TUNE_RUNGS; i++) {
        const int k = l->candidate[i];
        if (k != PRXI_NO_CANDIDATE && prxi_tune_judge(t, k) == PRXI_HOLDS
            && (l->best == PRXI_NO_CANDIDATE || prxi_tune_cost(t, k) < prxi_tune_cost(t, l->best)))
            l->best = k;
    }
    if (l->best != PRXI_NO_CANDIDATE)
        l->expected = prxi_median(t->candidates[l->best].seconds, t->candidates[l->best].n);
}

/* Moves the edge with at most `trials` new candidates. */
static int work_line(prx_tune *t, prxi_line *l, int prompts, int trials, const char *phase)
{
    signed char known[PRXI_TUNE_RUNGS];
    int err = PRX_OK;
    while (err == PRX_OK) {
        read_line(t, l, known);
        const int k = unsettled(t, l, known, prompts);
        if (k != PRXI_NO_CANDIDATE) {
            err = run_on(t, k, prompts, phase);
            continue;
        }
        const int rung = prxi_bisect(known, PRXI_TUNE_RUNGS, t->measure == PRXI_BY_SPEEDUP);
        if (rung < 0 || trials == 0)
            break;
        err = open_rung(t, l, rung);
        const prxi_candidate *x = err == PRX_OK ? &t->candidates[l->candidate[rung]] : NULL;
        if (x && !x->broken && x->n == 0) {
            trials--;
            err = run_on(t, l->candidate[rung], prompts, phase);
        }
    }
    choose_best(t, l);
    return err;
}

/* ---- rounds ---- */

static int next_line(const prx_tune *t, const signed char *done)
{
    int best = -1;
    for (int i = 0; i < t->n_lines; i++)
        if (!done[i] && !t->lines[i].dropped && (best < 0 || t->lines[i].expected < t->lines[best].expected))
            best = i;
    return best;
}

/* Every line that is alive, the one that promises most first. */
static int do_round(prx_tune *t, int prompts, int trials, const char *phase)
{
    signed char done[PRXI_TUNE_LINES] = { 0 };
    int alive = 0, i, err = PRX_OK, n = 0;
    for (int k = 0; k < t->n_lines; k++)
        alive += !t->lines[k].dropped;
    while (err == PRX_OK && (i = next_line(t, done)) >= 0) {
        done[i] = 1;
        if ((err = prxi_tune_tell(t, phase, n++, alive)) == PRX_OK)
            err = work_line(t, &t->lines[i], prompts, trials, phase);
    }
    return err;
}

static void drop(prx_tune *t, prxi_line *l, const char *reason)
{
    l->dropped = 1;
    snprintf(l->reason, sizeof l->reason, "%s", reason);
    prxi_tune_note_drop(t, "line", l->name, reason);
}

static const char *reason_of(const prx_tune *t, int flag)
{
    if (flag == PRXI_OUT_MISSES && t->measure == PRXI_BY_SPEEDUP)
        return "no rung tried is fast enough";
    if (flag == PRXI_OUT_MISSES)
        return "no rung tried holds the target and is faster than the reference";
    return flag == PRXI_OUT_BEATEN ? "another line on the same axes is as good and cheaper" : "others are cheaper: the better half goes on";
}

/* At most `keep` lines go on. */
static void halve(prx_tune *t, int keep)
{
    prxi_line_score s[PRXI_TUNE_LINES];
    signed char flags[PRXI_TUNE_LINES];
    int at[PRXI_TUNE_LINES], n = 0;
    const double limit = t->measure == PRXI_BY_SPEEDUP ? INFINITY : faster * prxi_tune_reference_time(t);
    for (int i = 0; i < t->n_lines; i++) {
        const prxi_line *l = &t->lines[i];
        if (l->dropped)
            continue;
        const int some = l->best != PRXI_NO_CANDIDATE;
        const prxi_candidate *x = some ? &t->candidates[l->best] : NULL;
        const double cost = some ? prxi_tune_cost(t, l->best) : INFINITY;
        s[n] = (prxi_line_score) { prxi_line_axes(l), some && cost < limit, cost,
                                   some ? prxi_sample_of(x->held, x->n, t->goal.confidence, 0).mean : 0 };
        at[n++] = i;
    }
    prxi_halve(s, n, keep, flags);
    for (int i = 0; i < n; i++)
        if (flags[i] != PRXI_KEPT)
            drop(t, &t->lines[at[i]], reason_of(t, flags[i]));
}

/* ---- combinations ---- */

/* A single ladder as a part of combinations: how far to go on it at most, and its share of the reference's time there. */
typedef struct part {
    int ladder;
    double place, share, cost;
} part;

static int make_part(const prx_tune *t, const prxi_line *l, int axis, part *p)
{
    const double reference = prxi_tune_reference_time(t);
    *p = (part) { l->ladder[axis], 1, 1, INFINITY };
    if (l->best != PRXI_NO_CANDIDATE) {
        const prxi_candidate *x = &t->candidates[l->best];
        p->place = x->place[axis];
        p->share = prxi_median(x->seconds, x->n) / reference;
        p->cost = prxi_tune_cost(t, l->best);
        return t->measure == PRXI_BY_SPEEDUP || p->share < 1;
    }
    return t->measure == PRXI_BY_SPEEDUP;      /* too slow alone, perhaps not together */
}

/* The cheapest parts of an axis. */
static int find_parts(const prx_tune *t, int axis, part *list)
{
    int n = 0;
    for (int i = 0; i < t->n_lines; i++) {
        part p;
        if (prxi_line_axes(&t->lines[i]) != 1 << axis || !make_part(t, &t->lines[i], axis, &p))
            continue;
        int at = n < PARTS ? n++ : PARTS;
        for (; at > 0 && p.cost < list[at - 1].cost; at--)
            if (at < PARTS)
                list[at] = list[at - 1];
        if (at < PARTS)
            list[at] = p;
    }
    return n;
}

/* Keeps the lines of a list that promise most. */
static void offer(prxi_line *list, int *n, const prxi_line *l)
{
    int at = *n < COMBINATIONS ? (*n)++ : COMBINATIONS;
    for (; at > 0 && l->expected < list[at - 1].expected; at--)
        if (at < COMBINATIONS)
            list[at] = list[at - 1];
    if (at < COMBINATIONS)
        list[at] = *l;
}

/* One line through the parts in pick (-1: axis off), each going as far as its weight says. */
static void offer_line(const prx_tune *t, part parts[][PARTS], const int *pick, const double *weight, prxi_line *list, int *n)
{
    prxi_line l;
    prxi_line_init(&l, "");
    l.expected = prxi_tune_reference_time(t);
    for (int a = 0; a < PRXI_TUNE_AXES; a++) {
        if (pick[a] < 0)
            continue;
        const part *p = &parts[a][pick[a]];
        const size_t used = strlen(l.name);
        l.ladder[a] = p->ladder;
        l.to[a] = weight[a] * p->place;
        if (a > 0)       /* fewer steps lie further apart: the threshold that held alone may never let one be cached */
            l.to[a] += 0.5 * (1 - p->place);
        l.expected *= 1 - weight[a] * (1 - p->share);
        snprintf(l.name + used, sizeof l.name - used, "%s%s%s", used ? " + " : "", weight[a] < 1 ? "half of " : "",
                 prxi_ladder_at(p->ladder)->name);
    }
    offer(list, n, &l);
}

/* Errors do not add: combinations are lines of their own, from their mildest rungs up to where each part held alone and, but for
 * the steps, beyond. */
static void combine(prx_tune *t)
{
    static const double weights[][PRXI_TUNE_AXES] = { { 1, 1, 1 }, { 0.5, 1, 1 }, { 1, 0.5, 1 }, { 1, 1, 0.5 } };
    part parts[PRXI_TUNE_AXES][PARTS];
    int count[PRXI_TUNE_AXES], pick[PRXI_TUNE_AXES], n = 0, total = 1;
    prxi_line list[COMBINATIONS];
    for (int a = 0; a < PRXI_TUNE_AXES; a++) {
        count[a] = find_parts(t, a, parts[a]);
        total *= count[a] + 1;
    }
    for (int i = 0; i < total; i++) {
        int used = 0, rest = i;
        for (int a = 0; a < PRXI_TUNE_AXES; a++) {
            pick[a] = rest % (count[a] + 1) - 1;
            rest /= count[a] + 1;
            used += pick[a] >= 0;
        }
        if (used < 2)
            continue;
        offer_line(t, parts, pick, weights[0], list, &n);
        for (int a = 0; a < PRXI_TUNE_AXES; a++)
            if (pick[a] == 0)
                offer_line(t, parts, pick, weights[1 + a], list, &n);
    }
    for (int i = 0; i < n && t->n_lines < PRXI_TUNE_LINES; i++)
        t->lines[t->n_lines++] = list[i];
}

static int count_alive(const prx_tune *t)
{
    int n = 0;
    for (int i = 0; i < t->n_lines; i++)
        n += !t->lines[i].dropped;
    return n;
}

int prxi_tune_search(prx_tune *t)
{
    const int all = t->split.calibration;
    int err = do_round(t, 1, SINGLE_TRIALS, "search");
    if (err != PRX_OK)
        return err;
    const int singles = count_alive(t);
    halve(t, singles);
    combine(t);
    for (int prompts = all < 2 ? all : 2, trials = COMBINED_TRIALS; err == PRX_OK; trials = LATER_TRIALS) {
        const int alive = count_alive(t);
        if ((err = do_round(t, prompts, trials, prompts > 2 ? "refine" : "combine")) != PRX_OK)
            break;
        halve(t, alive / 2 > 2 ? alive / 2 : 2);
        t->round++;
        if (prompts == all)
            break;
        prompts = 2 * prompts < all ? 2 * prompts : all;
    }
    return err;
}

/* ---- around the best ---- */

static double cost_to_beat(const prx_tune *t)
{
    return t->best.holds ? prxi_tune_cost(t, t->best.candidate)
           : t->measure == PRXI_BY_SPEEDUP ? INFINITY : prxi_tune_reference_time(t);
}

/* Whether a line from `first` on has a candidate that is worth a verification. */
static int seems_better(prx_tune *t, int first)
{
    const double now = cost_to_beat(t);
    int better = 0;
    for (int i = first; i < t->n_lines; i++) {
        prxi_line *l = &t->lines[i];
        choose_best(t, l);
        better |= l->best != PRXI_NO_CANDIDATE && !t->candidates[l->best].tried && prxi_tune_cost(t, l->best) < faster * now;
    }
    return better;
}

static void polish_axis(prx_tune *t, int axis)
{
    const prxi_candidate *x = &t->candidates[t->best.candidate];
    prxi_line l;
    if (t->n_lines == PRXI_TUNE_LINES)
        return;
    prxi_line_init(&l, "");
    for (int a = 0; a < PRXI_TUNE_AXES; a++) {
        l.ladder[a] = x->ladder[a];
        l.from[a] = l.to[a] = x->place[a];
    }
    if (x->ladder[axis] >= 0)
        l.to[axis] = 1;
    else {
        part parts[PARTS];
        if (find_parts(t, axis, parts) == 0)
            return;
        l.ladder[axis] = parts[0].ladder;
        l.from[axis] = 0, l.to[axis] = parts[0].place;
    }
    snprintf(l.name, sizeof l.name, "more of %s", prxi_ladder_at(l.ladder[axis])->name);
    t->lines[t->n_lines++] = l;
}

int prxi_tune_polish(prx_tune *t)
{
    if (t->measure == PRXI_BY_SPEEDUP)
        return 0;
    for (int i = 0; i < t->n_lines; i++)
        t->lines[i].dropped = 1;
    const int first = t->n_lines;
    for (int a = 0; a < PRXI_TUNE_AXES; a++)
        polish_axis(t, a);
    const int err = do_round(t, t->split.calibration, POLISH_TRIALS, "polish");
    return err < 0 ? err : seems_better(t, first);
}

/* ---- the best of every ladder alone ---- */

/* Whether a rung of the line that failed verification is cheaper than `now`: then those between it and what held may be, too. */
static int fell_short(const prx_tune *t, const prxi_line *l, double now)
{
    for (int i = 0; i < PRXI_TUNE_RUNGS; i++) {
        const int k = l->candidate[i];
        if (k != PRXI_NO_CANDIDATE && t->candidates[k].failed && prxi_tune_cost(t, k) < faster * now)
            return 1;
    }
    return 0;
}

/* What was dropped on few prompts may still be the fastest: no ladder alone is to beat the result. */
int prxi_tune_challenge(prx_tune *t)
{
    const double now = cost_to_beat(t);
    for (int i = 0; i < t->n_lines; i++) {
        prxi_line *l = &t->lines[i];
        const int axes = prxi_line_axes(l), alone = (axes & (axes - 1)) == 0;
        choose_best(t, l);
        const int slower = l->best != PRXI_NO_CANDIDATE && !(prxi_tune_cost(t, l->best) < faster * now);
        l->dropped = !alone || (slower && !fell_short(t, l, now));
    }
    const int err = do_round(t, t->split.calibration, LATER_TRIALS, "challenge");
    return err < 0 ? err : seems_better(t, 0);
}
