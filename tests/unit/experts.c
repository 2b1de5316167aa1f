/* Two transformers: which guidance each has, where the cut between them lies, and folders whose parts do not fit together. Only
 * configuration files are read. */
#include "tests/files.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <sys/stat.h>

#include <praxino/praxino.h>

static prx_engine *engine;

static void put(const char *name, const char *text)
{
    tmp_write(name, text, strlen(text));
}

static void dit_config(const char *part, int layers, const char *more)
{
    char text[512], name[64];
    snprintf(name, sizeof name, "%s/config.json", part);
    snprintf(text, sizeof text, "{\"num_layers\": %d, \"num_attention_heads\": 40, \"attention_head_dim\": 128, \"in_channels\": 16%s}",
             layers, more);
    put(name, text);
}

/* extra: what stands in model_index.json behind the classes. */
static void index_file(const char *scheduler, const char *extra)
{
    char text[1024];
    snprintf(text, sizeof text, "{\"_class_name\": \"WanPipeline\", \"transformer\": [\"diffusers\", \"WanTransformer3DModel\"], "
             "\"vae\": [\"diffusers\", \"AutoencoderKLWan\"], \"text_encoder\": [\"transformers\", \"UMT5EncoderModel\"], "
             "\"scheduler\": [\"diffusers\", \"%s\"]%s}", scheduler, extra);
    put("model_index.json", text);
}

#define TWO ", \"transformer_2\": [\"diffusers\", \"WanTransformer3DModel\"], \"boundary_ratio\": 0.875"

/* The shapes of Wan 2.2 A14B. */
static void published(void)
{
    index_file("UniPCMultistepScheduler", TWO);
    dit_config("transformer", 40, "");
    dit_config("transformer_2", 40, "");
    put("vae/config.json", "{}");
    put("scheduler/scheduler_config.json", "{\"_class_name\": \"UniPCMultistepScheduler\", \"use_flow_sigmas\": true, "
        "\"prediction_type\": \"flow_prediction\", \"num_train_timesteps\": 1000}");
}

static void check_setting(prx_job *j, const char *key, double want)
{
    char text[64];
    REQUIRE(prx_job_get(j, key, text, sizeof text) == PRX_OK, "%s", key);
    CHECK(atof(text) == want, "%s: %s, not %g", key, text, want);
}

static void set(prx_job *j, const char *key, const char *value)
{
    REQUIRE(prx_job_set(j, key, value) == PRX_OK, "%s", prx_job_last_error(j));
}

static prx_model *open_model(const char *dir)
{
    prx_model *m;
    REQUIRE(prx_model_open(&m, engine, dir) == PRX_OK, "%s", prx_engine_last_error(engine));
    return m;
}

/* -1: that of the other expert, as in diffusers when only guidance_scale is given. */
static void check_defaults(void)
{
    prx_model *m = open_model(tmp_dir);
    for (int order = 0; order < 2; order++) {
        prx_job *j;
        REQUIRE(prx_job_open(&j, m) == PRX_OK, "job");
        check_setting(j, "guidance", 4);
        check_setting(j, "guidance_2", 3);
        if (order)
            set(j, "guidance_2", "2");
        set(j, "guidance", "6");
        check_setting(j, "guidance_2", order ? 2 : -1);
        prx_job_close(&j);
    }
    prx_model_close(&m);
}

static void plan(const char *dir, const char *guidance, const char *guidance_2, int want, const char *says)
{
    prx_model *m = open_model(dir);
    prx_job *j;
    char *json = NULL;
    REQUIRE(prx_job_open(&j, m) == PRX_OK, "job");
    const char *const pairs[][2] = { { "prompt", "x" },    { "width", "32" },        { "height", "32" },
                                     { "frames", "5" },    { "guidance", guidance }, { "steps", "4" } };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        set(j, pairs[i][0], pairs[i][1]);
    if (guidance_2)
        set(j, "guidance_2", guidance_2);
    const int status = prx_job_plan(j, &json);
    CHECK(status == want, "guidance %s and %s: %s %s", guidance, guidance_2 ? guidance_2 : "none", prx_status_name(status),
          prx_job_last_error(j));
    if (want == PRX_OK)
        CHECK(json && strstr(json, says), "guidance %s: no %s in %s", guidance, says, json);
    else
        CHECK(strstr(prx_job_last_error(j), says), "guidance %s: %s", guidance, prx_job_last_error(j));
    prx_text_free(engine, json);
    prx_job_close(&j);
    prx_model_close(&m);
}

