/* A cache policy driven by hand, as the sampler and the DiT do it: options as text, one step at a time. */
#ifndef PRXI_TEST_POLICY_H
#define PRXI_TEST_POLICY_H

#include "tests/test.h"

#include "caching/cache.h"

typedef struct policy {
    const prxi_cache_policy *p;
    void *priv;
    prxi_cache_env env;
    prxi_cache_plan plan;
    int err;                 /* of plan */
} policy;

static prxi_mem policy_mem;
static prxi_ctx policy_ctx = { .mem = &policy_mem };
static prxi_stream policy_stream;

static inline void policy_init(void)
{
    prxi_mem_init(&policy_mem, NULL);
    prxi_stream_init(&policy_stream, &policy_ctx, 1);
}

/* settings: "key=value;key=value". */
static inline policy policy_open(const char *name, const prxi_cache_env *env, const char *settings)
{
    policy t = { .p = prxi_cache_policy_find(name), .env = *env };
    char text[1024], *at = text;
    REQUIRE(t.p && strlen(settings) < sizeof text, "%s: %s", name, settings);
    snprintf(text, sizeof text, "%s%s", settings, strchr(settings, ';') || !*settings ? "" : ";");
    for (; *at; at++)
        *at = *at == ';' ? '\n' : *at;
    prxi_clear(&policy_ctx);
    t.priv = prxi_calloc(&policy_mem, PRXI_MEM_MISC, 1, t.p->priv_size);
    REQUIRE(t.priv, "%s: memory", name);
    t.err = prxi_option_parse(&policy_ctx, t.p->options, t.priv, "cache.", text);
    if (t.err == PRX_OK)
        t.err = t.p->plan(t.priv, &policy_ctx, env, &t.plan);
    return t;
}

static inline void policy_close(policy *t)
{
    t->p->close(t->priv, &policy_ctx);
    prxi_free(&policy_mem, t->priv);
    t->priv = NULL;
}

/* plan must refuse, with `word` in the text. */
static inline void policy_refuses(const char *name, const prxi_cache_env *env, const char *settings, int status, const char *word)
{
    policy t = policy_open(name, env, settings);
    CHECK(t.err == status && strstr(policy_ctx.error.text, word), "%s %s: %d %s", name, settings, t.err, policy_ctx.error.text);
    policy_close(&t);
    prxi_clear(&policy_ctx);
}

/* "published" of configs/models/NAME.json; *root is to be deleted. */
static inline const cJSON *policy_published(const char *name, cJSON **root)
{
    char path[600], text[8192] = "";
    snprintf(path, sizeof path, "%s/configs/models/%s.json", PRX_SOURCE_DIR, name);
    FILE *f = fopen(path, "r");
    REQUIRE(f && fread(text, 1, sizeof text - 1, f) > 0, "%s", path);
    fclose(f);
    *root = cJSON_Parse(text);
    REQUIRE(*root && cJSON_GetObjectItem(*root, "published"), "%s: published", path);
    return cJSON_GetObjectItem(*root, "published");
}

static inline void policy_no_leak(void)
{
    prxi_stream_close(&policy_stream);
    CHECK(atomic_load(&policy_mem.total) == 0, "%zu bytes leaked", atomic_load(&policy_mem.total));
}

#endif
