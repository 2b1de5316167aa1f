/* The search for the fastest settings that hold a target: its state, and what its parts call of each other.
 *
 *   setup.c    base settings, prompts, ladders that can run        lab.c      one trial of a candidate on a prompt
 *   search.c   rounds of bisection, combination and halving        verify.c   held-out prompts: the only thing that is believed
 *   costs.c    time of dense, sparse and cached steps              timing.c   the result beside the reference, once more
 *   evidence.c everything that happened, and the preset            tune.c     public functions and the order of phases */
#ifndef PRXI_TUNE_H
#define PRXI_TUNE_H

#include "engine/sweep/lab.h"
#include "lines.h"
#include "split.h"
#include "stats.h"

enum { PRXI_TUNE_LINES = 64, PRXI_TUNE_CANDIDATES = 1024 };
enum { PRXI_TIME_OVER = 1 };         /* beside PRX_OK and errors: there is no time for that */

typedef enum prxi_measure { PRXI_BY_PSNR, PRXI_BY_SSIM, PRXI_BY_MS_SSIM, PRXI_BY_SPEEDUP } prxi_measure;

/* One trial's numbers. held: the measure of the target. */
typedef struct prxi_score {
    double seconds, speedup, quality, held;
    int identical;                   /* to the reference, byte for byte */
} prxi_score;

typedef struct prxi_candidate {
    char *text;                      /* its settings, as "steps=12 cache=dbcache ..." */
    prxi_pairs own, all;             /* without and with the base */
    int ladder[PRXI_TUNE_AXES];      /* -1: axis off */
    double place[PRXI_TUNE_AXES];
    int n, identical;                /* calibration prompts that it ran on: the first n; on so many nothing changed */
    double *held, *seconds, *quality;        /* [calibration] */
    int broken, tried, failed;       /* cannot run; was verified, and did not hold */
    char reason[200];                /* why it is out, or empty */
} prxi_candidate;

/* What held-out prompts say of a candidate. */
typedef struct prxi_proof {
    int candidate, n, holds;
    prxi_sample held, speedup, quality;
    double seconds, predicted;       /* medians: here, and in calibration */
    int worst_prompt;
} prxi_proof;

/* Medians of trials in turns at the end; rounds 0: there was no time for them. */
typedef struct prxi_timing {
    int rounds;
    double reference, seconds, predicted;    /* predicted: what calibration says of `seconds`, given `reference` */
} prxi_timing;

struct prx_tune {
    prxi_mem mem;
    prxi_log log;
    prxi_ctx ctx;
    char *model, *transformer, *engine_text[3], *json[2];
    prx_engine_params base_engine;
    prxi_lab lab;
    int lab_open, ready, ran;
    prxi_pairs base, reference;      /* reference: base, dense, uncached */
    prxi_pairs sparse;               /* attention of the sparse jumps in the model's graph; empty: it has none */
    prxi_split split;
    prxi_rung_env env;
    int64_t seed, size[3];
    prxi_measure measure;
    char target_text[48];
    prxi_goal goal;
    prx_tune_fn on_progress;
    void *cookie;
    prx_tune_progress progress;

    prxi_clip *clips;                /* [prompts] of the reference; frames NULL: not computed yet */
    double *reference_seconds;       /* [prompts] */
    prxi_candidate *candidates;
    int n_candidates;
    prxi_line *lines;                /* [PRXI_TUNE_LINES] */
    int n_lines, round;
    cJSON *trials, *dropped, *proofs;
    int attempts;
    prxi_proof best;                 /* best.holds: what would be returned now */
    prxi_timing timing;
    char why[240];                   /* why nothing is returned, or why the search ended */
    int interrupted;
    double started, budget;          /* s */
};

/* setup.c */
int  prxi_tune_parse_target(prxi_ctx *c, prx_tune *t, const char *text);
/* Checks the base, then every ladder: one that cannot run here is dropped before anything runs. */
int  prxi_tune_prepare(prx_tune *t);

/* costs.c: env.sparse_cost and env.cached_cost, where a ladder needs them. After the first reference. */
int  prxi_tune_costs(prx_tune *t);

/* lab.c */
double prxi_tune_left(const prx_tune *t);                        /* s of the budget */
/* The reference of a prompt, computed at first use; forgotten to make room. */
int  prxi_tune_reference(prx_tune *t, int prompt);
void prxi_tune_forget(prx_tune *t, int prompt);
double prxi_tune_reference_time(const prx_tune *t);              /* median so far */
/* Runs candidate k on a prompt, at most up to the end of the budget (PRXI_TIME_OVER). */
int  prxi_tune_trial(prx_tune *t, int k, int prompt, const char *phase, prxi_score *out);
/* A trial of candidate k failed: PRX_OK when the candidate is at fault, which is out from now on, else err. */
int  prxi_tune_blame(prx_tune *t, int k, int prompt, int err);
/* The candidate with these ladders and places, made if it is new; *out its index. */
int  prxi_tune_candidate(prx_tune *t, const int *ladder, const double *place, int *out);
int  prxi_tune_tell(prx_tune *t, const char *phase, int done, int total);

/* search.c */
double prxi_tune_cost(const prx_tune *t, int k);                 /* seconds; for a target of speed: minus the quality */
prxi_verdict prxi_tune_judge(const prx_tune *t, int k);
int  prxi_tune_search(prx_tune *t);                              /* fills lines and candidates until time is over */
int  prxi_tune_polish(prx_tune *t);                              /* around the best; 1: found candidates that seem better */
int  prxi_tune_challenge(prx_tune *t);                           /* single ladders that may be faster than the best; the same */

/* verify.c: the next candidates in order of cost until one holds. */
int  prxi_tune_verify(prx_tune *t);
double prxi_tune_reserve(const prx_tune *t);                     /* s that a verification will take */

/* timing.c */
int  prxi_tune_time(prx_tune *t);

/* evidence.c */
cJSON *prxi_tune_preset_json(const prx_tune *t);
cJSON *prxi_tune_evidence_json(const prx_tune *t);
void   prxi_tune_note_trial(prx_tune *t, int k, int prompt, const char *phase, const prxi_trial *r, const prxi_score *s);
void   prxi_tune_note_drop(prx_tune *t, const char *what, const char *name, const char *reason);
void   prxi_tune_note_proof(prx_tune *t, const prxi_proof *p, const char *reason);

#endif
