/* The split by digest: the same prompts part in the same way, whoever sorted the file. */
#include "split.h"

#include <stdlib.h>
#include <string.h>

#include "engine/core/sha256.h"
#include "engine/sweep/prompts.h"

int prxi_split_held_out(int n)
{
    return (n + 1) / 2;
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
    *s = (prxi_split) { NULL, 0, 0 };
    const int err = prxi_prompts_read(c, &s->prompts, &s->n, PRXI_TUNE_MOST_PROMPTS, path);
    return err < 0 ? err : arrange(c, s, path);
}

void prxi_split_close(prxi_ctx *c, prxi_split *s)
{
    prxi_prompts_close(c, s->prompts, s->n);
    *s = (prxi_split) { NULL, 0, 0 };
}
