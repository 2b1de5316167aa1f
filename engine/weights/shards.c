/* A component folder: one safetensors file, or shards under an index.json; plain names first, then the bf16 and
 * fp16 variants (models.md section 0). */
#include "safetensors_int.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/core/json.h"

enum { MAX_PATH_BYTES = 4096 };

static int join(prxi_ctx *c, char out[MAX_PATH_BYTES], const char *dir, const char *name)
{
    const int n = snprintf(out, MAX_PATH_BYTES, "%s/%s", dir, name);
    if (n < 0 || n >= MAX_PATH_BYTES)
        return prxi_fail(c, PRX_EINVAL, "%.200s: the path is too long", dir);
    return PRX_OK;
}

/* A shard lies beside its index: a plain name, so that a model directory cannot point at other files. */
static int plain_name(const char *s)
{
    static const char ext[] = ".safetensors";
    const size_t n = strlen(s), e = sizeof ext - 1;
    return n > e && s[0] != '.' && !strchr(s, '/') && !strchr(s, '\\') && strcmp(s + n - e, ext) == 0;
}

/* Entries of one shard stand together and shards are few: the search from the end is short. */
static int is_new(const char *const *seen, int n, const char *s)
{
    for (int i = n - 1; i >= 0; i--)
        if (strcmp(seen[i], s) == 0)
            return 0;
    return 1;
}

enum { MAX_SHARDS = 1000 };

static int add_shards(prxi_ctx *c, prxi_tensors *t, const char *dir, const char *index, const cJSON *map)
{
    const char *seen[MAX_SHARDS];
    int n = 0;
    const cJSON *v;
    cJSON_ArrayForEach(v, map) {
        if (!cJSON_IsString(v) || !plain_name(v->valuestring))
            return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: shard \"%.200s\" is not a plain .safetensors file name", index,
                             v->string, cJSON_IsString(v) ? v->valuestring : "");
        if (!is_new(seen, n, v->valuestring))
            continue;
        if (n == MAX_SHARDS)
            return prxi_fail(c, PRX_EFORMAT, "%s: more than %d shards", index, MAX_SHARDS);
        seen[n++] = v->valuestring;
        char path[MAX_PATH_BYTES];
        int err = join(c, path, dir, v->valuestring);
        if (err == PRX_OK && access(path, F_OK) != 0)
            err = prxi_fail(c, PRX_EFORMAT, "%s: shard %s is not there", index, v->valuestring);
        if (err == PRX_OK)
            err = prxi_tensors_add_file(c, t, path);
        if (err != PRX_OK)
            return err;
    }
    return PRX_OK;
}

static int open_index(prxi_ctx *c, prxi_tensors *t, const char *dir, const char *index)
{
    prxi_json j;
    int err = prxi_json_open(c, &j, index, 0);
    if (err != PRX_OK)
        return err;
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(j.root, "weight_map"), *v;
    if (!cJSON_IsObject(map) || !map->child)
        err = prxi_fail(c, PRX_EFORMAT, "%s: \"weight_map\": an object {tensor: shard} is needed", index);
    if (err == PRX_OK)
        err = add_shards(c, t, dir, index, map);
    if (err == PRX_OK)
        err = prxi_tensors_index(c, t);
    if (err == PRX_OK) {
        cJSON_ArrayForEach(v, map) {
            if (prxi_tensors_position(t, v->string) < 0) {
                err = prxi_fail(c, PRX_EFORMAT, "%s: tensor %s is missing from its shard %s", index, v->string,
                                v->valuestring);
                break;
            }
        }
    }
    prxi_json_close(c, &j);
    return err;
}

/* 1 when found and read, 0 when absent, negative on error. */
static int try_name(prxi_ctx *c, prxi_tensors *t, const char *dir, const char *name, int is_index)
{
    char path[MAX_PATH_BYTES];
    int err = join(c, path, dir, name);
    if (err != PRX_OK)
        return err;
    if (access(path, F_OK) != 0)
        return 0;
    if (is_index) {
        err = open_index(c, t, dir, path);
    } else {
        err = prxi_tensors_add_file(c, t, path);
        if (err == PRX_OK)
            err = prxi_tensors_index(c, t);
    }
    return err == PRX_OK ? 1 : err;
}

static int open_any(prxi_ctx *c, prxi_tensors *t, const char *dir, const char *stem)
{
    static const struct {
        const char *suffix;
        int is_index;
    } names[] = {
        { ".safetensors", 0 },      { ".safetensors.index.json", 1 },
        { ".bf16.safetensors", 0 }, { ".safetensors.index.bf16.json", 1 },
        { ".fp16.safetensors", 0 }, { ".safetensors.index.fp16.json", 1 },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[256];
        snprintf(name, sizeof name, "%.128s%s", stem, names[i].suffix);
        const int got = try_name(c, t, dir, name, names[i].is_index);
        if (got != 0)
            return got < 0 ? got : PRX_OK;
    }
    return prxi_fail(c, PRX_EINVAL, "%s: no weights: %s.safetensors or %s.safetensors.index.json is needed", dir, stem,
                     stem);
}

int prxi_tensors_open_dir(prxi_ctx *c, prxi_tensors **out, const char *dir, const char *stem)
{
    int err = prxi_tensors_new(c, out, dir);
    if (err != PRX_OK)
        return err;
    err = open_any(c, *out, dir, stem);
    if (err != PRX_OK)
        prxi_tensors_close(c, out);
    return err;
}
