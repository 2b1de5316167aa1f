/* Lines "check key value" after a first one that says whose they are; check: eight digits of the SHA-256 of the rest. */
#include "choices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "json.h"
#include "sha256.h"

#define HEAD "praxino choices 1\n"

enum { CHECK = 8, LINE = CHECK + 1 + PRXI_CHOICE_KEY + PRXI_CHOICE_VALUE, MOST = 4096 };

typedef struct pair {
    char key[PRXI_CHOICE_KEY], value[PRXI_CHOICE_VALUE];
} pair;

struct prxi_choices {
    char path[3072], folder[3000];      /* path "": no file */
    pair *all;
    int n, room, changed;
};

/* ---- where ---- */

static int place(prxi_choices *k, const char *name)
{
    const char *set = getenv("PRAXINO_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n;
    if (set)
        n = snprintf(k->folder, sizeof k->folder, "%s", set);
    else if (xdg && *xdg == '/')
        n = snprintf(k->folder, sizeof k->folder, "%s/praxino", xdg);
    else
        n = home && *home == '/' ? snprintf(k->folder, sizeof k->folder, "%s/.cache/praxino", home) : 0;
    if (n <= 0 || n >= (int)sizeof k->folder)
        return 0;
    return snprintf(k->path, sizeof k->path, "%s/%.60s.choices", k->folder, name) < (int)sizeof k->path;
}

static int make_folders(const char *path)
{
    char part[3000];
    for (const char *p = path + 1;; p++)
        if (*p == '/' || !*p) {
            snprintf(part, sizeof part, "%.*s", (int)(p - path), path);
            if (mkdir(part, 0777) != 0 && errno != EEXIST)
                return errno;
            if (!*p)
                return 0;
        }
}

/* ---- pairs ---- */

static pair *find(const prxi_choices *k, const char *key)
{
    for (int i = 0; i < k->n; i++)
        if (strcmp(k->all[i].key, key) == 0)
            return &k->all[i];
    return NULL;
}

static int is_word(const char *s, size_t most)
{
    size_t n = 0;
    for (; s[n]; n++)
        if (s[n] <= ' ' || s[n] > '~')
            return 0;
    return n > 0 && n < most;
}

static int add(prxi_ctx *c, prxi_choices *k, const char *key, const char *value)
{
    if (k->n == MOST)                   /* old devices, old versions: begin anew */
        k->n = 0;
    if (k->n == k->room) {
        pair *grown = prxi_realloc(c->mem, PRXI_MEM_MISC, k->all, (size_t)(k->room + 32) * sizeof *grown);
        if (!grown)
            return prxi_fail_nomem(c, "choices", (size_t)(k->room + 32) * sizeof *grown);
        k->all = grown;
        k->room += 32;
    }
    pair *p = &k->all[k->n++];
    snprintf(p->key, sizeof p->key, "%s", key);
    snprintf(p->value, sizeof p->value, "%s", value);
    return PRX_OK;
}

const char *prxi_choices_get(const prxi_choices *k, const char *key)
{
    const pair *p = find(k, key);
    return p ? p->value : NULL;
}

const char *prxi_choices_at(const prxi_choices *k, int i, const char **value)
{
    if (i >= k->n)
        return NULL;
    *value = k->all[i].value;
    return k->all[i].key;
}

int prxi_choices_put(prxi_ctx *c, prxi_choices *k, const char *key, const char *value)
{
    if (!is_word(key, PRXI_CHOICE_KEY) || !is_word(value, PRXI_CHOICE_VALUE))
        return prxi_fail(c, PRX_EINVAL, "choice '%.80s': a word of at most %d characters expected", key, PRXI_CHOICE_KEY - 1);
    pair *p = find(k, key);
    if (p && strcmp(p->value, value) == 0)
        return PRX_OK;
    k->changed = 1;
    if (!p)
        return add(c, k, key, value);
    snprintf(p->value, sizeof p->value, "%s", value);
    return PRX_OK;
}

/* ---- the file ---- */

/* Formats a line without its end; returns its length. */
static size_t format(char line[LINE], const char *key, const char *value)
{
    char digest[65];
    const int n = snprintf(line + CHECK + 1, LINE - CHECK - 1, "%s %s", key, value);
    prxi_sha256 s;
    prxi_sha256_init(&s);
    prxi_sha256_add(&s, line + CHECK + 1, (size_t)n);
    prxi_sha256_hex(&s, digest);
    memcpy(line, digest, CHECK);
    line[CHECK] = ' ';
    return CHECK + 1 + (size_t)n;
}

/* PRX_OK where the n bytes are such a line, and known. Known already: what is in memory stays. */
static int take(prxi_ctx *c, prxi_choices *k, const char *text, size_t n)
{
    char line[LINE], again[LINE];
    if (n >= sizeof line || n < CHECK + 1)
        return PRX_EFORMAT;
    memcpy(line, text, n);
    line[n] = '\0';
    char *key = line + CHECK + 1, *value = strchr(key, ' ');
    if (!value)
        return PRX_EFORMAT;
    *value++ = '\0';
    if (!is_word(key, PRXI_CHOICE_KEY) || !is_word(value, PRXI_CHOICE_VALUE) || format(again, key, value) != n ||
        memcmp(again, text, n) != 0)
        return PRX_EFORMAT;
    return find(k, key) ? PRX_OK : add(c, k, key, value);
}

/* The number of the line that is wrong, 0: none. */
static int parse(prxi_ctx *c, prxi_choices *k, const char *text, int *err)
{
    if (strncmp(text, HEAD, strlen(HEAD)) != 0)
        return 1;
    int number = 2;
    for (const char *p = text + strlen(HEAD), *end; *p; p = end + 1, number++) {
        end = strchr(p, '\n');
        *err = end ? take(c, k, p, (size_t)(end - p)) : PRX_EFORMAT;
        if (*err < 0)
            return number;
    }
    return 0;
}

/* Adds what the file has; all of it or nothing. */
static int load(prxi_ctx *c, prxi_choices *k)
{
    prxi_ctx quiet = { .mem = c->mem };
    char *text = NULL;
    size_t n = 0;
    const int before = k->n;
    int err = *k->path ? prxi_read_file(&quiet, k->path, 4 << 20, &text, &n) : PRX_EINVAL;
    if (err == PRX_ENOMEM)
        return prxi_pass_error(c, &quiet);
    if (err < 0) {
        if (*k->path && err != PRX_EINVAL)
            prxi_logf(c, PRX_LOG_WARN, "%s; what it says is measured again", quiet.error.text);
        return PRX_OK;
    }
    err = PRX_OK;
    const int wrong = strlen(text) == n ? parse(c, k, text, &err) : 1;
    prxi_free(c->mem, text);
    if (wrong && err == PRX_ENOMEM)
        return err;
    if (wrong) {
        k->n = before < k->n ? before : k->n;
        prxi_logf(c, PRX_LOG_WARN, "%s: line %d is damaged or not of this program; what it says is measured again", k->path, wrong);
    }
    return PRX_OK;
}

int prxi_choices_open(prxi_ctx *c, prxi_choices **out, const char *name)
{
    prxi_choices *k = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *k);
    *out = NULL;
    if (!k)
        return prxi_fail_nomem(c, "choices", sizeof *k);
    if (!place(k, name))
        *k->path = '\0';
    const int err = load(c, k);
    if (err < 0)
        prxi_choices_close(c, &k);
    *out = k;
    return err;
}

