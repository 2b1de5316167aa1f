/* The gate as a state machine; the first rule that fires wins (caching.md 1.4). */
#include "gate.h"

void prxi_gate_reset(prxi_gate *g)
{
    *g = (prxi_gate) { .last = -1 };
}

static int64_t leading_ones(const prxi_gate_config *c)
{
    int64_t n = 0;
    while (n < c->mask_len && c->mask[n])
        n++;
    return n;
}

static int in_warmup(const prxi_gate_config *c, int64_t step)
{
    int64_t w = c->warmup;
    if (c->mask && leading_ones(c) < w)
        w = leading_ones(c);
    return step < w && step % c->interval == 0;
}

/* The published counter counts a first or adjacent cached step (an adjacent one twice when the counter is 0) and is zeroed by
 * rule G4 alone; the clean one is the length of the present run. */
static void book_cached(const prxi_gate_config *c, prxi_gate *g, int64_t step)
{
    const int adjacent = g->last >= 0 && step == g->last + 1;
    if (!c->compat)
        g->run = adjacent ? g->run + 1 : 1;
    else if (g->last < 0)
        g->run += 1;
    else if (adjacent)
        g->run += g->run == 0 ? 2 : 1;
    g->last = step;
    g->cached++;
}

static prxi_gate_reason compute(const prxi_gate_config *c, prxi_gate *g, prxi_gate_reason r)
{
    if (!c->compat || r == PRXI_GATE_MAX_CONTINUOUS)
        g->run = 0;
    return r;
}

static prxi_gate_reason cache(const prxi_gate_config *c, prxi_gate *g, int64_t step, prxi_gate_reason r)
{
    book_cached(c, g, step);
    return r;
}

prxi_gate_reason prxi_gate_ask(const prxi_gate_config *c, prxi_gate *g, int64_t step)
{
    if (in_warmup(c, step))
        return compute(c, g, PRXI_GATE_WARMUP);
    if (c->mask) {
        if (step < c->mask_len && c->mask[step])
            return compute(c, g, PRXI_GATE_MASK);
        if (c->mask_static)
            return g->has_probe ? cache(c, g, step, PRXI_GATE_STATIC) : compute(c, g, PRXI_GATE_NO_PROBE);
    }
    if (c->max_cached >= 0 && g->cached >= c->max_cached)
        return compute(c, g, PRXI_GATE_MAX_CACHED);
    if (c->max_continuous >= 0 && g->run >= c->max_continuous)
        return compute(c, g, PRXI_GATE_MAX_CONTINUOUS);
    if (c->max_accumulated > 0 && g->accumulated >= c->max_accumulated)
        return compute(c, g, PRXI_GATE_ACCUMULATED);
    if (c->threshold <= 0)
        return compute(c, g, PRXI_GATE_OFF);
    if (!g->has_probe)
        return compute(c, g, PRXI_GATE_NO_PROBE);
    if (c->threshold >= 1)
        return cache(c, g, step, PRXI_GATE_ALWAYS);
    return PRXI_GATE_TEST;
}

prxi_gate_reason prxi_gate_test(const prxi_gate_config *c, prxi_gate *g, int64_t step, double diff)
{
    if (diff > 0)
        g->accumulated += diff;
    return diff < c->threshold ? cache(c, g, step, PRXI_GATE_DIFF_LT) : compute(c, g, PRXI_GATE_DIFF_GE);
}

int prxi_gate_caches(prxi_gate_reason r)
{
    return r == PRXI_GATE_STATIC || r == PRXI_GATE_ALWAYS || r == PRXI_GATE_DIFF_LT;
}

const char *prxi_gate_reason_name(prxi_gate_reason r)
{
    static const char *const names[PRXI_GATE_REASONS] = {
        [PRXI_GATE_WARMUP] = "warmup", [PRXI_GATE_MASK] = "mask", [PRXI_GATE_STATIC] = "static",
        [PRXI_GATE_MAX_CACHED] = "max_cached", [PRXI_GATE_MAX_CONTINUOUS] = "max_continuous",
        [PRXI_GATE_ACCUMULATED] = "accumulated", [PRXI_GATE_OFF] = "threshold_off", [PRXI_GATE_NO_PROBE] = "no_prev",
        [PRXI_GATE_ALWAYS] = "threshold_ge_1", [PRXI_GATE_DIFF_LT] = "diff_lt", [PRXI_GATE_DIFF_GE] = "diff_ge",
        [PRXI_GATE_TEST] = "test",
    };
    return names[r];
}

const prxi_cache_advice prxi_gate_advice[] = {
    { "warmup", "fewer cache.max_warmup_steps, or more steps" },
    { "mask", "zeros in cache.steps_computation_mask" },
    { "max_cached", "more cache.max_cached_steps" },
    { "max_continuous", "more cache.max_continuous_cached_steps" },
    { "accumulated", "a larger cache.max_accumulated_residual_diff_threshold" },
    { "threshold_off", "a cache.residual_diff_threshold above 0" },
    { "no_prev", "more steps" },
    { "diff_ge", "a larger cache.residual_diff_threshold (--stats has the diffs; replay tries others)" },
    { NULL, NULL },
};
