/* libpraxino: a prompt becomes a video, on the CPU or a GPU, with attention and caching accelerations.
 *
 *     #include <praxino/praxino.h>
 *     int main(void) {
 *         prx_engine *e; prx_model *m; prx_job *j;
 *         prx_engine_params p;
 *         prx_engine_default_params(&p);
 *         if (prx_engine_open(&e, &p) < 0) return 1;
 *         if (prx_model_open(&m, e, "models/tiny") < 0 || prx_job_open(&j, m) < 0 ||
 *             prx_job_set(j, "prompt", "a red ball bounces on a blue floor") < 0 ||
 *             prx_job_set(j, "output", "ball.mp4") < 0 || prx_job_run(j) < 0)
 *             return 1;   // prx_engine_last_error(e), prx_job_last_error(j) say why
 *         prx_job_close(&j); prx_model_close(&m); prx_engine_close(&e);
 *     }
 *
 * Every function that can fail returns PRX_OK (0), a positive answer where documented, or a negative status. An out
 * pointer is set to NULL on failure. Strings are UTF-8. Nothing here exits, aborts or prints.
 *
 * Threads: jobs of one engine and one model may run in several threads at once. Other calls with an engine or a model (open, describe,
 * the tools) come from one thread at a time; so does every call with a job, except prx_job_cancel, which may come from any thread. Two
 * engines share no state.
 *
 * Lifetimes: close jobs before their model, models before their engine. Every close takes NULL and what NULL points to, and sets the
 * pointer to NULL. Strings passed in are copied; those handed out say how long they live. */
#ifndef PRAXINO_H
#define PRAXINO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define PRX_API
#else
#define PRX_API __attribute__((visibility("default")))
#endif

/* ---- version ---- */

#define PRX_VERSION "0.1.0"
/* 0x00XXYYZZ; the major part changes when a program must be compiled again. */
#define PRX_API_VERSION 0x00000100u
PRX_API const char *prx_version(void);
PRX_API uint32_t prx_version_api(void);

/* ---- status ---- */

/*      name            value  text */
#define PRX_STATUS_MAP(X)                                                                          \
    X(PRX_OK,             0, "ok")                                                                 \
    X(PRX_EINVAL,        -1, "invalid argument, option or input")                                  \
    X(PRX_EFORMAT,       -2, "malformed or unsupported file")                                      \
    X(PRX_EIO,           -3, "input or output failed")                                             \
    X(PRX_ENOMEM,        -4, "out of memory")                                                      \
    X(PRX_ENOSPC,        -5, "no space left")                                                      \
    X(PRX_ENOTSUP,       -6, "not available on this machine")                                      \
    X(PRX_ECANCELED,     -7, "cancelled")                                                          \
    X(PRX_ENUMERIC,      -8, "not a finite number")                                                \
    X(PRX_ESTATE,        -9, "called in the wrong state")                                          \
    X(PRX_EINTERNAL,    -10, "internal error")

typedef enum prx_status {
#define PRX_X(name, value, text) name = value,
    PRX_STATUS_MAP(PRX_X)
#undef PRX_X
    PRX_STATUS_FORCE_INT = 0x7fffffff
} prx_status;

PRX_API const char *prx_status_name(int status);      /* "PRX_EINVAL"; "?" when unknown */
PRX_API const char *prx_status_text(int status);
/* Exit code of a command for a status: 0, 1 failed, 2 bad input, 3 does not fit, 4 not available, 130 cancelled. */
PRX_API int prx_status_exit_code(int status);

/* ---- engine ---- */

typedef struct prx_engine prx_engine;
typedef struct prx_model prx_model;
typedef struct prx_job prx_job;

enum { PRX_LOG_ERROR, PRX_LOG_WARN, PRX_LOG_INFO, PRX_LOG_DEBUG };
/* text has no newline and is valid during the call only. */
typedef void (*prx_log_fn)(void *cookie, int level, const char *text);

