/* Vectors of the tests: JSON files under tests/vectors, and getters that end the test when a field is missing. */
#ifndef PRXI_TEST_VECTORS_H
#define PRXI_TEST_VECTORS_H

#include <cjson/cJSON.h>

#include "tests/test.h"

static inline cJSON *vectors_load(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/vectors/%s", PRX_SOURCE_DIR, name);
    FILE *f = fopen(path, "rb");
    REQUIRE(f, "%s", path);
    fseek(f, 0, SEEK_END);
    const long n = ftell(f);
    rewind(f);
    char *text = calloc(1, (size_t)n + 1);
    REQUIRE(text && fread(text, 1, (size_t)n, f) == (size_t)n, "%s", path);
    fclose(f);
    cJSON *root = cJSON_Parse(text);
    free(text);
    REQUIRE(root, "%s: JSON", path);
    return root;
}

static inline const cJSON *vec_get(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    REQUIRE(v, "vectors: %s is missing", key);
    return v;
}

static inline double vec_num(const cJSON *o, const char *key)
{
    return vec_get(o, key)->valuedouble;
}

/* A number or boolean that may be absent or null. */
static inline double vec_num_or(const cJSON *o, const char *key, double def)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : cJSON_IsBool(v) ? cJSON_IsTrue(v) : def;
}

static inline const char *vec_str(const cJSON *o, const char *key)
{
    const char *s = vec_get(o, key)->valuestring;
    REQUIRE(s, "vectors: %s is no string", key);
    return s;
}

static inline int vec_is(const cJSON *o, const char *key, const char *text)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(v) && strcmp(v->valuestring, text) == 0;
}

#endif
