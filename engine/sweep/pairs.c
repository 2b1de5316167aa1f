/* Settings of a row as text. */
#include "pairs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/option.h"

static prxi_setting *find(const prxi_pairs *p, const char *key)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->list[i].key, key) == 0)
            return &p->list[i];
    return NULL;
}

const char *prxi_pairs_get(const prxi_pairs *p, const char *key)
{
    const prxi_setting *s = find(p, key);
    return s ? s->value : NULL;
}

int prxi_pairs_set(prxi_ctx *c, prxi_pairs *p, const char *key, const char *value)
{
    prxi_setting *old = find(p, key);
    char *copy = prxi_strdup(c->mem, value), *name = old ? NULL : prxi_strdup(c->mem, key);
    if (copy && old) {
        prxi_free(c->mem, old->value);
        old->value = copy;
        return PRX_OK;
    }
    prxi_setting *grown = NULL;
    if (copy && name)
        grown = prxi_realloc(c->mem, PRXI_MEM_MISC, p->list, (size_t)(p->n + 1) * sizeof *grown);
    if (!grown) {
        prxi_free(c->mem, copy);
        prxi_free(c->mem, name);
        return prxi_fail_nomem(c, key, strlen(value));
    }
    p->list = grown;
    p->list[p->n++] = (prxi_setting) { name, copy };
    return PRX_OK;
}

int prxi_pairs_add(prxi_ctx *c, prxi_pairs *to, const prxi_pairs *from)
{
    int err = PRX_OK;
    for (int i = 0; i < from->n && err == PRX_OK; i++)
        err = prxi_pairs_set(c, to, from->list[i].key, from->list[i].value);
    return err;
}

void prxi_pairs_close(prxi_ctx *c, prxi_pairs *p)
{
    for (int i = 0; i < p->n; i++) {
        prxi_free(c->mem, p->list[i].key);
        prxi_free(c->mem, p->list[i].value);
    }
    prxi_free(c->mem, p->list);
    *p = (prxi_pairs) { NULL, 0 };
}

int prxi_pairs_text(const cJSON *v, char *buf, size_t n)
{
    int len = -1;
    if (cJSON_IsString(v))
        len = snprintf(buf, n, "%s", v->valuestring);
    else if (cJSON_IsBool(v))
        len = snprintf(buf, n, "%s", cJSON_IsTrue(v) ? "true" : "false");
    else if (cJSON_IsNumber(v) && fabs(v->valuedouble) < 1e15 && v->valuedouble == floor(v->valuedouble))
        len = snprintf(buf, n, "%.0f", v->valuedouble);      /* whole-number settings take no exponent */
    else if (cJSON_IsNumber(v))
        len = prxi_print_num(v->valuedouble, buf, n);
    return len >= 0 && (size_t)len < n;
}

static int load_object(prxi_ctx *c, prxi_pairs *p, const char *path, const cJSON *object, const char *prefix)
{
    const cJSON *e;
    int err = PRX_OK;
    cJSON_ArrayForEach(e, object) {
        char key[256], value[PRXI_OPT_STRING_MAX];
        if (snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", e->string) >= (int)sizeof key)
            return prxi_fail(c, PRX_EINVAL, "%s: key too long", path);
        if (!*prefix && (strcmp(key, "help") == 0 || strcmp(key, "description") == 0))
            continue;
        if (cJSON_IsObject(e) && !*prefix)
            err = load_object(c, p, path, e, key);
        else if (prxi_pairs_text(e, value, sizeof value))
            err = prxi_pairs_set(c, p, key, value);
        else
            err = prxi_fail(c, PRX_EINVAL, "%s: %s: a string, number or boolean expected", path, key);
        if (err < 0)
            return err;
    }
    return PRX_OK;
}

int prxi_pairs_load(prxi_ctx *c, prxi_pairs *p, const char *path)
{
    prxi_json tree;
    int err = prxi_json_open(c, &tree, path, 1 << 20);
    if (err < 0)
        return err;
    err = load_object(c, p, path, tree.root, "");
    prxi_json_close(c, &tree);
    return err;
}