/* alloc returns at least bytes, aligned for any C type, or NULL; free takes what alloc gave. Both thread-safe. */
typedef struct prx_allocator {
    void *(*alloc)(void *cookie, size_t bytes);
    void (*free)(void *cookie, void *p);
    void *cookie;
} prx_allocator;

typedef struct prx_engine_params {
    const char *device;        /* "auto", "cpu", "cuda" */
    const char *isa;           /* "auto", "ref", "avx2", "avx512" */
    const char *dtype;         /* "auto" (bf16 where the CPU has AVX-512 BF16, else f32), "f32", "bf16" */
    int threads;               /* 0: all cores that this process may use */
    prx_log_fn log;            /* NULL: silent */
    void *log_cookie;
    int log_level;             /* PRX_LOG_*, default PRX_LOG_WARN */
    const prx_allocator *allocator;    /* copied; NULL: malloc and free */
    uint8_t reserved[32];      /* zero */
} prx_engine_params;

PRX_API void prx_engine_default_params(prx_engine_params *p);
/* p: NULL for the defaults. PRX_EINVAL: a value is not one of those above; PRX_ENOTSUP: this machine lacks the device or isa.
 * On failure *out is still set when memory allowed, so that prx_engine_last_error can be asked; close it. */
PRX_API int prx_engine_open(prx_engine **out, const prx_engine_params *p);
PRX_API void prx_engine_close(prx_engine **e);
/* Why the last call with this engine or one of its models failed (prx_model_open, prx_job_open, prx_compare, ...); "" if it did not. Valid
 * until the next such call. Jobs keep their own: prx_job_last_error. */
PRX_API const char *prx_engine_last_error(const prx_engine *e);

/* ---- what there is ---- */

typedef struct prx_plugin_info {
    const char *kind;          /* "attention", "cache", "scheduler", "muxer" */
    const char *name, *help;
    int n_options;
} prx_plugin_info;
typedef struct prx_option_info {
    const char *name, *type, *def, *help;   /* type: "int", "float", "bool", "choice", "string" */
    double min, max;
    const char *choices;                    /* "a|b|c" or NULL */
} prx_option_info;
/* i-th plug-in of all kinds, and i-th option of one: PRX_OK, or PRX_EINVAL after the last. The texts are never freed. */
PRX_API int prx_plugin_at(int i, prx_plugin_info *out);
PRX_API int prx_plugin_option(const char *kind, const char *name, int i, prx_option_info *out);

/* JSON text about the machine and this build (ISA, cores, memory, libraries, encoders, CUDA); free with prx_text_free. */
PRX_API int prx_engine_describe(prx_engine *e, char **json);
PRX_API void prx_text_free(prx_engine *e, char *text);

/* ---- model ---- */

/* dir: a diffusers model directory. Reads and checks the configuration files; weights and tokenizer are opened, and checked, when a job
 * first needs them. PRX_EINVAL: no such directory; PRX_EFORMAT: a file is malformed or of a model that is not supported. */
PRX_API int prx_model_open(prx_model **out, prx_engine *e, const char *dir);
PRX_API void prx_model_close(prx_model **m);
/* transformer: a single .safetensors in the original Wan (or diffusers) layout that replaces DIR/transformer's
 * weights. Before the first job. */
PRX_API int prx_model_set(prx_model *m, const char *key, const char *value);
/* JSON: components, configs, tensors, sizes, default settings. Free with prx_text_free. */
PRX_API int prx_model_describe(prx_model *m, char **json);

/* ---- job ---- */

PRX_API int prx_job_open(prx_job **out, prx_model *m);
PRX_API void prx_job_close(prx_job **j);
/* Why the last call with this job failed; "" if it did not. Valid until the next call with the job. */
PRX_API const char *prx_job_last_error(const prx_job *j);
/* Any setting by name, as text: prompt, negative_prompt, width, height, frames, fps, steps, guidance, guidance_2, shift, scheduler, seed,
 * attention, cache, schedule, attention.KEY, cache.KEY, vae.tiling, max_text, output, dump, latents, save_state, save_every,
 * resume, record_trace, and more (`praxino render --help`). width, height in pixels; fps in frames a second; without output no file is
 * written. Unknown names and bad values: PRX_EINVAL with what is accepted; after the first step: PRX_ESTATE. Later calls win. */