static void check_branches(void)
{
    const char *two = PRX_SOURCE_DIR "/tests/vectors/golden/wan22_a14b/model";
    const char *one = PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model";
    plan(two, "4", "3", PRX_OK, "\"branches\":\t2");
    plan(two, "4", "0.5", PRX_OK, "\"branches\":\t2");
    plan(two, "1", NULL, PRX_OK, "\"branches\":\t1");
    plan(two, "1", "1", PRX_OK, "\"branches\":\t1");
    plan(two, "1", "4", PRX_EINVAL, "guidance_2");
    plan(two, "0", "4", PRX_EINVAL, "guidance_2");
    plan(one, "5", "5", PRX_OK, "\"branches\":\t2");
    plan(one, "5", "4", PRX_EINVAL, "one transformer");
}

static double boundary(void)
{
    char *json = NULL;
    prx_model *m = open_model(tmp_dir);
    REQUIRE(prx_model_describe(m, &json) == PRX_OK, "%s", prx_engine_last_error(engine));
    cJSON *root = cJSON_Parse(json);
    const cJSON *b = cJSON_GetObjectItemCaseSensitive(root, "boundary_timestep");
    const double t = cJSON_IsNumber(b) ? b->valuedouble : NAN;
    cJSON_Delete(root);
    prx_text_free(engine, json);
    prx_model_close(&m);
    return t;
}

/* In timesteps of the scheduler, not in thousandths. */
static void check_boundary(void)
{
    CHECK(boundary() == 875, "%g", boundary());
    put("scheduler/scheduler_config.json", "{\"_class_name\": \"UniPCMultistepScheduler\", \"use_flow_sigmas\": true, "
        "\"prediction_type\": \"flow_prediction\", \"num_train_timesteps\": 400}");
    CHECK(boundary() == 350, "%g", boundary());
    published();
}

static void refused(const char *says)
{
    prx_model *m;
    CHECK(prx_model_open(&m, engine, tmp_dir) == PRX_EFORMAT && !m, "%s: opened", says);
    CHECK(strstr(prx_engine_last_error(engine), says), "no '%s' in: %s", says, prx_engine_last_error(engine));
    published();
}

static void check_refusals(void)
{
    dit_config("transformer_2", 41, "");
    refused("num_layers: 41, but 40");
    dit_config("transformer_2", 40, ", \"text_dim\": 8192");
    refused("text_dim: 8192, but 4096");
    dit_config("transformer_2", 40, ", \"patch_size\": [1, 2, 4]");
    refused("patch_size: 4, but 2");
    dit_config("transformer_2", 40, ", \"out_channels\": 36");
    refused("out_channels: 36, but 16");
    dit_config("transformer", 40, ", \"eps\": -1");
    refused("eps: -1");
    index_file("UniPCMultistepScheduler", ", \"boundary_ratio\": 0.875");
    refused("transformer_2");
    index_file("FlowMatchEulerDiscreteScheduler", TWO);
    refused("scheduler: 'FlowMatchEulerDiscreteScheduler', but");
    dit_config("transformer", 40, ", \"freq_dim\": 255");
    refused("freq_dim: 255");
}

int main(void)
{
    tmp_open();
    static const char *const parts[] = { "transformer", "transformer_2", "vae", "scheduler" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        REQUIRE(mkdir(tmp_path(parts[i]), 0700) == 0, "%s", parts[i]);
    published();
    REQUIRE(prx_engine_open(&engine, NULL) == PRX_OK, "engine");
    check_defaults();
    check_branches();
    check_boundary();
    check_refusals();
    /* null: as many as go in */
    dit_config("transformer", 40, ", \"out_channels\": null");
    prx_model *m = open_model(tmp_dir);
    prx_model_close(&m);
    prx_engine_close(&engine);
    tmp_close();
    return TEST_END();
}
