/* results.jsonl: append, sync, resume. */
#include "results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/core/json.h"

static int fail_errno(prxi_ctx *c, const prxi_results *r, int e)
{
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
        return prxi_fail(c, PRX_ENOSPC, "%s: %s; its %lld rows are intact, the same command goes on", r->path, strerror(e),
                         (long long)r->rows);
    return prxi_fail(c, PRX_EIO, "%s: %s", r->path, strerror(e));
}

/* A record lock, which a killed process loses. */
static int take_lock(prxi_ctx *c, const prxi_results *r)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(r->fd, F_SETLK, &lock) == 0 || errno == ENOLCK || errno == EINVAL)
        return PRX_OK;
    if (errno == EACCES || errno == EAGAIN)
        return prxi_fail(c, PRX_ESTATE, "%s: another sweep writes there", r->path);
    return fail_errno(c, r, errno);
}

static int read_lines(prxi_ctx *c, prxi_results *r, const char *text, size_t n, prxi_results_fn fn, void *cookie)
{
    int err = PRX_OK;
    for (size_t at = 0; at < n && err == PRX_OK;) {
        const char *end = memchr(text + at, '\n', n - at);
        if (!end)
            break;
        const size_t len = (size_t)(end - text) - at;
        cJSON *row = cJSON_ParseWithLength(text + at, len);
        if (!cJSON_IsObject(row))
            err = prxi_fail(c, PRX_EFORMAT, "%s: line %lld: not a row of a sweep", r->path, (long long)r->rows + 1);
        else
            err = fn(cookie, c, row);
        cJSON_Delete(row);
        at += len + 1;
        r->rows++;
        r->end = (int64_t)at;
    }
    return err;
}

int prxi_results_open(prxi_ctx *c, prxi_results *r, const char *dir, prxi_results_fn fn, void *cookie)
{
    const size_t n = strlen(dir) + 32;
    char *text = NULL;
    size_t bytes = 0;
    *r = (prxi_results) { .fd = -1 };
    if (!(r->path = prxi_alloc(c->mem, PRXI_MEM_MISC, n)))
        return prxi_fail_nomem(c, dir, n);
    snprintf(r->path, n, "%s/results.jsonl", dir);
    r->fd = open(r->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (r->fd < 0)
        return fail_errno(c, r, errno);
    int err = take_lock(c, r);
    if (err == PRX_OK)
        err = prxi_read_file(c, r->path, (size_t)4 << 30, &text, &bytes);
    if (err == PRX_OK)
        err = read_lines(c, r, text, bytes, fn, cookie);
    prxi_free(c->mem, text);
    if (err == PRX_OK && (int64_t)bytes > r->end && ftruncate(r->fd, r->end) != 0)
        err = fail_errno(c, r, errno);
    return err;
}

static int put(const prxi_results *r, const char *text, size_t n)
{
    size_t done = 0;
    while (done < n) {
        const ssize_t w = pwrite(r->fd, text + done, n - done, (off_t)r->end + (off_t)done);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w < 0 ? errno : ENOSPC;
        done += (size_t)w;
    }
    return fsync(r->fd) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
}

int prxi_results_add(prxi_ctx *c, prxi_results *r, const cJSON *row)
{
    char *text = row ? cJSON_PrintUnformatted(row) : NULL;
    const size_t n = text ? strlen(text) : 0;
    if (!text)
        return prxi_fail_nomem(c, "row", 0);
    text[n] = '\n';                  /* in place of the NUL: one write */
    const int bad = put(r, text, n + 1);
    cJSON_free(text);
    if (bad) {
        const int cut = ftruncate(r->fd, r->end);
        return cut == 0 ? fail_errno(c, r, bad) : fail_errno(c, r, errno);
    }
    r->rows++;
    r->end += (int64_t)n + 1;
    return PRX_OK;
}

void prxi_results_close(prxi_ctx *c, prxi_results *r)
{
    if (r->path && r->fd >= 0)
        close(r->fd);                /* the lock goes with it */
    prxi_free(c->mem, r->path);
    *r = (prxi_results) { .fd = -1 };
}