void prxi_choices_close(prxi_ctx *c, prxi_choices **p)
{
    if (*p)
        prxi_free(c->mem, (*p)->all);
    prxi_free(c->mem, *p);
    *p = NULL;
}

static int write_all(prxi_ctx *c, const prxi_choices *k)
{
    const size_t room = strlen(HEAD) + (size_t)k->n * (LINE + 1) + 1;
    char *text = prxi_alloc(c->mem, PRXI_MEM_MISC, room);
    if (!text)
        return prxi_fail_nomem(c, "choices", room);
    size_t n = strlen(HEAD);
    memcpy(text, HEAD, n);
    for (int i = 0; i < k->n; i++) {
        char line[LINE];
        const size_t length = format(line, k->all[i].key, k->all[i].value);
        memcpy(text + n, line, length);
        text[n + length] = '\n';
        n += length + 1;
    }
    const int err = prxi_write_file(c, k->path, text, n);
    prxi_free(c->mem, text);
    return err;
}

void prxi_choices_save(prxi_ctx *c, prxi_choices *k)
{
    prxi_ctx quiet = { .mem = c->mem, .log = c->log };
    if (!k->changed || !*k->path)
        return;
    k->changed = 0;
    const int why = make_folders(k->folder);
    int err = why ? prxi_fail(&quiet, PRX_EIO, "%s: %s", k->folder, strerror(why)) : load(&quiet, k);
    if (err == PRX_OK)
        err = write_all(&quiet, k);
    if (err == PRX_OK)
        return;
    prxi_logf(c, PRX_LOG_WARN, "%s; what was measured is not remembered", quiet.error.text);
    *k->path = '\0';                    /* said once */
}
