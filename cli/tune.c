/* praxino tune: the fastest settings that hold a target, as a preset with its evidence. */
#include <cjson/cJSON.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "presets.h"
#include "progress.h"

static const cli_option options[] = {
    { "Tune", 0, "target", "WHAT=X", NULL, NULL, "quality to hold against the base: psnr=30, ssim=0.95 or ms-ssim=0.98" },
    { NULL, 0, "speedup", "X", NULL, NULL, "or: at least so many times as fast as the base, as good as that can be" },
    { NULL, 0, "prompts", "FILE", NULL, NULL, "one prompt a line, 16 or more are better; half of them only judge" },
    { NULL, 0, "budget", "MINUTES", NULL, NULL, "time for everything (30)" },
    { NULL, 'o', "output", "FILE", NULL, NULL, "the preset, for --config" },
    { NULL, 0, "evidence", "FILE", NULL, NULL, "every trial, drop and verification as JSON (-: standard output)" },
    { NULL, 'm', "model", "DIR", NULL, NULL, "model directory (the built-in model)" },
    { NULL, 0, "transformer", "FILE", NULL, NULL, "weights for the model's transformer: another fine-tune, either layout" },
    { NULL, 0, "seed", "N", NULL, NULL, "seed of the noise of every prompt (0)" },
    { "Base", 0, "config", "FILE", NULL, NULL, "preset to start from: a JSON file, or a name of configs/presets; flags win" },
    { NULL, 'W', "width", "N", "width", NULL, "pixels" },
    { NULL, 'H', "height", "N", "height", NULL, "pixels" },
    { NULL, 'f', "frames", "N", "frames", NULL, "frames; 4k + 1 for Wan models" },
    { NULL, 's', "steps", "N", "steps", NULL, "denoising steps of the reference" },
    { NULL, 'n', "negative", "TEXT", "negative_prompt", NULL, "what the video should not show" },
    { NULL, 'g', "guidance", "X", "guidance", NULL, "classifier-free guidance; 1 runs the prompt alone" },
    { NULL, 0, "guidance-2", "X", "guidance_2", NULL, "guidance of the low-noise expert (that of the other)" },
    { NULL, 0, "shift", "X", "shift", NULL, "flow shift of the sigmas" },
    { NULL, 0, "scheduler", "NAME", "scheduler", NULL, "unipc, euler, dpmpp (the model's own)" },
    { NULL, 0, "set", "KEY=VALUE", NULL, NULL, "any setting by name; may be repeated" },
    { "Progress", 0, "progress", "MODE", NULL, "auto|bar|json|none", "progress on standard error (auto)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

static int tune_fail(const prx_tune *t, int status)
{
    return cli_fail(status, prx_tune_last_error(t));
}

/* ---- what is asked for ---- */

static int number_of(const char *option, const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end == text || *end || !isfinite(*out) ? cli_error(2, "--%s: '%.40s': a number expected", option, text) : 0;
}

static int read_target(const cli_args *a, char *text, size_t n)
{
    const char *target = cli_value(a, "target"), *speedup = cli_value(a, "speedup");
    if (!target == !speedup)
        return cli_error(2, "--target: %s", target ? "--target and --speedup exclude each other"
                                                   : "missing: --target psnr=30 (or ssim=, ms-ssim=) or --speedup 2 expected");
    if (target && strncmp(target, "speedup=", 8) == 0)
        return cli_error(2, "--target: %.40s: --speedup X expected", target);
    const int len = snprintf(text, n, "%s%s", target ? "" : "speedup=", target ? target : speedup);
    return len < 0 || (size_t)len >= n ? cli_error(2, "--target: too long") : 0;
}

static int read_seed(const cli_args *a, int64_t *seed)
{
    const char *text = cli_value(a, "seed");
    char *end;
    *seed = text ? strtoll(text, &end, 10) : 0;
    return text && (end == text || *end || *seed < 0) ? cli_error(2, "--seed: '%.40s': a whole number, 0 or more, expected", text) : 0;
}

static int set_pair(prx_tune *t, const char *pair)
{
    char key[CLI_KEY_MAX];
    const char *value;
    const int code = cli_split_pair(pair, key, &value);
    if (code)
        return code;
    const int err = prx_tune_set(t, key, value);
    return err < 0 ? tune_fail(t, err) : 0;
}

/* Later ones win: preset, flags, --set. */
static int set_base(prx_tune *t, const cli_args *a)
{
    char path[PATH_MAX];
    const char *config = cli_value(a, "config");
    int err = 0, code = config ? presets_path(config, path, sizeof path) : 0;
    if (config && !code && (err = prx_tune_load_config(t, path)) < 0)
        return tune_fail(t, err);
    for (int i = 0; options[i].name && !code; i++)
        if (options[i].key && a->value[i] && (err = prx_tune_set(t, options[i].key, a->value[i])) < 0)
            return tune_fail(t, err);
    for (int i = 0; i < a->n_sets && !code; i++)
        code = set_pair(t, a->sets[i]);
    return code;
}

static int open_tune(prx_tune **t, const cli_args *a)
{
    char builtin[PATH_MAX], target[64];
    const char *budget = cli_value(a, "budget");
    prx_tune_params p;
    prx_tune_default_params(&p);
    int code = cli_engine_params(&p.engine, a);
    if (!code)
        code = read_target(a, target, sizeof target);
    if (!code && budget)
        code = number_of("budget", budget, &p.minutes);
    if (!code)
        code = read_seed(a, &p.seed);
    if (code)
        return code;
    p.model = cli_value(a, "model");
    if (!p.model && !cli_find_data("models/tiny", builtin, sizeof builtin))
        return cli_error(2, "--model: missing, and the built-in model (models/tiny) is not installed");
    p.model = p.model ? p.model : builtin;
    p.transformer = cli_value(a, "transformer");
    p.prompts = cli_value(a, "prompts");
    p.target = target;
    const int err = prx_tune_open(t, &p);
    return err < 0 ? tune_fail(*t, err) : set_base(*t, a);
}

/* ---- what came out ---- */

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static void show_result(FILE *f, const cJSON *root, const char *output)
{
    const cJSON *r = cJSON_GetObjectItemCaseSensitive(root, "result");
    const char *target = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "target"));
    const int by_speed = strncmp(target, "speedup", 7) == 0;
    fprintf(f, "%s: %s\n", output, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r, "settings")));
    fprintf(f, "%s holds on %.0f held-out prompts: mean %.4g, lower %.0f %% bound %.4g, worst %.4g, %.0f %% of the prompts\n", target,
            number(r, "prompts"), number(r, "mean"), 100 * number(root, "confidence"), number(r, "bound"), number(r, "worst"),
            100 * number(r, "share_that_holds"));
    if (by_speed)
        fprintf(f, "PSNR against the base: mean %.2f dB, worst prompt %.2f dB\n", number(r, "psnr_mean"), number(r, "psnr_worst"));
    fprintf(f, "%.2f times as fast as the base (bound %.2f): %.3g s, predicted %.3g s\n", number(r, "speedup"), number(r, "speedup_bound"),
            number(r, "seconds"), number(r, "seconds_predicted"));
    const cJSON *turns = cJSON_GetObjectItemCaseSensitive(root, "timing");
    if (cJSON_IsObject(turns))
        fprintf(f, "in turns with the base, medians of %.0f: %.2f times as fast, %.3g s, predicted %.3g s\n", number(turns, "rounds"),
                number(turns, "speedup"), number(turns, "seconds"), number(turns, "seconds_predicted"));
}

