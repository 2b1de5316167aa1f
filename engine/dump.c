/* A safetensors file written tensor by tensor as data comes. */
#include "dump.h"

#include <cjson/cJSON.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct entry {
    char name[64];
    size_t begin, bytes;
} entry;

struct prxi_dump {
    char *path, *tmp;
    int fd;
    size_t data;             /* file offset of the first tensor */
    entry *entries;
    int n;
};

static int fail_errno(prxi_ctx *c, const char *path)
{
    const int e = errno;
    return prxi_fail(c, e == ENOSPC || e == EDQUOT || e == EFBIG ? PRX_ENOSPC : PRX_EIO, "%s: %s", path, strerror(e));
}

static int write_all(prxi_ctx *c, const prxi_dump *d, size_t at, const void *data, size_t n)
{
    const unsigned char *p = data;
    while (n > 0) {
        const ssize_t w = pwrite(d->fd, p, n, (off_t)at);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return fail_errno(c, d->path);
        p += w, at += (size_t)w, n -= (size_t)w;
    }
    return PRX_OK;
}

static cJSON *header_json(prxi_dump *d, const prxi_tensor_out *list, int n)
{
    static const char *const names[PRXI_DTYPES] = { [PRXI_F32] = "F32", [PRXI_BF16] = "BF16", [PRXI_F16] = "F16",
                                                    [PRXI_U8] = "U8" };
    cJSON *root = cJSON_CreateObject();
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        size_t bytes = prxi_dtype_size(list[i].dtype);
        cJSON *t = cJSON_AddObjectToObject(root, list[i].name), *shape = NULL, *range = NULL;
        cJSON_AddStringToObject(t, "dtype", names[list[i].dtype]);
        shape = cJSON_AddArrayToObject(t, "shape");
        for (int k = 0; k < list[i].ndim; k++) {
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)list[i].shape[k]));
            bytes = prxi_mul(bytes, (size_t)list[i].shape[k]);
        }
        range = cJSON_AddArrayToObject(t, "data_offsets");
        cJSON_AddItemToArray(range, cJSON_CreateNumber((double)at));
        cJSON_AddItemToArray(range, cJSON_CreateNumber((double)(at + bytes)));
        snprintf(d->entries[i].name, sizeof d->entries[i].name, "%s", list[i].name);
        d->entries[i].begin = at;
        d->entries[i].bytes = bytes;
        at += bytes;
    }
    return root;
}

static int write_header(prxi_ctx *c, prxi_dump *d, const prxi_tensor_out *list, int n)
{
    cJSON *root = header_json(d, list, n);
    char *text = root ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (!text)
        return prxi_fail_nomem(c, d->path, 0);
    const size_t len = strlen(text), padded = (len + 7) & ~(size_t)7;
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)((uint64_t)padded >> (8 * i));
    int err = write_all(c, d, 0, size, 8);
    if (err == PRX_OK)
        err = write_all(c, d, 8, text, len);
    if (err == PRX_OK)
        err = write_all(c, d, 8 + len, "       ", padded - len);
    cJSON_free(text);
    d->data = 8 + padded;
    const size_t end = d->data + (n ? d->entries[n - 1].begin + d->entries[n - 1].bytes : 0);
    if (err == PRX_OK && ftruncate(d->fd, (off_t)end) != 0)
        err = fail_errno(c, d->path);
    return err;
}

int prxi_dump_open(prxi_ctx *c, prxi_dump **out, const char *path, const prxi_tensor_out *list, int n)
{
    *out = NULL;
    prxi_dump *d = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *d);
    if (!d)
        return prxi_fail_nomem(c, path, sizeof *d);
    d->fd = -1;
    d->n = n;
    const size_t len = strlen(path) + 32;
    d->path = prxi_strdup(c->mem, path);
    d->tmp = prxi_alloc(c->mem, PRXI_MEM_MISC, len);
    d->entries = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)n, sizeof *d->entries);
    int err = PRX_OK;
    if (!d->path || !d->tmp || !d->entries) {
        err = prxi_fail_nomem(c, path, len);
        if (d->tmp)
            d->tmp[0] = '\0';
    } else {
        snprintf(d->tmp, len, "%s.part%ld", path, (long)getpid());
        d->fd = open(d->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        err = d->fd < 0 ? fail_errno(c, path) : write_header(c, d, list, n);
    }
    if (err < 0)
        prxi_dump_close(c, &d);
    *out = d;
    return err;
}

int prxi_dump_write(prxi_ctx *c, prxi_dump *d, const char *name, size_t at, const void *data, size_t n)
{
    for (int i = 0; i < d->n; i++) {
        const entry *e = &d->entries[i];
        if (strcmp(e->name, name) != 0)
            continue;
        if (at > e->bytes || n > e->bytes - at)
            break;
        return write_all(c, d, d->data + e->begin + at, data, n);
    }
    return prxi_fail(c, PRX_EINTERNAL, "%s: tensor %s: no room for %zu bytes at %zu", d->path, name, n, at);
}

int prxi_dump_finish(prxi_ctx *c, prxi_dump *d)
{
    if (fsync(d->fd) != 0 || rename(d->tmp, d->path) != 0)
        return fail_errno(c, d->path);
    d->tmp[0] = '\0';
    return PRX_OK;
}

void prxi_dump_close(prxi_ctx *c, prxi_dump **dp)
{
    prxi_dump *d = *dp;
    *dp = NULL;
    if (!d)
        return;
    if (d->fd >= 0) {
        close(d->fd);
        if (d->tmp[0])
            unlink(d->tmp);
    }
    prxi_free(c->mem, d->entries);
    prxi_free(c->mem, d->tmp);
    prxi_free(c->mem, d->path);
    prxi_free(c->mem, d);
}
