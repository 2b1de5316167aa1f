/* tokenizer.json holds the whole vocabulary (16 MB for UMT5): the few members that matter are cut out by a scan and only they
 * are parsed. */
#include "tokenizer_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/core/json.h"

enum { MAX_ADDED = 4096 };

typedef struct span {
    const char *p;
    size_t n;
} span;

/* ---- the scan ---- */

static size_t skip_space(span s, size_t i)
{
    while (i < s.n && (s.p[i] == ' ' || s.p[i] == '\n' || s.p[i] == '\t' || s.p[i] == '\r'))
        i++;
    return i;
}

/* End of the string that begins at i, one past the quote; n when it does not end. */
static size_t skip_string(span s, size_t i)
{
    for (i++; i < s.n && s.p[i] != '"'; i++)
        if (s.p[i] == '\\')
            i++;
    return i < s.n ? i + 1 : s.n;
}

/* End of the value that begins at i: brackets are counted, strings stepped over. */
static size_t skip_value(span s, size_t i)
{
    int depth = 0;
    while (i < s.n) {
        const char ch = s.p[i];
        if (depth == 0 && (ch == ',' || ch == '}' || ch == ']'))
            return i;
        if (ch == '"') {
            i = skip_string(s, i);
            continue;
        }
        depth += ch == '{' || ch == '[';
        depth -= ch == '}' || ch == ']';
        i++;
    }
    return s.n;
}

/* The text of the member `key` of the object at the start of s; n 0 when absent. */
static span member(span s, const char *key)
{
    const size_t len = strlen(key);
    size_t i = skip_space(s, 0);
    if (i >= s.n || s.p[i] != '{')
        return (span) { NULL, 0 };
    i = skip_space(s, i + 1);
    while (i < s.n && s.p[i] == '"') {
        const size_t name = i + 1;
        i = skip_string(s, i);
        const int same = i - name == len + 1 && memcmp(s.p + name, key, len) == 0;
        i = skip_space(s, i);
        if (i >= s.n || s.p[i] != ':')
            break;
        const size_t begin = skip_space(s, i + 1);
        i = skip_value(s, begin);
        if (same)
            return (span) { s.p + begin, i - begin };
        if (i < s.n && s.p[i] == ',')
            i = skip_space(s, i + 1);
        else
            break;
    }
    return (span) { NULL, 0 };
}

/* {"v": span} parsed; root NULL and PRX_OK when the span is empty. */
static int parse_span(prxi_ctx *c, prxi_json *j, const char *path, span s)
{
    *j = (prxi_json) { NULL, NULL };
    if (s.n == 0)
        return PRX_OK;
    char *text = prxi_alloc(c->mem, PRXI_MEM_MISC, prxi_add(s.n, 6));
    if (!text)
        return prxi_fail_nomem(c, path, s.n);
    memcpy(text, "{\"v\":", 5);
    memcpy(text + 5, s.p, s.n);
    text[5 + s.n] = '}';
    const int err = prxi_json_parse(c, j, path, text, s.n + 6);
    prxi_free(c->mem, text);
    return err;
}

/* ---- added tokens ---- */

static int add(prxi_ctx *c, prxi_tok_rules *r, const char *text, int64_t id)
{
    if (r->n_added == MAX_ADDED)
        return prxi_fail(c, PRX_EFORMAT, "tokenizer: more than %d added tokens", MAX_ADDED);
    if ((r->n_added & (r->n_added - 1)) == 0) {      /* 0 or a power of two: full */
        const size_t bytes = (size_t)(r->n_added ? 2 * r->n_added : 1) * sizeof *r->added;
        prxi_added *p = prxi_realloc(c->mem, PRXI_MEM_MISC, r->added, bytes);
        if (!p)
            return prxi_fail_nomem(c, "tokenizer", bytes);
        r->added = p;
    }
    prxi_added *a = &r->added[r->n_added];
    *a = (prxi_added) { .text = prxi_strdup(c->mem, text), .len = strlen(text), .id = (int32_t)id };
    if (!a->text)
        return prxi_fail_nomem(c, "tokenizer", a->len + 1);
    r->n_added++;
    return PRX_OK;
}

