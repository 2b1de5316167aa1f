/* A list of prompts that grows, and files with one a line. */
#ifndef PRXI_PROMPTS_H
#define PRXI_PROMPTS_H

#include "engine/core/ctx.h"

/* Appends a copy without trailing blanks; *list is the caller's, each text and the list prxi_alloc'd. what: for messages. */
int  prxi_prompts_add(prxi_ctx *c, char ***list, int *n, int most, const char *what, const char *text, size_t bytes);
/* One prompt a line; empty lines and lines that begin with # are passed over. */
int  prxi_prompts_read(prxi_ctx *c, char ***list, int *n, int most, const char *path);
void prxi_prompts_close(prxi_ctx *c, char **list, int n);

#endif
