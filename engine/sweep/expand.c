/* Settings of a sweep: entries and grids multiplied out, each combination resolved, named and digested. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/core/option.h"
#include "engine/core/sha256.h"
#include "spec_int.h"

enum { DIMS = 64, VALUE = PRXI_OPT_STRING_MAX };

/* One key of an entry: its value, or the list of its values. */
typedef struct dim {
    char key[128];
    const cJSON *value;
    int n;
} dim;

typedef struct entry {
    char where[64];
    const char *label;
    dim dims[DIMS];
    int n;
} entry;

/* What belongs to the sweep itself, or would write files at every row. */
static const char *refused(const char *key)
{
    static const char *const list[][2] = {
        { "prompt", "prompts belong into `prompts`" }, { "seed", "seeds belong into `seeds`" },
        { "output", "clips are kept with `keep_clips`" }, { "dump", "not in a sweep" }, { "latents", "not in a sweep" },
        { "save_state", "not in a sweep" }, { "save_every", "not in a sweep" }, { "resume", "not in a sweep" },
        { "record_trace", "not in a sweep" }, { "dump_layer", "not in a sweep" }, { "dump_step", "not in a sweep" },
        { "cache.calibrate", "not in a sweep" }, { "crf", "not in a sweep" }, { "model", "one model a sweep" },
        { "keep_weights", "not in a sweep" },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (strcmp(key, list[i][0]) == 0)
            return list[i][1];
    return NULL;
}

/* ---- entries ---- */

static int add_dim(prxi_ctx *c, const prxi_sweep_spec *s, entry *e, const char *prefix, const cJSON *v)
{
    char text[VALUE];
    dim *d = &e->dims[e->n];
    if (e->n == DIMS)
        return prxi_fail(c, PRX_EINVAL, "%s: %s: more than %d keys", s->path, e->where, DIMS);
    if (snprintf(d->key, sizeof d->key, "%s%s%s", prefix, *prefix ? "." : "", v->string) >= (int)sizeof d->key)
        return prxi_fail(c, PRX_EINVAL, "%s: %s: key too long", s->path, e->where);
    const char *why = refused(d->key);
    if (why)
        return prxi_fail(c, PRX_EINVAL, "%s: %s: %s: %s", s->path, e->where, d->key, why);
    d->value = cJSON_IsArray(v) ? v->child : v;
    d->n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 1;
    if (d->n == 0)
        return prxi_fail(c, PRX_EINVAL, "%s: %s: %s: empty list", s->path, e->where, d->key);
    const cJSON *one = d->value;
    for (int i = 0; i < d->n; i++, one = one->next)
        if (!prxi_pairs_text(one, text, sizeof text))
            return prxi_fail(c, PRX_EINVAL, "%s: %s: %s: a text, number or boolean, or a list of them, expected", s->path, e->where,
                             d->key);
    e->n++;
    return PRX_OK;
}

static int read_entry(prxi_ctx *c, const prxi_sweep_spec *s, entry *e, const cJSON *o)
{
    const cJSON *v, *w;
    int err = PRX_OK;
    if (!cJSON_IsObject(o))
        return prxi_fail(c, PRX_EINVAL, "%s: %s: an object of settings expected", s->path, e->where);
    cJSON_ArrayForEach(v, o) {
        if (strcmp(v->string, "label") == 0) {
            if (!cJSON_IsString(v) || strlen(v->valuestring) > 80)
                return prxi_fail(c, PRX_EINVAL, "%s: %s: label: a text of at most 80 bytes expected", s->path, e->where);
            e->label = v->valuestring;
        } else if (cJSON_IsObject(v)) {
            cJSON_ArrayForEach(w, v)
                if (err == PRX_OK)
                    err = add_dim(c, s, e, v->string, w);
        } else
            err = add_dim(c, s, e, "", v);
        if (err < 0)
            return err;
    }
    return PRX_OK;
}

static double combinations(const entry *e)
{
    double n = 1;
    for (int i = 0; e && i < e->n; i++)
        n *= e->dims[i].n;
    return n;
}

/* ---- one combination ---- */

static int load_config(prxi_ctx *c, const prxi_sweep_spec *s, const char *where, prxi_pairs *p, const char *name)
{
    char path[4096];
    const size_t n = strlen(name);
    const int is_file = strchr(name, '/') || (n > 5 && strcmp(name + n - 5, ".json") == 0);
    int found = is_file && prxi_spec_file(s, name, path, sizeof path);
    if (!is_file && s->presets && snprintf(path, sizeof path, "%s/%s.json", s->presets, name) < (int)sizeof path)
        found = access(path, F_OK) == 0;
    if (!found)
        return prxi_fail(c, PRX_EINVAL, "%s: %s: config: %s: no such %s", s->path, where, name, is_file ? "file" : "preset");
    return prxi_pairs_load(c, p, path);
}

/* A file that lies beside the spec is named so that it is found. */
static int set_value(prxi_ctx *c, const prxi_sweep_spec *s, prxi_pairs *p, const char *key, const char *value)
{
    char path[4096];
    const size_t n = strlen(value);
    if (n > 5 && strcmp(value + n - 5, ".json") == 0 && prxi_spec_file(s, value, path, sizeof path))
        value = path;
    return prxi_pairs_set(c, p, key, value);
}

/* Values number `at` of an entry into p (its preset first); the chosen ones are told to the label. */
static int choose(prxi_ctx *c, const prxi_sweep_spec *s, const entry *e, double at, prxi_pairs *p, char *label, size_t size)
{
    char text[VALUE];
    int pick[DIMS];
    for (int i = e->n - 1; i >= 0; i--) {
        const double rest = (double)(int64_t)(at / e->dims[i].n);
        pick[i] = (int)(at - rest * e->dims[i].n);
        at = rest;
    }
    for (int i = 0; i < 2 * e->n; i++) {
        const dim *d = &e->dims[i % e->n];
        const int config = strcmp(d->key, "config") == 0;
        const cJSON *v = d->value;
        if (config != (i < e->n))
            continue;
        for (int k = 0; k < pick[i % e->n]; k++)
            v = v->next;
        prxi_pairs_text(v, text, sizeof text);
        const int err = config ? load_config(c, s, e->where, p, text) : set_value(c, s, p, d->key, text);
        if (err < 0)
            return err;
        const char *slash = strrchr(text, '/');
        const size_t used = strlen(label);
        if (!e->label || d->n > 1)
            snprintf(label + used, size - used, "%s%s=%s", used ? " " : "", d->key, slash ? slash + 1 : text);
    }
    return PRX_OK;
}

static int digest_file(prxi_ctx *c, prxi_sha256 *h, const char *path)
{
    char *text;
    size_t n;
    const int err = prxi_read_file(c, path, 64 << 20, &text, &n);
    if (err < 0)
        return err;
    prxi_sha256_add(h, text, n);
    prxi_free(c->mem, text);
    return PRX_OK;
}

/* Digest of the settings in the order of their keys, with what the named JSON files hold. */
static int digest(prxi_ctx *c, const prxi_pairs *p, char out[65])
{
    prxi_sha256 h;
    const char *last = "";
    int err = PRX_OK;
    prxi_sha256_init(&h);
    for (int i = 0; i < p->n && err == PRX_OK; i++) {
        const prxi_setting *least = NULL;
        for (int k = 0; k < p->n; k++)
            if (strcmp(p->list[k].key, last) > 0 && (!least || strcmp(p->list[k].key, least->key) < 0))
                least = &p->list[k];
        if (!least)
            break;
        last = least->key;
        prxi_sha256_add(&h, least->key, strlen(least->key) + 1);
        prxi_sha256_add(&h, least->value, strlen(least->value) + 1);
        const size_t n = strlen(least->value);
        if (n > 5 && strcmp(least->value + n - 5, ".json") == 0 && access(least->value, R_OK) == 0)
            err = digest_file(c, &h, least->value);
    }
    prxi_sha256_hex(&h, out);
    return err;
}

static int resolve(prxi_ctx *c, const prxi_sweep_spec *s, prxi_sweep_setting *out)
{
    int err = prxi_pairs_add(c, &out->all, &s->base);
    if (err == PRX_OK)
        err = prxi_pairs_add(c, &out->all, &out->own);
    return err == PRX_OK ? digest(c, &out->all, out->digest) : err;
}

static int combine(prxi_ctx *c, const prxi_sweep_spec *s, const entry *e, const entry *g, double at, prxi_sweep_setting *out)
{
    const double inner = combinations(g), outer = (double)(int64_t)(at / inner);
    snprintf(out->where, sizeof out->where, "%s", e->n || !g ? e->where : g->where);
    if (e->label)
        snprintf(out->label, sizeof out->label, "%s", e->label);
    int err = choose(c, s, e, outer, &out->own, out->label, sizeof out->label);
    if (err == PRX_OK && g)
        err = choose(c, s, g, at - outer * inner, &out->own, out->label, sizeof out->label);
    if (!out->label[0])
        snprintf(out->label, sizeof out->label, "base");
    return err == PRX_OK ? resolve(c, s, out) : err;
}

/* ---- all ---- */

static int add_setting(prxi_ctx *c, prxi_sweep_spec *s, prxi_sweep_setting **out)
{
    prxi_sweep_setting *list = s->settings;
    if ((s->n & (s->n - 1)) == 0)           /* grows at powers of two */
        list = prxi_realloc(c->mem, PRXI_MEM_MISC, list, (size_t)(s->n ? 2 * s->n : 1) * sizeof *list);
    if (!list)
        return prxi_fail_nomem(c, "settings", (size_t)s->n * sizeof *list);
    s->settings = list;
    *out = &list[s->n++];
    **out = (prxi_sweep_setting) { .label = "" };
    return PRX_OK;
}

static int expand_pair(prxi_ctx *c, prxi_sweep_spec *s, const entry *e, const entry *g)
{
    const double n = combinations(e) * combinations(g);
    const double rows = n * s->n_prompts * s->n_seeds * s->repeats;
    if (rows > PRXI_SWEEP_ROWS)
        return prxi_fail(c, PRX_EINVAL, "%s: %s%s%s: %.0f combinations, %.0f rows with prompts, seeds and repeats; at most %d", s->path,
                         e->n || !g ? e->where : "", g ? e->n ? " x " : "" : "", g ? g->where : "", n, rows, PRXI_SWEEP_ROWS);
    for (double i = 0; i < n; i++) {
        prxi_sweep_setting *out;
        int err = add_setting(c, s, &out);
        if (err == PRX_OK)
            err = combine(c, s, e, g, i, out);
        if (err < 0)
            return err;
        if (s->has_reference && s->n > 1 && strcmp(out->digest, s->settings[0].digest) == 0) {
            prxi_pairs_close(c, &out->own);         /* the reference has its row */
            prxi_pairs_close(c, &out->all);
            s->n--;
        }
    }
    return PRX_OK;
}

/* Entry i of a list, or the object itself (i 0). name[i] becomes its place. NULL: no more. */
static const cJSON *nth(const cJSON *v, const char *name, int i, entry *e)
{
    *e = (entry) { .label = NULL };
    if (cJSON_IsArray(v))
        snprintf(e->where, sizeof e->where, "%s[%d]", name, i);
    else
        snprintf(e->where, sizeof e->where, "%s", name);
    return cJSON_IsArray(v) ? cJSON_GetArrayItem(v, i) : i == 0 ? v : NULL;
}

static int expand_grids(prxi_ctx *c, prxi_sweep_spec *s, const entry *e, const cJSON *grid)
{
    entry *g = prxi_alloc(c->mem, PRXI_MEM_MISC, sizeof *g);
    const cJSON *o;
    int err = g ? PRX_OK : prxi_fail_nomem(c, "grid", sizeof *g);
    if (g && !grid)
        err = expand_pair(c, s, e, NULL);
    for (int i = 0; err == PRX_OK && grid && (o = nth(grid, "grid", i, g)); i++) {
        if ((err = read_entry(c, s, g, o)) == PRX_OK && g->label)
            err = prxi_fail(c, PRX_EINVAL, "%s: %s: label: belongs into settings", s->path, g->where);
        if (err == PRX_OK)
            err = expand_pair(c, s, e, g);
    }
    prxi_free(c->mem, g);
    return err;
}

static int by_digest(const void *a, const void *b)
{
    const prxi_sweep_setting *x = *(const prxi_sweep_setting *const *)a, *y = *(const prxi_sweep_setting *const *)b;
    const int d = strcmp(x->digest, y->digest);
    return d ? d : (x > y) - (x < y);
}

static int check_unique(prxi_ctx *c, const prxi_sweep_spec *s)
{
    const prxi_sweep_setting **list = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)s->n, sizeof *list);
    int err = list ? PRX_OK : prxi_fail_nomem(c, "settings", (size_t)s->n * sizeof *list);
    for (int i = 0; list && i < s->n; i++)
        list[i] = &s->settings[i];
    if (list)
        qsort(list, (size_t)s->n, sizeof *list, by_digest);
    for (int i = 1; i < s->n && err == PRX_OK; i++)
        if (strcmp(list[i]->digest, list[i - 1]->digest) == 0)
            err = prxi_fail(c, PRX_EINVAL, "%s: %s (%s): the same settings as %s", s->path, list[i]->where, list[i]->label,
                            list[i - 1]->where);
    prxi_free(c->mem, list);
    return err;
}

