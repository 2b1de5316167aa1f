/* Context of a fallible call: where memory comes from, where text goes, and the last error.
 * Every public object (engine, model, job, ...) owns one; the mem and log parts are shared by
 * the objects of an engine, the error belongs to the object alone. */
#ifndef PRXI_CTX_H
#define PRXI_CTX_H

#include "attr.h"
#include "mem.h"
#include "status.h"

typedef struct prxi_log {
    prx_log_fn fn;      /* may be NULL: silent */
    void *cookie;
    int level;          /* highest level that is passed on */
} prxi_log;

typedef struct prxi_error {
    int code;           /* PRX_OK or a negative code */
    char text[1024];    /* "what: why", no newline, valid UTF-8 */
} prxi_error;

typedef struct prxi_ctx {
    prxi_mem *mem;
    const prxi_log *log;
    prxi_error error;
} prxi_ctx;

/* Records code and "what: why" and returns code. The first error of a context stays until
 * prxi_clear(); later ones are dropped so that the cause is not masked by the clean-up. Control
 * characters in the text are replaced, so that a hostile name cannot spoil a terminal. */
int prxi_fail(prxi_ctx *c, int code, const char *fmt, ...) PRXI_PRINTF(3, 4);
/* PRX_ENOMEM with the size that was refused. */
int prxi_fail_nomem(prxi_ctx *c, const char *what, size_t bytes);
void prxi_clear(prxi_ctx *c);
/* Copies the error of one context to another (an inner object to the one that the caller sees). */
int prxi_pass_error(prxi_ctx *to, const prxi_ctx *from);

void prxi_logf(const prxi_ctx *c, int level, const char *fmt, ...) PRXI_PRINTF(3, 4);

#endif
