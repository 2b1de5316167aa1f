/* Errors and log lines of a context. */
#include "ctx.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A hostile file name or key must not move the cursor of a terminal. */
static void replace_controls(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

/* vsnprintf may cut a UTF-8 sequence: drop an incomplete last one. */
static void trim_utf8(char *s, size_t n)
{
    size_t i = n;
    while (i > 0 && n - i < 4 && ((unsigned char)s[i - 1] & 0xc0) == 0x80)
        i--;
    if (i == 0)
        return;
    const unsigned char lead = (unsigned char)s[i - 1];
    const size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (n - (i - 1) < want)
        s[i - 1] = '\0';
}

int prxi_fail(prxi_ctx *c, int code, const char *fmt, ...)
{
    if (c->error.code != PRX_OK)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->error.text, sizeof c->error.text, fmt, ap);
    va_end(ap);
    trim_utf8(c->error.text, strlen(c->error.text));
    replace_controls(c->error.text);
    c->error.code = code;
    return code;
}

int prxi_fail_nomem(prxi_ctx *c, const char *what, size_t bytes)
{
    return prxi_fail(c, PRX_ENOMEM, "%s: out of memory (%.1f MiB refused)", what, (double)bytes / 1048576.0);
}

void prxi_clear(prxi_ctx *c)
{
    c->error.code = PRX_OK;
    c->error.text[0] = '\0';
}

int prxi_pass_error(prxi_ctx *to, const prxi_ctx *from)
{
    if (to != from && to->error.code == PRX_OK)
        to->error = from->error;
    return from->error.code;
}

void prxi_logf(const prxi_ctx *c, int level, const char *fmt, ...)
{
    if (!c->log || !c->log->fn || level > c->log->level)
        return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    trim_utf8(text, strlen(text));
    replace_controls(text);
    c->log->fn(c->log->cookie, level, text);
}
