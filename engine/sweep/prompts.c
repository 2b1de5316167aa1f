/* Prompts of sweeps and searches. */
#include "prompts.h"

#include <string.h>

#include "engine/core/json.h"

enum { MAX_FILE = 16 << 20, MAX_PROMPT = 65536 };

int prxi_prompts_add(prxi_ctx *c, char ***list, int *n, int most, const char *what, const char *text, size_t bytes)
{
    while (bytes > 0 && strchr(" \t\r", text[bytes - 1]))
        bytes--;
    if (*n == most || bytes > MAX_PROMPT)
        return prxi_fail(c, PRX_EINVAL, "%s: at most %d prompts of at most %d bytes", what, most, MAX_PROMPT);
    char **grown = prxi_realloc(c->mem, PRXI_MEM_MISC, *list, (size_t)(*n + 1) * sizeof *grown);
    if (grown)
        *list = grown;
    char *copy = grown ? prxi_alloc(c->mem, PRXI_MEM_MISC, bytes + 1) : NULL;
    if (!copy)
        return prxi_fail_nomem(c, "prompts", bytes);
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    grown[(*n)++] = copy;
    return PRX_OK;
}

int prxi_prompts_read(prxi_ctx *c, char ***list, int *n, int most, const char *path)
{
    char *text;
    size_t bytes;
    int err = prxi_read_file(c, path, MAX_FILE, &text, &bytes);
    if (err < 0)
        return err;
    if (memchr(text, '\0', bytes))
        err = prxi_fail(c, PRX_EFORMAT, "%s: holds a NUL byte: not text", path);
    for (const char *p = text; err == PRX_OK && *p;) {
        p += strspn(p, " \t\r\n");
        const size_t len = strcspn(p, "\n");
        if (len > 0 && *p != '#')
            err = prxi_prompts_add(c, list, n, most, path, p, len);
        p += len;
    }
    prxi_free(c->mem, text);
    return err;
}

void prxi_prompts_close(prxi_ctx *c, char **list, int n)
{
    for (int i = 0; i < n; i++)
        prxi_free(c->mem, list[i]);
    prxi_free(c->mem, list);
}
