/* Caching: the interface between the DiT / sampler (who asks at named sites) and a policy (what to skip).
 * The branch id always comes from the caller, state is per branch, and a policy's priv belongs to one job. */
#ifndef PRXI_CACHE_H
#define PRXI_CACHE_H

#include <cjson/cJSON.h>

#include "engine/core/dtype.h"
#include "engine/core/option.h"
#include "engine/core/stream.h"
#include "engine/ops/act.h"

enum { PRXI_BRANCH_COND, PRXI_BRANCH_UNCOND, PRXI_BRANCHES };

typedef struct prxi_step {
    int index, steps;
    float sigma, sigma_next, timestep;
    int expert, expert_index, expert_steps;   /* A14B: which transformer, step index within it, its number of steps */
    const float *latents;                     /* what the network gets, f32 [latent_elems]; where the network runs */
} prxi_step;

typedef struct prxi_cache_env {
    int blocks, branches, steps;
    int64_t tokens, dim;               /* hidden states [tokens, dim] */
    int64_t latent_elems;              /* of the model output, f32 */
    prxi_dtype dtype;                  /* of hidden states */
    int n_threads;
    struct prxi_device *device;        /* not NULL: states, embeddings, latents and velocities lie there, and buffers beside them do */
    int experts;
    const float *sigmas;               /* [steps + 1], last 0 */
    const int *step_expert;            /* [steps] */
    const prxi_act_ops *act;
    const char *model, *model_dir;     /* name of the model and its folder, for schedules and calibrations */
    const cJSON *published;            /* {policy: numbers} that are published for this model; NULL: nothing is */
    /* replay: the diff that the recorded run measured at `step` against the probe of step `against`; NaN: it did not. NULL in a job */
    double (*known_diff)(const void *cookie, int branch, int step, int against);
    const void *known_cookie;
} prxi_cache_env;

/* What a static schedule says of a step. */
typedef enum prxi_step_kind {
    PRXI_STEP_CACHED, PRXI_STEP_COMPUTED, PRXI_STEP_DENSE      /* COMPUTED: attention as its policy has it; DENSE: dense all the same */
} prxi_step_kind;

typedef struct prxi_cache_plan {
    size_t bytes;
    int computed_steps;                /* expected per branch; -1 when the content decides */
    const uint8_t *steps;              /* [steps] prxi_step_kind, of a schedule that also chooses attention; in priv. NULL: it does not */
    char note[256];
} prxi_cache_plan;

/* What happened to one branch in one step; becomes a row of stats. */
typedef struct prxi_cache_report {
    int cached;                        /* 0 computed, 1 cached (some or all of the network reused) */
    const char *reason;                /* static string */
    double diff;                       /* NaN: not measured */
    int blocks_computed;
} prxi_cache_report;

typedef struct prxi_cache_call {
    const prxi_step *step;
    int branch;
    const float *temb, *tproj;         /* [dim], [6 * dim] f32: timestep embedding, modulation input (TeaCache) */
    prxi_cache_report *report;         /* the policy fills cached, reason, diff; the DiT counts blocks */
} prxi_cache_call;

/* What to change when a run has cached nothing for this reason. */
typedef struct prxi_cache_advice {
    const char *reason, *text;         /* a list ends with reason NULL */
} prxi_cache_advice;

typedef struct prxi_cache_policy {
    const char *name, *help;
    size_t priv_size;
    const prxi_option *options;
    const prxi_cache_advice *advice;   /* for each of its reasons to compute; or NULL */
    int (*plan)(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *plan);
    /* Optional. Before a step: 1 when v (guided velocity, f32 [latent_elems]) was filled and the network is skipped;
     * reports has one row per branch. */
    int (*begin_step)(void *priv, prxi_stream *s, const prxi_step *step, float *v, prxi_cache_report *reports);
    /* Optional. The velocities of the branches as the network gave them, before guidance makes one of them. */
    void (*at_output)(void *priv, prxi_stream *s, const prxi_step *step, float *const v[PRXI_BRANCHES]);
    /* Optional. After a step whose network ran (any branch computed or partly cached). */
    void (*end_step)(void *priv, prxi_stream *s, const prxi_step *step, const float *v);
    /* Optional. Called before block `block`, for block = 0 .. blocks (blocks = after the last one), unless jumped over, with the
     * hidden state x [tokens, dim]. Returns `block` to go on, or a later index after having brought x to the state before
     * that block. */
    int (*at_block)(void *priv, prxi_stream *s, const prxi_cache_call *call, int block, void *x);
    void (*close)(void *priv, prxi_ctx *c);
} prxi_cache_policy;

/* The step where the second expert begins; steps: it does not. */
static inline int prxi_cache_boundary(const prxi_cache_env *env)
{
    int i = 0;
    while (i < env->steps && !(env->step_expert && env->step_expert[i]))
        i++;
    return i;
}

const prxi_cache_policy *prxi_cache_policy_at(int i);
const prxi_cache_policy *prxi_cache_policy_find(const char *name);

#endif
