/* A job: settings, what was planned from them, and the state of the run. */
#ifndef PRXI_JOB_H
#define PRXI_JOB_H

#include "engine/dump.h"
#include "engine/engine.h"
#include "engine/estimate.h"
#include "engine/trace.h"
#include "video_io/video.h"

typedef struct prxi_settings {
    int64_t width, height, frames, fps, steps, seed, max_text, save_every, crf, dump_layer, dump_step,
        solver_order;                           /* 0: of the scheduler file */
    double vram_budget;                         /* GiB; 0: what is free */
    double quant_keep;                          /* share of the steps at each end */
    double guidance, guidance_2, shift;         /* guidance_2 < 0: as guidance; shift 0: of the scheduler file */
    int tiling, conv, keep_weights, old_sigmas, quant;    /* conv: prxi_conv_by; quant: 0 or 1 */
    char scheduler[PRXI_OPT_STRING_MAX];        /* "" : of the model */
    char attention[PRXI_OPT_STRING_MAX], cache[PRXI_OPT_STRING_MAX];
} prxi_settings;

/* Settings that may be long. */
typedef enum prxi_text_key {
    PRXI_TEXT_PROMPT, PRXI_TEXT_NEGATIVE, PRXI_TEXT_OUTPUT, PRXI_TEXT_DUMP, PRXI_TEXT_LATENTS, PRXI_TEXT_SAVE_STATE,
    PRXI_TEXT_RESUME, PRXI_TEXT_TRACE, PRXI_TEXT_KEYS
} prxi_text_key;

/* An explicit prx_job_set, in order: what presets must not overrule, and the settings of policies, which are applied when
 * the policy is known. */
typedef struct prxi_setting {
    char *key, *value;
} prxi_setting;

typedef enum prxi_job_state {
    PRXI_JOB_SETUP, PRXI_JOB_PLANNED, PRXI_JOB_DENOISE, PRXI_JOB_DECODE, PRXI_JOB_FINISH, PRXI_JOB_DONE, PRXI_JOB_FAILED
} prxi_job_state;

/* One row of stats. */
typedef struct prxi_step_stat {
    float sigma, timestep;
    double seconds;
    prxi_cache_report reports[PRXI_BRANCHES];
} prxi_step_stat;

typedef struct prxi_phases {
    double load, text, denoise, decode, encode;
} prxi_phases;

struct prx_job {
    prx_model *model;
    prx_engine *engine;
    prxi_ctx ctx;
    prxi_stream stream;
    atomic_int cancel;
    prxi_job_state state;

    prxi_settings set;
    char *text[PRXI_TEXT_KEYS];
    prxi_setting *explicit_set;
    int n_explicit;
    float *user_latents;
    size_t n_user_latents;
    prx_progress_fn on_progress;
    void *progress_cookie;
    prx_frame_fn on_frame;
    void *frame_cookie;

    /* ---- planned ---- */
    int branches;
    prxi_vae_job clip;                     /* latent size */
    int channels;
    size_t latent_elems;
    const prxi_scheduler *scheduler;
    prxi_sched_config sched_cfg;
    prxi_sched *sched;
    int *step_expert, *expert_index;       /* [steps] */
    int expert_steps[PRXI_EXPERTS];
    const prxi_attn_policy *attn;
    void *attn_priv;
    int policies_closed;                   /* their tensors are gone: no further step */
    prxi_attn_plan attn_plan;
    const prxi_cache_policy *cache;
    void *cache_priv;
    prxi_cache_plan cache_plan;
    const uint8_t *step_kinds;             /* cache_plan.steps, or those of a measurement; NULL: attention as its policy has it */
    prxi_trace *trace;                     /* record_trace; NULL: not asked for */
    prxi_estimate estimate;                /* once somebody asked for the plan as text */
    int estimated;
    size_t plan_bytes;                     /* what is expected to be resident at the worst moment */
    prxi_quant quant;
    int wide_steps;                        /* so many at each end use no weights in 8 bits */
    size_t weight_bytes;                   /* what the transformer's weights may take on a device; SIZE_MAX elsewhere */
    prxi_dit_fit fit;                      /* which is so much of them */
    size_t decode_bytes;                   /* of the decoder, on a device */
    int keep_in_decode;                    /* the transformer's weights stay there while it runs */
    size_t budget;                         /* device memory that the job may take; SIZE_MAX elsewhere */

