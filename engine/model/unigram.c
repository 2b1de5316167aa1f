/* The sorted vocabulary is its own trie: a byte narrows a range of pieces that share a prefix. */
#include "unigram.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core/utf8.h"

static int compare(const char *a, size_t an, const char *b, size_t bn)
{
    const int d = memcmp(a, b, an < bn ? an : bn);
    if (d != 0)
        return d;
    return an < bn ? -1 : an > bn;
}

static int by_text(const void *a, const void *b)
{
    const prxi_piece *x = a, *y = b;
    const int d = compare(x->text, x->len, y->text, y->len);
    return d ? d : x->id - y->id;
}

int prxi_unigram_open(prxi_ctx *c, prxi_unigram *u, const prxi_spm *spm, int unk_id, int byte_fallback)
{
    memset(u, 0, sizeof *u);
    u->count = prxi_spm_size(spm);
    const size_t bytes = prxi_mul((size_t)u->count, sizeof *u->piece);
    u->piece = prxi_alloc(c->mem, PRXI_MEM_MISC, bytes);
    if (!u->piece)
        return prxi_fail_nomem(c, "tokenizer", bytes);
    double least = 0;
    for (int i = 0; i < u->count; i++) {
        size_t len;
        float score;
        const char *text = prxi_spm_piece(spm, i, &len, &score);
        u->piece[i] = (prxi_piece) { text, (uint32_t)len, i, score };
        if (i == 0 || score < least)
            least = score;
    }
    qsort(u->piece, (size_t)u->count, sizeof *u->piece, by_text);
    int at = 0;
    for (int b = 0; b <= 256; b++) {
        while (at < u->count && (unsigned char)u->piece[at].text[0] < b)
            at++;
        u->first[b] = at;
    }
    u->unk_score = least - 10.0;
    u->unk_id = unk_id;
    u->byte_fallback = byte_fallback;
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        u->byte_id[b] = prxi_unigram_find(u, name, 6);
    }
    return PRX_OK;
}

void prxi_unigram_close(prxi_ctx *c, prxi_unigram *u)
{
    prxi_free(c->mem, u->piece);
    memset(u, 0, sizeof *u);
}

int32_t prxi_unigram_find(const prxi_unigram *u, const char *text, size_t n)
{
    int lo = 0, hi = u->count;
    while (lo < hi) {
        const int mid = lo + (hi - lo) / 2;
        const int d = compare(text, n, u->piece[mid].text, u->piece[mid].len);
        if (d == 0)
            return u->piece[mid].id;
        if (d < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return -1;
}

/* First piece in [lo, hi) whose byte at depth is >= b; all share depth bytes and are longer than that. */
static int lower(const prxi_unigram *u, int lo, int hi, size_t depth, int b)
{
    while (lo < hi) {
        const int mid = lo + (hi - lo) / 2;
        if ((unsigned char)u->piece[mid].text[depth] < b)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void offer(prxi_unigram_cell *to, double score, size_t start, int32_t id)
{
    if (to->start < 0 || score > to->score)
        *to = (prxi_unigram_cell) { score, (int32_t)start, id };
}

/* Every piece that begins at `at` offers itself to the cell where it ends; 1 when one of them is a single character. */
static int extend(const prxi_unigram *u, const char *w, size_t n, size_t at, size_t one, prxi_unigram_cell *cell)
{
    int lo = u->first[(unsigned char)w[at]], hi = u->first[(unsigned char)w[at] + 1], single = 0;
    for (size_t depth = 1; lo < hi; depth++) {
        if (u->piece[lo].len == depth) {
            offer(&cell[at + depth], cell[at].score + u->piece[lo].score, at, u->piece[lo].id);
            single |= depth == one;
        }
        while (lo < hi && u->piece[lo].len == depth)
            lo++;
        if (at + depth == n)
            break;
        const int b = (unsigned char)w[at + depth];
        const int begin = lower(u, lo, hi, depth, b);
        hi = lower(u, begin, hi, depth, b + 1);
        lo = begin;
    }
    return single;
}

/* Bytes of the character at s; 1 for what is not UTF-8. */
static size_t char_len(const char *s, size_t n)
{
    uint32_t cp;
    const int len = prxi_utf8_decode(s, n, &cp);
    return len ? (size_t)len : 1;
}

static void push(int32_t id, int max, int32_t *ids, int *count)
{
    if (*count < max)
        ids[(*count)++] = id;
}

/* An unknown stretch: its bytes when the tokenizer falls back to bytes and knows them all, else one unknown id. */
static void push_unknown(const prxi_unigram *u, const char *s, size_t n, int max, int32_t *ids, int *count)
{
    int bytes = u->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++)
        bytes = u->byte_id[(unsigned char)s[i]] >= 0;
    if (!bytes) {
        push(u->unk_id, max, ids, count);
        return;
    }
    for (size_t i = 0; i < n; i++)
        push(u->byte_id[(unsigned char)s[i]], max, ids, count);
}

void prxi_unigram_word(const prxi_unigram *u, const char *w, size_t n, prxi_unigram_cell *cell, int max, int32_t *ids,
                       int *count)
{
    for (size_t i = 0; i <= n; i++)
        cell[i] = (prxi_unigram_cell) { 0, -1, 0 };
    for (size_t at = 0; at < n;) {
        const size_t one = char_len(w + at, n - at);
        if (!extend(u, w, n, at, one, cell))
            offer(&cell[at + one], cell[at].score + u->unk_score, at, u->unk_id);
        at += one;
    }
    /* Backwards once to turn the links around: cell[start].start then holds where the piece ends. */
    int32_t end = (int32_t)n, next = -1;
    while (end >= 0) {
        const int32_t start = end == 0 ? -1 : cell[end].start, id = cell[end].id;
        cell[end].start = next;
        next = end;
        if (start >= 0)
            cell[start].score = id;      /* the id of the piece that begins here: below 2^31, exact in a double */
        end = start;
    }
    for (size_t at = 0; at < n && *count < max;) {
        const int32_t id = (int32_t)cell[at].score;
        size_t to = (size_t)cell[at].start;
        if (id != u->unk_id) {
            push(id, max, ids, count);
            at = to;
            continue;
        }
        while (to < n && (int32_t)cell[to].score == u->unk_id)
            to = (size_t)cell[to].start;
        push_unknown(u, w + at, to - at, max, ids, count);
        at = to;
    }
}
