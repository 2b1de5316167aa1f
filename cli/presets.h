/* Presets: the files of configs/presets. */
#ifndef PRX_CLI_PRESETS_H
#define PRX_CLI_PRESETS_H

#include <stddef.h>
#include <stdio.h>

/* Names and what they are for, one a line; nothing when the folder is not there. */
void presets_print(FILE *f);
/* The names, by commas, as many as fit. */
void presets_names(char *out, size_t n);

#endif
