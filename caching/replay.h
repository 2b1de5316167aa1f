/* Replay of a static schedule: what a cached step reuses, and the hooks that do it. The policy `lemica` and the measurement of its
 * graph share it, so that an edge is measured with the arithmetic that will run. Nothing is measured and nothing is read back. */
#ifndef PRXI_REPLAY_H
#define PRXI_REPLAY_H

#include "cache.h"
#include "forecast.h"
#include "schedule.h"

enum { PRXI_REUSE_RESIDUAL, PRXI_REUSE_VELOCITY };      /* in the order of the option's choices */

/* First in the private struct of a policy that uses the hooks. */
typedef struct prxi_replay {
    int reuse;                              /* PRXI_REUSE_*: the block stack's residual of each branch, or the guided velocity */
    int calibrator;                         /* prxi_forecast_kind */
    int64_t order, gap_cap;                 /* of the calibrator */
    prxi_cache_env env;
    uint8_t computed[PRXI_SCHEDULE_MAX];    /* the schedule: prxi_step_kind */
    prxi_forecast value[PRXI_BRANCHES];     /* residual of each branch; [0]: the velocity */
    void *hold[PRXI_BRANCHES];              /* state before the blocks */
    int expert;
} prxi_replay;

/* Options that say what is reused, for a policy's table; `type` is its private struct, `field` the prxi_replay in it. */
#define PRXI_REPLAY_OPTIONS(type, field, choices, def)                                                                 \
    { "reuse", PRXI_OPT_CHOICE, offsetof(type, field.reuse), 0, 0, choices, def,                                       \
      "what a cached step reuses: the blocks' residual, or the guided velocity" },                                     \
    { "calibrator", PRXI_OPT_CHOICE, offsetof(type, field.calibrator), 0, 0, "none|taylor|newton", "none",             \
      "how it is extrapolated" },                                                                                      \
    { "order", PRXI_OPT_INT, offsetof(type, field.order), 1, PRXI_FORECAST_MAX, NULL, "1", "of the calibrator" },      \
    { "newton_gap", PRXI_OPT_INT, offsetof(type, field.gap_cap), 0, 1000, NULL, "4",                                   \
      "beyond this many steps since a computed one newton has order 1 at most; 0: never" }

/* Buffers for env; their size goes to *bytes. close frees them. */
int  prxi_replay_open(prxi_ctx *c, prxi_replay *r, const prxi_cache_env *env, size_t *bytes);
/* Forgets every value: the next step has nothing to reuse. */
void prxi_replay_reset(prxi_replay *r);

/* Hooks of prxi_cache_policy; priv begins with a prxi_replay. */
int  prxi_replay_begin_step(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports);
void prxi_replay_end_step(void *priv, prxi_stream *s, const prxi_step *step, const float *v);
int  prxi_replay_at_block(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x);
void prxi_replay_close(void *priv, prxi_ctx *c);

#endif