/* base and reference: one value a key. */
static int read_single(prxi_ctx *c, const prxi_sweep_spec *s, const char *name, const cJSON *o, prxi_pairs *p)
{
    char label[8] = "";
    entry *e = prxi_alloc(c->mem, PRXI_MEM_MISC, sizeof *e);
    if (!e)
        return prxi_fail_nomem(c, name, sizeof *e);
    nth(NULL, name, 0, e);
    int err = o ? read_entry(c, s, e, o) : PRX_OK;
    if (err == PRX_OK && (combinations(e) > 1 || e->label))
        err = prxi_fail(c, PRX_EINVAL, "%s: %s: one value for each key expected, no label", s->path, name);
    if (err == PRX_OK)
        err = choose(c, s, e, 0, p, label, sizeof label);
    prxi_free(c->mem, e);
    return err;
}

static int add_reference(prxi_ctx *c, prxi_sweep_spec *s, const cJSON *o)
{
    prxi_sweep_setting *r;
    s->has_reference = 1;
    int err = add_setting(c, s, &r);
    if (err < 0)
        return err;
    snprintf(r->label, sizeof r->label, "reference");
    snprintf(r->where, sizeof r->where, "reference");
    err = read_single(c, s, "reference", o, &r->own);
    return err == PRX_OK ? resolve(c, s, r) : err;
}

