/* The wall around libsentencepiece: a C surface over one .cpp file. Exceptions end there; the library's memory is its own.
 * It trusts what it reads: call prxi_spm_check (tokenizer_int.h) first. */
#ifndef PRXI_SPM_H
#define PRXI_SPM_H

#include <stddef.h>
#include <stdint.h>

#include "engine/core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct prxi_spm prxi_spm;

/* NULL when the library refuses; why (at least 1 byte) gets its words. */
prxi_spm *prxi_spm_open(const void *data, size_t n, char *why, size_t why_size);
void prxi_spm_close(prxi_spm *s);
int prxi_spm_size(const prxi_spm *s);
/* Borrowed text of a piece, id in [0, size). */
const char *prxi_spm_piece(const prxi_spm *s, int id, size_t *len, float *score);
/* text normalised by the model's own rules, spaces as U+2581: calls put with the bytes, once. PRX_OK, PRX_ENOMEM or
 * PRX_EINTERNAL. */
int prxi_spm_normalize(const prxi_spm *s, const char *text, size_t n,
                       void (*put)(void *cookie, const char *bytes, size_t n), void *cookie);

#ifdef __cplusplus
}
#endif

#endif
