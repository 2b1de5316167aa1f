/* praxino sweep: many settings on the same prompts, their time and their distance from a reference. */
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
    { "Sweep", 'o', "output", "DIR", NULL, NULL, "folder of the results; rows that are there are not run again" },
    { NULL, 'm', "model", "DIR", NULL, NULL, "model directory (the spec's, else the built-in model)" },
    { NULL, 0, "transformer", "FILE", NULL, NULL, "weights for the model's transformer: another fine-tune, either layout" },
    { NULL, 0, "check", NULL, NULL, NULL, "check every setting and say how many rows there are, then stop" },
    { NULL, 0, "json", "FILE", NULL, NULL, "write the summary as JSON (-: standard output)" },
    { NULL, 0, "progress", "MODE", NULL, "auto|bar|json|none", "progress on standard error (auto)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

/* ---- the table ---- */

static double number(const cJSON *o, const char *group, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(group ? cJSON_GetObjectItemCaseSensitive(o, group) : o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static void put_cell(const char *format, int width, double v, const char *missing)
{
    char text[32];
    snprintf(text, sizeof text, format, v);
    printf("  %*s", width, isfinite(v) ? text : missing);
}

/* Columns of a terminal, not bytes. */
static int columns_of(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void put_label(const char *label, int width)
{
    printf("%s%*s", label, width - columns_of(label), "");
}

static void put_setting(const cJSON *o, int width)
{
    const double median = number(o, "seconds", "median"), spread = 0.5 * (number(o, "seconds", "high") - number(o, "seconds", "low"));
    const double failed = number(o, NULL, "failed"), identical = number(o, NULL, "identical");
    const char *same = identical > 0 ? "same" : "-";
    char time[48] = "-";
    put_label(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "label")), width);
    if (isfinite(median))
        snprintf(time, sizeof time, "%.3f +- %.3f", median, spread);
    printf("  %17s", time);
    put_cell("%.2fx", 7, number(o, NULL, "speedup"), "-");
    put_cell("%.0f", 5, number(o, "computed_steps", "median"), "-");
    put_cell("%.3f", 7, number(o, "attention_density", "median"), "-");
    put_cell("%.2f", 6, number(o, "psnr", "median"), same);
    put_cell("%.2f", 6, number(o, "psnr", "worst"), same);
    put_cell("%.4f", 6, number(o, "ssim", "median"), "-");
    put_cell("%.2f", 6, number(o, "motion_psnr", "median"), same);
    put_cell("%.4f", 6, number(o, "latent_error", "median"), "-");
    printf("  %6.0f%s\n", number(o, NULL, "rows"), failed > 0 ? " (some failed)" : "");
}

static int show(const char *text)
{
    cJSON *root = cJSON_Parse(text);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "settings"), *o;
    int width = 7;
    if (!root)
        return cli_error(1, "internal error: the library gave text that is not JSON");
    cJSON_ArrayForEach(o, list) {
        const int n = columns_of(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "label")));
        width = n > width ? n : width;
    }
    put_label("setting", width);
    printf("  %17s  %7s  %5s  %7s  %6s  %6s  %6s  %6s  %6s  %6s\n", "seconds", "speedup", "steps", "density", "PSNR", "worst", "SSIM",
           "motion", "latent", "rows");
    cJSON_ArrayForEach(o, list)
        put_setting(o, width);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(root, "first_error");
    if (number(root, NULL, "failed") > 0)
        printf("%.0f of %.0f rows failed%s%s\n", number(root, NULL, "failed"), number(root, NULL, "rows"), error ? "; the first: " : "",
               error ? cJSON_GetStringValue(error) : "");
    cJSON_Delete(root);
    return fflush(stdout) != 0 ? cli_error(1, "standard output: write failed") : 0;
}

/* ---- the command ---- */

static int open_sweep(prx_sweep **s, const cli_args *a)
{
    char builtin[PATH_MAX], presets[PATH_MAX];
    prx_sweep_params p;
    prx_sweep_default_params(&p);
    *s = NULL;
    const int code = cli_engine_params(&p.engine, a);
    if (code)
        return code;
    p.model = cli_value(a, "model");
    p.transformer = cli_value(a, "transformer");
    p.builtin = cli_find_data("models/tiny", builtin, sizeof builtin) ? builtin : NULL;
    p.presets = cli_find_data("configs/presets", presets, sizeof presets) ? presets : NULL;
    const int err = prx_sweep_open(s, &p, a->words[0], cli_value(a, "output"));
    return err < 0 ? cli_fail(err, prx_sweep_last_error(*s)) : 0;
}

static int report(prx_sweep *s, const cli_args *a)
{
    const char *json = cli_value(a, "json"), *text;
    const int err = prx_sweep_summary(s, &text);
    if (err < 0)
        return cli_fail(err, prx_sweep_last_error(s));
    const int code = json ? cli_write_text("--json", json, text) : show(text);
    cJSON *o = cJSON_Parse(text);
    const int all = number(o, NULL, "failed") >= number(o, NULL, "rows");
    cJSON_Delete(o);
    return code || !all ? code : cli_error(1, "every row failed: results.jsonl has the messages");
}

static int say_rows(prx_sweep *s)
{
    const char *text;
    const int err = prx_sweep_summary(s, &text);
    if (err < 0)
        return cli_fail(err, prx_sweep_last_error(s));
    cJSON *o = cJSON_Parse(text);
    printf("%d settings, %.0f rows, %.0f of them done\n", cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(o, "settings")),
           number(o, NULL, "rows"), number(o, NULL, "done"));
    cJSON_Delete(o);
    return fflush(stdout) != 0 ? cli_error(1, "standard output: write failed") : 0;
}

static int execute(prx_sweep *s, const cli_args *a)
{
    progress_set_sweep(s);
    prx_sweep_on_progress(s, progress_sweep, NULL);
    const int err = prx_sweep_run(s);
    progress_set_sweep(NULL);
    progress_stop();
    if (err == PRX_ECANCELED)
        return cli_error(130, "interrupted: the rows so far are in %s; the same command goes on", cli_value(a, "output"));
    return err < 0 ? cli_fail(err, prx_sweep_last_error(s)) : report(s, a);
}

static int run(const cli_args *a)
{
    const char *mode = cli_value(a, "progress"), *json = cli_value(a, "json");
    prx_sweep *s = NULL;
    if (!cli_value(a, "output"))
        return cli_error(2, "--output: missing: the folder for the results");
    int code = json ? cli_check_writable("--json", json) : 0;
    if (!code)
        code = progress_start(mode ? mode : "auto");
    if (!code)
        code = open_sweep(&s, a);
    if (!code)
        code = cli_value(a, "check") ? say_rows(s) : execute(s, a);
    progress_stop();
    prx_sweep_close(&s);
    return code;
}

const cli_command cmd_sweep = {
    "sweep", "sweep SPEC.json -o DIR [OPTIONS]", "quality and speed of many settings", options, 1, 1,
    "the spec: a JSON file (examples: configs/sweeps)", run, presets_print,
};
