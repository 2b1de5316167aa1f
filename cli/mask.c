/* praxino mask radial, mask svg2: which pairs a sparse attention keeps, as JSON and as a picture. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "show.h"

static const cli_option options[] = {
    { "radial", 0, "frames", "F", "frames", NULL, "latent frames (svg2: for the picture; by the dump's latents)" },
    { NULL, 0, "tokens-per-frame", "N", "tokens_per_frame", NULL, "tokens of a latent frame" },
    { NULL, 0, "text-tokens", "M", "text_tokens", NULL, "text tokens at the tail (0)" },
    { NULL, 0, "block", "B", "block", "64|128", "tokens of a block (128)" },
    { NULL, 0, "decay", "D", "decay", NULL, "shrinks the bands of distant frames (0.2)" },
    { NULL, 0, "model-type", "NAME", "model_type", "wan|hunyuan", "family of the rule (wan)" },
    { NULL, 0, "distance-one", "RULE", "distance_one", "whole|half", "band of neighbouring frames (whole)" },
    { NULL, 0, "sink", "ON", "sink", "on|off", "every frame sees the first (on for wan)" },
    { NULL, 0, "tile", "QxK", "tile", "block|64x128|128x64", "grid of the JSON: queries x keys (block)" },
    { "svg2 FILE (of render --dump FILE --set dump_layer=N)", 0, "head", "H", "head", NULL, "whose map (0)" },
    { NULL, 0, "row", "W", "row", NULL, "tokens of a row of a frame, for the picture (by the dump's latents)" },
    { NULL, 0, "set", "KEY=VALUE", NULL, NULL, "setting of the policy, as attention.top_p_kmeans=0.8; may be repeated" },
    { "Output", 0, "json", "FILE", NULL, NULL, "the mask as JSON (-: standard output)" },
    { NULL, 0, "png", "FILE", NULL, NULL, "a picture: blocks with frame lines; clusters as large as their tokens, and on the frames" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

/* The options that were given and belong to the policy, as the library's "key=value,key=value". */
static int join_settings(const cli_args *a, int svg2, char *out, size_t n)
{
    size_t used = 0;
    int of_svg2 = 0;
    out[0] = '\0';
    for (int i = 0; options[i].name; i++) {
        if (options[i].group)
            of_svg2 = strncmp(options[i].group, "svg2", 4) == 0;
        if (!options[i].key || !a->value[i])
            continue;
        if (of_svg2 != svg2 && strcmp(options[i].name, "frames") != 0)
            return cli_error(2, "--%s: not for mask %s", options[i].name, a->words[0]);
        const int len = snprintf(out + used, n - used, "%s%s=%s", used ? "," : "", options[i].key, a->value[i]);
        if (len < 0 || (size_t)len >= n - used)
            return cli_error(2, "--%s: value too long", options[i].name);
        used += (size_t)len;
    }
    if (!svg2 && a->n_sets)
        return cli_error(2, "--set: %.60s: not for mask radial, whose settings are options", a->sets[0]);
    return 0;
}

/* What a person reads: all but the map, which is for programs and for the picture. */
static int show_summary(const char *text)
{
    cJSON *root = cJSON_Parse(text);
    if (!root)
        return cli_error(1, "internal error: the library gave text that is not JSON");
    cJSON_DeleteItemFromObjectCaseSensitive(root, "map");
    cJSON_DeleteItemFromObjectCaseSensitive(root, "head");
    show_json(stdout, root, 64);
    cJSON_Delete(root);
    return fflush(stdout) != 0 ? cli_error(1, "standard output: write failed") : 0;
}

static int radial(prx_engine *e, const char *settings, const char *json, const char *png)
{
    char *text = NULL;
    const int err = prx_mask_radial(e, settings, png, &text);
    int code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : 0;
    if (!code && (json || !png))
        code = show_or_write(json, text, 8);
    prx_text_free(e, text);
    return code;
}

static int svg2(prx_engine *e, const cli_args *a, const char *settings, const char *json, const char *png)
{
    char *text = NULL, *sets = cli_join_sets(a, "attention.", ',');
    if (!sets)
        return cli_error(3, "mask: out of memory");
    const int err = prx_mask_svg2(e, a->words[1], settings, sets, png, &text);
    int code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : 0;
    if (!code)
        code = json ? cli_write_text("--json", json, text) : show_summary(text);
    prx_text_free(e, text);
    free(sets);
    return code;
}

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json"), *png = cli_value(a, "png");
    const int is_svg2 = strcmp(a->words[0], "svg2") == 0;
    char settings[1024];
    prx_engine *e = NULL;
    if (!is_svg2 && strcmp(a->words[0], "radial") != 0)
        return cli_error(2, "mask: '%.40s': radial or svg2 expected", a->words[0]);
    if (a->n_words != 1 + is_svg2)
        return cli_error(2, "mask %s: %s expected", a->words[0], is_svg2 ? "one file, of render --dump," : "no file");
    int code = join_settings(a, is_svg2, settings, sizeof settings);
    if (!code && json)
        code = cli_check_writable("--json", json);
    if (!code && png)
        code = cli_check_writable("--png", png);
    if (!code)
        code = cli_open_engine(&e, a);
    if (!code)
        code = is_svg2 ? svg2(e, a, settings, json, png) : radial(e, settings, json, png);
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_mask = {
    "mask", "mask radial --frames F --tokens-per-frame N [OPTIONS] | mask svg2 DUMP [OPTIONS]",
    "which pairs a sparse attention keeps: numbers, JSON, a picture", options, 1, 2, "radial, or svg2 and a file", run, NULL,
};
