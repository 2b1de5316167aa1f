/* DBCache's gate: whether a step may reuse the cached residual of the middle blocks (caching.md 1.4). Scalars only: the
 * same code decides inside a render and in `praxino replay`. */
#ifndef PRXI_GATE_H
#define PRXI_GATE_H

#include "cache.h"

typedef struct prxi_gate_config {
    double threshold;                 /* residual_diff_threshold */
    double max_accumulated;           /* 0: off */
    int64_t warmup, interval;         /* max_warmup_steps, warmup_interval */
    int64_t max_cached;               /* -1: off */
    int64_t max_continuous;           /* -1: off */
    const uint8_t *mask;              /* 1 compute, 0 cache; or NULL */
    int64_t mask_len;
    int mask_static;                  /* a 0 of the mask is cached untested */
    int compat;                       /* the run-length rule as published; default: a run never exceeds max_continuous */
} prxi_gate_config;

/* Of one branch (and one expert). All zero is a fresh start except last, see prxi_gate_reset. */
typedef struct prxi_gate {
    int64_t cached, last, run;        /* cached steps, the last of them (-1 none), the counter of rule G4 */
    double accumulated;
    int has_probe;                    /* a computed step has stored one */
} prxi_gate;

typedef enum prxi_gate_reason {
    PRXI_GATE_WARMUP, PRXI_GATE_MASK, PRXI_GATE_STATIC, PRXI_GATE_MAX_CACHED, PRXI_GATE_MAX_CONTINUOUS,
    PRXI_GATE_ACCUMULATED, PRXI_GATE_OFF, PRXI_GATE_NO_PROBE, PRXI_GATE_ALWAYS, PRXI_GATE_DIFF_LT, PRXI_GATE_DIFF_GE,
    PRXI_GATE_TEST, PRXI_GATE_REASONS
} prxi_gate_reason;

void prxi_gate_reset(prxi_gate *g);
/* Rules G1 to G8 up to the test. PRXI_GATE_TEST: measure the diff and call prxi_gate_test. Otherwise the reason says it all and
 * the state is booked. */
prxi_gate_reason prxi_gate_ask(const prxi_gate_config *c, prxi_gate *g, int64_t step);
/* PRXI_GATE_DIFF_LT (cache) or PRXI_GATE_DIFF_GE. A diff that is no number computes. */
prxi_gate_reason prxi_gate_test(const prxi_gate_config *c, prxi_gate *g, int64_t step, double diff);
int prxi_gate_caches(prxi_gate_reason r);
const char *prxi_gate_reason_name(prxi_gate_reason r);
extern const prxi_cache_advice prxi_gate_advice[];

#endif
