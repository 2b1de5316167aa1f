/* Settings from files: presets, and videos that carry the settings they were made with. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/cpu.h"
#include "engine/core/json.h"
#include "job.h"
#include "video_io/video.h"

/* A JSON number as the shortest text that reads back the same; whole numbers without an exponent, which no whole-number setting
 * takes. */
static void number_text(double v, char *buf, size_t n)
{
    if (fabs(v) < 1e15 && v == floor(v)) {
        snprintf(buf, n, "%.0f", v);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buf, n, "%.*g", digits, v);
        double back = 0;
        if (sscanf(buf, "%lf", &back) == 1 && back == v)
            return;
    }
}

/* The message gets the file's name in front. */
static int blame(prx_job *j, const char *path, int err)
{
    char text[sizeof j->ctx.error.text];
    snprintf(text, sizeof text, "%s", j->ctx.error.text);
    prxi_clear(&j->ctx);
    return prxi_fail(&j->ctx, err, "%s: %s", path, text);
}

static int set_from(prx_job *j, const char *path, const char *key, const char *value, int keep)
{
    if (keep && prxi_settings_given(j, key))
        return PRX_OK;
    const int err = prx_job_set(j, key, value);
    return err < 0 ? blame(j, path, err) : PRX_OK;
}

static int load_value(prx_job *j, const char *path, const char *key, const cJSON *e, int keep)
{
    char number[64];
    const char *value = number;
    if (cJSON_IsString(e))
        value = e->valuestring;
    else if (cJSON_IsBool(e))
        value = cJSON_IsTrue(e) ? "true" : "false";
    else if (cJSON_IsNumber(e))
        number_text(e->valuedouble, number, sizeof number);
    else
        return prxi_fail(&j->ctx, PRX_EINVAL, "%s: %s: a string, number, boolean or object expected", path, key);
    return set_from(j, path, key, value, keep);
}

/* ---- presets ---- */

static int load_object(prx_job *j, const char *path, const cJSON *object, const char *prefix, int keep)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, object) {
        char key[256];
        if (snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", e->string) >= (int)sizeof key)
            return prxi_fail(&j->ctx, PRX_EINVAL, "%s: key too long", path);
        if (cJSON_IsObject(e) && *prefix)
            return prxi_fail(&j->ctx, PRX_EINVAL, "%s: %s: nested too deep", path, key);
        if (!*prefix && (strcmp(key, "help") == 0 || strcmp(key, "description") == 0))
            continue;
        const int err = cJSON_IsObject(e) ? load_object(j, path, e, key, keep) : load_value(j, path, key, e, keep);
        if (err < 0)
            return err;
    }
    return PRX_OK;
}

PRX_API int prx_job_load_config(prx_job *j, const char *path, int keep)
{
    prxi_json tree;
    prxi_clear(&j->ctx);
    int err = prxi_json_open(&j->ctx, &tree, path, 1 << 20);
    if (err < 0)
        return err;
    err = load_object(j, path, tree.root, "", keep);
    prxi_json_close(&j->ctx, &tree);
    return err;
}

/* ---- videos ---- */

/* A JSON number would lose digits of a seed beyond 2^53. In a prompt the quotes are escaped, so the first match is the seed's. */
static int load_seed(prx_job *j, const char *path, const char *comment, int keep)
{
    char digits[24] = "";
    const char *at = strstr(comment, "\"seed\":");
    if (at)
        sscanf(at + strlen("\"seed\":"), "%20[0-9]", digits);
    return *digits ? set_from(j, path, "seed", digits, keep) : PRX_OK;
}

/* The setting of a name in a request: there the names of two have no dot. */
static const char *setting_of(const char *name)
{
    return strcmp(name, "vae_tiling") == 0 ? "vae.tiling" : strcmp(name, "vae_conv") == 0 ? "vae.conv" : name;
}

/* What prxi_request_json wrote. The model and the engine are there already; that they are others is worth a word, since the frames
 * will not be the same. */
static int load_request(prx_job *j, const char *path, cJSON *request, int keep)
{
    const struct {
        const char *key, *now;
    } fixed[] = { { "model", j->model->name },
                  { "device", j->engine->cuda ? "cuda" : "cpu" },
                  { "dtype", prxi_dtype_name(j->engine->dtype) },
                  { "isa", prxi_cpu_name(j->engine->kernels.isa) } };
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        const char *then = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, fixed[i].key));
        if (then && strcmp(then, fixed[i].now) != 0)
            prxi_logf(&j->ctx, PRX_LOG_WARN, "%s: made with %s %s, this job has %s", path, fixed[i].key, then, fixed[i].now);
    }
    /* One that follows guidance would stay behind when a flag changes that. */
    if (cJSON_Compare(cJSON_GetObjectItemCaseSensitive(request, "guidance_2"), cJSON_GetObjectItemCaseSensitive(request, "guidance"), 1))
        cJSON_DeleteItemFromObjectCaseSensitive(request, "guidance_2");
    /* a file that was written, like the video itself */
    cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(request, "cache_options"), "calibrate");
    const cJSON *e;
    cJSON_ArrayForEach(e, request) {
        int err = PRX_OK, skip = strcmp(e->string, "seed") == 0;
        for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
            skip |= strcmp(e->string, fixed[i].key) == 0;
        if (skip)
            continue;
        if (strcmp(e->string, "attention_options") == 0)
            err = load_object(j, path, e, "attention", keep);
        else if (strcmp(e->string, "cache_options") == 0)
            err = load_object(j, path, e, "cache", keep);
        else
            err = load_value(j, path, setting_of(e->string), e, keep);
        if (err < 0)
            return err;
    }
    return PRX_OK;
}

PRX_API int prx_job_load_video(prx_job *j, const char *path, int keep)
{
    prxi_reader *r = NULL;
    prxi_clear(&j->ctx);
    int err = prxi_reader_open(&j->ctx, &r, path);
    if (err < 0)
        return err;
    const char *comment = prxi_reader_spec(r)->comment;
    prxi_json tree = { 0 };
    if (!comment || comment[0] != '{')
        err = prxi_fail(&j->ctx, PRX_EINVAL, "%s: carries no settings; videos that praxino wrote as mp4, mov, mkv or webm do", path);
    else if ((err = prxi_json_parse(&j->ctx, &tree, path, comment, strlen(comment))) == PRX_OK &&
             (err = load_request(j, path, tree.root, keep)) == PRX_OK)
        err = load_seed(j, path, comment, keep);
    prxi_json_close(&j->ctx, &tree);
    prxi_reader_close(&j->ctx, &r);
    return err;
}