PRX_API int prx_job_set(prx_job *j, const char *key, const char *value);
/* Current value as text; PRX_EINVAL if unknown or buf too small. */
PRX_API int prx_job_get(const prx_job *j, const char *key, char *buf, size_t n);
/* A preset file: {"key": value, ...}, nested objects join their names with dots. Keys already set by prx_job_set stay when
 * keep is non-zero. */
PRX_API int prx_job_load_config(prx_job *j, const char *path, int keep);
/* The settings in the comment tag of a video that praxino wrote, prompt and seed among them: the same model on the same kind of machine
 * gives the same frames. Another model, device, dtype or isa is logged as a warning. PRX_EINVAL when it carries none. */
PRX_API int prx_job_load_video(prx_job *j, const char *path, int keep);
/* Initial noise, f32 [channels, T, h, w] of the latents; copied. Replaces the seed's. n is the number of floats; prx_job_plan, step and run
 * give PRX_EINVAL when the clip takes another. */
PRX_API int prx_job_set_latents(prx_job *j, const float *data, size_t n);

/* Checks every setting against model and machine and says what will run: JSON with sizes, memory, steps, policies. json may be NULL.
 * PRX_ENOMEM when it cannot fit. */
PRX_API int prx_job_plan(prx_job *j, char **json);

enum { PRX_PHASE_LOAD, PRX_PHASE_TEXT, PRX_PHASE_DENOISE, PRX_PHASE_DECODE, PRX_PHASE_DONE, PRX_PHASE_MEASURE };
typedef struct prx_progress {
    int phase;                 /* PRX_PHASE_* */
    int step, steps;           /* denoise: steps done; decode: latent frames done; measure: steps of the network done */
    double elapsed;            /* s since the job began */
    double remaining;          /* s, estimated; negative: unknown */
} prx_progress;
/* Called from the thread that runs the job. A non-zero return cancels. */
typedef int (*prx_progress_fn)(void *cookie, const prx_progress *p);
PRX_API void prx_job_on_progress(prx_job *j, prx_progress_fn fn, void *cookie);
/* 8-bit RGB [height, width, 3], valid during the call; index from 0. A negative return stops the job with that status. */
typedef int (*prx_frame_fn)(void *cookie, int index, const uint8_t *rgb, int width, int height);
PRX_API void prx_job_on_frame(prx_job *j, prx_frame_fn fn, void *cookie);

/* The next unit of work (text, one denoising step, one latent frame). 1: there is more; 0: done; negative: status. */
PRX_API int prx_job_step(prx_job *j);
/* All units, then the output file is complete. A job runs once; open another for the next clip. After an error no output file is there,
 * and a file of that name is as it was. PRX_ENUMERIC: NaN or infinity turned up. */
PRX_API int prx_job_run(prx_job *j);
/* Asks a running job to stop soon with PRX_ECANCELED; any thread. */
PRX_API void prx_job_cancel(prx_job *j);

/* Current latents, f32 [channels, T, h, w], borrowed until the next call with the job; shape gets 4 numbers. */
PRX_API int prx_job_get_latents(prx_job *j, const float **data, int64_t shape[4]);
/* Stats JSON (DESIGN.md section 6); free with prx_text_free. */
PRX_API int prx_job_stats(prx_job *j, char **json);

