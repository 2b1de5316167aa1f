/* praxino compare A B: PSNR and SSIM of two videos. */
#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "app.h"
#include "commands.h"
#include "vmaf.h"

static const cli_option options[] = {
    { NULL, 0, "json", "FILE", NULL, NULL, "write everything, per frame too, as JSON (-: standard output)" },
    { NULL, 0, "vmaf", NULL, NULL, NULL, "VMAF too, by an ffmpeg that has libvmaf; A is the reference" },
    { "Clips that do not fit together", 0, "align", "HOW", "align", "trim", "trim: as many frames as both have" },
    { NULL, 0, "offset", "N", "offset", NULL, "skip N frames of B; negative: of A" },
    { NULL, 0, "resize", "CLIP", "resize", "a|b", "scale the other one to the size of A or B (bicubic)" },
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

static const cJSON *item(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

/* One line that says what was done to make the clips fit. */
static void put_alignment(const cJSON *o)
{
    const cJSON *resized = item(o, "resized"), *from = item(resized, "from"), *left = item(o, "left_out");
    const double offset = cJSON_GetNumberValue(item(o, "offset"));
    const double a = cJSON_GetNumberValue(item(left, "a")), b = cJSON_GetNumberValue(item(left, "b"));
    const char *between = "aligned  ";
    if (offset != 0) {
        printf("%sfirst %.0f frames of %s skipped", between, fabs(offset), offset > 0 ? "B" : "A");
        between = ", ";
    }
    if (a > 0 || b > 0) {
        printf("%slast %.0f frames of %s left out", between, a > 0 ? a : b, a > 0 ? "A" : "B");
        between = ", ";
    }
    if (cJSON_IsObject(resized)) {
        printf("%s%s scaled from %.0fx%.0f: %s", between, strcmp(cJSON_GetStringValue(item(resized, "clip")), "a") == 0 ? "A" : "B",
               cJSON_GetNumberValue(cJSON_GetArrayItem(from, 0)), cJSON_GetNumberValue(cJSON_GetArrayItem(from, 1)),
               cJSON_GetStringValue(item(resized, "filter")));
        between = ", ";
    }
    printf(between[0] == ',' ? "\n" : "aligned  nothing to do\n");
}

static void put_scores(const cJSON *o)
{
    put_value("PSNR     clip", number(o, "psnr", "clip"), 2);
    put_value(" dB, mean of frames", number(o, "psnr", "mean_of_frames"), 2);
    printf(" dB");
    put_worst(o, "psnr", "per_frame", 2);
    put_value("\nSSIM     luma", number(o, "ssim", "luma"), 4);
    put_value(", rgb", number(o, "ssim", "rgb"), 4);
    put_worst(o, "ssim", "luma_per_frame", 4);
    put_value(", blocks", number(o, "ssim", "blocks"), 4);
    if (isfinite(number(o, "ms_ssim", "luma")))         /* small pictures have none */
        put_value("\nMS-SSIM  luma", number(o, "ms_ssim", "luma"), 4);
    put_value("\nmotion   PSNR of the differences between frames", number(o, "temporal", "psnr"), 2);
    printf(" dB\n");
}

static void summarize(const cJSON *o)
{
    printf("%.0f frames of %.0fx%.0f\n", cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, "frames")),
           cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, "width")),
           cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, "height")));
    if (cJSON_IsObject(item(o, "alignment")))
        put_alignment(item(o, "alignment"));
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "identical")))
        printf("identical: every sample is the same\n");
    else
        put_scores(o);
    if (isfinite(number(o, "vmaf", "mean"))) {
        put_value("VMAF     mean", number(o, "vmaf", "mean"), 2);
        put_worst(o, "vmaf", "per_frame", 2);
        printf("\n");
    }
}

/* The settings of the library that options stand for, as "key=value,key=value". */
static int join_settings(const cli_args *a, char *out, size_t n)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; options[i].name; i++) {
        if (!options[i].key || !a->value[i])
            continue;
        const int len = snprintf(out + used, n - used, "%s%s=%s", used ? "," : "", options[i].key, a->value[i]);
        if (len < 0 || (size_t)len >= n - used || strpbrk(a->value[i], ",\n"))
            return cli_error(2, "--%s: '%.40s' is not accepted", options[i].name, a->value[i]);
        used += (size_t)len;
    }
    return 0;
}

/* Whether ffmpeg can read the files and has VMAF. 0 or an exit code. */
static int check_vmaf(const cli_args *a)
{
    for (int i = 0; i < 2; i++) {
        const char *end = strrchr(a->words[i], '.');
        if (strcmp(a->words[i], "-") == 0 || (end && strcmp(end, ".safetensors") == 0))
            return cli_error(2, "--vmaf: %s: for video files and image sequences only", a->words[i]);
    }
    return vmaf_check();
}

/* The library's text with VMAF in it when asked for, to where it is wanted. */
static int give(const cli_args *a, const char *text)
{
    const char *json = cli_value(a, "json");
    cJSON *o = cJSON_Parse(text);
    if (!o)
        return cli_error(1, "internal error: the library gave text that is not JSON");
    int code = cli_value(a, "vmaf") ? vmaf_add(a->words[0], a->words[1], o) : 0;
    if (!code && !json) {
        summarize(o);
        code = fflush(stdout) != 0 ? cli_error(1, "standard output: write failed") : 0;
    } else if (!code) {
        char *all = cJSON_Print(o);
        code = all ? cli_write_text("--json", json, all) : cli_error(3, "compare: out of memory");
        cJSON_free(all);
    }
    cJSON_Delete(o);
    return code;
}

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json");
    prx_engine *e;
    char *text = NULL, settings[256];
    int code = json ? cli_check_writable("--json", json) : 0;
    if (!code)
        code = join_settings(a, settings, sizeof settings);
    if (!code && cli_value(a, "vmaf"))
        code = check_vmaf(a);
    if (code)
        return code;
    code = cli_open_engine(&e, a);
    if (!code) {
        const int err = prx_compare(e, a->words[0], a->words[1], settings, &text);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : 0;
        if (!code)
            code = give(a, text);
        prx_text_free(e, text);
    }
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_compare = {
    "compare", "compare A B [OPTIONS]", "PSNR and SSIM of two videos, image sequences or dumps",
    options, 2, 2, "two videos, image sequences (frame%04d.png) or dumps (.safetensors)", run, NULL,
};
