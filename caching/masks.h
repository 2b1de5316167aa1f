/* Step masks: which steps must be computed (1) and which may be cached (0); caching.md 1.7. */
#ifndef PRXI_MASKS_H
#define PRXI_MASKS_H

#include "engine/core/ctx.h"

/* "1110010..." or compute and cache bins "6,1,3,1,4" (compute, cache, compute, ...) of exactly `steps` steps, or a name: slow, medium,
 * fast, ultra. Names are placed by budget: the published share of computed steps, spread as the published 28-step mask is;
 * with `published` they are stretched and cut as the original does (poor away from 28 steps, and no mask for some counts). */
int prxi_mask_parse(prxi_ctx *c, const char *text, int steps, int published, uint8_t *out);

#endif
