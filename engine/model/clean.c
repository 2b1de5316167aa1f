/* Prompt cleaning: what ftfy.fix_text does (all of it but the repair of wrongly decoded text), html.unescape twice, white
 * space folded. Written from the behaviour of ftfy 6.3 and diffusers' prompt_clean. */
#include "clean.h"

#include <string.h>

#include "clean_int.h"
#include "engine/core/utf8.h"
#include "text.h"

/* ---- growing text ---- */

void prxi_cps_put(prxi_cps *t, uint32_t cp)
{
    if (t->err == PRX_OK && t->n == t->cap) {
        const size_t cap = t->cap ? 2 * t->cap : 256;
        uint32_t *p = prxi_realloc(t->c->mem, PRXI_MEM_MISC, t->p, cap * sizeof *p);
        if (p) {
            t->p = p;
            t->cap = cap;
        } else {
            t->err = prxi_fail_nomem(t->c, "prompt", cap * sizeof *p);
        }
    }
    if (t->err == PRX_OK)
        t->p[t->n++] = cp;
}

void prxi_cps_put_utf8(prxi_cps *t, const char *s)
{
    for (size_t n = strlen(s), i = 0; i < n;) {
        uint32_t cp;
        i += (size_t)prxi_utf8_decode(s + i, n - i, &cp);
        prxi_cps_put(t, cp);
    }
}

void prxi_cps_free(prxi_cps *t)
{
    prxi_free(t->c->mem, t->p);
    *t = (prxi_cps) { .c = t->c };
}

/* ---- ftfy ---- */

static const char *ligature(uint32_t cp)
{
    static const struct {
        uint32_t cp;
        const char *text;
    } table[] = {
        { 0x132, "IJ" },      { 0x133, "ij" },         { 0x149, "\xca\xbcn" }, { 0x1f1, "DZ" },   { 0x1f2, "Dz" },
        { 0x1f3, "dz" },      { 0x1c4, "D\xc5\xbd" },  { 0x1c5, "D\xc5\xbe" }, { 0x1c6, "d\xc5\xbe" }, { 0x1c7, "LJ" },
        { 0x1c8, "Lj" },      { 0x1c9, "lj" },         { 0x1ca, "NJ" },        { 0x1cb, "Nj" },   { 0x1cc, "nj" },
        { 0xfb00, "ff" },     { 0xfb01, "fi" },        { 0xfb02, "fl" },       { 0xfb03, "ffi" }, { 0xfb04, "ffl" },
        { 0xfb05, "\xc5\xbft" }, { 0xfb06, "st" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].cp == cp)
            return table[i].text;
    return NULL;
}

static uint32_t straight_quote(uint32_t cp)
{
    if (cp == 0x2bc || (cp >= 0x2018 && cp <= 0x201b))
        return '\'';
    return cp >= 0x201c && cp <= 0x201f ? '"' : cp;
}

static int is_dropped(uint32_t cp)
{
    return cp <= 8 || cp == 0xb || (cp >= 0xe && cp <= 0x1f) || cp == 0x7f || (cp >= 0x206a && cp <= 0x206f) || cp == 0xfeff ||
           (cp >= 0xfff9 && cp <= 0xfffc);
}

/* The fixes that look at one character: ftfy runs them one after the other; a later one sees what an earlier one made. */
static void put_fixed(prxi_cps *dst, uint32_t cp)
{
    cp = prxi_windows_1252(cp);
    const char *text = ligature(cp);
    if (text) {
        for (size_t n = strlen(text), i = 0; i < n;) {
            i += (size_t)prxi_utf8_decode(text + i, n - i, &cp);
            prxi_cps_put(dst, straight_quote(cp));
        }
        return;
    }
    if (cp == 0xffe3) {
        prxi_cps_put(dst, ' ');
        prxi_cps_put(dst, 0x304);
        return;
    }
    cp = straight_quote(prxi_usual_width(cp));
    prxi_cps_put(dst, cp == 0x2028 || cp == 0x2029 ? '\n' : cp);
}

static void fix_characters(const prxi_cps *src, prxi_cps *dst)
{
    for (size_t i = 0; i < src->n; i++)
        put_fixed(dst, src->p[i]);
}

