/* Prompt -> ids: clean, cut at added tokens, normalise each segment with the model's own rules, split at U+2581, best path
 * for each word, eos. Equal to transformers' fast T5 tokenizer (models.md 3.4). */
#include "text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clean.h"
#include "engine/core/json.h"
#include "tokenizer_int.h"
#include "unigram.h"

/* U+2581, the visible space of SentencePiece. */
static const char space[] = "\xe2\x96\x81";
enum { SPACE = 3 };

struct prxi_tokenizer {
    prxi_spm *spm;
    prxi_spm_spec spec;
    prxi_unigram unigram;
    prxi_tok_rules rules;
    int32_t eos;
};

/* ---- open ---- */

static int open_model(prxi_ctx *c, prxi_tokenizer *t, const char *path)
{
    char *data, why[256];
    size_t n;
    int err = prxi_read_file(c, path, (size_t)256 << 20, &data, &n);
    if (err != PRX_OK)
        return err;
    err = prxi_spm_check(c, path, data, n, &t->spec);
    if (err == PRX_OK) {
        t->spm = prxi_spm_open(data, n, why, sizeof why);
        if (!t->spm)
            err = prxi_fail(c, PRX_EFORMAT, "%s: not a usable SentencePiece model: %s", path, why);
    }
    prxi_free(c->mem, data);
    return err;
}

static int check_paths(prxi_ctx *c, const char *dir, char *model, size_t n)
{
    char json[4096];
    if (snprintf(model, n, "%s/spiece.model", dir) >= (int)n ||
        snprintf(json, sizeof json, "%s/tokenizer.json", dir) >= (int)sizeof json)
        return prxi_fail(c, PRX_EINVAL, "%.200s: the path is too long", dir);
    if (access(model, F_OK) != 0 && access(json, F_OK) == 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: is missing; tokenizer.json alone is not enough, the model repository has both",
                         model);
    return PRX_OK;
}

int prxi_tokenizer_open(prxi_ctx *c, prxi_tokenizer **out, const char *dir)
{
    char path[4096];
    *out = NULL;
    int err = check_paths(c, dir, path, sizeof path);
    if (err != PRX_OK)
        return err;
    prxi_tokenizer *t = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *t);
    if (!t)
        return prxi_fail_nomem(c, dir, sizeof *t);
    err = open_model(c, t, path);
    if (err == PRX_OK)
        err = prxi_tok_rules_open(c, &t->rules, dir, t->spm, &t->spec);
    if (err == PRX_OK)
        err = prxi_unigram_open(c, &t->unigram, t->spm, t->rules.unk_id, t->rules.byte_fallback);
    if (err == PRX_OK) {
        t->eos = prxi_unigram_find(&t->unigram, "</s>", 4);
        if (t->eos < 0)
            err = prxi_fail(c, PRX_EFORMAT, "%s: has no </s>", path);
    }
    if (err == PRX_OK)
        *out = t;
    else
        prxi_tokenizer_close(c, &t);
    return err;
}

void prxi_tokenizer_close(prxi_ctx *c, prxi_tokenizer **t)
{
    prxi_tokenizer *p = *t;
    *t = NULL;
    if (!p)
        return;
    prxi_unigram_close(c, &p->unigram);
    prxi_tok_rules_close(c, &p->rules);
    prxi_spm_close(p->spm);
    prxi_free(c->mem, p);
}

/* ---- encode ---- */

/* One segment between added tokens, normalised: spaces are U+2581, one in front where the rules put it. */
typedef struct segment {
    prxi_ctx *c;
    char *text;
    size_t n;
} segment;

static void keep(void *cookie, const char *bytes, size_t n)
{
    segment *g = cookie;
    /* Room for U+2581 in front. */
    g->text = prxi_alloc(g->c->mem, PRXI_MEM_MISC, prxi_add(n, SPACE));
    if (!g->text)
        return;
    memcpy(g->text + SPACE, bytes, n);
    g->n = n;
}

static int starts_with_space(const char *s, size_t n)
{
    return n >= SPACE && memcmp(s, space, SPACE) == 0;
}

/* What the reference makes of a segment before it looks for pieces. The library strips space at the ends, the reference
 * not always: a digit at each end, which no rule combines with a neighbour, keeps it. first: nothing stands before. */