/* The preset, or why there is none: an exit code. */
static int conclude(prx_tune *t, const cli_args *a, const char *evidence)
{
    const char *preset, *output = cli_value(a, "output"), *file = cli_value(a, "evidence");
    cJSON *root = cJSON_Parse(evidence);
    const int err = prx_tune_preset(t, &preset);
    const char *why = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "why"));
    int code = err < 0 ? tune_fail(t, err) : 0;
    if (!code && !preset)
        code = cli_error(1, "tune: %s: nothing is written", why ? why : "nothing was found");
    if (!code)
        code = cli_write_text("--output", output, preset);
    if (!code) {
        const int taken = strcmp(output, "-") == 0 || (file && strcmp(file, "-") == 0);
        show_result(taken ? stderr : stdout, root, output);
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "interrupted")))
            fprintf(stderr, "interrupted: this is the best that was verified until then\n");
    }
    cJSON_Delete(root);
    return code;
}

static int execute(prx_tune *t, const cli_args *a)
{
    const char *evidence = NULL, *file = cli_value(a, "evidence");
    char why[1024];
    progress_set_tune(t);
    prx_tune_on_progress(t, progress_tune, NULL);
    const int err = prx_tune_run(t);
    progress_set_tune(NULL);
    progress_stop();
    snprintf(why, sizeof why, "%s", prx_tune_last_error(t));
    if (err < 0 && err != PRX_ECANCELED)
        return cli_fail(err, why);
    const int bad = prx_tune_evidence(t, &evidence);
    if (bad < 0)
        return tune_fail(t, bad);
    const int code = file ? cli_write_text("--evidence", file, evidence) : 0;
    if (err == PRX_ECANCELED)
        return cli_error(130, "interrupted: nothing was verified yet, nothing is written");
    return code ? code : conclude(t, a, evidence);
}

static int run(const cli_args *a)
{
    const char *mode = cli_value(a, "progress"), *output = cli_value(a, "output"), *evidence = cli_value(a, "evidence");
    prx_tune *t = NULL;
    if (!output)
        return cli_error(2, "--output: missing: the file for the preset");
    if (evidence && strcmp(evidence, "-") == 0 && strcmp(output, "-") == 0)
        return cli_error(2, "--evidence: -: standard output already takes the preset");
    int code = cli_check_writable("--output", output);
    if (!code && evidence)
        code = cli_check_writable("--evidence", evidence);
    if (!code)
        code = progress_start(mode ? mode : "auto");
    if (!code)
        code = open_tune(&t, a);
    if (!code)
        code = execute(t, a);
    progress_stop();
    prx_tune_close(&t);
    return code;
}

static void more_help(FILE *f)
{
    fprintf(f, "\nThe reference is the base, dense and uncached, with the same seeds. Steps, caches and sparse attention are searched\n"
               "together on half of the prompts; the fastest candidates are then verified on the other half. A target holds when the\n"
               "one-sided lower 90 %% confidence bound of the mean over the held-out prompts is at or above it. What was not verified is\n"
               "never written; if nothing faster holds, the exit code is 1. An interrupt writes the best verified so far.\n");
    presets_print(f);
}

const cli_command cmd_tune = {
    "tune", "tune --target psnr=30 --prompts FILE --budget MINUTES -o PRESET.json [OPTIONS]",
    "the fastest settings that hold a quality", options, 0, 0, "no words, options only", run, more_help,
};