static int read_added(prxi_ctx *c, prxi_tok_rules *r, const char *path, span text)
{
    prxi_json j;
    int err = parse_span(c, &j, path, member(text, "added_tokens"));
    const cJSON *list = j.root ? j.root->child : NULL, *e;
    if (err == PRX_OK && list && !cJSON_IsArray(list))
        err = prxi_fail(c, PRX_EFORMAT, "%s: \"added_tokens\": an array is needed", path);
    if (err == PRX_OK && list) {
        cJSON_ArrayForEach(e, list) {
            const cJSON *content = cJSON_GetObjectItemCaseSensitive(e, "content");
            const cJSON *id = cJSON_GetObjectItemCaseSensitive(e, "id");
            if (!cJSON_IsString(content) || !*content->valuestring || !cJSON_IsNumber(id) ||
                !(id->valuedouble >= 0 && id->valuedouble < INT32_MAX)) {
                err = prxi_fail(c, PRX_EFORMAT, "%s: \"added_tokens\": an entry lacks content or id", path);
                break;
            }
            err = add(c, r, content->valuestring, (int64_t)id->valuedouble);
            if (err != PRX_OK)
                break;
            prxi_added *a = &r->added[r->n_added - 1];
            a->lstrip = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(e, "lstrip")) != 0;
            a->rstrip = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(e, "rstrip")) != 0;
            a->single_word = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(e, "single_word")) != 0;
        }
    }
    prxi_json_close(c, &j);
    return err;
}

/* ---- the pipeline of tokenizer.json ---- */

static int is_type(const cJSON *v, const char *type)
{
    const cJSON *t = cJSON_GetObjectItemCaseSensitive(v, "type");
    return cJSON_IsString(t) && strcmp(t->valuestring, type) == 0;
}

/* v itself or the entry of the Sequence v that has this type. */
static const cJSON *part(const cJSON *v, const char *list, const char *type)
{
    if (is_type(v, type))
        return v;
    const cJSON *e;
    cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(v, list)) {
        if (is_type(e, type))
            return e;
    }
    return NULL;
}

static int read_pipeline(prxi_ctx *c, prxi_tok_rules *r, const char *path, span text)
{
    prxi_json j;
    int err = parse_span(c, &j, path, member(text, "normalizer"));
    if (err != PRX_OK)
        return err;
    const cJSON *strip = j.root ? part(j.root->child, "normalizers", "Strip") : NULL;
    r->strip_right = strip && !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(strip, "strip_right"));
    prxi_json_close(c, &j);
    err = parse_span(c, &j, path, member(text, "pre_tokenizer"));
    if (err != PRX_OK)
        return err;
    const cJSON *pre = j.root ? j.root->child : NULL;
    const cJSON *space = part(pre, "pretokenizers", "Metaspace");
    if (part(pre, "pretokenizers", "WhitespaceSplit"))
        r->strip_right = 1;
    const cJSON *scheme = cJSON_GetObjectItemCaseSensitive(space, "prepend_scheme");
    r->prefix = PRXI_PREFIX_ALWAYS;
    if (cJSON_IsString(scheme) && strcmp(scheme->valuestring, "first") == 0)
        r->prefix = PRXI_PREFIX_FIRST;
    else if (cJSON_IsString(scheme) && strcmp(scheme->valuestring, "never") == 0)
        r->prefix = PRXI_PREFIX_NEVER;
    else if (!scheme && cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(space, "add_prefix_space")))
        r->prefix = PRXI_PREFIX_NEVER;
    if (!space)
        err = prxi_fail(c, PRX_EFORMAT, "%s: \"pre_tokenizer\": Metaspace is needed", path);
    prxi_json_close(c, &j);
    return err;
}

static int read_model(prxi_ctx *c, prxi_tok_rules *r, const char *path, span text)
{
    const span model = member(text, "model"), type = member(model, "type"), unk = member(model, "unk_id");
    const span fallback = member(model, "byte_fallback");
    if (model.n == 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: \"model\" is missing", path);
    if (type.n && (type.n != 9 || memcmp(type.p, "\"Unigram\"", 9) != 0))
        return prxi_fail(c, PRX_EFORMAT, "%s: \"model\": type %.*s is not supported, \"Unigram\" is", path,
                         type.n < 40 ? (int)type.n : 40, type.p);
    prxi_json j;
    int err = parse_span(c, &j, path, unk);
    int64_t id = r->unk_id;
    if (err == PRX_OK && j.root)
        err = prxi_json_int(c, &j, "v", 0, INT32_MAX - 1, &id);
    r->unk_id = (int32_t)id;
    prxi_json_close(c, &j);
    r->byte_fallback = fallback.n >= 4 && memcmp(fallback.p, "true", 4) == 0;
    return err;
}

