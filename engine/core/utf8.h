/* UTF-8: one decoder for every parser. Strict: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef PRXI_UTF8_H
#define PRXI_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decodes the sequence at s (n >= 1 bytes): its length 1..4 and *cp, or 0 when it is not valid. */
int prxi_utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes cp (a Unicode scalar value) to out (room for 4), returns the length 1..4. */
int prxi_utf8_encode(uint32_t cp, char *out);
/* Offset of the first byte that is not valid UTF-8; n when all is well. */
size_t prxi_utf8_check(const char *s, size_t n);

#endif