/* Measures LeMiCa's graph with the settings of the job, whose cache is none: for every jump i -> j the mean absolute change of the final
 * latents when the steps between reuse step i and all others are computed. prompts: one a line; seeds: "0,1,7-9", NULL for the job's; each
 * prompt runs with each seed. settings, "key=value,...": reuse (residual, velocity), calibrator, order, newton_gap, max_gap (8), quick.
 * state: a file that keeps what is measured, from which an interrupted measurement with the same settings goes on; NULL: none.
 * The caller removes it. Progress has the phase PRX_PHASE_MEASURE. json: the graph (DESIGN.md section 6); prx_text_free. The job
 * cannot run afterwards. */
PRX_API int prx_schedule_build(prx_job *j, const char *prompts, const char *seeds, const char *settings, const char *state, char **json);

/* ---- sweeps: many settings on the same prompts, their time and their distance from a reference ---- */

typedef struct prx_sweep prx_sweep;
typedef struct prx_sweep_params {
    prx_engine_params engine;  /* what rows start from; a setting's device, isa, dtype, threads win */
    const char *model;         /* model directory; NULL: the spec's */
    const char *builtin;       /* model when neither names one, or NULL */
    const char *transformer;   /* as prx_model_set, or NULL */
    const char *presets;       /* folder where names of "config" are looked for, or NULL */
    uint8_t reserved[32];
} prx_sweep_params;

typedef struct prx_sweep_progress {
    int done, rows, failed;    /* rows that are written, of how many */
    const char *label;         /* of the setting that runs; NULL between rows */
    double elapsed;            /* s since prx_sweep_run */
    double remaining;          /* s, estimated; negative: unknown */
} prx_sweep_progress;
/* A non-zero return cancels. */
typedef int (*prx_sweep_fn)(void *cookie, const prx_sweep_progress *p);

PRX_API void prx_sweep_default_params(prx_sweep_params *p);
/* Reads the spec (docs/SWEEP.md has the format), checks every setting against the model, and creates dir; rows that are there stay and are
 * not run again. Nothing runs. On failure *out is still set when memory allowed, for prx_sweep_last_error; close it. */
PRX_API int prx_sweep_open(prx_sweep **out, const prx_sweep_params *p, const char *spec, const char *dir);
PRX_API void prx_sweep_close(prx_sweep **s);
PRX_API const char *prx_sweep_last_error(const prx_sweep *s);
PRX_API void prx_sweep_on_progress(prx_sweep *s, prx_sweep_fn fn, void *cookie);
/* Runs what is missing. Each row is on the disk before the next begins. A row that fails is a row with the message; PRX_ENOSPC and
 * PRX_ECANCELED stop. */
PRX_API int prx_sweep_run(prx_sweep *s);
/* Asks a running sweep to stop soon; any thread. */
PRX_API void prx_sweep_cancel(prx_sweep *s);
/* Medians with their spread by setting, as JSON; borrowed until the next call with s. */
PRX_API int prx_sweep_summary(prx_sweep *s, const char **json);

/* ---- tuning: the fastest settings that hold a target ---- */

typedef struct prx_tune prx_tune;
typedef struct prx_tune_params {
    prx_engine_params engine;
    const char *model, *transformer;   /* model directory; as prx_model_set, or NULL */
    const char *prompts;       /* file with one prompt a line, at least 4: half of them, rounded up, only judge */
    const char *target;        /* psnr=X, ssim=X, ms-ssim=X: the fastest settings of this quality; speedup=X: the best ones so fast */
    double minutes;            /* the budget (30) */
    int64_t seed;              /* of every prompt's noise */
    uint8_t reserved[32];
} prx_tune_params;

typedef struct prx_tune_progress {
    const char *phase;         /* reference, search, combine, refine, verify, polish, challenge, timing */
    int done, total;           /* of the phase */
    double elapsed;            /* s since prx_tune_run */
    double remaining;          /* s of the budget */
} prx_tune_progress;
/* A non-zero return cancels. */
typedef int (*prx_tune_fn)(void *cookie, const prx_tune_progress *p);

