/* Unicode normalisation form C (UAX 15): decompose, order the marks, compose. Hangul by arithmetic, the rest by table. */
#include "clean_int.h"

#include <stddef.h>

typedef struct decomposition {
    uint32_t code, first, second;
    int composes;
} decomposition;

typedef struct class_range {
    uint32_t first, last;
    int class;
} class_range;

#define DECOMPOSE(code, first, second, composes) { code, first, second, composes },
#define CLASS(first, last, class)
#define WIDTH(code)
static const decomposition decompositions[] = {
#include "unicode.inc"
};
#undef DECOMPOSE
#undef CLASS
#define DECOMPOSE(code, first, second, composes)
#define CLASS(first, last, class) { first, last, class },
static const class_range classes[] = {
#include "unicode.inc"
};
#undef CLASS
#undef WIDTH
#define CLASS(first, last, class)
#define WIDTH(code) code,
static const uint16_t widths[] = {
#include "unicode.inc"
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28 };
enum { S_COUNT = L_COUNT * V_COUNT * T_COUNT };

uint32_t prxi_usual_width(uint32_t cp)
{
    if (cp == 0x3000)
        return ' ';
    if (cp < 0xff01 || cp - 0xff01 >= COUNT(widths))
        return cp;
    return widths[cp - 0xff01] ? widths[cp - 0xff01] : cp;
}

static int class_of(uint32_t cp)
{
    size_t lo = 0, hi = COUNT(classes);
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (cp < classes[mid].first)
            hi = mid;
        else if (cp > classes[mid].last)
            lo = mid + 1;
        else
            return classes[mid].class;
    }
    return 0;
}

static const decomposition *decompose(uint32_t cp)
{
    size_t lo = 0, hi = COUNT(decompositions);
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (cp == decompositions[mid].code)
            return &decompositions[mid];
        if (cp < decompositions[mid].code)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* Tables nest three deep at most; the depth only guards against a wrong table. */
static void put_decomposed(prxi_cps *dst, uint32_t cp, int depth)
{
    if (cp >= S_BASE && cp < S_BASE + S_COUNT) {
        const uint32_t s = cp - S_BASE;
        prxi_cps_put(dst, L_BASE + s / (V_COUNT * T_COUNT));
        prxi_cps_put(dst, V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT);
        if (s % T_COUNT)
            prxi_cps_put(dst, T_BASE + s % T_COUNT);
        return;
    }
    const decomposition *d = cp >= 0xc0 && depth < 8 ? decompose(cp) : NULL;
    if (!d) {
        prxi_cps_put(dst, cp);
        return;
    }
    put_decomposed(dst, d->first, depth + 1);
    if (d->second)
        put_decomposed(dst, d->second, depth + 1);
}

/* The primary composite of a pair, or 0. The table is sorted by code: a scan, but only where can_follow says so. */
static uint32_t compose(uint32_t a, uint32_t b)
{
    if (a >= L_BASE && a < L_BASE + L_COUNT && b >= V_BASE && b < V_BASE + V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a >= S_BASE && a < S_BASE + S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE && b < T_BASE + T_COUNT)
        return a + (b - T_BASE);
    for (size_t i = 0; i < COUNT(decompositions); i++)
        if (decompositions[i].composes && decompositions[i].first == a && decompositions[i].second == b)
            return decompositions[i].code;
    return 0;
}

/* Can b, of class k, be the second part of a composite? Marks can; so can a few letters of class 0, all in the ranges of Indic
 * scripts and Hangul Jamo. Spares CJK text the search. */
static int can_follow(uint32_t b, int k)
{
    return k != 0 || (b >= 0x900 && b < 0x1c00) || (b >= 0x11000 && b < 0x12000);
}

/* Stable sort by class of each run of marks. */
static void order(uint32_t *p, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const uint32_t cp = p[i];
        const int k = class_of(cp);
        size_t j = i;
        if (k == 0)
            continue;
        for (; j > 0 && class_of(p[j - 1]) > k; j--)
            p[j] = p[j - 1];
        p[j] = cp;
    }
}

/* Long runs of marks make the sort quadratic; text does not have them, an attack may. */
enum { MAX_MARKS = 64 };

static size_t compose_all(uint32_t *p, size_t n)
{
    size_t out = 0, starter = SIZE_MAX;
    int last = -1;      /* class of the mark before, among those kept behind the starter; -1: none */
    for (size_t i = 0; i < n; i++) {
        const uint32_t cp = p[i];
        const int k = class_of(cp);
        const uint32_t both = starter != SIZE_MAX && last < k && can_follow(cp, k) ? compose(p[starter], cp) : 0;
        if (both) {
            p[starter] = both;
            continue;
        }
        if (k == 0) {
            starter = out;
            last = -1;
        } else {
            last = k;
        }
        p[out++] = cp;
    }
    return out;
}

/* True for text that has nothing to normalise: no mark, no decomposition. */
static int is_plain(const prxi_cps *t)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->p[i] >= 0x300)
            return 0;
    return 1;
}

void prxi_nfc(const prxi_cps *src, prxi_cps *dst)
{
    const int plain = is_plain(src);
    int marks = 0;
    for (size_t i = 0; i < src->n; i++) {
        if (plain) {
            prxi_cps_put(dst, src->p[i]);
            continue;
        }
        marks = class_of(src->p[i]) ? marks + 1 : 0;
        if (marks <= MAX_MARKS)
            put_decomposed(dst, src->p[i], 0);
    }
    if (plain || dst->err != PRX_OK)
        return;
    order(dst->p, dst->n);
    dst->n = compose_all(dst->p, dst->n);
}
