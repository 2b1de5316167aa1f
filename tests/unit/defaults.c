/* Default settings by model: every embedded file is well formed, the published models are told apart. */
#include "engine/defaults.h"
#include "tests/test.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

static void check_match(const char *config, int experts, const char *want)
{
    prxi_json in, out;
    REQUIRE(prxi_json_parse(&ctx, &in, "config", config, strlen(config)) == PRX_OK, "%s", ctx.error.text);
    CHECK(prxi_model_defaults(&ctx, &in, experts, &out) == PRX_OK, "%s", ctx.error.text);
    if (want)
        CHECK(out.root && strcmp(out.path, want) == 0, "%s: %s, not %s", config, out.root ? out.path : "none", want);
    else
        CHECK(!out.root, "%s: %s", config, out.path);
    prxi_json_close(&ctx, &out);
    prxi_json_close(&ctx, &in);
}

static void check_file(const prxi_embedded *e)
{
    prxi_json j;
    REQUIRE(prxi_json_parse(&ctx, &j, e->name, e->text, strlen(e->text)) == PRX_OK, "%s", ctx.error.text);
    CHECK(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(j.root, "name")), "%s: name", e->name);
    CHECK(cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(j.root, "match")), "%s: match", e->name);
    const cJSON *defaults = cJSON_GetObjectItemCaseSensitive(j.root, "defaults");
    REQUIRE(cJSON_IsObject(defaults), "%s: defaults", e->name);
    static const char *const keys[] = { "width", "height", "frames", "fps", "steps", "guidance" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        CHECK(cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(defaults, keys[i])), "%s: %s", e->name, keys[i]);
    prxi_json_close(&ctx, &j);
}

/* The file in models/tiny is the one that configs/models/tiny.json describes. */
static void check_builtin(void)
{
    prxi_json in, out;
    if (prxi_json_open(&ctx, &in, PRX_SOURCE_DIR "/models/tiny/transformer/config.json", 0) != PRX_OK)
        return;         /* a tree without the built-in model */
    CHECK(prxi_model_defaults(&ctx, &in, 1, &out) == PRX_OK && out.root && strcmp(out.path, "tiny.json") == 0,
          "the built-in model gets its defaults from %s", out.root ? out.path : "nowhere");
    prxi_json_close(&ctx, &out);
    prxi_json_close(&ctx, &in);
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    for (const prxi_embedded *e = prxi_model_configs; e->name; e++)
        check_file(e);
#define WAN(layers, heads, in)                                                                    \
    "{\"num_layers\": " #layers ", \"num_attention_heads\": " #heads                                \
    ", \"attention_head_dim\": 128, \"in_channels\": " #in ", \"text_dim\": 4096}"
    check_match(WAN(30, 12, 16), 1, "wan2.1-t2v-1.3b.json");
    check_match(WAN(40, 40, 16), 1, "wan2.1-t2v-14b.json");
    check_match(WAN(40, 40, 16), 2, "wan2.2-t2v-a14b.json");
    check_match(WAN(30, 24, 48), 1, "wan2.2-ti2v-5b.json");
    check_match(WAN(2, 2, 16), 1, NULL);
    check_builtin();
    check_match("{}", 1, NULL);
    return TEST_END();
}
