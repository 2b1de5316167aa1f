/* The two products of an attention tile, compiled once per instruction set. The including file defines
 *   VEC, LANES         f32 vector and its width
 *   WORD, WVEC         packed 32-bit element (a float, or a pair of bf16) and a vector of it
 *   W_LOAD, W_SET      aligned vector load, broadcast of one element
 *   MAC(acc, x, y)     acc += x * y
 *   ROWS, EACH_ROW(X)  rows of a register tile (8 or 4) and X(0) X(1) ...
 *   WORD_DIMS          dimensions of a packed element of q and k (1 or 2)
 *   PAIR_STEPS         packed rows of p and v of a key pair (2 or 1)
 * Packed q is [d / WORD_DIMS][queries]; a pair of keys is [d / WORD_DIMS][2], so that 8 rows need 4 pointers; v is
 * [PAIR_STEPS][d] per pair, p [PAIR_STEPS][queries]. A register tile is ROWS rows by up to 3 vectors, named and not in
 * arrays, which compilers keep in memory. */
#include "attention/tile.h"
#include "engine/core/attr.h"

#define ROW_INIT1(r) VEC a##r = V_SET(bias[r]);
#define ROW_INIT2(r) VEC a##r = V_SET(bias[r]), c##r = a##r;
#define ROW_INIT3(r) VEC a##r = V_SET(bias[r]), c##r = a##r, e##r = a##r;
#define ROW_MAC1(r, from) { const WVEC y = W_SET(from); MAC(a##r, y, x0); }
#define ROW_MAC2(r, from) { const WVEC y = W_SET(from); MAC(a##r, y, x0); MAC(c##r, y, x1); }
#define ROW_MAC3(r, from) { const WVEC y = W_SET(from); MAC(a##r, y, x0); MAC(c##r, y, x1); MAC(e##r, y, x2); }
#define ROW_STORE1(r, to) V_STORE((to), a##r);
#define ROW_STORE2(r, to) ROW_STORE1(r, to) V_STORE((to) + LANES, c##r);
#define ROW_STORE3(r, to) ROW_STORE2(r, to) V_STORE((to) + 2 * LANES, e##r);
#define ROW_TOP1(r) top0 = V_MAX(top0, a##r);
#define ROW_TOP2(r) ROW_TOP1(r) top1 = V_MAX(top1, c##r);
#define ROW_TOP3(r) ROW_TOP2(r) top2 = V_MAX(top2, e##r);
#define ROW_TAKE1(r) VEC a##r = V_MUL(f0, V_LOAD(o + (r) * WIDTH));
#define ROW_TAKE2(r) ROW_TAKE1(r) VEC c##r = V_MUL(f1, V_LOAD(o + (r) * WIDTH + LANES));
#define ROW_TAKE3(r) ROW_TAKE2(r) VEC e##r = V_MUL(f2, V_LOAD(o + (r) * WIDTH + 2 * LANES));
#define LOAD_X1(p) const WVEC x0 = W_LOAD(p);
#define LOAD_X2(p) LOAD_X1(p) const WVEC x1 = W_LOAD((p) + LANES);
#define LOAD_X3(p) LOAD_X2(p) const WVEC x2 = W_LOAD((p) + 2 * LANES);

#define SCORE1(r) ROW_MAC1(r, k##r + 2 * j + ((r) & 1))
#define SCORE2(r) ROW_MAC2(r, k##r + 2 * j + ((r) & 1))
#define SCORE3(r) ROW_MAC3(r, k##r + 2 * j + ((r) & 1))
#define SCORE_ROW(r) const WORD *const k##r = (const WORD *)t->k + (size_t)pair[(r) / 2] * 2 * n;
#define SCORE_OUT1(r) ROW_STORE1(r, s + (r) * WIDTH) ROW_TOP1(r)
#define SCORE_OUT2(r) ROW_STORE2(r, s + (r) * WIDTH) ROW_TOP2(r)
#define SCORE_OUT3(r) ROW_STORE3(r, s + (r) * WIDTH) ROW_TOP3(r)

/* N: vectors of the tile. Beside the keys of a register tile go prefetches of as many of the next ones: a line, or half of one, every
 * time round. */
