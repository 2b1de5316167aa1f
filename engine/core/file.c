/* Whole-file input; output by temporary name and rename. */
#define _XOPEN_SOURCE 700      /* realpath */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"

int prxi_errno_status(int err)
{
    switch (err) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
    case ENAMETOOLONG:
        return PRX_EINVAL;
    case ENOMEM:
        return PRX_ENOMEM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return PRX_ENOSPC;
    default:
        return PRX_EIO;
    }
}

static int fail_errno(prxi_ctx *c, const char *path, const char *what)
{
    const int err = errno;
    return prxi_fail(c, prxi_errno_status(err), "%s: %s: %s", path, what, strerror(err));
}

/* Grows *buf so that at least one byte more than used fits, never beyond limit + 1 (the byte for NUL). */
static int grow(prxi_ctx *c, const char *path, char **buf, size_t *cap, size_t want)
{
    char *p = prxi_realloc(c->mem, PRXI_MEM_MISC, *buf, want);
    if (!p)
        return prxi_fail_nomem(c, path, want);
    *buf = p;
    *cap = want;
    return PRX_OK;
}

static int read_all(prxi_ctx *c, int fd, const char *path, size_t max_bytes, char **buf, size_t *n)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_errno(c, path, "cannot be read");
    if (S_ISDIR(st.st_mode))
        return prxi_fail(c, PRX_EINVAL, "%s: is a directory, a file is needed", path);
    size_t cap = 0, used = 0;
    const size_t hint = S_ISREG(st.st_mode) && st.st_size >= 0 ? (size_t)st.st_size : 4096;
    if (hint > max_bytes && S_ISREG(st.st_mode))
        return prxi_fail(c, PRX_EINVAL, "%s: %zu bytes, at most %zu are accepted", path, hint, max_bytes);
    int err = grow(c, path, buf, &cap, prxi_add(hint, 2));
    while (err == PRX_OK) {
        const ssize_t got = read(fd, *buf + used, cap - used - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(c, path, "cannot be read");
        if (got == 0)
            break;
        used += (size_t)got;
        if (used > max_bytes)
            return prxi_fail(c, PRX_EINVAL, "%s: more than %zu bytes", path, max_bytes);
        if (used + 1 == cap)
            err = grow(c, path, buf, &cap, prxi_mul(cap, 2));
    }
    if (err == PRX_OK)
        (*buf)[used] = '\0';
    *n = used;
    return err;
}

int prxi_read_file(prxi_ctx *c, const char *path, size_t max_bytes, char **out, size_t *n)
{
    *out = NULL;
    *n = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(c, path, "cannot be opened");
    char *buf = NULL;
    const int err = read_all(c, fd, path, max_bytes, &buf, n);
    close(fd);
    if (err != PRX_OK) {
        prxi_free(c->mem, buf);
        *n = 0;
        return err;
    }
    *out = buf;
    return PRX_OK;
}

/* The file behind links, so that the rename replaces the file and not the link. */
static char *resolve(prxi_ctx *c, const char *path)
{
    char *real = realpath(path, NULL);
    char *out = prxi_strdup(c->mem, real ? real : path);
    free(real);
    return out;
}

/* A fresh name beside the target: PATH.PID-K.tmp */
static int create_temp(prxi_ctx *c, prxi_outfile *f)
{
    const size_t n = strlen(f->path) + 40;
    f->temp = prxi_alloc(c->mem, PRXI_MEM_MISC, n);
    if (!f->temp)
        return prxi_fail_nomem(c, f->path, n);
    for (int k = 0; k < 1000; k++) {
        snprintf(f->temp, n, "%s.%ld-%d.tmp", f->path, (long)getpid(), k);
        f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd >= 0 || errno != EEXIST)
            break;
    }
    if (f->fd >= 0)
        return PRX_OK;
    fail_errno(c, f->path, "cannot be created");
    prxi_free(c->mem, f->temp);      /* nothing to unlink */
    f->temp = NULL;
    return c->error.code;
}

int prxi_outfile_open(prxi_ctx *c, prxi_outfile *f, const char *path)
{
    *f = (prxi_outfile) { -1, NULL, NULL };
    f->path = resolve(c, path);
    if (!f->path)
        return prxi_fail_nomem(c, path, strlen(path) + 1);
    struct stat st;
    int err = PRX_OK;
    const int exists = stat(f->path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) {
        err = prxi_fail(c, PRX_EINVAL, "%s: is a directory, a file name is needed", path);
    } else if (exists && !S_ISREG(st.st_mode)) {
        f->fd = open(f->path, O_WRONLY | O_CLOEXEC);
        if (f->fd < 0)
            err = fail_errno(c, path, "cannot be written");
    } else {
        err = create_temp(c, f);
    }
    if (err != PRX_OK)
        prxi_outfile_abort(c, f);
    return err;
}

int prxi_outfile_put(prxi_ctx *c, prxi_outfile *f, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        const ssize_t put = write(f->fd, p, n > (1u << 30) ? 1u << 30 : n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return fail_errno(c, f->path, "cannot be written");
        p += put;
        n -= (size_t)put;
    }
    return PRX_OK;
}

int prxi_outfile_commit(prxi_ctx *c, prxi_outfile *f)
{
    int err = PRX_OK;
    /* A pipe or device knows no fsync (EINVAL, EROFS, ENOTSUP): only a file has something to lose. */
    if (f->temp && fsync(f->fd) != 0)
        err = fail_errno(c, f->path, "cannot be written");
    const int closed = close(f->fd);
    f->fd = -1;
    if (err == PRX_OK && closed != 0)
        err = fail_errno(c, f->path, "cannot be written");
    if (err == PRX_OK && f->temp && rename(f->temp, f->path) != 0)
        err = fail_errno(c, f->path, "cannot be replaced");
    if (err == PRX_OK) {
        prxi_free(c->mem, f->temp);
        f->temp = NULL;
    }
    prxi_outfile_abort(c, f);
    return err;
}

void prxi_outfile_abort(prxi_ctx *c, prxi_outfile *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->temp)
        unlink(f->temp);
    prxi_free(c->mem, f->temp);
    prxi_free(c->mem, f->path);
    *f = (prxi_outfile) { -1, NULL, NULL };
}

int prxi_write_file(prxi_ctx *c, const char *path, const void *data, size_t n)
{
    prxi_outfile f;
    int err = prxi_outfile_open(c, &f, path);
    if (err == PRX_OK)
        err = prxi_outfile_put(c, &f, data, n);
    if (err == PRX_OK)
        return prxi_outfile_commit(c, &f);
    prxi_outfile_abort(c, &f);
    return err;
}
