/* praxino bench: kernels and steps on this machine. */
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "show.h"

static const cli_option options[] = {
    { NULL, 0, "set", "KEY=VALUE", NULL, NULL, "option of attention, step, decode, cache and qkv, as width=512; may be repeated" },
    { NULL, 0, "json", "FILE", NULL, NULL, "write the rows as JSON (-: standard output)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json");
    const char *what = a->n_words ? a->words[0] : "all";
    prx_engine *e = NULL;
    char *text = NULL;
    int code = json ? cli_check_writable("--json", json) : 0;
    if (code)
        return code;
    char *sets = cli_join_sets(a, "", ',');
    if (!sets)
        return cli_error(3, "bench: out of memory");
    code = cli_open_engine(&e, a);
    if (!code) {
        const int err = prx_bench(e, what, sets, &text);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : show_or_write(json, text, 200);
        prx_text_free(e, text);
    }
    free(sets);
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_bench = {
    "bench", "bench [all|gemm|attention|norm|conv|step|decode|cache|qkv] [OPTIONS]",
    "kernels and steps: time, GFLOP/s, share of this machine's peak",
    options, 0, 1, "at most one of all, gemm, attention, norm, conv, step, decode, cache, qkv", run, NULL,
};