int prxi_tok_rules_parse(prxi_ctx *c, prxi_tok_rules *r, const char *path, const char *data, size_t n)
{
    const span text = { data, n };
    int err = read_added(c, r, path, text);
    if (err == PRX_OK)
        err = read_pipeline(c, r, path, text);
    return err == PRX_OK ? read_model(c, r, path, text) : err;
}

static int from_json(prxi_ctx *c, prxi_tok_rules *r, const char *path)
{
    char *data;
    size_t n;
    int err = prxi_read_file(c, path, (size_t)256 << 20, &data, &n);
    if (err != PRX_OK)
        return err;
    err = prxi_tok_rules_parse(c, r, path, data, n);
    prxi_free(c->mem, data);
    return err;
}

/* ---- without tokenizer.json ---- */

/* transformers: <pad>, </s>, <unk> of the model, then <extra_id_K> behind its last piece, the highest K first. */
static int from_model(prxi_ctx *c, prxi_tok_rules *r, const char *config, const prxi_spm *spm)
{
    static const char *const special[] = { "<pad>", "</s>", "<unk>" };
    const int pieces = prxi_spm_size(spm);
    int64_t extra = 100;
    int err = PRX_OK;
    if (access(config, F_OK) == 0) {
        prxi_json j;
        err = prxi_json_open(c, &j, config, 0);
        if (err == PRX_OK)
            err = prxi_json_int(c, &j, "extra_ids", 0, 1000, &extra);
        prxi_json_close(c, &j);
    }
    for (int i = 0; err == PRX_OK && i < pieces; i++) {
        size_t len;
        float score;
        const char *text = prxi_spm_piece(spm, i, &len, &score);
        for (size_t k = 0; err == PRX_OK && k < sizeof special / sizeof *special; k++)
            if (len == strlen(special[k]) && memcmp(text, special[k], len) == 0)
                err = add(c, r, special[k], i);
    }
    for (int64_t k = 0; err == PRX_OK && k < extra; k++) {
        char name[32];
        snprintf(name, sizeof name, "<extra_id_%d>", (int)k);
        err = add(c, r, name, pieces + extra - 1 - k);
    }
    return err;
}

int prxi_tok_rules_open(prxi_ctx *c, prxi_tok_rules *r, const char *dir, const prxi_spm *spm, const prxi_spm_spec *spec)
{
    char path[4096], config[4096];
    *r = (prxi_tok_rules) { .unk_id = spec->unk_id, .strip_right = 1, .prefix = PRXI_PREFIX_ALWAYS };
    if (snprintf(path, sizeof path, "%s/tokenizer.json", dir) >= (int)sizeof path ||
        snprintf(config, sizeof config, "%s/tokenizer_config.json", dir) >= (int)sizeof config)
        return prxi_fail(c, PRX_EINVAL, "%.200s: the path is too long", dir);
    const int err = access(path, F_OK) == 0 ? from_json(c, r, path) : from_model(c, r, config, spm);
    if (err != PRX_OK)
        prxi_tok_rules_close(c, r);
    return err;
}

void prxi_tok_rules_close(prxi_ctx *c, prxi_tok_rules *r)
{
    for (int i = 0; i < r->n_added; i++)
        prxi_free(c->mem, r->added[i].text);
    prxi_free(c->mem, r->added);
    memset(r, 0, sizeof *r);
}

/* ---- search ---- */

/* Letters of other scripts count as word characters: good enough for a flag that T5 tokenizers leave off. */
static int is_word(const char *s, size_t n, size_t i)
{
    return i < n && (isalnum((unsigned char)s[i]) || s[i] == '_' || (unsigned char)s[i] >= 0x80);
}

int prxi_added_find(const prxi_tok_rules *r, const char *s, size_t n, size_t *begin, size_t *end)
{
    for (size_t i = 0; i < n; i++) {
        int best = -1;
        for (int k = 0; k < r->n_added; k++) {
            const prxi_added *a = &r->added[k];
            if (a->text[0] != s[i] || a->len > n - i || memcmp(s + i, a->text, a->len) != 0)
                continue;
            if (a->single_word && ((i > 0 && is_word(s, n, i - 1)) || is_word(s, n, i + a->len)))
                continue;
            if (best < 0 || a->len > r->added[best].len)
                best = k;
        }
        if (best < 0)
            continue;
        *begin = i;
        *end = i + r->added[best].len;
        while (r->added[best].lstrip && *begin > 0 && s[*begin - 1] == ' ')
            --*begin;
        while (r->added[best].rstrip && *end < n && s[*end] == ' ')
            ++*end;
        return best;
    }
    return -1;
}
