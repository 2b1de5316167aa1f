/* A sweep's spec: top-level keys, prompts and seeds. The settings are expanded in expand.c. */
#include "spec.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/core/option.h"
#include "prompts.h"
#include "spec_int.h"

enum { MAX_PROMPTS = 10000, MAX_FILE = 16 << 20 };

static const char *const keys[] = { "description", "model", "prompts", "seeds", "base", "reference", "settings", "grid", "repeats",
                                    "order_seed", "keep_clips" };
enum { KEYS = sizeof keys / sizeof *keys };

static int check_keys(prxi_ctx *c, const prxi_json *j)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, j->root) {
        int known = 0;
        for (int i = 0; i < KEYS; i++)
            known |= strcmp(e->string, keys[i]) == 0;
        const char *near = known ? NULL : prxi_nearest(e->string, keys, KEYS);
        if (!known)
            return prxi_fail(c, PRX_EINVAL, "%s: %s: unknown key%s%s%s", j->path, e->string, near ? "; did you mean " : "",
                             near ? near : "", near ? "?" : "");
        for (const cJSON *o = e->next; o; o = o->next)
            if (strcmp(o->string, e->string) == 0)
                return prxi_fail(c, PRX_EINVAL, "%s: %s: given twice", j->path, e->string);
    }
    return PRX_OK;
}

int prxi_spec_file(const prxi_sweep_spec *s, const char *name, char *path, size_t n)
{
    int len = snprintf(path, n, "%s", name);
    if (len < 0 || (size_t)len >= n)
        return 0;
    if (name[0] == '/' || access(name, F_OK) == 0)
        return access(name, F_OK) == 0;
    len = snprintf(path, n, "%s/%s", s->folder, name);
    return len > 0 && (size_t)len < n && access(path, F_OK) == 0;
}

/* ---- prompts and seeds ---- */

static int read_prompts(prxi_ctx *c, prxi_sweep_spec *s, const char *name)
{
    char path[4096];
    if (!prxi_spec_file(s, name, path, sizeof path))
        return prxi_fail(c, PRX_EINVAL, "%s: prompts: %s: no such file", s->path, name);
    return prxi_prompts_read(c, &s->prompts, &s->n_prompts, MAX_PROMPTS, path);
}

static int set_prompts(prxi_ctx *c, prxi_sweep_spec *s, const cJSON *v)
{
    int err = PRX_OK, i = 0;
    if (cJSON_IsString(v))
        err = read_prompts(c, s, v->valuestring);
    else if (!cJSON_IsArray(v))
        return prxi_fail(c, PRX_EINVAL, "%s: prompts: a list of texts or the name of a file expected", s->path);
    for (const cJSON *e = v->child; e; e = e->next) {
        if (!cJSON_IsString(e) || e->valuestring[strspn(e->valuestring, " \t\r\n")] == '\0')
            return prxi_fail(c, PRX_EINVAL, "%s: prompts[%d]: a text expected", s->path, i);
        if ((err = prxi_prompts_add(c, &s->prompts, &s->n_prompts, MAX_PROMPTS, s->path, e->valuestring, strlen(e->valuestring))) < 0)
            return err;
        i++;
    }
    return err == PRX_OK && s->n_prompts == 0 ? prxi_fail(c, PRX_EINVAL, "%s: prompts: empty", s->path) : err;
}

static int set_seeds(prxi_ctx *c, prxi_sweep_spec *s, const cJSON *v)
{
    const cJSON *e;
    const int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : v ? 0 : 1;      /* not said: seed 0 */
    if (n == 0 || n > MAX_PROMPTS)
        return prxi_fail(c, PRX_EINVAL, "%s: seeds: %s", s->path,
                         n ? "too many" : cJSON_IsArray(v) ? "empty" : "a list of whole numbers expected");
    if (!(s->seeds = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)n, sizeof *s->seeds)))
        return prxi_fail_nomem(c, "seeds", (size_t)n * sizeof *s->seeds);
    s->n_seeds = n;
    int i = 0;
    for (e = v ? v->child : NULL; e; e = e->next) {
        if (!cJSON_IsNumber(e) || e->valuedouble < 0 || e->valuedouble > 0x1p53 || e->valuedouble != (double)(int64_t)e->valuedouble)
            return prxi_fail(c, PRX_EINVAL, "%s: seeds[%d]: a whole number from 0 to 2^53 expected", s->path, i);
        s->seeds[i++] = (int64_t)e->valuedouble;
    }
    for (i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            if (s->seeds[i] == s->seeds[k])
                return prxi_fail(c, PRX_EINVAL, "%s: seeds[%d]: %lld again", s->path, i, (long long)s->seeds[i]);
    return PRX_OK;
}

