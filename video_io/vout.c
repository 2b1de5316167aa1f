/* Files that are complete or absent: temporary name, fsync, rename. */
#define _XOPEN_SOURCE 700      /* realpath */
#include "vout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int prxi_out_fail(prxi_ctx *c, const char *path, const char *doing, int err)
{
    const int full = err == ENOSPC || err == EDQUOT || err == EFBIG;
    return prxi_fail(c, full ? PRX_ENOSPC : PRX_EIO, "%s: %s: %s", path, doing, strerror(err));
}

/* Length of the directory part of path, with its slash. */
static size_t dir_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static char *dir_of(prxi_mem *m, const char *path)
{
    const size_t n = dir_length(path);
    if (n == 0)
        return prxi_strdup(m, ".");
    char *dir = prxi_alloc(m, PRXI_MEM_MISC, n + 1);
    if (dir) {
        memcpy(dir, path, n);
        dir[n] = '\0';
    }
    return dir;
}

static int check_dir(prxi_ctx *c, const char *target, const char *shown)
{
    char *dir = dir_of(c->mem, target);
    if (!dir)
        return prxi_fail_nomem(c, shown, strlen(target));
    struct stat st;
    int err = PRX_OK;
    if (stat(dir, &st) != 0)
        err = prxi_fail(c, PRX_EIO, "%s: folder \"%s\": %s", shown, dir, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        err = prxi_fail(c, PRX_EIO, "%s: \"%s\" is not a folder", shown, dir);
    else if (access(dir, W_OK | X_OK) != 0)
        err = prxi_fail(c, PRX_EIO, "%s: folder \"%s\" cannot be written: %s", shown, dir, strerror(errno));
    prxi_free(c->mem, dir);
    return err;
}

int prxi_out_resolve(prxi_ctx *c, const char *path, char **target, int *in_place)
{
    *target = NULL;
    *in_place = 0;
    if (!path || !*path)
        return prxi_fail(c, PRX_EINVAL, "output: the file name is empty");
    struct stat st;
    char *real = NULL;
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return prxi_fail(c, PRX_EINVAL, "%s: is a folder; give a file name", path);
        *in_place = !S_ISREG(st.st_mode);
        if (access(path, W_OK) != 0)
            return prxi_out_fail(c, path, "cannot be replaced", errno);
        /* A link stays a link: its destination is what gets replaced. */
        real = realpath(path, NULL);
    } else if (errno != ENOENT) {
        return prxi_out_fail(c, path, "cannot be written", errno);
    }
    *target = prxi_strdup(c->mem, real ? real : path);
    free(real);
    if (!*target)
        return prxi_fail_nomem(c, path, strlen(path));
    if (*in_place)
        return PRX_OK;
    const int err = check_dir(c, *target, path);
    if (err < 0) {
        prxi_free(c->mem, *target);
        *target = NULL;
    }
    return err;
}

int prxi_out_temp(prxi_ctx *c, const char *target, const char *shown, char **temp, int *fd)
{
    static atomic_uint counter;
    const size_t dir = dir_length(target), room = dir + 64;
    char *name = prxi_alloc(c->mem, PRXI_MEM_MISC, room);
    *temp = NULL;
    if (!name)
        return prxi_fail_nomem(c, shown, room);
    memcpy(name, target, dir);
    int err = EEXIST;
    /* Not mkstemp: the file shall get the usual permissions, and a directory the same naming. */
    for (int i = 0; i < 1000 && err == EEXIST; i++) {
        snprintf(name + dir, room - dir, ".praxino-%ld-%u.tmp", (long)getpid(), atomic_fetch_add(&counter, 1u));
        const int r = fd ? (*fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) : mkdir(name, 0777);
        err = r < 0 ? errno : 0;
    }
    if (err) {
        prxi_free(c->mem, name);
        return prxi_out_fail(c, shown, "no temporary file beside it", err);
    }
    *temp = name;
    return PRX_OK;
}