/* Length of a terminal escape "ESC [ digits and semicolons letter" at p, or 0. */
static size_t escape_length(const uint32_t *p, size_t n)
{
    size_t i = 2;
    if (n < 3 || p[0] != 0x1b || p[1] != '[')
        return 0;
    while (i < n && ((p[i] >= '0' && p[i] <= '9') || p[i] == ';'))
        i++;
    return i < n && ((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z')) ? i + 1 : 0;
}

/* Line breaks to \n; escapes and control characters away. An escape is looked for before controls go. */
static void fix_controls(const prxi_cps *src, prxi_cps *dst)
{
    for (size_t i = 0; i < src->n;) {
        const uint32_t cp = src->p[i];
        const size_t escape = escape_length(src->p + i, src->n - i);
        if (escape) {
            i += escape;
            continue;
        }
        if (cp == '\r') {
            prxi_cps_put(dst, '\n');
            i += i + 1 < src->n && src->p[i + 1] == '\n' ? 2 : 1;
            continue;
        }
        if (!is_dropped(cp))
            prxi_cps_put(dst, cp);
        i++;
    }
}

static void copy(const prxi_cps *src, prxi_cps *dst)
{
    for (size_t i = 0; i < src->n; i++)
        prxi_cps_put(dst, src->p[i]);
}

typedef void (*step_fn)(const prxi_cps *src, prxi_cps *dst);

/* t = fn(t). */
static void apply(prxi_cps *t, step_fn fn)
{
    prxi_cps out = { .c = t->c, .err = t->err };
    if (t->err == PRX_OK)
        fn(t, &out);
    prxi_cps_free(t);
    *t = out;
}

static int same(const prxi_cps *a, const prxi_cps *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n * sizeof *a->p) == 0);
}

/* Each round undoes one layer; the bound is for text made of thousands of layers. */
enum { MAX_ROUNDS = 32 };

static void fix_segment(prxi_cps *t, int html)
{
    for (int round = 0; t->err == PRX_OK && round < MAX_ROUNDS; round++) {
        prxi_cps before = { .c = t->c };
        copy(t, &before);
        if (before.err != PRX_OK)
            t->err = before.err;
        if (html)
            apply(t, prxi_html_unescape_strict);
        apply(t, fix_characters);
        apply(t, fix_controls);
        apply(t, prxi_nfc);
        const int done = same(&before, t);
        prxi_cps_free(&before);
        if (done)
            break;
    }
}

/* ftfy goes line by line; from the first line with a '<' on, the text counts as HTML and its references stay. */
static void fix_text(const prxi_cps *src, prxi_cps *dst)
{
    int html = 1;
    for (size_t i = 0; i < src->n && dst->err == PRX_OK;) {
        prxi_cps line = { .c = src->c };
        for (; i < src->n; i++) {
            prxi_cps_put(&line, src->p[i]);
            html = html && src->p[i] != '<';
            if (src->p[i] == '\n') {
                i++;
                break;
            }
        }
        fix_segment(&line, html);
        if (line.err != PRX_OK)
            dst->err = line.err;
        copy(&line, dst);
        prxi_cps_free(&line);
    }
}

/* ---- white space ---- */

/* Python's \s. */
static int is_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 0xd) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* Runs become one space, none at the ends. */
static void fold_space(const prxi_cps *src, prxi_cps *dst)
{
    int pending = 0;
    for (size_t i = 0; i < src->n; i++) {
        if (is_space(src->p[i])) {
            pending = dst->n > 0;
            continue;
        }
        if (pending)
            prxi_cps_put(dst, ' ');
        pending = 0;
        prxi_cps_put(dst, src->p[i]);
    }
}

/* ---- all of it ---- */

static int encode(prxi_ctx *c, const prxi_cps *t, char **out, size_t *n)
{
    char *s = prxi_alloc(c->mem, PRXI_MEM_MISC, prxi_add(prxi_mul(t->n, 4), 1));
    if (!s)
        return prxi_fail_nomem(c, "prompt", t->n);
    size_t at = 0;
    for (size_t i = 0; i < t->n; i++)
        at += (size_t)prxi_utf8_encode(t->p[i], s + at);
    s[at] = '\0';
    *out = s;
    *n = at;
    return PRX_OK;
}

int prxi_clean_prompt(prxi_ctx *c, const char *prompt, char **out, size_t *n)
{
    *out = NULL;
    *n = 0;
    const size_t len = strnlen(prompt, PRXI_MAX_PROMPT + 1);
    if (len > PRXI_MAX_PROMPT)
        return prxi_fail(c, PRX_EINVAL, "prompt: more than %d bytes", PRXI_MAX_PROMPT);
    const size_t good = prxi_utf8_check(prompt, len);
    if (good != len)
        return prxi_fail(c, PRX_EINVAL, "prompt: not valid UTF-8 at byte %zu", good);
    prxi_cps t = { .c = c };
    prxi_cps_put_utf8(&t, prompt);
    apply(&t, fix_text);
    apply(&t, prxi_html_unescape);
    apply(&t, prxi_html_unescape);
    apply(&t, fold_space);
    const int err = t.err == PRX_OK ? encode(c, &t, out, n) : t.err;
    prxi_cps_free(&t);
    return err;
}
