/* The objects behind the public handles. */
#ifndef PRXI_ENGINE_H
#define PRXI_ENGINE_H

#include <pthread.h>

#include "engine/core/json.h"
#include "engine/cuda/cuda.h"
#include "engine/kernels.h"
#include "engine/model/dit.h"
#include "engine/model/text.h"
#include "engine/model/vae.h"
#include "schedulers/scheduler.h"

struct prx_engine {
    prxi_mem mem;
    prxi_log log;
    prxi_ctx ctx;
    prxi_kernels kernels;                   /* of the CPU: tools, and everything without a device */
    prxi_cuda *cuda;                        /* --device cuda: it runs text encoder, transformer, schedulers and decoder */
    prxi_kernels device_kernels;            /* then: its tables */
    prxi_dtype dtype;
    int threads;
};

/* What a clip of this model looks like when the user says nothing; from configs/models/. */
typedef struct prxi_clip_defaults {
    int width, height, frames, fps, steps;
    double guidance, guidance_2, shift;     /* guidance_2 and shift: NaN = follow guidance / the scheduler file */
} prxi_clip_defaults;

enum { PRXI_EXPERTS = 2, PRXI_PROMPTS_KEPT = 16 };

/* Embeddings of a prompt, kept so that a second clip of it needs no text encoder. */
typedef struct prxi_prompt {
    char *text;
    int max_text, rows;
    float *rows_data;                       /* [rows, text_dim] */
    uint64_t used;                          /* for the choice of the one to drop */
} prxi_prompt;

struct prx_model {
    prx_engine *engine;
    prxi_ctx ctx;
    char *dir;
    char *transformer_file;                 /* original-layout weights instead of DIR/transformer, or NULL */
    char name[128];                         /* last part of dir */
    int experts;
    double boundary;                        /* timestep of the cut between experts; NaN with one */
    prxi_dit_config dit_cfg[PRXI_EXPERTS];
    prxi_vae_info vae_info;                 /* mean, std NULL */
    const prxi_scheduler *scheduler;
    prxi_sched_config sched_cfg;
    prxi_clip_defaults defaults;
    char defaults_name[64];                 /* which entry of configs/models/ they come from */
    prxi_json known;                        /* that entry; root NULL: none */

    pthread_mutex_t lock;                   /* guards everything below */
    prxi_dit *dit[PRXI_EXPERTS];
    int dit_users[PRXI_EXPERTS];
    prxi_vae *vae;
    int vae_users;
    prxi_prompt prompts[PRXI_PROMPTS_KEPT], *more_prompts;   /* the second list only where many prompts come in turns */
    int n_more_prompts;
    uint64_t clock;
};

/* Loads what is missing (within `bytes` of a device) and counts a user; errors go to c. release drops the weights of
 * the last user unless keep. */
int  prxi_model_acquire_dit(prxi_ctx *c, prx_model *m, int expert, prxi_quant quant, size_t bytes, const prxi_dit **out);
void prxi_model_release_dit(prx_model *m, int expert, int keep);
int  prxi_model_acquire_vae(prxi_ctx *c, prx_model *m, const prxi_vae **out);
void prxi_model_release_vae(prx_model *m, int keep);
/* Embeddings of a prompt: new prxi_alloc'd [*rows, text_dim] f32. Opens the text encoder only when the prompt is not kept, and
 * frees it again: it is the largest part and the transformer needs the room. n prompts share one opening. */
typedef struct prxi_prompt_request {
    const char *text;
    float *out;
    int rows;
} prxi_prompt_request;
int prxi_model_embed(prxi_ctx *c, prxi_stream *s, prx_model *m, int max_text, prxi_prompt_request *r, int n);
/* Keeps the embeddings of n prompts more than usual. Before the first job. */
int prxi_model_keep_prompts(prxi_ctx *c, prx_model *m, int n);
/* Bytes on disk of a component's weights (0 when absent). */
size_t prxi_model_component_bytes(const prx_model *m, const char *component);
/* Tables of the parts of a model: the device's, or the CPU's. */
const prxi_kernels *prxi_engine_model_kernels(const prx_engine *e);
/* Takes a job's ctx and starts from the engine's. */
void prxi_ctx_init(prxi_ctx *c, prx_engine *e);
/* cJSON tree to a text that prx_text_free frees; takes and deletes the tree. NULL tree: out of memory. */
int prxi_json_text(prxi_ctx *c, cJSON *tree, char **out);

#endif