int prxi_out_room(prxi_ctx *c, const char *target, const char *shown, uint64_t bytes)
{
    if (bytes == 0)
        return PRX_OK;
    char *dir = dir_of(c->mem, target);
    if (!dir)
        return prxi_fail_nomem(c, shown, strlen(target));
    struct statvfs vfs;
    const int known = statvfs(dir, &vfs) == 0;
    prxi_free(c->mem, dir);
    if (!known)
        return PRX_OK;
    const double have = (double)vfs.f_bavail * (double)vfs.f_frsize;
    if ((double)bytes <= have)
        return PRX_OK;
    return prxi_fail(c, PRX_ENOSPC, "%s: needs %.1f MiB, the file system has %.1f MiB left", shown,
                     (double)bytes / 1048576.0, have / 1048576.0);
}

static int open_stdout(prxi_ctx *c, prxi_vout *f)
{
    if (isatty(STDOUT_FILENO))
        return prxi_fail(c, PRX_EINVAL, "output \"-\": standard output is a terminal; pipe it or redirect it");
    f->fd = dup(STDOUT_FILENO);
    if (f->fd < 0)
        return prxi_out_fail(c, f->shown, "cannot be written", errno);
    f->open = 1;
    return PRX_OK;
}

int prxi_vout_open(prxi_ctx *c, prxi_vout *f, const char *path, uint64_t bytes)
{
    memset(f, 0, sizeof *f);
    const int is_stdout = path && strcmp(path, "-") == 0;
    f->shown = prxi_strdup(c->mem, is_stdout ? "standard output" : path ? path : "");
    if (!f->shown)
        return prxi_fail_nomem(c, "output", 0);
    int err, in_place;
    if (is_stdout)
        return open_stdout(c, f);
    if ((err = prxi_out_resolve(c, path, &f->target, &in_place)) < 0)
        return err;
    if (in_place) {
        f->fd = open(f->target, O_WRONLY | O_CLOEXEC);
        if (f->fd < 0)
            return prxi_out_fail(c, f->shown, "cannot be written", errno);
        f->open = 1;
        return PRX_OK;
    }
    if ((err = prxi_out_room(c, f->target, f->shown, bytes)) < 0 ||
        (err = prxi_out_temp(c, f->target, f->shown, &f->temp, &f->fd)) < 0)
        return err;
    f->open = f->seekable = 1;
    struct stat st;
    if (stat(f->target, &st) == 0)
        (void)!fchmod(f->fd, st.st_mode & 0777);
    return PRX_OK;
}

int prxi_vout_write(prxi_ctx *c, prxi_vout *f, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        const ssize_t r = write(f->fd, p, n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return prxi_out_fail(c, f->shown, "writing failed", errno);
        p += r;
        n -= (size_t)r;
    }
    return PRX_OK;
}

int prxi_vout_finish(prxi_ctx *c, prxi_vout *f)
{
    if (!f->open)
        return prxi_fail(c, PRX_ESTATE, "output: finished twice");
    /* Delayed allocation reports a full disk here at the latest. */
    if (f->temp && fsync(f->fd) != 0 && errno != EINVAL && errno != EROFS)
        return prxi_out_fail(c, f->shown, "writing failed", errno);
    f->open = 0;
    if (close(f->fd) != 0 && errno != EINTR)
        return prxi_out_fail(c, f->shown, "writing failed", errno);
    if (f->temp && rename(f->temp, f->target) != 0)
        return prxi_out_fail(c, f->shown, "cannot be given its name", errno);
    prxi_free(c->mem, f->temp);
    f->temp = NULL;
    return PRX_OK;
}

void prxi_vout_close(prxi_ctx *c, prxi_vout *f)
{
    if (f->open)
        close(f->fd);
    if (f->temp)
        unlink(f->temp);
    prxi_free(c->mem, f->temp);
    prxi_free(c->mem, f->target);
    prxi_free(c->mem, f->shown);
    memset(f, 0, sizeof *f);
}
