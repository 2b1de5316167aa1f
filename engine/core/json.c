/* The checked JSON reader: a scan of our own for what cJSON lets through (depth, NUL, UTF-8) and for Python's
 * Infinity, then cJSON, then typed getters. cJSON's nodes come from malloc: its hooks are process-wide, and two
 * engines of one process share no state. */
#include "json.h"

#include <math.h>
#include <string.h>

#include "option.h"
#include "utf8.h"

enum { MAX_DEPTH = 1000 };
static const size_t default_max_bytes = (size_t)64 << 20;

/* Length of the string at p[i] == '"', closing quote included; 0 with *bad set to the offset of what is wrong. */
static size_t scan_string(const char *p, size_t n, size_t i, const char **why)
{
    size_t j = i + 1;
    while (j < n && p[j] != '"') {
        if (p[j] == '\\' && n - j > 5 && memcmp(p + j, "\\u0000", 6) == 0) {
            *why = "a NUL character in a string";
            return 0;
        }
        j += p[j] == '\\' ? 2 : 1;
    }
    if (j >= n) {
        *why = "a string without end";
        return 0;
    }
    return j + 1 - i;
}

/* json.dump writes infinities as words; spelled so that strtod gives the same value, in the same length. */
static size_t replace_infinity(char *p, size_t n)
{
    if (n >= 9 && memcmp(p, "-Infinity", 9) == 0) {
        memcpy(p, "-1e99999 ", 9);
        return 9;
    }
    if (n >= 8 && memcmp(p, "Infinity", 8) == 0) {
        memcpy(p, "1e99999 ", 8);
        return 8;
    }
    return 1;
}

/* 0 when fine, else *at is the offset and *why the reason. */
static int scan(char *p, size_t n, size_t *at, const char **why)
{
    int depth = 0;
    size_t i = prxi_utf8_check(p, n);
    if (i < n) {
        *at = i;
        *why = "not valid UTF-8";
        return -1;
    }
    for (i = 0; i < n;) {
        size_t step = 1;
        *at = i;
        if (p[i] == '\0') {
            *why = "a NUL byte";
            return -1;
        } else if (p[i] == '"') {
            step = scan_string(p, n, i, why);
            if (step == 0)
                return -1;
        } else if (p[i] == '{' || p[i] == '[') {
            if (++depth > MAX_DEPTH) {
                *why = "nested deeper than 1000 levels";
                return -1;
            }
        } else if (p[i] == '}' || p[i] == ']') {
            depth--;
        } else if (n - i >= 3 && memcmp(p + i, "NaN", 3) == 0) {
            *why = "NaN, which is no number";
            return -1;
        } else if (p[i] == 'I' || p[i] == '-') {
            step = replace_infinity(p + i, n - i);
        }
        i += step;
    }
    return 0;
}

static int is_space(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r';
}

/* text is ours to change, n bytes. */
static int parse(prxi_ctx *c, prxi_json *out, const char *name, char *text, size_t n)
{
    size_t at = 0;
    const char *why = NULL, *end = NULL;
    if (scan(text, n, &at, &why) != 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: not valid JSON at byte %zu: %s", name, at, why);
    size_t len = n;
    while (len > 0 && is_space(text[len - 1]))
        len--;
    cJSON *root = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    at = end ? (size_t)(end - text) : 0;
    if (!root)
        return prxi_fail(c, PRX_EFORMAT, "%s: not valid JSON at byte %zu", name, at);
    const int trailing = at != len, object = cJSON_IsObject(root);
    if (trailing || !object) {
        cJSON_Delete(root);
        if (trailing)
            return prxi_fail(c, PRX_EFORMAT, "%s: not valid JSON: text after the end of the value at byte %zu", name, at);
        return prxi_fail(c, PRX_EFORMAT, "%s: a JSON object is needed at the top", name);
    }
    out->path = prxi_strdup(c->mem, name);
    if (!out->path) {
        cJSON_Delete(root);
        return prxi_fail_nomem(c, name, strlen(name) + 1);
    }
    out->root = root;
    return PRX_OK;
}

int prxi_json_parse(prxi_ctx *c, prxi_json *out, const char *name, const char *text, size_t n)
{
    *out = (prxi_json) { NULL, NULL };
    char *copy = prxi_alloc(c->mem, PRXI_MEM_MISC, prxi_add(n, 1));
    if (!copy)
        return prxi_fail_nomem(c, name, n);
    memcpy(copy, text, n);
    copy[n] = '\0';
    const int err = parse(c, out, name, copy, n);
    prxi_free(c->mem, copy);
    return err;
}

int prxi_json_open(prxi_ctx *c, prxi_json *out, const char *path, size_t max_bytes)
{
    *out = (prxi_json) { NULL, NULL };
    char *text;
    size_t n;
    int err = prxi_read_file(c, path, max_bytes ? max_bytes : default_max_bytes, &text, &n);
    if (err != PRX_OK)
        return err;
    err = parse(c, out, path, text, n);
    prxi_free(c->mem, text);
    return err;
}

void prxi_json_close(prxi_ctx *c, prxi_json *j)
{
    cJSON_Delete(j->root);
    prxi_free(c->mem, j->path);
    *j = (prxi_json) { NULL, NULL };
}

/* The value of key, or NULL when it is absent or null. */
static const cJSON *value_of(const prxi_json *j, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j->root, key);
    return v && !cJSON_IsNull(v) ? v : NULL;
}

