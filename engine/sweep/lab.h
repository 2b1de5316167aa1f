/* The lab: runs a setting on a prompt and a seed, and says what it took and how far it is from the reference. Sweeps and
 * the search for settings stand on it.
 *
 * A lab opens one engine and one model for each combination of the keys device, isa, dtype and threads that its settings ask
 * for, at first use, and keeps them: weights are loaded once, prompts are embedded once. */
#ifndef PRXI_LAB_H
#define PRXI_LAB_H

#include <pthread.h>

#include "pairs.h"

enum { PRXI_LAB_ENGINES = 8 };

typedef struct prxi_lab_engine {
    char name[160];                  /* "device isa dtype threads" as the setting has them */
    prx_engine *engine;
    prx_model *model;
} prxi_lab_engine;

typedef struct prxi_lab {
    prx_engine_params base;          /* strings borrowed */
    const char *model, *transformer; /* borrowed; transformer may be NULL */
    int prompts;                     /* how many are in use: their embeddings are kept */
    prxi_lab_engine engines[PRXI_LAB_ENGINES];
    int n_engines;
    prx_progress_fn on_progress;     /* of the trial that runs; may be NULL */
    void *progress_cookie;
    pthread_mutex_t lock;            /* guards job and cancelled: cancelling comes from other threads */
    prx_job *job;
    int cancelled;
} prxi_lab;

/* A finished clip in memory: what metrics compare. */
typedef struct prxi_clip {
    uint8_t *frames;                 /* [n, height, width, 3] */
    int64_t n, height, width;
    float *latents;                  /* the last ones, [latent_elems] */
    size_t latent_elems;
} prxi_clip;

/* What is not finite was not measured (no reference, no difference, too small a picture). */
typedef struct prxi_quality {
    int measured, identical;
    double psnr, psnr_frames, psnr_worst;    /* of the clip's mean error; mean of frames; the worst frame */
    double ssim, ssim_rgb, ms_ssim, motion_psnr;
    double latent_error;                     /* |x - reference| / |reference| of the last latents */
} prxi_quality;

typedef struct prxi_trial {
    double seconds;                  /* denoising and decoding: what settings change */
    double denoise, decode, load, text;
    int steps, computed_steps;
    double density;                  /* of attention; NaN: none ran */
    size_t peak_memory;              /* allocated at once during this trial, kept weights included */
    prxi_quality quality;
    cJSON *stats;                    /* as prx_job_stats gives it */
    prxi_clip clip;
} prxi_trial;

void prxi_lab_open(prxi_lab *l, const prx_engine_params *base, const char *model, const char *transformer, int prompts);
void prxi_lab_close(prxi_lab *l);
/* Would it run? Opens the engine where needed and plans; size (may be NULL) gets width, height, frames. */
int  prxi_lab_check(prxi_ctx *c, prxi_lab *l, const prxi_pairs *setting, const char *prompt, int64_t size[3]);
/* Runs it. reference NULL: nothing is measured. On failure the error is in c and *out is empty. */
int  prxi_lab_run(prxi_ctx *c, prxi_lab *l, const prxi_pairs *setting, const char *prompt, int64_t seed, const prxi_clip *reference,
                  prxi_trial *out);
void prxi_trial_close(prxi_ctx *c, prxi_trial *t);
/* Stops what runs, and everything that would run later. Any thread. */
void prxi_lab_cancel(prxi_lab *l);

/* A clip as a safetensors file (frames, latents), and back. */
int  prxi_clip_save(prxi_ctx *c, const prxi_clip *k, const char *path);
int  prxi_clip_load(prxi_ctx *c, prxi_clip *k, const char *path);
void prxi_clip_close(prxi_ctx *c, prxi_clip *k);
int  prxi_clip_measure(prxi_ctx *c, const prxi_clip *k, const prxi_clip *reference, prxi_quality *out);
/* To a video file; fps of the request. */
int  prxi_clip_write(prxi_ctx *c, const prxi_clip *k, int fps, const char *path);

#endif
