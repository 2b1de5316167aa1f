/* praxino compare A B: PSNR and SSIM of two videos. */
#include <cjson/cJSON.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "show.h"

static const cli_option options[] = {
    { NULL, 0, "json", "FILE", NULL, NULL, "write everything, per frame too, as JSON (-: standard output)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json");
    prx_engine *e;
    char *text = NULL;
    int code = json ? cli_check_writable("--json", json) : 0;
    if (code)
        return code;
    code = cli_open_engine(&e, a);
    if (!code) {
        const int err = prx_compare(e, a->words[0], a->words[1], &text);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : show_or_write(json, text, 16);
        prx_text_free(e, text);
    }
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_compare = {
    "compare", "compare A B [OPTIONS]", "PSNR and SSIM of two videos, image sequences or dumps",
    options, 2, 2, "two videos, image sequences (frame%04d.png) or dumps (.safetensors)", run, NULL,
};