static int bad(prxi_ctx *c, const prxi_json *j, const char *key, const char *need)
{
    return prxi_fail(c, PRX_EFORMAT, "%s: \"%s\": %s is needed", j->path, key, need);
}

int prxi_json_int(prxi_ctx *c, const prxi_json *j, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const cJSON *v = value_of(j, key);
    if (!v)
        return PRX_OK;
    const double d = v->valuedouble;
    /* Beyond 2^53 a double no longer tells neighbours apart. */
    if (!cJSON_IsNumber(v) || !(fabs(d) <= 0x1p53) || d != floor(d))
        return bad(c, j, key, "a whole number");
    if (d < (double)min || d > (double)max)
        return prxi_fail(c, PRX_EFORMAT, "%s: \"%s\": %.0f is out of range, %lld to %lld is accepted", j->path, key, d,
                         (long long)min, (long long)max);
    *out = (int64_t)d;
    return PRX_OK;
}

int prxi_json_num(prxi_ctx *c, const prxi_json *j, const char *key, double *out)
{
    const cJSON *v = value_of(j, key);
    if (!v)
        return PRX_OK;
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
        return bad(c, j, key, "a finite number");
    *out = v->valuedouble;
    return PRX_OK;
}

int prxi_json_bool(prxi_ctx *c, const prxi_json *j, const char *key, int *out)
{
    const cJSON *v = value_of(j, key);
    if (!v)
        return PRX_OK;
    if (!cJSON_IsBool(v))
        return bad(c, j, key, "true or false");
    *out = cJSON_IsTrue(v) != 0;
    return PRX_OK;
}

int prxi_json_str(prxi_ctx *c, const prxi_json *j, const char *key, const char **out)
{
    *out = NULL;
    const cJSON *v = value_of(j, key);
    if (!v)
        return PRX_OK;
    if (!cJSON_IsString(v))
        return bad(c, j, key, "a string");
    *out = v->valuestring;
    return PRX_OK;
}

int prxi_json_nums(prxi_ctx *c, const prxi_json *j, const char *key, double *out, int max, int *n)
{
    const cJSON *v = value_of(j, key), *e;
    if (!v)
        return PRX_OK;
    if (!cJSON_IsArray(v))
        return bad(c, j, key, "an array of numbers");
    int count = 0;
    cJSON_ArrayForEach(e, v) {
        if (!cJSON_IsNumber(e) || !isfinite(e->valuedouble))
            return bad(c, j, key, "an array of finite numbers");
        if (count == max)
            return prxi_fail(c, PRX_EFORMAT, "%s: \"%s\": at most %d numbers are accepted", j->path, key, max);
        out[count++] = e->valuedouble;
    }
    *n = count;
    return PRX_OK;
}

cJSON *prxi_json_exact(double v)
{
    char text[40];
    prxi_print_num(v, text, sizeof text);
    return isfinite(v) ? cJSON_CreateRaw(text) : cJSON_CreateNull();
}
