/* Prompts of the search: read, and parted into those it may learn from and those that only judge. */
#ifndef PRXI_TUNE_SPLIT_H
#define PRXI_TUNE_SPLIT_H

#include "engine/core/ctx.h"

enum { PRXI_TUNE_LEAST_PROMPTS = 4, PRXI_TUNE_MOST_PROMPTS = 1000 };

typedef struct prxi_split {
    char **prompts;                  /* calibration first, then held out */
    int n, calibration;
} prxi_split;

/* Of n prompts so many are held out: half, rounded up (8 of 16). */
int  prxi_split_held_out(int n);
/* One prompt a line; empty lines and lines that begin with # are passed over. Too few, or one that comes twice: PRX_EINVAL. The order of
 * the file does not matter: prompts are ordered by their digests. */
int  prxi_split_read(prxi_ctx *c, prxi_split *s, const char *path);
void prxi_split_close(prxi_ctx *c, prxi_split *s);

#endif
