/* The praxino command: finds the command, parses its options, runs it. */
#include <string.h>

#include "app.h"
#include "commands.h"

static const cli_command *const commands[] = { &cmd_render,   &cmd_compare, &cmd_mask,  &cmd_schedule,
                                              &cmd_replay,   &cmd_sweep,   &cmd_tune,    &cmd_inspect, &cmd_bench,
                                              &cmd_doctor };
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *f)
{
    fprintf(f, "praxino %s: text to video\n\n"
               "usage: praxino COMMAND [OPTIONS]\n\n", prx_version());
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(f, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(f, "\npraxino COMMAND --help says more. First try:\n"
               "  praxino render \"a red ball bounces on a blue floor\"\n\n"
               "Exit codes: 0 done, 1 failed, 2 wrong usage or bad input, 3 does not fit (memory, disk),\n"
               "4 not available on this machine, 130 interrupted\n");
}

static const cli_command *find_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *names[N_COMMANDS];
    for (int i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i]->name;
    const char *near = cli_nearest(name, names, N_COMMANDS);
    if (near)
        return cli_error(2, "%.80s: unknown command; did you mean %s?", name, near);
    return cli_error(2, "%.80s: unknown command; praxino --help lists them", name);
}

static int print_help(const char *name)
{
    const cli_command *c = name ? find_command(name) : NULL;
    if (name && !c)
        return unknown_command(name);
    if (c)
        cli_help(stdout, c);
    else
        print_usage(stdout);
    return fflush(stdout) != 0 ? cli_error(1, "standard output: write failed") : 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return 2;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0)
        return printf("praxino %s\n", prx_version()) < 0 || fflush(stdout) != 0;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        return print_help(argc > 2 ? argv[2] : NULL);
    const cli_command *c = find_command(word);
    if (!c)
        return unknown_command(word);
    cli_args a;
    const int err = cli_parse(&a, c, argc - 2, argv + 2);
    if (err)
        return err;
    return cli_value(&a, "help") ? print_help(c->name) : c->run(&a);
}
