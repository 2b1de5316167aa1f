/* Named and explicit step masks. */
#include "masks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 8, REFERENCE = 28, MAX_STEPS = 1000 };

typedef struct bins {
    int compute[BINS], cache[BINS];
} bins;

typedef struct named {
    const char *name;
    bins at28, at15, at9, at8;         /* a zero bin ends the list */
} named;

static const named policies[] = {
    { "slow",   { { 8, 3, 3, 2, 1, 1 }, { 1, 2, 2, 2, 3 } }, { { 4, 2, 2, 2, 1 }, { 1, 1, 1, 1 } },
      { { 5, 2, 1 }, { 1 } }, { { 5, 1, 1 }, { 1 } } },
    { "medium", { { 6, 2, 2, 2, 2, 1 }, { 1, 3, 3, 3, 3 } }, { { 4, 2, 1, 1, 1 }, { 1, 1, 2, 2 } },
      { { 5, 1, 1 }, { 1, 1 } }, { { 4, 1, 1 }, { 1, 1 } } },
    { "fast",   { { 6, 1, 1, 1, 1, 1 }, { 1, 3, 4, 5, 4 } }, { { 3, 1, 1, 1, 1 }, { 1, 2, 2, 3 } },
      { { 4, 1, 1 }, { 1, 2 } }, { { 3, 1, 1 }, { 1, 2 } } },
    { "ultra",  { { 4, 1, 1, 1, 1 }, { 2, 5, 6, 7 } },       { { 2, 1, 1, 1, 1 }, { 1, 2, 3, 3 } },
      { { 3, 1, 1 }, { 2, 2 } }, { { 2, 1, 1 }, { 2, 2 } } },
};

static int count_bins(const int *b)
{
    int n = 0;
    while (n < BINS && b[n] > 0)
        n++;
    return n;
}

static int sum_bins(const bins *b)
{
    int sum = 0;
    for (int i = 0; i < BINS; i++)
        sum += b->compute[i] + b->cache[i];
    return sum;
}

/* Alternating bins into 0 and 1; returns how many steps were written, at most `steps`. */
static int expand(const bins *b, int steps, uint8_t *out)
{
    int n = 0;
    for (int i = 0; i < BINS; i++) {
        for (int k = 0; k < b->compute[i] && n < steps; k++)
            out[n++] = 1;
        for (int k = 0; k < b->cache[i] && n < steps; k++)
            out[n++] = 0;
    }
    return n;
}

/* ---- as published ---- */

static void shrink_last(int *b)
{
    const int n = count_bins(b);
    if (n > 0)
        b[n - 1]--;
}

static void truncate_bins(bins *b, int steps)
{
    for (int turn = 0; sum_bins(b) > steps; turn++)
        shrink_last(turn % 2 ? b->compute : b->cache);
}

static int at_least_one(double v)
{
    return v >= 1 ? (int)v : 1;
}

/* More than 28 steps: bins grow by their own share until the sum is reached. */
static void stretch_bins(bins *b, int steps)
{
    const bins base = *b;
    const double f = steps / 56.0;
    const int nc = count_bins(base.compute), nk = count_bins(base.cache), pairs = nc < nk ? nc : nk;
    while (sum_bins(b) < steps) {
        for (int i = 0; i < pairs; i++) {
            b->compute[i] += at_least_one(base.compute[i] * f);
            if (sum_bins(b) >= steps)
                break;
            b->cache[i] += at_least_one(base.cache[i] * f);
            if (sum_bins(b) >= steps)
                break;
        }
        if (sum_bins(b) < steps)
            b->compute[count_bins(b->compute) - 1]++;
    }
    truncate_bins(b, steps);
}

static int published_mask(prxi_ctx *c, const named *p, int steps, uint8_t *out)
{
    static const bins six = { { 3, 1 }, { 2 } }, four = { { 2, 1 }, { 1 } };
    bins b = steps >= 16 ? p->at28 : steps >= 10 ? p->at15 : steps == 9 ? p->at9 : steps == 8 ? p->at8 : steps == 6 ? six : four;
    if (steps < 4 || steps == 5 || steps == 7)
        return prxi_fail(c, PRX_EINVAL, "cache.steps_computation_mask: %s has no published mask for %d steps", p->name, steps);
    if (steps > REFERENCE)
        stretch_bins(&b, steps);
    else
        truncate_bins(&b, steps);
    memset(out, 0, (size_t)steps);
    expand(&b, steps, out);
    out[steps - 1] = 1;
    return PRX_OK;
}

/* ---- by budget ---- */

/* The k-th of `budget` computed steps stands where the published mask has spent the same share of its own. */
static void budget_mask(const named *p, int steps, uint8_t *out)
{
    uint8_t ref[REFERENCE];
    int at[REFERENCE], n = 0;
    expand(&p->at28, REFERENCE, ref);
    ref[REFERENCE - 1] = 1;
    for (int i = 0; i < REFERENCE; i++)
        if (ref[i])
            at[n++] = i;
    int budget = (steps * n + REFERENCE / 2) / REFERENCE, last = -1;
    budget = budget < 2 ? 2 : budget;
    memset(out, 0, (size_t)steps);
    for (int k = 0; k < budget && last < steps - 1; k++) {
        const double share = (double)k / (budget - 1) * (n - 1);
        const int low = (int)share < n - 1 ? (int)share : n - 2;
        const double pos = at[low] + (share - low) * (at[low + 1] - at[low]);
        int step = (int)(pos / (REFERENCE - 1) * (steps - 1) + 0.5);
        step = step <= last ? last + 1 : step;
        step = step > steps - 1 ? steps - 1 : step;
        out[step] = 1;
        last = step;
    }
    out[0] = out[steps - 1] = 1;
}

/* ---- explicit ---- */

static int parse_bins(prxi_ctx *c, const char *text, int steps, uint8_t *out)
{
    int n = 0, value = 1;
    long sum = 0;
    const char *p = text;
    for (;;) {
        char *end;
        const long v = strtol(p, &end, 10);
        if (end == p || v < 0 || v > MAX_STEPS || (*end && *end != ','))
            return prxi_fail(c, PRX_EINVAL, "cache.steps_computation_mask: '%.60s': a mask of 0 and 1, bins such as 6,1,3,2, or slow, "
                                            "medium, fast, ultra expected", text);
        for (long i = 0; i < v && n < steps; i++)
            out[n++] = (uint8_t)value;
        sum += v;
        if (!*end)
            break;
        value = !value;
        p = end + 1;
    }
    return sum == steps ? PRX_OK
                        : prxi_fail(c, PRX_EINVAL, "cache.steps_computation_mask: bins of %ld steps; %d expected", sum, steps);
}

int prxi_mask_parse(prxi_ctx *c, const char *text, int steps, int published, uint8_t *out)
{
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        if (strcmp(policies[i].name, text) != 0)
            continue;
        if (published)
            return published_mask(c, &policies[i], steps, out);
        budget_mask(&policies[i], steps, out);
        return PRX_OK;
    }
    if (strspn(text, "01") != strlen(text) || strlen(text) < 2)
        return parse_bins(c, text, steps, out);
    if ((int)strlen(text) != steps)
        return prxi_fail(c, PRX_EINVAL, "cache.steps_computation_mask: %zu steps; %d expected", strlen(text), steps);
    for (int i = 0; i < steps; i++)
        out[i] = (uint8_t)(text[i] == '1');
    return PRX_OK;
}
