/* praxino doctor: what this machine and this build offer. */
#include "app.h"
#include "commands.h"
#include "show.h"

static const cli_option options[] = {
    { NULL, 0, "json", "FILE", NULL, NULL, "write it as JSON (-: standard output)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json");
    prx_engine *e;
    char *text = NULL, path[4096];
    int code = json ? cli_check_writable("--json", json) : 0;
    if (code)
        return code;
    code = cli_open_engine(&e, a);
    if (!code) {
        const int err = prx_engine_describe(e, &text);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : show_or_write(json, text, 64);
        prx_text_free(e, text);
    }
    prx_engine_close(&e);
    if (!code && !json)
        printf("built-in model  %s\n", cli_find_data("models/tiny", path, sizeof path) ? path : "not installed");
    return code;
}

const cli_command cmd_doctor = {
    "doctor", "doctor [OPTIONS]", "what this machine offers: instruction sets, GPU, libraries, encoders",
    options, 0, 0, "no arguments", run, NULL,
};
