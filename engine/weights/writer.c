/* The safetensors writer: one pass, tensors in the order of the list, under the final name only when complete. */
#include "safetensors.h"

#include <stdio.h>
#include <string.h>

#include "engine/core/file.h"

/* A growing text: one failed growth makes every later call a no-op, so that the caller checks once. */
typedef struct text {
    prxi_ctx *c;
    char *p;
    size_t used, cap;
    int err;
} text;

static void put(text *t, const char *s, size_t n)
{
    if (t->err == PRX_OK && n > t->cap - t->used) {
        const size_t cap = prxi_mul(prxi_add(t->cap, n), 2);
        char *p = prxi_realloc(t->c->mem, PRXI_MEM_MISC, t->p, cap);
        if (!p) {
            t->err = prxi_fail_nomem(t->c, "safetensors header", cap);
        } else {
            t->p = p;
            t->cap = cap;
        }
    }
    if (t->err != PRX_OK)
        return;
    memcpy(t->p + t->used, s, n);
    t->used += n;
}

static void puts_text(text *t, const char *s)
{
    put(t, s, strlen(s));
}

static void put_string(text *t, const char *s)
{
    put(t, "\"", 1);
    for (; *s; s++) {
        char esc[8];
        if (*s == '"' || *s == '\\')
            snprintf(esc, sizeof esc, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            snprintf(esc, sizeof esc, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            snprintf(esc, sizeof esc, "%c", *s);
        puts_text(t, esc);
    }
    put(t, "\"", 1);
}

static int tensor_bytes(prxi_ctx *c, const prxi_tensor_out *t, size_t *out)
{
    size_t bytes = prxi_dtype_size(t->dtype);
    int ok = t->ndim >= 0 && t->ndim <= PRXI_MAX_DIMS && memchr(t->name, '\0', sizeof t->name) != NULL;
    for (int i = 0; ok && i < t->ndim; i++) {
        ok = t->shape[i] >= 0;
        bytes = prxi_mul(bytes, (size_t)t->shape[i]);
    }
    *out = bytes;
    if (!ok || bytes >= SIZE_MAX / 2)
        return prxi_fail(c, PRX_EINVAL, "tensor %.60s: name or shape cannot be written", t->name);
    return PRX_OK;
}

static void put_entry(text *h, const prxi_tensor_out *t, size_t begin, size_t end)
{
    static const char *const dtype[PRXI_DTYPES] = { [PRXI_F32] = "F32", [PRXI_BF16] = "BF16", [PRXI_F16] = "F16",
                                                    [PRXI_U8] = "U8" };
    char buf[96];
    put(h, ",", 1);
    put_string(h, t->name);
    snprintf(buf, sizeof buf, ":{\"dtype\":\"%s\",\"shape\":[", dtype[t->dtype]);
    puts_text(h, buf);
    for (int i = 0; i < t->ndim; i++) {
        snprintf(buf, sizeof buf, "%s%lld", i ? "," : "", (long long)t->shape[i]);
        puts_text(h, buf);
    }
    snprintf(buf, sizeof buf, "],\"data_offsets\":[%zu,%zu]}", begin, end);
    puts_text(h, buf);
}

static int build_header(text *h, const prxi_tensor_out *t, int n, const char *metadata)
{
    size_t at = 0;
    puts_text(h, "{\"__metadata__\":");
    puts_text(h, metadata ? metadata : "{\"format\":\"pt\"}");
    for (int i = 0; i < n; i++) {
        size_t bytes;
        const int err = tensor_bytes(h->c, &t[i], &bytes);
        if (err != PRX_OK)
            return err;
        if (bytes > SIZE_MAX / 2 - at)
            return prxi_fail(h->c, PRX_EINVAL, "tensor %.60s: too large", t[i].name);
        put_entry(h, &t[i], at, at + bytes);
        at += bytes;
    }
    put(h, "}", 1);
    while (h->err == PRX_OK && h->used % 8 != 0)
        put(h, " ", 1);
    return h->err;
}

static int write_parts(prxi_ctx *c, prxi_outfile *f, const text *h, const prxi_tensor_out *t, int n)
{
    unsigned char len[8];
    for (int i = 0; i < 8; i++)
        len[i] = (unsigned char)((uint64_t)h->used >> (8 * i));
    int err = prxi_outfile_put(c, f, len, sizeof len);
    if (err == PRX_OK)
        err = prxi_outfile_put(c, f, h->p, h->used);
    for (int i = 0; err == PRX_OK && i < n; i++) {
        size_t bytes;
        err = tensor_bytes(c, &t[i], &bytes);
        if (err == PRX_OK)
            err = prxi_outfile_put(c, f, t[i].data, bytes);
    }
    return err;
}

int prxi_tensors_write(prxi_ctx *c, const char *path, const prxi_tensor_out *t, int n, const char *metadata_json)
{
    text h = { c, NULL, 0, 0, PRX_OK };
    prxi_outfile f;
    int err = build_header(&h, t, n, metadata_json);
    if (err == PRX_OK)
        err = prxi_outfile_open(c, &f, path);
    if (err == PRX_OK) {
        err = write_parts(c, &f, &h, t, n);
        if (err == PRX_OK)
            err = prxi_outfile_commit(c, &f);
        else
            prxi_outfile_abort(c, &f);
    }
    prxi_free(c->mem, h.p);
    return err;
}