int prxi_spec_expand(prxi_ctx *c, prxi_sweep_spec *s, const cJSON *root)
{
    const cJSON *reference = cJSON_GetObjectItemCaseSensitive(root, "reference"), *grid = cJSON_GetObjectItemCaseSensitive(root, "grid");
    const cJSON *settings = cJSON_GetObjectItemCaseSensitive(root, "settings"), *o;
    int err = read_single(c, s, "base", cJSON_GetObjectItemCaseSensitive(root, "base"), &s->base);
    if (err == PRX_OK && !cJSON_IsNull(reference))
        err = add_reference(c, s, reference);
    if (err < 0)
        return err;
    if ((!settings && !grid) || (cJSON_IsArray(settings) && !settings->child) || (grid && !grid->child))
        return prxi_fail(c, PRX_EINVAL, "%s: %s: empty: nothing to run", s->path,
                         !settings && !grid ? "settings, grid" : settings && !settings->child ? "settings" : "grid");
    if (settings && !cJSON_IsArray(settings))
        return prxi_fail(c, PRX_EINVAL, "%s: settings: a list of objects expected", s->path);
    entry *e = prxi_alloc(c->mem, PRXI_MEM_MISC, sizeof *e);
    if (!e)
        return prxi_fail_nomem(c, "settings", sizeof *e);
    nth(NULL, "settings", 0, e);
    if (!settings)
        err = expand_grids(c, s, e, grid);
    for (int i = 0; err == PRX_OK && settings && (o = nth(settings, "settings", i, e)); i++)
        if ((err = read_entry(c, s, e, o)) == PRX_OK)
            err = expand_grids(c, s, e, grid);
    prxi_free(c->mem, e);
    if (err == PRX_OK && (double)s->n * s->n_prompts * s->n_seeds * s->repeats > PRXI_SWEEP_ROWS)
        err = prxi_fail(c, PRX_EINVAL, "%s: %d settings, %.0f rows with prompts, seeds and repeats; at most %d", s->path, s->n,
                        (double)s->n * s->n_prompts * s->n_seeds * s->repeats, PRXI_SWEEP_ROWS);
    return err == PRX_OK ? check_unique(c, s) : err;
}
