/* results.jsonl: one finished row a line, on the disk before the next begins. What was cut off is dropped at the next start. */
#ifndef PRXI_RESULTS_H
#define PRXI_RESULTS_H

#include <cjson/cJSON.h>

#include "engine/core/ctx.h"

typedef struct prxi_results {
    int fd;
    char *path;
    int64_t rows, end;               /* complete lines, and their bytes */
} prxi_results;

/* For every row that is there: non-zero stops with that status. */
typedef int (*prxi_results_fn)(void *cookie, prxi_ctx *c, const cJSON *row);

/* Opens or creates DIR/results.jsonl, takes its lock (PRX_ESTATE: another sweep has it), drops a torn last line, and gives
 * every row to fn. */
int  prxi_results_open(prxi_ctx *c, prxi_results *r, const char *dir, prxi_results_fn fn, void *cookie);
/* Appends and syncs. A row that does not fit leaves the file as it was: PRX_ENOSPC. */
int  prxi_results_add(prxi_ctx *c, prxi_results *r, const cJSON *row);
void prxi_results_close(prxi_ctx *c, prxi_results *r);

#endif
