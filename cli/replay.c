/* praxino replay: what a cache would have decided on a recorded trace, in milliseconds. */
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "show.h"

static const cli_option options[] = {
    { NULL, 0, "cache", "NAME", NULL, NULL, "cache policy (dbcache)" },
    { NULL, 0, "set", "KEY=VALUE", NULL, NULL, "a setting, as cache.residual_diff_threshold=0.1; may be repeated" },
    { NULL, 0, "json", "FILE", NULL, NULL, "write decisions, diffs, reasons as JSON (-: standard output)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json"), *cache = cli_value(a, "cache");
    prx_engine *e = NULL;
    char *text = NULL, *sets = cli_join_sets(a, "cache.", '\n');
    if (!sets)
        return cli_error(3, "replay: out of memory");
    int code = json ? cli_check_writable("--json", json) : 0;
    if (!code)
        code = cli_open_engine(&e, a);
    if (!code) {
        const int err = prx_replay(e, cache ? cache : "dbcache", sets, a->words[0], &text);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : show_or_write(json, text, 100);
        prx_text_free(e, text);
    }
    free(sets);
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_replay = {
    "replay", "replay TRACE.json [OPTIONS]", "cache decisions on a recorded trace under other settings",
    options, 1, 1, "a trace file", run, NULL,
};
