/* DBCache's gate against the published decisions: 71 traces call by call, and a public log. The persistent contexts of the
 * traces (call parity, late refresh) live in this driver: in the engine the caller gives branch and job. */
#include "tests/vectors.h"

#include "caching/gate.h"

typedef struct driver {
    prxi_gate_config cfg;
    prxi_gate gate[2];
    double probe[2], cond_diff;
    int cond_diff_step;
    int call, step, sep, cfg_first, diff_sep, n, hint, hint_repeat;
    uint8_t mask[256];
} driver;

static void restart(driver *d)
{
    d->call = d->step = d->cond_diff_step = -1;
    for (int b = 0; b < 2; b++)
        prxi_gate_reset(&d->gate[b]);
}

static void setup(driver *d, const cJSON *config)
{
    memset(d, 0, sizeof *d);
    d->cfg = (prxi_gate_config) {
        .threshold = vec_num_or(config, "thr", 0.08), .max_accumulated = vec_num_or(config, "acc", 0),
            .warmup = (int64_t)vec_num_or(config, "W", 8),
        .interval = (int64_t)vec_num_or(config, "I", 1), .max_cached = (int64_t)vec_num_or(config, "MS", -1),
        .max_continuous = (int64_t)vec_num_or(config, "MC", -1), .mask_static = vec_is(config, "policy", "static"), .compat = 1,
    };
    const cJSON *mask = cJSON_GetObjectItemCaseSensitive(config, "mask"), *e;
    if (cJSON_IsArray(mask)) {
        cJSON_ArrayForEach(e, mask) d->mask[d->cfg.mask_len++] = (uint8_t)e->valueint;
        d->cfg.mask = d->mask;
    }
    d->sep = (int)vec_num_or(config, "sep", 0);
    d->cfg_first = (int)vec_num_or(config, "cfg_first", 0);
    d->diff_sep = (int)vec_num_or(config, "diff_sep", 1);
    d->n = (int)vec_num_or(config, "N", 0);
    d->hint = (int)vec_num_or(config, "hint", 0);
    d->hint_repeat = vec_is(config, "hint_policy", "repeat");
    d->cfg.threshold = vec_num_or(config, "l1", d->cfg.threshold);
    restart(d);
}

/* One transformer call of the public implementation (caching.md 1.3). Returns whether the context was new. */
static int advance(driver *d, int *branch)
{
    int refreshed = 0;
    if (d->n && d->step >= d->n) {
        restart(d);
        refreshed = 1;
    } else if (d->hint && d->call == d->hint - 1) {
        restart(d);
        refreshed = 1;
        if (!d->hint_repeat)
            d->hint = 0;
    }
    d->call++;
    *branch = d->sep && (d->call % 2 == !d->cfg_first);
    if (!d->sep || *branch == d->cfg_first)
        d->step++;
    return refreshed;
}

static prxi_gate_reason decide(driver *d, int b, double x, double *diff)
{
    prxi_gate *g = &d->gate[b];
    prxi_gate_reason r = prxi_gate_ask(&d->cfg, g, d->step);
    *diff = NAN;
    if (r == PRXI_GATE_TEST) {
        *diff = fabs(d->probe[b] - x) / fabs(d->probe[b]);
        if (b == 1 && !d->diff_sep && d->cond_diff_step == d->step)
            *diff = d->cond_diff;
        if (b == 0) {
            d->cond_diff = *diff;
            d->cond_diff_step = d->step;
        }
        r = prxi_gate_test(&d->cfg, g, d->step, *diff);
    }
    if (!prxi_gate_caches(r)) {
        d->probe[b] = x;
        g->has_probe = 1;
    }
    return r;
}

