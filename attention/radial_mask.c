/* The Radial block mask in closed form: no token mask is built, a block is decided from the interval arithmetic of a band.
 * Upstream decides by counting, per block, the columns that hold any kept row and those where more than a third of the
 * rows are kept, and keeps the block when the second are more than 0.6 of the first (attention.md 2.2). */
#include <math.h>

#include "attention/mask.h"

static int bits_of(int64_t x)
{
    int n = 0;
    for (; x > 0; x >>= 1)
        n++;
    return n;
}

double prxi_radial_width(const prxi_radial *r, int64_t distance, int *kept)
{
    const double length = ldexp(1.0, bits_of(r->tokens_per_frame) - bits_of(distance));
    *kept = 1;
    if (length < 128.0) {   /* 128 whatever the block, as published */
        const double every = floor(128.0 / length);
        *kept = fmod((double)distance, every) == 0.0;
    }
    if (distance == 0)
        return (double)r->tokens_per_frame;
    if (distance == 1)
        return (double)(r->half && !r->hunyuan ? r->tokens_per_frame / 2 : r->tokens_per_frame);
    const double width = length * r->decay;
    return width > r->block ? width : r->block;
}

int prxi_radial_check(prxi_ctx *c, const prxi_radial *r)
{
    if (r->block != 64 && r->block != 128)
        return prxi_fail(c, PRX_EINVAL, "radial block: %d is not 64 or 128", r->block);
    if (!(r->decay > 0.0) || !isfinite(r->decay))
        return prxi_fail(c, PRX_EINVAL, "radial decay: %g is not a number above 0", r->decay);
    if (r->frames < 1)
        return prxi_fail(c, PRX_EINVAL, "radial frames: %d is not at least 1", r->frames);
    if (r->tokens_per_frame < 1)
        return prxi_fail(c, PRX_EINVAL, "radial tokens per frame: %lld is not at least 1",
                         (long long)r->tokens_per_frame);
    if (r->text_tokens < 0)
        return prxi_fail(c, PRX_EINVAL, "radial text tokens: %lld is below 0", (long long)r->text_tokens);
    const int64_t most = INT32_MAX / 8;
    if (r->tokens_per_frame > most / r->frames || r->text_tokens > most)
        return prxi_fail(c, PRX_EINVAL, "radial: %d frames of %lld tokens and %lld of text are more than %lld tokens",
                         r->frames, (long long)r->tokens_per_frame, (long long)r->text_tokens, (long long)most);
    return PRX_OK;
}

static void set_run(prxi_block_mask *m, int64_t row, int64_t first, int64_t last)
{
    uint64_t *bits = m->bits + (size_t)row * m->words;
    for (int64_t c = first; c <= last; c++)
        bits[c / 64] |= (uint64_t)1 << (c % 64);
}

static int64_t span(int64_t a, int64_t b, int64_t lo, int64_t hi)
{
    const int64_t first = a > lo ? a : lo, last = b < hi ? b : hi;
    return last >= first ? last - first + 1 : 0;
}

/* One frame pair: frame rows against frame columns on a canvas that starts at a block border. */
typedef struct pair {
    int64_t tokens, block;
    int64_t row_block, col_block;   /* first block of the canvas in the mask */
    int64_t row_shift, col_shift;   /* of the frame within it */
    int64_t width;                  /* whole part of the half width; `full` ignores it */
    int full;
} pair;

/* Whether block column `b` is kept for frame rows lo .. hi. */
static int keeps(const pair *p, int64_t lo, int64_t hi, int64_t b)
{
    const int64_t first = b * p->block - p->col_shift, last = first + p->block - 1;
    const int64_t from = first > 0 ? first : 0, to = last < p->tokens - 1 ? last : p->tokens - 1;
    const int64_t enough = p->block / 3 + 1, rows = hi - lo + 1;    /* 3 * count > block */
    const int64_t w = p->width;
    if (p->full) {
        const int64_t columns = to - from + 1;
        return columns > 0 && rows >= enough;
    }
    const int64_t nonzero = span(lo - w, hi + w, from, to);
    const int64_t dense = rows >= enough && 2 * w + 1 >= enough
                              ? span(lo + enough - 1 - w, hi - enough + 1 + w, from, to)
                              : 0;
    return 5 * dense > 3 * nonzero;
}

static void add_pair(prxi_block_mask *m, const pair *p)
{
    const int64_t canvas = (p->tokens + p->block - 1) / p->block;
    for (int64_t a = 0; a < canvas && p->row_block + a < m->n; a++) {
        const int64_t top = a * p->block - p->row_shift, end = top + p->block;
        const int64_t lo = top > 0 ? top : 0, hi = (end < p->tokens ? end : p->tokens) - 1;
        if (hi < lo)
            continue;
        int64_t first = 0, last = canvas - 1;
        if (!p->full) {     /* blocks that the band touches */
            const int64_t left = lo - p->width + p->col_shift, right = hi + p->width + p->col_shift;
            first = left > 0 ? left / p->block : 0;
            last = right / p->block < last ? right / p->block : last;
        }
        for (int64_t b = first; b <= last && p->col_block + b < m->n; b++)
            if (keeps(p, lo, hi, b))
                set_run(m, p->row_block + a, p->col_block + b, p->col_block + b);
    }
}

