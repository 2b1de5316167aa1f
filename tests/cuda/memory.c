/* What the plan says of device memory, and what a job then takes of it: never more, and not much less. */
#include <praxino/praxino.h>

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"

#define MODEL PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model"
#define TINY PRX_SOURCE_DIR "/models/tiny"

typedef struct setting {
    const char *model, *width, *height, *frames, *guidance, *extra[11];
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
    REQUIRE(prx_engine_open(&e, &p) == PRX_OK && prx_model_open(&m, e, t->model) == PRX_OK, "%s",
            e ? prx_engine_last_error(e) : "no engine");
    REQUIRE(prx_job_open(&j, m) == PRX_OK, "%s", prx_engine_last_error(e));
    const char *const set[][2] = { { "prompt", "a red ball" }, { "width", t->width }, { "height", t->height }, { "frames", t->frames },
                                   { "steps", "2" }, { "guidance", t->guidance }, { "keep_weights", "0" }, { "max_text", "16" } };
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

int main(int argc, char **argv)
{
    static const setting settings[] = {
        { MODEL, "32", "32", "5", "4", { NULL } },
        { MODEL, "64", "32", "9", "1", { NULL } },
        { MODEL, "64", "64", "17", "1", { "attention", "radial", "attention.block", "64", "attention.decay", "0.1", NULL } },
        { MODEL, "64", "64", "9", "4", { "attention", "svg2", "attention.num_k_centroids", "4", NULL } },
        { MODEL, "32", "32", "5", "4", { "cache", "dbcache", NULL } },
        { MODEL, "32", "32", "5", "4", { "cache", "easycache", NULL } },
        { MODEL, "48", "48", "5", "1", { "vae.tiling", "true", NULL } },
    };
    /* `cuda_memory moving`, on sm_90: blocks that take turns, none or one of them staying; 8 bits; both types beside each other. */
    static const setting moving[] = {
        { TINY, "32", "32", "1", "1", { "vram_budget", "0.0105", NULL } },
        { TINY, "32", "32", "1", "4", { "quant", "fp8", NULL } },
        { TINY, "32", "32", "1", "1", { "vram_budget", "0.0075", "quant", "fp8", NULL } },
        { TINY, "32", "32", "1", "1", { "vram_budget", "0.0085", "quant", "fp8", NULL } },
        { TINY, "32", "32", "1", "1", { "quant", "fp8", "quant_keep", "0.2", "steps", "3", NULL } },
        { TINY, "32", "32", "1", "1", { "vram_budget", "0.0105", "quant", "fp8", "quant_keep", "0.2", "steps", "3", NULL } },
    };
    const int moves = argc > 1 && strcmp(argv[1], "moving") == 0;
    for (size_t i = 0; i < sizeof moving / sizeof *moving && moves; i++)
        check(&moving[i]);
    for (size_t i = 0; i < sizeof settings / sizeof *settings && !moves; i++)
        check(&settings[i]);
    return TEST_END();
}
