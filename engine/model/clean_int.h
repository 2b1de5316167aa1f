/* Inside of prompt cleaning: text as code points, and the steps that have tables of their own. */
#ifndef PRXI_CLEAN_INT_H
#define PRXI_CLEAN_INT_H

#include "engine/core/ctx.h"

/* A growing text. The first failure sticks in err and makes later calls do nothing. */
typedef struct prxi_cps {
    prxi_ctx *c;
    uint32_t *p;
    size_t n, cap;
    int err;
} prxi_cps;

void prxi_cps_put(prxi_cps *t, uint32_t cp);
/* UTF-8 that is known to be valid. */
void prxi_cps_put_utf8(prxi_cps *t, const char *s);
void prxi_cps_free(prxi_cps *t);

/* dst is empty; src is not changed. */

/* Python's html.unescape, the rules of HTML5: names without semicolon and longest prefixes too. */
void prxi_html_unescape(const prxi_cps *src, prxi_cps *dst);
/* ftfy's unescape_html: only what ends in a semicolon; names in capitals stand for the lower-case ones. */
void prxi_html_unescape_strict(const prxi_cps *src, prxi_cps *dst);
/* A C1 control as what Windows-1252 has at its place, as browsers read it; others unchanged. */
uint32_t prxi_windows_1252(uint32_t cp);
/* Unicode normalisation form C (UAX 15). */
void prxi_nfc(const prxi_cps *src, prxi_cps *dst);
/* The usual form of a full-width or half-width character, or the character itself (U+FFE3 aside: it has two). */
uint32_t prxi_usual_width(uint32_t cp);

#endif
