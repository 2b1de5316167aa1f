/* The command line: one table per command gives parsing, checks, suggestions and --help. */
#ifndef PRX_CLI_ARGS_H
#define PRX_CLI_ARGS_H

#include <stdio.h>

enum { CLI_MAX_OPTIONS = 48, CLI_MAX_WORDS = 16, CLI_MAX_SETS = 64 };

typedef struct cli_option {
    const char *group;       /* heading that starts with this option, or NULL */
    char letter;             /* -W, or 0 */
    const char *name;        /* without the dashes */
    const char *arg;         /* what follows, for help: "N", "FILE"; NULL: a flag */
    const char *key;         /* setting of the job that it stands for; NULL: the command reads it */
    const char *choices;     /* "a|b|c": the only accepted values, or NULL */
    const char *help;
} cli_option;

struct cli_command;

typedef struct cli_args {
    const struct cli_command *command;
    const char *value[CLI_MAX_OPTIONS];    /* by row of the table; "" for a flag that was given */
    const char *words[CLI_MAX_WORDS];      /* what is no option */
    int n_words;
    const char *sets[CLI_MAX_SETS];        /* --set is the one option that adds up */
    int n_sets;
} cli_args;

typedef struct cli_command {
    const char *name, *usage, *summary;
    const cli_option *options;             /* ends with name NULL */
    int min_words, max_words;
    const char *words_help;                /* what the words are, for messages */
    int (*run)(const cli_args *a);         /* gives the exit code */
    void (*more_help)(FILE *f);            /* or NULL */
} cli_command;

/* Rows that every command which opens an engine has. */
#define CLI_ENGINE_OPTIONS                                                                                      \
    { "Machine", 0, "device", "NAME", NULL, "auto|cpu|cuda", "where to compute (auto)" },                       \
    { NULL, 0, "isa", "NAME", NULL, "auto|ref|avx2|avx512", "instruction set (auto: the best there is)" },      \
    { NULL, 0, "dtype", "NAME", NULL, "auto|f32|bf16", "arithmetic (auto: bf16 where the CPU has it)" },        \
    { NULL, 't', "threads", "N", NULL, NULL, "threads (0: one per core)" },                                     \
    { NULL, 'v', "verbose", NULL, NULL, NULL, "say more" },                                                     \
    { NULL, 'h', "help", NULL, NULL, NULL, "this text" }
#define CLI_END_OPTIONS { NULL, 0, NULL, NULL, NULL, NULL, NULL }

/* argv without program and command name. 0, or the exit code 2 after a message. */
int cli_parse(cli_args *a, const cli_command *c, int argc, char **argv);
/* Value of an option, NULL when it was not given. */
const char *cli_value(const cli_args *a, const char *name);
void cli_help(FILE *f, const cli_command *c);
/* The nearest of n names within an edit distance of 1 + length / 3, or NULL. */
const char *cli_nearest(const char *name, const char *const *names, int n);

#endif
