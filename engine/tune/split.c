/* The split by digest: the same prompts part in the same way, whoever sorted the file. */
#include "split.h"

#include <stdlib.h>
#include <string.h>

#include "engine/core/json.h"
#include "engine/core/sha256.h"

enum { MAX_FILE = 16 << 20, MAX_PROMPT = 65536 };

int prxi_split_held_out(int n)
{
    return (n + 1) / 2;
}

static int add(prxi_ctx *c, prxi_split *s, const char *path, const char *text, size_t n)
{
    while (n > 0 && strchr(" \t\r", text[n - 1]))
        n--;
    if (s->n == PRXI_TUNE_MOST_PROMPTS || n > MAX_PROMPT)
        return prxi_fail(c, PRX_EINVAL, "%s: at most %d prompts of at most %d bytes", path, PRXI_TUNE_MOST_PROMPTS, MAX_PROMPT);
    char **list = prxi_realloc(c->mem, PRXI_MEM_MISC, s->prompts, (size_t)(s->n + 1) * sizeof *list);
    if (list)
        s->prompts = list;
    char *copy = list ? prxi_alloc(c->mem, PRXI_MEM_MISC, n + 1) : NULL;
    if (!copy)
        return prxi_fail_nomem(c, "prompts", n);
    memcpy(copy, text, n);
    copy[n] = '\0';
    s->prompts[s->n++] = copy;
    return PRX_OK;
}

static void digest(const char *text, char hex[65])
{
    prxi_sha256 h;
    prxi_sha256_init(&h);
    prxi_sha256_add(&h, text, strlen(text));
    prxi_sha256_hex(&h, hex);
}

static int by_digest(const void *a, const void *b)
{
    char x[65], y[65];
    digest(*(char *const *)a, x);
    digest(*(char *const *)b, y);
    return strcmp(x, y);
}

static int arrange(prxi_ctx *c, prxi_split *s, const char *path)
{
    if (s->n < PRXI_TUNE_LEAST_PROMPTS)
        return prxi_fail(c, PRX_EINVAL, "%s: %d prompts; at least %d expected: half of them only judge", path, s->n,
                         PRXI_TUNE_LEAST_PROMPTS);
    qsort(s->prompts, (size_t)s->n, sizeof *s->prompts, by_digest);
    for (int i = 1; i < s->n; i++)
        if (strcmp(s->prompts[i - 1], s->prompts[i]) == 0)
            return prxi_fail(c, PRX_EINVAL, "%s: '%.60s' is there twice: it would judge what was learnt from it", path, s->prompts[i]);
    s->calibration = s->n - prxi_split_held_out(s->n);
    return PRX_OK;
}

int prxi_split_read(prxi_ctx *c, prxi_split *s, const char *path)
{
    char *text;
    size_t n;
    *s = (prxi_split) { NULL, 0, 0 };
    int err = prxi_read_file(c, path, MAX_FILE, &text, &n);
    if (err < 0)
        return err;
    if (memchr(text, '\0', n))
        err = prxi_fail(c, PRX_EFORMAT, "%s: holds a NUL byte: not text", path);
    for (const char *p = text; err == PRX_OK && *p;) {
        p += strspn(p, " \t\r\n");
        const size_t len = strcspn(p, "\n");
        if (len > 0 && *p != '#')
            err = add(c, s, path, p, len);
        p += len;
    }
    prxi_free(c->mem, text);
    return err < 0 ? err : arrange(c, s, path);
}

void prxi_split_close(prxi_ctx *c, prxi_split *s)
{
    for (int i = 0; i < s->n; i++)
        prxi_free(c->mem, s->prompts[i]);
    prxi_free(c->mem, s->prompts);
    *s = (prxi_split) { NULL, 0, 0 };
}
