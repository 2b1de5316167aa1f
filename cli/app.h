/* What the commands share: messages, the engine and its options, files. */
#ifndef PRX_CLI_APP_H
#define PRX_CLI_APP_H

#include <praxino/praxino.h>

#include "args.h"

#if defined(__GNUC__)
#define CLI_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CLI_PRINTF(fmt, args)
#endif

/* Prints `praxino: TEXT` as one line on stderr and returns code. */
int cli_error(int code, const char *fmt, ...) CLI_PRINTF(2, 3);
/* The same for a status of the library: text is the error of the object that failed, may be empty. */
int cli_fail(int status, const char *text);

/* Parameters of an engine as --device, --isa, --dtype, --threads, --verbose say. 0 or an exit code. */
int cli_engine_params(prx_engine_params *p, const cli_args *a);
/* Opens an engine as --device, --isa, --dtype, --threads, --verbose say. 0 or an exit code; *e must be closed either
 * way. */
int cli_open_engine(prx_engine **e, const cli_args *a);

/* A file that comes with Praxino ("models/tiny", "configs/presets/fast.json"): the first that exists below
 * $PRAXINO_DATA, beside the program, or where it was installed. 1 if found. */
int cli_find_data(const char *name, char *path, size_t n);

/* A pair of --set, which has its '=' (args.c saw to that). 0, or an exit code. */
enum { CLI_KEY_MAX = 128 };
int cli_split_pair(const char *pair, char key[CLI_KEY_MAX], const char **value);

/* The --set pairs in one text, each followed by `separator`, without `prefix` where a pair begins with it; to be freed, NULL when
 * memory ran out. */
char *cli_join_sets(const cli_args *a, const char *prefix, char separator);

/* 0 if path can be created or replaced, else an exit code after a message that begins with option. */
int cli_check_writable(const char *option, const char *path);
/* Writes text and a newline to path through a temporary file and a rename; "-" is stdout. 0 or an exit code. */
int cli_write_text(const char *option, const char *path, const char *text);
/* Whole file, "-" is stdin, NUL-terminated, to be freed. More than max bytes, NUL bytes or failure: an exit code after
 * a message. */
int cli_read_text(const char *option, const char *path, size_t max, char **text, size_t *len);

#endif
