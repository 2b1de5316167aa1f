/* HTML character references, as Python's html.unescape and ftfy's unescape_html read them. */
#include "clean_int.h"

#include <stdlib.h>
#include <string.h>

typedef struct entity {
    const char *name, *text;
} entity;

#define ENTITY(name, text) { name, text },
#define UPPER(name, text)
static const entity entities[] = {
#include "entities.inc"
};
#undef ENTITY
#undef UPPER
#define ENTITY(name, text)
#define UPPER(name, text) { name, text },
static const entity capitals[] = {
#include "entities.inc"
};

#define COUNT(a) (sizeof(a) / sizeof *(a))
enum { MAX_NAME = 32 };

static int by_name(const void *key, const void *e)
{
    return strcmp(key, ((const entity *)e)->name);
}

static const char *lookup(const entity *table, size_t n, const char *name)
{
    const entity *e = bsearch(name, table, n, sizeof *table, by_name);
    return e ? e->text : NULL;
}

uint32_t prxi_windows_1252(uint32_t cp)
{
    static const uint16_t windows[32] = {
        0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039, 0x152, 0x8d, 0x17d, 0x8f,
        0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc, 0x2122, 0x161, 0x203a, 0x153, 0x9d, 0x17e, 0x178,
    };
    return cp >= 0x80 && cp <= 0x9f ? windows[cp - 0x80] : cp;
}

/* Code points that a reference cannot name: it stands for nothing then. */
static int is_invalid(uint32_t v)
{
    return (v >= 1 && v <= 8) || v == 0xb || (v >= 0xe && v <= 0x1f) || (v >= 0x7f && v <= 0x9f) ||
           (v >= 0xfdd0 && v <= 0xfdef) || (v & 0xfffe) == 0xfffe;
}

static int digit(uint32_t cp, unsigned base)
{
    const int d = cp >= '0' && cp <= '9' ? (int)cp - '0'
                : cp >= 'a' && cp <= 'f' ? (int)cp - 'a' + 10
                : cp >= 'A' && cp <= 'F' ? (int)cp - 'A' + 10 : 99;
    return d < (int)base ? d : -1;
}

static void put_number(prxi_cps *dst, uint32_t v)
{
    if (v == 0 || (v >= 0xd800 && v <= 0xdfff) || v > 0x10ffff)
        prxi_cps_put(dst, 0xfffd);
    else if (v >= 128 && v <= 159)
        prxi_cps_put(dst, prxi_windows_1252(v));
    else if (!is_invalid(v))
        prxi_cps_put(dst, v);
}

/* "&#..." at p[0..n): its length with the semicolon if there is one, 0 when it is none; *v saturates. */
static size_t number(const uint32_t *p, size_t n, uint32_t *v)
{
    size_t i = 2;
    const unsigned base = n > 2 && (p[2] == 'x' || p[2] == 'X') ? 16 : 10;
    if (base == 16)
        i = 3;
    const size_t first = i;
    *v = 0;
    while (i < n && digit(p[i], base) >= 0) {
        *v = *v > 0x10ffff ? *v : *v * base + (uint32_t)digit(p[i], base);
        i++;
    }
    if (i == first)
        return 0;
    return i < n && p[i] == ';' ? i + 1 : i;
}

/* Characters behind '&' that can belong to a name, at most 32 and a semicolon: the regular expression of html.unescape. */
static size_t name_length(const uint32_t *p, size_t n)
{
    size_t i = 0;
    while (i < n && i < MAX_NAME && p[i] != '\t' && p[i] != '\n' && p[i] != '\f' && p[i] != ' ' && p[i] != '<' &&
           p[i] != '&' && p[i] != '#' && p[i] != ';')
        i++;
    return i > 0 && i < n && p[i] == ';' ? i + 1 : i;
}

/* The first len characters as a C string; 0 when one is not ASCII (no name has such). */
static int ascii(const uint32_t *p, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] == 0 || p[i] > 0x7e)
            return 0;
        out[i] = (char)p[i];
    }
    out[len] = '\0';
    return 1;
}

/* The longest name that begins the len characters at p: its text and how many it takes. */
static const char *longest(const uint32_t *p, size_t len, size_t *taken)
{
    char name[MAX_NAME + 2];
    for (size_t n = len; n > 1; n--) {
        const char *text = ascii(p, n, name) ? lookup(entities, COUNT(entities), name) : NULL;
        if (text) {
            *taken = n;
            return text;
        }
    }
    return NULL;
}

void prxi_html_unescape(const prxi_cps *src, prxi_cps *dst)
{
    for (size_t i = 0; i < src->n && dst->err == PRX_OK;) {
        const uint32_t *p = src->p + i;
        const size_t left = src->n - i;
        uint32_t v;
        size_t used = 1;
        if (*p == '&' && left > 1 && p[1] == '#') {
            used = number(p, left, &v);
            if (used) {
                put_number(dst, v);
                i += used;
                continue;
            }
            used = 1;
        } else if (*p == '&') {
            const char *text = longest(p + 1, name_length(p + 1, left - 1), &used);
            if (text) {
                prxi_cps_put_utf8(dst, text);
                i += 1 + used;
                continue;
            }
            used = 1;
        }
        prxi_cps_put(dst, *p);
        i += used;
    }
}

static int is_alnum(uint32_t cp)
{
    return (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
}

/* A name in capitals that means nothing by itself stands for the lower-case name, and its text in capitals. */
static const char *capital(const uint32_t *p, const char *name)
{
    char lower[MAX_NAME + 2];
    size_t taken, n = strlen(name);
    if (longest(p, n, &taken))
        return NULL;
    for (size_t i = 0; i <= n; i++) {
        if (name[i] >= 'a' && name[i] <= 'z')
            return NULL;
        lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    }
    const char *text = lookup(capitals, COUNT(capitals), lower);
    return text ? text : lookup(entities, COUNT(entities), lower);
}

/* Length of "&#?[0-9A-Za-z]{1,24};" at p, or 0. */
static size_t strict_length(const uint32_t *p, size_t n)
{
    size_t i = 1;
    if (i < n && p[i] == '#')
        i++;
    const size_t first = i;
    while (i < n && i - first < 24 && is_alnum(p[i]))
        i++;
    return i > first && i < n && p[i] == ';' ? i + 1 : 0;
}

void prxi_html_unescape_strict(const prxi_cps *src, prxi_cps *dst)
{
    for (size_t i = 0; i < src->n && dst->err == PRX_OK;) {
        const uint32_t *p = src->p + i;
        const size_t len = *p == '&' ? strict_length(p, src->n - i) : 0;
        uint32_t v;
        char name[MAX_NAME + 2];
        const char *text = NULL;
        if (len > 0 && p[1] == '#' && number(p, len, &v) == len && v != ';') {
            put_number(dst, v);
            i += len;
            continue;
        }
        if (len > 0 && p[1] != '#' && ascii(p + 1, len - 1, name)) {
            text = lookup(entities, COUNT(entities), name);
            text = text ? text : capital(p + 1, name);
        }
        if (text)
            prxi_cps_put_utf8(dst, text);
        else
            prxi_cps_put(dst, *p);
        i += text ? len : 1;
    }
}