static void add_video(const prxi_radial *r, prxi_block_mask *m)
{
    const int64_t tokens = r->tokens_per_frame;
    for (int64_t i = 0; i < r->frames; i++)
        for (int64_t j = 0; j < r->frames; j++) {
            int kept;
            const double width = prxi_radial_width(r, i > j ? i - j : j - i, &kept);
            const int full = r->sink && j == 0;
            if (!kept && !full)
                continue;
            const int64_t limit = width < (double)tokens ? (int64_t)width : tokens;
            const pair p = { tokens, r->block, i * tokens / r->block, j * tokens / r->block, i * tokens % r->block,
                             j * tokens % r->block, limit, full };
            add_pair(m, &p);
        }
}

/* Frames of less than a third of a block can leave a block row without any key; such queries see everything. */
static void fill_empty_rows(prxi_block_mask *m)
{
    for (int i = 0; i < m->n; i++) {
        uint64_t any = 0;
        for (size_t w = 0; w < m->words; w++)
            any |= m->bits[(size_t)i * m->words + w];
        if (!any) {
            set_run(m, i, 0, m->n - 1);
            m->filled++;
        }
    }
}

static int64_t block_tokens(const prxi_block_mask *m, int i)
{
    const int64_t left = m->tokens - (int64_t)i * m->block;
    return left < m->block ? left : m->block;
}

static void count(prxi_block_mask *m)
{
    double pairs = 0;
    m->kept = 0;
    for (int i = 0; i < m->n; i++) {
        int64_t keys = 0;
        for (int j = 0; j < m->n; j++)
            if (prxi_mask_get(m, i, j)) {
                m->kept++;
                keys += block_tokens(m, j);
            }
        pairs += (double)keys * (double)block_tokens(m, i);
    }
    m->density = (double)m->kept / ((double)m->n * (double)m->n);
    m->pair_density = pairs / ((double)m->tokens * (double)m->tokens);
}

int prxi_radial_mask(prxi_ctx *c, const prxi_radial *r, prxi_block_mask *m)
{
    memset(m, 0, sizeof *m);
    const int err = prxi_radial_check(c, r);
    if (err != PRX_OK)
        return err;
    const int64_t video = r->frames * r->tokens_per_frame;
    m->block = r->block;
    m->tokens = video + r->text_tokens;
    m->n = (int)((m->tokens + r->block - 1) / r->block);
    m->words = ((size_t)m->n + 63) / 64;
    m->bits = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, (size_t)m->n, m->words * sizeof *m->bits);
    if (!m->bits)
        return prxi_fail_nomem(c, "radial mask", prxi_mul((size_t)m->n, m->words * sizeof *m->bits));
    add_video(r, m);
    /* Text, and a last block that the video does not fill, see and are seen by all. */
    const int whole = (int)(video / r->block);
    for (int i = 0; i < m->n && whole < m->n; i++)
        set_run(m, i, i < whole ? whole : 0, m->n - 1);
    fill_empty_rows(m);
    count(m);
    return PRX_OK;
}

void prxi_mask_close(prxi_ctx *c, prxi_block_mask *m)
{
    prxi_free(c->mem, m->bits);
    memset(m, 0, sizeof *m);
}

int prxi_mask_list(prxi_ctx *c, const prxi_block_mask *m, prxi_block_list *list)
{
    const size_t n = (size_t)m->n, starts = prxi_carve_size((n + 1) * sizeof(int32_t));
    const size_t rows = prxi_carve_size((n + 1) * sizeof(int64_t));
    const size_t bytes = prxi_add(starts + rows, prxi_mul((size_t)m->kept + 1, sizeof(int32_t)));
    unsigned char *base = prxi_alloc(c->mem, PRXI_MEM_MISC, bytes);
    if (!base)
        return prxi_fail_nomem(c, "block list", bytes);
    int32_t *start = (int32_t *)(void *)base, *cols = (int32_t *)(void *)(base + starts + rows);
    int64_t *row = (int64_t *)(void *)(base + starts), at = 0;
    for (int i = 0; i <= m->n; i++) {
        const int64_t token = (int64_t)i * m->block;
        start[i] = (int32_t)(token < m->tokens ? token : m->tokens);
        row[i] = at;
        for (int32_t j = 0; i < m->n && j < m->n; j++)
            if (prxi_mask_get(m, i, j))
                cols[at++] = j;
    }
    *list = (prxi_block_list) { .nq = m->n, .nk = m->n, .q_start = start, .k_start = start, .row_ptr = row,
                                .cols = cols };
    return PRX_OK;
}

double prxi_list_density(const prxi_block_list *b, int head)
{
    const size_t t = b->per_head ? (size_t)head : 0;
    const int32_t *qs = b->q_start + t * (size_t)(b->nq + 1), *ks = b->k_start + t * (size_t)(b->nk + 1);
    const int64_t *rp = b->row_ptr + t * (size_t)(b->nq + 1);
    const double all = (double)(qs[b->nq] - qs[0]) * (double)(ks[b->nk] - ks[0]);
    double kept = 0;
    for (int i = 0; i < b->nq; i++) {
        int64_t keys = 0;
        for (int64_t c = rp[i]; c < rp[i + 1]; c++)
            keys += ks[b->cols[c] + 1] - ks[b->cols[c]];
        kept += (double)keys * (double)(qs[i + 1] - qs[i]);
    }
    return all > 0 ? kept / all : 0;
}
