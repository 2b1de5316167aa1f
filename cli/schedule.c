/* praxino schedule solve: the path through a measured graph. */
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "show.h"

static const cli_option options[] = {
    { NULL, 0, "budget", "B", NULL, NULL, "computed steps, first and last included" },
    { NULL, 0, "objective", "NAME", NULL, "minimax|sum", "largest errors first, or the smallest sum (minimax)" },
    { NULL, 0, "json", "FILE", NULL, NULL, "write the schedule, for --cache lemica --schedule (-: standard output)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json"), *budget = cli_value(a, "budget"), *objective = cli_value(a, "objective");
    prx_engine *e = NULL;
    char *text = NULL, *end;
    if (strcmp(a->words[0], "solve") != 0)
        return cli_error(2, "schedule: '%.40s': solve expected", a->words[0]);
    const long n = budget ? strtol(budget, &end, 10) : 0;
    if (!budget || !*budget || *end || n < 0 || n > 100000)
        return cli_error(2, "--budget: %.40s: a number of computed steps expected", budget ? budget : "missing");
    int code = json ? cli_check_writable("--json", json) : 0;
    if (!code)
        code = cli_open_engine(&e, a);
    if (!code) {
        const int err = prx_schedule_solve(e, a->words[1], (int)n, objective ? objective : "minimax", &text);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : show_or_write(json, text, 60);
        prx_text_free(e, text);
    }
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_schedule = {
    "schedule", "schedule solve GRAPH.json --budget B [OPTIONS]", "which steps to compute for a budget (LeMiCa)",
    options, 2, 2, "solve and a graph file", run, NULL,
};
