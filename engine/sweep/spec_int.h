/* Between spec.c and expand.c. */
#ifndef PRXI_SPEC_INT_H
#define PRXI_SPEC_INT_H

#include "spec.h"

/* A file that the spec names: where the program runs, else beside the spec. 1 if it exists. */
int prxi_spec_file(const prxi_sweep_spec *s, const char *name, char *path, size_t n);
/* base, reference, settings and grid of the spec become s->settings. */
int prxi_spec_expand(prxi_ctx *c, prxi_sweep_spec *s, const cJSON *root);

#endif
