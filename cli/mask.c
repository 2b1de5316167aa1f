/* praxino mask radial: the block mask as JSON and as a picture. */
#include <stdio.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "show.h"

static const cli_option options[] = {
    { "Clip", 0, "frames", "F", "frames", NULL, "latent frames" },
    { NULL, 0, "tokens-per-frame", "N", "tokens_per_frame", NULL, "tokens of a latent frame" },
    { NULL, 0, "text-tokens", "M", "text_tokens", NULL, "text tokens at the tail (0)" },
    { "Rule", 0, "block", "B", "block", "64|128", "tokens of a block (128)" },
    { NULL, 0, "decay", "D", "decay", NULL, "shrinks the bands of distant frames (0.2)" },
    { NULL, 0, "model-type", "NAME", "model_type", "wan|hunyuan", "family of the rule (wan)" },
    { NULL, 0, "distance-one", "RULE", "distance_one", "whole|half", "band of neighbouring frames (whole)" },
    { NULL, 0, "sink", "ON", "sink", "on|off", "every frame sees the first (on for wan)" },
    { "Output", 0, "json", "FILE", NULL, NULL, "the mask as JSON (-: standard output)" },
    { NULL, 0, "png", "FILE", NULL, NULL, "the mask as a picture, with lines where frames begin" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

/* The options that were given, as the library's "key=value,key=value". */
static int join_settings(const cli_args *a, char *out, size_t n)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; options[i].name; i++) {
        if (!options[i].key || !a->value[i])
            continue;
        const int len = snprintf(out + used, n - used, "%s%s=%s", used ? "," : "", options[i].key, a->value[i]);
        if (len < 0 || (size_t)len >= n - used)
            return cli_error(2, "--%s: value too long", options[i].name);
        used += (size_t)len;
    }
    return 0;
}

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json"), *png = cli_value(a, "png");
    char settings[1024], *text = NULL;
    prx_engine *e = NULL;
    if (strcmp(a->words[0], "radial") != 0)
        return cli_error(2, "mask: '%.40s': radial expected", a->words[0]);
    int code = join_settings(a, settings, sizeof settings);
    if (!code && json)
        code = cli_check_writable("--json", json);
    if (!code)
        code = cli_open_engine(&e, a);
    if (!code) {
        const int err = prx_mask_radial(e, settings, png, &text);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : 0;
        if (!code && (json || !png))
            code = show_or_write(json, text, 8);
        prx_text_free(e, text);
    }
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_mask = {
    "mask", "mask radial --frames F --tokens-per-frame N [OPTIONS]", "the block mask of a static attention policy",
    options, 1, 1, "the policy: radial", run, NULL,
};
