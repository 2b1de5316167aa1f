/* praxino schedule: dispatch, and solve: paths through a measured graph. */
#include "schedule.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "show.h"

#define BUILD_OPTIONS                                                                                                          \
    { "schedule build", 'm', "model", "DIR", NULL, NULL, "model directory (the built-in model)" },                             \
    { NULL, 0, "prompts", "FILE", NULL, NULL, "prompts to measure on, one a line" },                                           \
    { NULL, 0, "seeds", "LIST", NULL, NULL, "seeds for each prompt, as 0,1,7-9 (0)" },                                         \
    { NULL, 'o', "output", "FILE", NULL, NULL, "the graph; FILE.state keeps what was measured until it is complete" },         \
    { NULL, 0, "max-gap", "L", "cache.max_gap", NULL, "longest jump, in steps (8)" },                                          \
    { NULL, 0, "reuse", "WHAT", "cache.reuse", "residual|velocity", "what a cached step reuses (residual)" },                  \
    { NULL, 0, "quick", NULL, "cache.quick", NULL, "measure every other end of a jump, interpolate the rest, say how well" },  \
    { NULL, 0, "sparse", NULL, "cache.sparse", NULL, "measure each jump also with --attention at its start, for cache.cost" }, \
    { NULL, 's', "steps", "N", "steps", NULL, "denoising steps" },                                                             \
    { NULL, 'W', "width", "N", "width", NULL, "pixels" },                                                                      \
    { NULL, 'H', "height", "N", "height", NULL, "pixels" },                                                                    \
    { NULL, 'f', "frames", "N", "frames", NULL, "frames; 4k + 1 for Wan models" },                                             \
    { NULL, 'n', "negative", "TEXT", "negative_prompt", NULL, "what the video should not show" },                              \
    { NULL, 'g', "guidance", "X", "guidance", NULL, "classifier-free guidance; 1 runs the prompt alone" },                     \
    { NULL, 0, "guidance-2", "X", "guidance_2", NULL, "guidance of the low-noise expert (that of the other)" },                \
    { NULL, 0, "shift", "X", "shift", NULL, "flow shift of the sigmas" },                                                      \
    { NULL, 0, "scheduler", "NAME", "scheduler", NULL, "unipc, euler, dpmpp (the model's own)" },                              \
    { NULL, 0, "attention", "NAME", "attention", NULL, "attention policy that will run beside the cache (dense)" },            \
    { NULL, 0, "set", "KEY=VALUE", NULL, NULL, "any setting by name, as cache.calibrator=newton; may be repeated" },           \
    { NULL, 0, "progress", "MODE", NULL, "auto|bar|json|none", "progress on standard error (auto)" }

