/* Presets: the files of configs/presets. */
#ifndef PRX_CLI_PRESETS_H
#define PRX_CLI_PRESETS_H

#include <stddef.h>
#include <stdio.h>

/* Names and what they are for, one a line; nothing when the folder is not there. */
void presets_print(FILE *f);
/* The names, by commas, as many as fit. */
void presets_names(char *out, size_t n);
/* The file that --config NAME means: a path, or a preset of this name. 0 or an exit code after a message. */
int presets_path(const char *name, char *path, size_t n);

#endif
