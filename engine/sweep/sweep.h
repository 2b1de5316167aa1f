/* A sweep: its rows in random order, each run in the lab and written down. */
#ifndef PRXI_SWEEP_H
#define PRXI_SWEEP_H

#include "lab.h"
#include "results.h"
#include "spec.h"

/* What the summary needs of a row. */
typedef struct prxi_sweep_row {
    int setting, clip, repeat;       /* clip: prompt * seeds + seed */
    int done, ok;
    double seconds, density, peak_memory;
    int computed_steps;
    prxi_quality quality;
} prxi_sweep_row;

struct prx_sweep {
    prxi_mem mem;
    prxi_log log;
    prxi_ctx ctx;
    char *dir, *model, *transformer, *engine_text[3], *summary;
    prx_engine_params base;
    prxi_sweep_spec spec;
    prxi_lab lab;
    int lab_open, checked;
    int broken;                      /* a reference or a clip could not be written: no setting's fault */
    prxi_results results;
    char model_digest[65];
    prxi_sweep_row *rows;            /* [repeat][setting][clip] */
    int n_rows, clips;
    int *order;                      /* of rows */
    prx_sweep_fn on_progress;
    void *cookie;
    prx_sweep_progress progress;
    double started;
    double *setting_seconds;         /* wall clock of this run's rows by setting: for the time left */
    int *setting_rows;
    char error[256];                 /* the first failed row's label and message */
};

/* Name of a row that never changes: what would give the same row has the same. */
void prxi_row_key(const prx_sweep *s, const prxi_sweep_row *r, char out[65]);
/* A row as JSON; t NULL: it failed with that message. */
cJSON *prxi_row_json(const prx_sweep *s, const prxi_sweep_row *r, const prxi_trial *t, const char *error, const char *clip);
/* Back from JSON: the numbers of the summary. */
void prxi_row_read(prxi_sweep_row *r, const cJSON *row);
/* The i-th row of a setting, of repeats * clips. */
const prxi_sweep_row *prxi_sweep_row_at(const prx_sweep *s, int setting, int i);
/* Medians with their spread by setting. */
cJSON *prxi_sweep_summary_json(prxi_ctx *c, const prx_sweep *s);
/* The resolved spec, for readers of the folder. */
cJSON *prxi_sweep_describe(const prx_sweep *s);

#endif