static const cli_option options[] = {
    BUILD_OPTIONS,
    { "schedule solve", 0, "budget", "LIST", NULL, NULL,
      "computed steps, first and last included; of two experts also as 6+5; several: 6,8,10" },
    { NULL, 0, "objective", "NAME", NULL, "minimax|sum", "largest errors first, or the smallest sum (minimax)" },
    { "schedule show", 0, "png", "FILE", NULL, NULL, "a picture: weights, and the jumps of each schedule" },
    { "All", 0, "json", "FILE", NULL, NULL, "the result of solve (with %d in the name for several budgets) or show; -: standard output" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

/* ---- which options go with which part ---- */

static const struct {
    const char *name, *usage, *group;
    int min_words, max_words;
    const char *words;
    int json;
} parts[] = {
    { "build", "", "schedule build", 1, 1, "no file beside its options", 0 },
    { "solve", "GRAPH.json", "schedule solve", 2, 2, "one graph file", 1 },
    { "show", "GRAPH.json [SCHEDULE.json ...]", "schedule show", 2, CLI_MAX_WORDS, "a graph file and schedules", 1 },
};
enum { PARTS = sizeof parts / sizeof *parts };

static int part_of(const char *word)
{
    int i = 0;
    while (i < PARTS && strcmp(word, parts[i].name) != 0)
        i++;
    return i;
}

static int check_usage(const cli_args *a, int part)
{
    const char *group = "";
    if (part == PARTS)
        return cli_error(2, "schedule: '%.40s': build, solve or show expected", a->words[0]);
    if (a->n_words < parts[part].min_words || a->n_words > parts[part].max_words)
        return cli_error(2, "schedule %s: %s expected", parts[part].name, parts[part].words);
    for (int i = 0; options[i].name; i++) {
        const int given = a->value[i] || (strcmp(options[i].name, "set") == 0 && a->n_sets);
        if (options[i].group)
            group = options[i].group;
        const int other = strncmp(group, "schedule ", 9) == 0 && strcmp(group, parts[part].group) != 0;
        if (given && (other || (strcmp(options[i].name, "json") == 0 && !parts[part].json)))
            return cli_error(2, "--%s: not an option of schedule %s", options[i].name, parts[part].name);
    }
    return 0;
}

/* ---- solve ---- */

enum { MAX_BUDGETS = 64, BUDGET_TEXT = 24 };

/* Cut at the commas; what a budget is, the library says. */
static int read_budgets(const char *text, char list[][BUDGET_TEXT], int *n)
{
    const char *p = text;
    for (*n = 0; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        const size_t used = strcspn(p, ",");
        if (used == 0 || used >= BUDGET_TEXT)
            return cli_error(2, "--budget: '%.60s': numbers of computed steps expected, as 8 or 6,8,10, or 6+5 for two experts", text);
        if (*n == MAX_BUDGETS)
            return cli_error(2, "--budget: more than %d", MAX_BUDGETS);
        snprintf(list[(*n)++], BUDGET_TEXT, "%.*s", (int)used, p);
    }
    return 0;
}

/* FILE with its one %d replaced. */
static void name_for(const char *file, const char *budget, char *out, size_t n)
{
    const char *at = strstr(file, "%d");
    if (at)
        snprintf(out, n, "%.*s%s%s", (int)(at - file), file, budget, at + 2);
    else
        snprintf(out, n, "%s", file);
}

static int check_names(const char *json, int n)
{
    const char *at = json ? strstr(json, "%d") : NULL;
    if (json && n > 1 && strcmp(json, "-") != 0 && !at)
        return cli_error(2, "--json: %s: %%d expected in it, for %d budgets", json, n);
    if (json && n > 1 && strcmp(json, "-") == 0)
        return cli_error(2, "--json: -: one budget expected for standard output");
    if (at && (strstr(at + 2, "%d") || strlen(json) > PATH_MAX - 64))
        return cli_error(2, "--json: %.80s: one %%d expected", json);
    return json ? cli_check_writable("--json", json) : 0;
}

/* All budgets are solved before the first file is written. */
static int solve(const cli_args *a)
{
    const char *json = cli_value(a, "json"), *budget = cli_value(a, "budget"), *objective = cli_value(a, "objective");
    char list[MAX_BUDGETS][BUDGET_TEXT], *text[MAX_BUDGETS] = { NULL };
    int n = 0;
    prx_engine *e = NULL;
    if (!budget)
        return cli_error(2, "--budget: missing: a number of computed steps expected");
    int code = read_budgets(budget, list, &n);
    if (!code)
        code = check_names(json, n);
    if (!code)
        code = cli_open_engine(&e, a);
    for (int i = 0; i < n && !code; i++) {
        const int err = prx_schedule_solve(e, a->words[1], list[i], objective ? objective : "minimax", &text[i]);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : 0;
    }
    for (int i = 0; i < n && !code; i++) {
        char path[PATH_MAX];
        name_for(json ? json : "", list[i], path, sizeof path);
        if (i && !json)
            printf("\n");
        code = show_or_write(json ? path : NULL, text[i], 60);
    }
    for (int i = 0; i < n; i++)
        prx_text_free(e, text[i]);
    prx_engine_close(&e);
    return code;
}

static int run(const cli_args *a)
{
    const int part = part_of(a->words[0]), code = check_usage(a, part);
    if (code)
        return code;
    return part == 0 ? schedule_build(a) : part == 1 ? solve(a) : schedule_show(a);
}

static void more_help(FILE *f)
{
    fprintf(f, "\nschedule build measures what every jump over steps costs in the final latents (hours on a large model; it can be\n"
               "interrupted and goes on). schedule solve finds the path with the smallest of the largest costs for a budget of\n"
               "computed steps, and the one with the smallest sum beside it. schedule show prints and draws both.\n"
               "render --cache lemica --schedule FILE replays a schedule; --set cache.budget=N solves MODEL/lemica_graph.json itself.\n");
}

const cli_command cmd_schedule = {
    "schedule", "schedule build --prompts FILE -o GRAPH.json | solve GRAPH.json --budget B | show GRAPH.json [SCHEDULE.json ...]",
    "which steps to compute for a budget (LeMiCa)", options, 1, CLI_MAX_WORDS, "build, solve or show, and files", run, more_help,
};
