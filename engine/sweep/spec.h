/* A sweep's spec file, read, checked and expanded into settings.
 *
 *   {"description": text, "model": folder,
 *    "prompts": [text, ...] or the name of a file with one a line,     "seeds": [n, ...] (0),
 *    "base": {key: value, ...}          every row starts from it
 *    "reference": {key: value, ...}     the row that others are measured against (base alone); null: none, nothing is measured
 *    "settings": [{"label": text, key: value or [values], ...}, ...]   one row for each combination of an entry's lists
 *    "grid": {key: [values], ...} or a list of such objects            crossed with every entry of settings
 *    "repeats": n (1), "order_seed": n (0), "keep_clips": bool (false)}
 *
 * Keys are those of prx_job_set, and device, isa, dtype, threads; nested objects join their names with dots; "config" is a preset,
 * which the other keys of the same object overrule. Files are looked for where the program runs, then beside the spec. */
#ifndef PRXI_SPEC_H
#define PRXI_SPEC_H

#include "pairs.h"

enum { PRXI_SWEEP_ROWS = 100000 };

typedef struct prxi_sweep_setting {
    char label[200], where[64];      /* where: the entry of the spec, for messages */
    prxi_pairs own, all;             /* what it says; with the base under it */
    char digest[65];                 /* of `all`, and of the files that it names */
} prxi_sweep_setting;

typedef struct prxi_sweep_spec {
    char *path, *folder, *presets;   /* presets may be NULL */
    char *model;                     /* as the file says, resolved; NULL: not said */
    char *description;               /* may be NULL */
    char **prompts;
    int64_t *seeds;
    int n_prompts, n_seeds, repeats, keep_clips;
    int64_t order_seed;
    int has_reference;               /* settings[0] is it */
    prxi_pairs base;
    prxi_sweep_setting *settings;
    int n;
} prxi_sweep_spec;

int  prxi_sweep_spec_read(prxi_ctx *c, prxi_sweep_spec *s, const char *path, const char *presets);
void prxi_sweep_spec_close(prxi_ctx *c, prxi_sweep_spec *s);

#endif
