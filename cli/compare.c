/* praxino compare A B: PSNR and SSIM of two videos. */
#include <cjson/cJSON.h>
#include <math.h>

#include "app.h"
#include "commands.h"

static const cli_option options[] = {
    { NULL, 0, "json", "FILE", NULL, NULL, "write everything, per frame too, as JSON (-: standard output)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

static double number(const cJSON *o, const char *group, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(o, group), key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

/* ", worst frame 31.02 (number 7)", counted from 0; nothing when no frame has a value. */
static void put_worst(const cJSON *o, const char *group, const char *key, int digits)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(o, group), key);
    double worst = INFINITY;
    int at = -1, i = 0;
    for (const cJSON *v = list ? list->child : NULL; v; v = v->next, i++)
        if (cJSON_IsNumber(v) && v->valuedouble < worst) {
            worst = v->valuedouble;
            at = i;
        }
    if (at >= 0)
        printf(", worst frame %.*f (number %d)", digits, worst, at);
}

static void put_value(const char *label, double v, int digits)
{
    if (isfinite(v))
        printf("%s %.*f", label, digits, v);
    else
        printf("%s -", label);
}

static void summarize(const cJSON *o)
{
    printf("%.0f frames of %.0fx%.0f\n", cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, "frames")),
           cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, "width")),
           cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, "height")));
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "identical"))) {
        printf("identical: every sample is the same\n");
        return;
    }
    put_value("PSNR     clip", number(o, "psnr", "clip"), 2);
    put_value(" dB, mean of frames", number(o, "psnr", "mean_of_frames"), 2);
    printf(" dB");
    put_worst(o, "psnr", "per_frame", 2);
    put_value("\nSSIM     luma", number(o, "ssim", "luma"), 4);
    put_value(", rgb", number(o, "ssim", "rgb"), 4);
    put_worst(o, "ssim", "luma_per_frame", 4);
    if (isfinite(number(o, "ms_ssim", "luma")))         /* small pictures have none */
        put_value("\nMS-SSIM  luma", number(o, "ms_ssim", "luma"), 4);
    put_value("\nmotion   PSNR of the differences between frames", number(o, "temporal", "psnr"), 2);
    printf(" dB\n");
}

static int show(const char *text)
{
    cJSON *o = cJSON_Parse(text);
    if (!o)
        return cli_error(1, "internal error: the library gave text that is not JSON");
    summarize(o);
    cJSON_Delete(o);
    return fflush(stdout) != 0 ? cli_error(1, "standard output: write failed") : 0;
}

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
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : 0;
        if (!code)
            code = json ? cli_write_text("--json", json, text) : show(text);
        prx_text_free(e, text);
    }
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_compare = {
    "compare", "compare A B [OPTIONS]", "PSNR and SSIM of two videos, image sequences or dumps",
    options, 2, 2, "two videos, image sequences (frame%04d.png) or dumps (.safetensors)", run, NULL,
};
