/* What the plan says of device memory, and what a job then takes of it: never more, and not much less. */
#include <praxino/praxino.h>

#include <cjson/cJSON.h>
#include <stdlib.h>

#include "tests/test.h"

#define MODEL PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model"

typedef struct setting {
    const char *width, *height, *frames, *guidance, *extra[7];
} setting;

static double number(const cJSON *o, const char *group, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(group ? cJSON_GetObjectItemCaseSensitive(o, group) : o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : -1;
}

static double of_text(prx_engine *e, char *text, const char *group, const char *key)
{
    cJSON *o = cJSON_Parse(text);
    const double v = number(o, group, key);
    cJSON_Delete(o);
    prx_text_free(e, text);
    return v;
}

/* An engine of its own each: the peak is an engine's. */
static void check(const setting *t)
{
    prx_engine *e;
    prx_model *m;
    prx_job *j;
    prx_engine_params p;
    char *text = NULL;
    prx_engine_default_params(&p);
    p.threads = 1;
    p.device = "cuda";
    REQUIRE(prx_engine_open(&e, &p) == PRX_OK && prx_model_open(&m, e, MODEL) == PRX_OK, "%s", e ? prx_engine_last_error(e) : "no engine");
    REQUIRE(prx_job_open(&j, m) == PRX_OK, "%s", prx_engine_last_error(e));
    const char *const set[][2] = { { "prompt", "a red ball" }, { "width", t->width }, { "height", t->height }, { "frames", t->frames },
                                   { "steps", "2" }, { "guidance", t->guidance }, { "keep_weights", "0" } };
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        REQUIRE(prx_job_set(j, set[i][0], set[i][1]) == PRX_OK, "%s", prx_job_last_error(j));
    for (int i = 0; t->extra[i]; i += 2)
        REQUIRE(prx_job_set(j, t->extra[i], t->extra[i + 1]) == PRX_OK, "%s", prx_job_last_error(j));
    REQUIRE(prx_job_plan(j, &text) == PRX_OK, "%s", prx_job_last_error(j));
    const double planned = of_text(e, text, "memory", "peak_bytes");
    REQUIRE(prx_job_run(j) == PRX_OK && prx_job_stats(j, &text) == PRX_OK, "%s", prx_job_last_error(j));
    const double taken = of_text(e, text, NULL, "peak_device_bytes");
    CHECK(taken > 0 && taken <= planned, "%sx%sx%s %s=%s: %.0f planned, %.0f taken", t->width, t->height, t->frames,
          t->extra[0] ? t->extra[0] : "", t->extra[0] ? t->extra[1] : "", planned, taken);
    const double reserved = getenv("PRAXINO_CUDNN") ? 0x1p28 : 0;       /* for its workspace */
    CHECK(planned - reserved <= 1.1 * taken + 65536, "%sx%sx%s %s=%s: %.0f planned, %.0f taken", t->width, t->height, t->frames,
          t->extra[0] ? t->extra[0] : "", t->extra[0] ? t->extra[1] : "", planned, taken);
    prx_job_close(&j);
    prx_model_close(&m);
    prx_engine_close(&e);
}

int main(void)
{
    static const setting settings[] = {
        { "32", "32", "5", "4", { NULL } },
        { "64", "32", "9", "1", { NULL } },
        { "64", "64", "17", "1", { "attention", "radial", "attention.block", "64", "attention.decay", "0.1", NULL } },
        { "64", "64", "9", "4", { "attention", "svg2", "attention.num_k_centroids", "4", NULL } },
        { "32", "32", "5", "4", { "cache", "dbcache", NULL } },
        { "32", "32", "5", "4", { "cache", "easycache", NULL } },
        { "48", "48", "5", "1", { "vae.tiling", "true", NULL } },
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        check(&settings[i]);
    return TEST_END();
}