#define SCORES(N)                                                                                 \
    const size_t n = (size_t)t->d / WORD_DIMS, part = n / (ROWS / 2);                              \
    float *s = t->s;                                                                              \
    for (int i = 0; i < 2 * t->pairs; i += ROWS, s += ROWS * WIDTH) {                             \
        const int32_t *pair = t->pair + i / 2, *next = t->next + i / 2;                           \
        const float *bias = t->bias + i;                                                          \
        const WORD *q = t->q;                                                                     \
        EACH_ROW(SCORE_ROW)                                                                       \
        EACH_ROW(ROW_INIT##N)                                                                     \
        for (size_t x = 0, j = 0; x < ROWS / 2; x++) {                                            \
            const WORD *fetch = (const WORD *)t->k + (size_t)next[x] * 2 * n;                     \
            for (const size_t end = j + part; j < end; j++, q += WIDTH, fetch += ROWS) {          \
                PRXI_PREFETCH(fetch);                                                             \
                LOAD_X##N(q)                                                                      \
                EACH_ROW(SCORE##N)                                                                \
            }                                                                                     \
        }                                                                                         \
        EACH_ROW(SCORE_OUT##N)                                                                    \
    }

#define VALUE1(r) ROW_MAC1(r, row + (r))
#define VALUE2(r) ROW_MAC2(r, row + (r))
#define VALUE3(r) ROW_MAC3(r, row + (r))
#define VALUE_OUT1(r) ROW_STORE1(r, o + (r) * WIDTH)
#define VALUE_OUT2(r) ROW_STORE2(r, o + (r) * WIDTH)
#define VALUE_OUT3(r) ROW_STORE3(r, o + (r) * WIDTH)

#define VALUES(N)                                                                                 \
    const size_t d = (size_t)t->d;                                                                \
    float *o = t->o;                                                                              \
    for (size_t j = 0; j < d; j += ROWS, o += ROWS * WIDTH) {                                     \
        const WORD *p = t->p;                                                                     \
        EACH_ROW(ROW_TAKE##N)                                                                     \
        for (int i = 0; i < t->pairs; i++) {                                                      \
            const WORD *row = (const WORD *)t->v + (size_t)t->pair[i] * PAIR_STEPS * d + j;       \
            PRXI_PREFETCH((const WORD *)t->v + ((size_t)t->next[i] * d + j) * PAIR_STEPS);        \
            for (int x = 0; x < PAIR_STEPS; x++, p += WIDTH, row += d) {                          \
                LOAD_X##N(p)                                                                      \
                EACH_ROW(VALUE##N)                                                                \
            }                                                                                     \
        }                                                                                         \
        EACH_ROW(VALUE_OUT##N)                                                                    \
    }

#define WIDTH LANES
static void scores1(const prxi_tile *t)
{
    VEC top0 = V_SET(-INFINITY);
    SCORES(1)
    V_STORE(t->top, top0);
}

static void values1(const prxi_tile *t)
{
    const VEC f0 = V_LOAD(t->alpha);
    VALUES(1)
}
#undef WIDTH

#define WIDTH (2 * LANES)
static void scores2(const prxi_tile *t)
{
    VEC top0 = V_SET(-INFINITY), top1 = top0;
    SCORES(2)
    V_STORE(t->top, top0);
    V_STORE(t->top + LANES, top1);
}

static void values2(const prxi_tile *t)
{
    const VEC f0 = V_LOAD(t->alpha), f1 = V_LOAD(t->alpha + LANES);
    VALUES(2)
}
#undef WIDTH

#define WIDTH (3 * LANES)
static void scores3(const prxi_tile *t)
{
    VEC top0 = V_SET(-INFINITY), top1 = top0, top2 = top0;
    SCORES(3)
    V_STORE(t->top, top0);
    V_STORE(t->top + LANES, top1);
    V_STORE(t->top + 2 * LANES, top2);
}

static void values3(const prxi_tile *t)
{
    const VEC f0 = V_LOAD(t->alpha), f1 = V_LOAD(t->alpha + LANES), f2 = V_LOAD(t->alpha + 2 * LANES);
    VALUES(3)
}
#undef WIDTH

static void scores(const prxi_tile *t)
{
    if (t->vecs == 3)
        scores3(t);
    else if (t->vecs == 2)
        scores2(t);
    else
        scores1(t);
}

static void values(const prxi_tile *t)
{
    if (t->vecs == 3)
        values3(t);
    else if (t->vecs == 2)
        values2(t);
    else
        values1(t);
}
