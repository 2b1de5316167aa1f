/* Parsing of the command line by table, help, and suggestions for what is not in the table. */
#include "args.h"

#include <string.h>

#include "app.h"

/* ---- nearest name ---- */

enum { NAME_MAX_LEN = 40 };

/* Edit distance, counting a swap of neighbours as one. */
static int distance(const char *a, int na, const char *b, int nb)
{
    int d[NAME_MAX_LEN + 1][NAME_MAX_LEN + 1];
    for (int i = 0; i <= na; i++)
        for (int j = 0; j <= nb; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[na][nb];
}

const char *cli_nearest(const char *name, const char *const *names, int n)
{
    const int len = (int)strlen(name);
    const char *found = NULL;
    int best = 2 + len / 3;
    if (len == 0 || len > NAME_MAX_LEN)
        return NULL;
    for (int i = 0; i < n; i++) {
        const size_t other = strlen(names[i]);
        if (other > NAME_MAX_LEN)
            continue;
        const int d = distance(name, len, names[i], (int)other);
        if (d < best && d < len) {
            best = d;
            found = names[i];
        }
    }
    return found;
}

/* ---- parsing ---- */

static int unknown_option(const cli_command *c, const char *shown, const char *name)
{
    const char *names[CLI_MAX_OPTIONS] = { NULL };
    int n = 0;
    for (const cli_option *o = c->options; o->name; o++)
        names[n++] = o->name;
    const char *near = cli_nearest(name, names, n);
    if (near)
        return cli_error(2, "%s: unknown option; did you mean --%s?", shown, near);
    return cli_error(2, "%s: unknown option; praxino %s --help lists them", shown, c->name);
}

static int has_choice(const char *choices, const char *text)
{
    const size_t len = strlen(text);
    for (const char *p = choices; len > 0; p++) {
        const size_t n = strcspn(p, "|");
        if (n == len && memcmp(p, text, n) == 0)
            return 1;
        p += n;
        if (*p == '\0')
            break;
    }
    return 0;
}

static int take(cli_args *a, const cli_option *o, const char *value)
{
    if (o->choices && !has_choice(o->choices, value))
        return cli_error(2, "--%s: '%s' is not accepted: must be %s", o->name, value, o->choices);
    if (strcmp(o->name, "set") != 0) {
        a->value[o - a->command->options] = value;
        return 0;
    }
    if (a->n_sets == CLI_MAX_SETS)
        return cli_error(2, "--set: given more than %d times", CLI_MAX_SETS);
    if (!strchr(value, '=') || value[0] == '=')
        return cli_error(2, "--set: '%s' is not key=value", value);
    a->sets[a->n_sets++] = value;
    return 0;
}

/* --name, --name=value, --name value. *used is the number of arguments consumed. */
static int parse_long(cli_args *a, int argc, char **argv, int *used)
{
    const char *name = argv[0] + 2;
    const size_t n = strcspn(name, "=");
    const cli_option *o = a->command->options;
    while (o->name && (strlen(o->name) != n || memcmp(o->name, name, n) != 0))
        o++;
    *used = 1;
    if (!o->name) {
        char shown[NAME_MAX_LEN + 4];
        snprintf(shown, sizeof shown, "--%.*s", (int)(n < NAME_MAX_LEN ? n : NAME_MAX_LEN), name);
        return unknown_option(a->command, shown, shown + 2);
    }
    if (!o->arg)
        return name[n] ? cli_error(2, "--%s: takes no value", o->name) : take(a, o, "");
    if (name[n])
        return take(a, o, name + n + 1);
    if (argc < 2)
        return cli_error(2, "--%s: needs a value (%s)", o->name, o->arg);
    *used = 2;
    return take(a, o, argv[1]);
}

/* -W 640, -W640, and flags together: -vh. */
static int parse_short(cli_args *a, int argc, char **argv, int *used)
{
    *used = 1;
    for (const char *p = argv[0] + 1; *p; p++) {
        const cli_option *o = a->command->options;
        while (o->name && o->letter != *p)
            o++;
        if (!o->name) {
            const char shown[3] = { '-', *p, '\0' };
            return unknown_option(a->command, shown, "");
        }
        if (o->arg) {
            if (p[1])
                return take(a, o, p + 1);
            if (argc < 2)
                return cli_error(2, "-%c: needs a value (%s)", o->letter, o->arg);
            *used = 2;
            return take(a, o, argv[1]);
        }
        const int err = take(a, o, "");
        if (err)
            return err;
    }
    return 0;
}

int cli_parse(cli_args *a, const cli_command *c, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->command = c;
    int only_words = 0;
    for (int i = 0; i < argc;) {
        const char *s = argv[i];
        int used = 1, err = 0;
        if (!only_words && strcmp(s, "--") == 0) {
            only_words = 1;
        } else if (!only_words && s[0] == '-' && s[1] == '-') {
            err = parse_long(a, argc - i, argv + i, &used);
        } else if (!only_words && s[0] == '-' && s[1] != '\0') {
            err = parse_short(a, argc - i, argv + i, &used);
        } else if (a->n_words == c->max_words) {
            return cli_error(2, "%s: unexpected argument; praxino %s takes %s", s, c->name, c->words_help);
        } else {
            a->words[a->n_words++] = s;
        }
        if (err)
            return err;
        i += used;
    }
    if (a->n_words < c->min_words && !cli_value(a, "help"))
        return cli_error(2, "%s: takes %s; praxino %s --help says more", c->name, c->words_help, c->name);
    return 0;
}

const char *cli_value(const cli_args *a, const char *name)
{
    for (int i = 0; a->command->options[i].name; i++)
        if (strcmp(a->command->options[i].name, name) == 0)
            return a->value[i];
    return NULL;
}

/* ---- help ---- */

void cli_help(FILE *f, const cli_command *c)
{
    fprintf(f, "praxino %s: %s\n\nusage: praxino %s\n", c->name, c->summary, c->usage);
    for (const cli_option *o = c->options; o->name; o++) {
        char left[64], letter[8] = "";
        if (o->group || o == c->options)
            fprintf(f, "\n%s\n", o->group ? o->group : "Options");
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        fprintf(f, "  %-28s %s", left, o->help);
        if (o->choices)
            fprintf(f, "  [%s]", o->choices);
        fputc('\n', f);
    }
    if (c->more_help)
        c->more_help(f);
}