    /* ---- running ---- */
    double started;
    prxi_phases phases;
    int step, first_step;                  /* next step; where a resumed run began */
    prxi_prompt_request prompts[PRXI_BRANCHES];
    int expert;                            /* whose weights are held; -1 none */
    const prxi_dit *dit;
    prxi_dit_run *dit_run;
    float *latents, *v[PRXI_BRANCHES];     /* where the network runs */
    float *before;                         /* the latents that the step began with: for the guard */
    float *host_latents;                   /* a copy, when that is a device */
    prxi_step_stat *stats;                 /* [steps] */
    double *density;                       /* [steps][branches][layers] */
    prxi_attn_probe *probes;               /* the same; NaN where nothing was measured */
    const prxi_vae *vae;
    prxi_decoder *decoder;
    int latent_frame, frame;
    prxi_device *rgb_device;               /* where rgb is, and rgb8_device beside it; NULL: here */
    float *rgb;
    uint8_t *rgb8, *rgb8_device;
    int yuv;                               /* frames come from the device as planes, in rgb8 */
    prxi_writer *writer;
    prxi_dump *dump;
    int tapped;                            /* q, k, v of the wanted layer are in the dump */
};

double prxi_now(void);                     /* seconds, monotonic */

/* The tables that this job's network, scheduler and decoder run with. */
static inline const prxi_kernels *prxi_job_kernels(const prx_job *j)
{
    return prxi_engine_model_kernels(j->engine);
}

/* settings.c */
int  prxi_settings_open(prx_job *j);
void prxi_settings_close(prx_job *j);
/* What a preset, a video or prx_job_set gave for this name; NULL: nothing did. */
const prxi_setting *prxi_settings_given(const prx_job *j, const char *key);
/* Applies "PREFIX.key" settings to the options of a policy. */
int  prxi_settings_apply(prx_job *j, const char *prefix, const prxi_option *options, void *priv);

/* plan.c */
int  prxi_plan(prx_job *j);
void prxi_unplan(prx_job *j);
/* Whether step i runs without weights in 8 bits, where there are both. */
static inline int prxi_plan_wide(const prx_job *j, int i)
{
    return i < j->wide_steps || i >= (int)j->set.steps - j->wide_steps;
}
/* What a cache policy is told about a planned job. */
void prxi_plan_cache_env(const prx_job *j, prxi_cache_env *env);
/* Why frames must come from a device as RGB; NULL: planes will do. */
const char *prxi_plan_rgb(const prx_job *j);
/* What attention and cache keep between steps goes; their options stay. */
void prxi_plan_close_policies(prx_job *j);
/* Attention of step i: the job's policy, or the dense one where a schedule says so. */
const prxi_attn_policy *prxi_plan_attention(const prx_job *j, int i);
int  prxi_plan_estimate(prx_job *j);       /* measures for the plan's text */
cJSON *prxi_plan_json(const prx_job *j);
/* Bytes that this process may still take (free memory, cgroup limit); SIZE_MAX when unknown. */
size_t prxi_memory_available(void);

/* run.c: units of work; 0 or a negative status. */
int  prxi_run_start(prx_job *j);           /* outputs opened, text, noise */
int  prxi_run_denoise(prx_job *j);         /* one step */
int  prxi_run_decode(prx_job *j);          /* one latent frame */
int  prxi_run_finish(prx_job *j);
/* Parts of them, for the measurement of a graph: latents and stats allocated, the seed's noise, the network let go. */
int  prxi_run_alloc(prx_job *j);
void prxi_run_noise(prx_job *j);
/* The latents as they are now: where the network runs on the host the very array, else a copy that lasts until the next call. */
const float *prxi_run_latents(prx_job *j);
void prxi_run_set_latents(prx_job *j, const float *x);
void prxi_run_drop_network(prx_job *j, int keep);
void prxi_run_close(prx_job *j);

/* state.c */
int  prxi_state_save(prx_job *j);
int  prxi_state_load(prx_job *j);
int  prxi_latents_load(prx_job *j);        /* --latents FILE */

/* stats.c */
cJSON *prxi_stats_json(const prx_job *j);
cJSON *prxi_request_json(const prx_job *j);    /* every resolved setting */

#endif