static int normalize(const prxi_tokenizer *t, segment *g, const char *s, size_t n, int first)
{
    char *fenced = prxi_alloc(g->c->mem, PRXI_MEM_MISC, prxi_add(n, 2));
    if (!fenced)
        return prxi_fail_nomem(g->c, "tokenizer", n);
    fenced[0] = fenced[n + 1] = '0';
    memcpy(fenced + 1, s, n);
    const int err = prxi_spm_normalize(t->spm, fenced, n + 2, keep, g);
    prxi_free(g->c->mem, fenced);
    if (err != PRX_OK)
        return prxi_fail(g->c, err, "tokenizer: a prompt cannot be normalised");
    if (!g->text)
        return prxi_fail_nomem(g->c, "tokenizer", n);
    char *p = g->text + SPACE;
    size_t len = g->n;
    if (starts_with_space(p, len)) {     /* the model's own prefix: the tokenizer's rule decides below */
        p += SPACE;
        len -= SPACE;
    }
    if (len < 2 || p[0] != '0' || p[len - 1] != '0')
        return prxi_fail(g->c, PRX_EFORMAT, "tokenizer: the model's normaliser changes plain digits");
    p++;
    len -= 2;
    while (t->rules.strip_right && len >= SPACE && starts_with_space(p + len - SPACE, SPACE))
        len -= SPACE;
    if (len > 0 && !starts_with_space(p, len) &&
        (t->rules.prefix == PRXI_PREFIX_ALWAYS || (t->rules.prefix == PRXI_PREFIX_FIRST && first))) {
        p -= SPACE;
        len += SPACE;
        memcpy(p, space, SPACE);
    }
    memmove(g->text, p, len);
    g->n = len;
    return PRX_OK;
}

/* End of the word that begins at i: where the next U+2581 stands. */
static size_t word_end(const char *s, size_t n, size_t i)
{
    for (i++; i < n; i++)
        if (s[i] == space[0] && starts_with_space(s + i, n - i))
            break;
    return i;
}

static int encode_segment(prxi_ctx *c, const prxi_tokenizer *t, const char *s, size_t n, int first, int max, int32_t *ids,
                          int *count)
{
    segment g = { c, NULL, 0 };
    int err = n > 0 ? normalize(t, &g, s, n, first) : PRX_OK;
    prxi_unigram_cell *cell = NULL;
    if (err == PRX_OK && g.n > 0) {
        const size_t bytes = prxi_mul(g.n + 1, sizeof *cell);
        cell = prxi_alloc(c->mem, PRXI_MEM_MISC, bytes);
        if (!cell)
            err = prxi_fail_nomem(c, "tokenizer", bytes);
    }
    for (size_t i = 0; err == PRX_OK && i < g.n && *count < max;) {
        const size_t end = word_end(g.text, g.n, i);
        prxi_unigram_word(&t->unigram, g.text + i, end - i, cell, max, ids, count);
        i = end;
    }
    prxi_free(c->mem, cell);
    prxi_free(c->mem, g.text);
    return err;
}

int prxi_tokenizer_encode(prxi_ctx *c, const prxi_tokenizer *t, const char *prompt, int max, int32_t *ids, int *n)
{
    char *text;
    size_t len, at = 0;
    *n = 0;
    if (max < 1)
        return prxi_fail(c, PRX_EINVAL, "tokenizer: at least 1 token is needed, %d allowed", max);
    int err = prxi_clean_prompt(c, prompt, &text, &len);
    if (err != PRX_OK)
        return err;
    int count = 0;
    while (err == PRX_OK && at < len && count < max - 1) {
        size_t begin, end;
        const int k = prxi_added_find(&t->rules, text + at, len - at, &begin, &end);
        err = encode_segment(c, t, text + at, k < 0 ? len - at : begin, at == 0, max - 1, ids, &count);
        if (k < 0)
            break;
        if (err == PRX_OK && count < max - 1)
            ids[count++] = t->rules.added[k].id;
        at += end;
    }
    prxi_free(c->mem, text);
    if (err != PRX_OK)
        return err;
    ids[count++] = t->eos;
    *n = count;
    return PRX_OK;
}