static void check_case(const cJSON *c)
{
    const char *name = cJSON_GetObjectItemCaseSensitive(c, "name")->valuestring;
    const cJSON *traj = cJSON_GetObjectItemCaseSensitive(c, "trajectory");
    const cJSON *expected = cJSON_GetObjectItemCaseSensitive(c, "expected"), *e;
    driver d;
    setup(&d, cJSON_GetObjectItemCaseSensitive(c, "config"));
    int i = 0;
    cJSON_ArrayForEach(e, expected)
    {
        int branch;
        double diff;
        const int refreshed = advance(&d, &branch);
        const prxi_gate_reason r = decide(&d, branch, cJSON_GetArrayItem(traj, i)->valuedouble, &diff);
        CHECK(d.step == (int)vec_num_or(e, "step", -9) && branch == vec_is(e, "branch", "cfg"), "%s call %d: step %d", name, i, d.step);
        CHECK(vec_is(e, "decision", prxi_gate_caches(r) ? "cache" : "compute"), "%s call %d: decision", name, i);
        CHECK(vec_is(e, "reason", prxi_gate_reason_name(r)), "%s call %d: reason %s", name, i, prxi_gate_reason_name(r));
        CHECK(refreshed == (int)vec_num_or(e, "refreshed", -1), "%s call %d: refreshed", name, i);
        CHECK(d.gate[branch].run == (int64_t)vec_num_or(e, "cont", -9), "%s call %d: counter %d", name, i, (int)d.gate[branch].run);
        if (!isnan(diff))
            CHECK(fabs(diff - vec_num_or(e, "diff", -1)) <= 1e-12, "%s call %d: diff %g", name, i, diff);
        i++;
    }
    CHECK(fabs(d.gate[0].accumulated - vec_num_or(c, "accumulated_diff_cond", -1)) <= 1e-9, "%s: accumulated", name);
}

static void check_public_log(void)
{
    cJSON *root = vectors_load("caching/cache_dbcache_public_log.json");
    const cJSON *diffs = cJSON_GetObjectItemCaseSensitive(root, "diffs"), *e;
    driver d;
    int cached = 0, i = 0;
    setup(&d, cJSON_GetObjectItemCaseSensitive(root, "config"));
    cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(root, "expected"))
    {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        prxi_gate_reason r = prxi_gate_ask(&d.cfg, &d.gate[0], i);
        if (r == PRXI_GATE_TEST)
            r = prxi_gate_test(&d.cfg, &d.gate[0], i, vec_num_or(diffs, key, NAN));
        d.gate[0].has_probe = 1;
        cached += prxi_gate_caches(r);
        CHECK(vec_is(e, "decision", prxi_gate_caches(r) ? "cache" : "compute"), "log step %d", i);
        i++;
    }
    CHECK(cached == 15, "cached %d", cached);
    cJSON_Delete(root);
}

/* The clean rule: no run is longer than max_continuous, whatever the diffs. */
static void check_clean_runs(void)
{
    uint32_t seed = 1;
    for (int mc = 0; mc < 5; mc++) {
        const prxi_gate_config cfg = { .threshold = 0.5, .warmup = 2, .interval = 1, .max_cached = -1, .max_continuous = mc };
        prxi_gate g;
        int run = 0, longest = 0;
        prxi_gate_reset(&g);
        for (int i = 0; i < 2000; i++) {
            prxi_gate_reason r = prxi_gate_ask(&cfg, &g, i);
            seed = seed * 1664525u + 1013904223u;
            if (r == PRXI_GATE_TEST)
                r = prxi_gate_test(&cfg, &g, i, (double)(seed >> 8) * 0x1p-24);
            g.has_probe = 1;
            run = prxi_gate_caches(r) ? run + 1 : 0;
            longest = run > longest ? run : longest;
        }
        CHECK(longest == mc, "max_continuous %d: a run of %d", mc, longest);
    }
}

int main(void)
{
    cJSON *root = vectors_load("caching/cache_dbcache_traces.json");
    const cJSON *c;
    int n = 0;
    cJSON_ArrayForEach(c, cJSON_GetObjectItemCaseSensitive(root, "cases")) check_case(c), n++;
    CHECK(n == 71, "%d cases", n);
    cJSON_Delete(root);
    check_public_log();
    check_clean_runs();
    return TEST_END();
}