static int unique_prompts(prxi_ctx *c, const prxi_sweep_spec *s)
{
    for (int i = 0; i < s->n_prompts; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(s->prompts[i], s->prompts[k]) == 0)
                return prxi_fail(c, PRX_EINVAL, "%s: prompts[%d]: the same as prompts[%d]", s->path, i, k);
    return PRX_OK;
}

/* ---- */

static int set_folder(prxi_ctx *c, prxi_sweep_spec *s, const char *path, const char *presets)
{
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) + (slash == path) : 1;
    s->path = prxi_strdup(c->mem, path);
    s->folder = prxi_alloc(c->mem, PRXI_MEM_MISC, n + 1);
    s->presets = presets ? prxi_strdup(c->mem, presets) : NULL;
    if (!s->path || !s->folder || (presets && !s->presets))
        return prxi_fail_nomem(c, path, n);
    memcpy(s->folder, slash ? path : ".", n);
    s->folder[n] = '\0';
    return PRX_OK;
}

static int set_scalars(prxi_ctx *c, prxi_sweep_spec *s, const prxi_json *j)
{
    const char *model = NULL, *description = NULL;
    char path[4096];
    int64_t repeats = 1;
    int err;
    if ((err = prxi_json_int(c, j, "repeats", 1, 1000, &repeats)) < 0 ||
        (err = prxi_json_int(c, j, "order_seed", 0, INT64_C(1) << 53, &s->order_seed)) < 0 ||
        (err = prxi_json_bool(c, j, "keep_clips", &s->keep_clips)) < 0 || (err = prxi_json_str(c, j, "model", &model)) < 0 ||
        (err = prxi_json_str(c, j, "description", &description)) < 0)
        return err;
    s->repeats = (int)repeats;
    if (model && !prxi_spec_file(s, model, path, sizeof path))
        return prxi_fail(c, PRX_EINVAL, "%s: model: %s: no such folder", s->path, model);
    if ((model && !(s->model = prxi_strdup(c->mem, path))) || (description && !(s->description = prxi_strdup(c->mem, description))))
        return prxi_fail_nomem(c, s->path, 0);
    return PRX_OK;
}

int prxi_sweep_spec_read(prxi_ctx *c, prxi_sweep_spec *s, const char *path, const char *presets)
{
    prxi_json j = { NULL, NULL };
    *s = (prxi_sweep_spec) { 0 };
    int err = set_folder(c, s, path, presets);
    if (err == PRX_OK)
        err = prxi_json_open(c, &j, path, MAX_FILE);
    if (err < 0)
        return err == PRX_EFORMAT ? PRX_EINVAL : err;
    if ((err = check_keys(c, &j)) == PRX_OK && (err = set_scalars(c, s, &j)) == PRX_OK &&
        (err = set_prompts(c, s, cJSON_GetObjectItemCaseSensitive(j.root, "prompts"))) == PRX_OK &&
        (err = unique_prompts(c, s)) == PRX_OK &&
        (err = set_seeds(c, s, cJSON_GetObjectItemCaseSensitive(j.root, "seeds"))) == PRX_OK)
        err = prxi_spec_expand(c, s, j.root);
    prxi_json_close(c, &j);
    return err;
}

void prxi_sweep_spec_close(prxi_ctx *c, prxi_sweep_spec *s)
{
    for (int i = 0; i < s->n; i++) {
        prxi_pairs_close(c, &s->settings[i].own);
        prxi_pairs_close(c, &s->settings[i].all);
    }
    prxi_prompts_close(c, s->prompts, s->n_prompts);
    prxi_pairs_close(c, &s->base);
    prxi_free(c->mem, s->settings);
    prxi_free(c->mem, s->seeds);
    prxi_free(c->mem, s->path);
    prxi_free(c->mem, s->folder);
    prxi_free(c->mem, s->presets);
    prxi_free(c->mem, s->model);
    prxi_free(c->mem, s->description);
    *s = (prxi_sweep_spec) { 0 };
}