PRX_API void prx_tune_default_params(prx_tune_params *p);
/* Reads the prompts and the target. On failure *out is still set when memory allowed, for prx_tune_last_error; close it. */
PRX_API int prx_tune_open(prx_tune **out, const prx_tune_params *p);
PRX_API void prx_tune_close(prx_tune **t);
PRX_API const char *prx_tune_last_error(const prx_tune *t);
/* Base settings (steps, size, ...), which the reference has too; attention and cache are chosen here and not accepted. */
PRX_API int prx_tune_set(prx_tune *t, const char *key, const char *value);
PRX_API int prx_tune_load_config(prx_tune *t, const char *path);
PRX_API void prx_tune_on_progress(prx_tune *t, prx_tune_fn fn, void *cookie);
/* Searches, verifies, and stays within the budget. PRX_OK also when nothing was found: prx_tune_preset tells. Cancelled after a setting was
 * verified: PRX_OK; before: PRX_ECANCELED. References stay in memory: 3 bytes a pixel, frame and prompt. */
PRX_API int prx_tune_run(prx_tune *t);
/* Asks a running search to stop soon; any thread. */
PRX_API void prx_tune_cancel(prx_tune *t);
/* The verified settings as a preset (prx_job_load_config reads it), *json NULL when there are none; and every trial, drop and verification.
 * Both texts are borrowed until the next call with t. */
PRX_API int prx_tune_preset(prx_tune *t, const char **json);
PRX_API int prx_tune_evidence(prx_tune *t, const char **json);

/* ---- video files ---- */

/* Compares two videos, image sequences or dumps: PSNR, SSIM, per frame and mean, as JSON (free with prx_text_free). Different sizes or
 * lengths: PRX_EINVAL, unless settings ("key=value,key=value", may be NULL) say how to align: align=trim (as many frames as both have),
 * offset=N (skip N frames of b; negative: of a), resize=a|b (scale the other one to the size of a or b). */
PRX_API int prx_compare(prx_engine *e, const char *a, const char *b, const char *settings, char **json);

/* ---- tools that need no model; settings are "key=value,key=value", JSON texts are freed with prx_text_free ---- */

/* The block mask of Radial Attention: frames, tokens_per_frame, text_tokens, block, decay, model_type, distance_one, sink, tile. png: also
 * draws it there; may be NULL. */
PRX_API int prx_mask_radial(prx_engine *e, const char *settings, const char *png, char **json);
/* The cluster map of SVG2 for the tensors q, k and, for the output error, v [tokens, heads, head_dim] of a safetensors file, as `dump` with
 * dump_layer writes them. settings: head, frames, row; attention: settings of the policy. */
PRX_API int prx_mask_svg2(prx_engine *e, const char *dump, const char *settings, const char *attention, const char *png, char **json);
/* The path through a graph file with a budget of computed steps: "11", or "6+5" for the experts of a graph that has two; objective:
 * "minimax" (lexicographic) or "sum". A schedule as JSON, with the other objective's path beside it. */
PRX_API int prx_schedule_solve(prx_engine *e, const char *graph, const char *budget, const char *objective, char **json);
/* A graph file with n schedule files beside it: weights, and for each schedule its jumps, as JSON; png: also draws them there; may be
 * NULL. A schedule of another model is PRX_EINVAL; one for other steps is mapped by sigma. */
PRX_API int prx_schedule_show(prx_engine *e, const char *graph, const char *const *schedules, int n, const char *png, char **json);
/* The decisions that a cache with these settings ("residual_diff_threshold=0.1,...") takes on a recorded trace. */
PRX_API int prx_replay(prx_engine *e, const char *cache, const char *settings, const char *trace, char **json);

/* Kernel and step benchmarks; JSON rows. what: "all", "gemm", "attention", "norm", "conv", "step", "decode", "cache",
 * and "qkv", which is not part of all: dense attention of the q, k and v of a safetensors file ("file=IN,output=OUT"). */
PRX_API int prx_bench(prx_engine *e, const char *what, const char *options, char **json);

#ifdef __cplusplus
}
#endif

#endif
