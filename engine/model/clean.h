/* Prompt cleaning as diffusers' Wan pipelines do it (models.md 3.4). */
#ifndef PRXI_CLEAN_H
#define PRXI_CLEAN_H

#include "engine/core/ctx.h"

/* The cleaned prompt in a new buffer with a final NUL; *n without it. Invalid UTF-8 or a prompt that is too long is PRX_EINVAL. */
int prxi_clean_prompt(prxi_ctx *c, const char *prompt, char **out, size_t *n);

#endif
