/* A file that appears under its name only when it is complete: written to a temporary name beside the target, synced and
 * renamed by finish; close without finish removes it. Standard output, FIFOs and devices are written in place. */
#ifndef PRXI_VOUT_H
#define PRXI_VOUT_H

#include <sys/types.h>

#include "engine/core/ctx.h"

typedef struct prxi_vout {
    int open;                /* fd is valid; a zeroed struct is closed */
    int fd;
    int seekable;
    char *shown;             /* the caller's path, for messages */
    char *target;            /* links resolved */
    char *temp;              /* NULL: written in place */
} prxi_vout;

/* path "-" is standard output. bytes: expected size, refused with PRX_ENOSPC when the file system has less room; 0 unknown.
 * PRX_EINVAL for a directory or an empty path, PRX_EIO when it cannot be written. */
int prxi_vout_open(prxi_ctx *c, prxi_vout *f, const char *path, uint64_t bytes);
int prxi_vout_write(prxi_ctx *c, prxi_vout *f, const void *data, size_t n);
int prxi_vout_finish(prxi_ctx *c, prxi_vout *f);
void prxi_vout_close(prxi_ctx *c, prxi_vout *f);

/* The steps of the above for muxers that write many files (png.c). */
/* Resolves links, refuses directories and unwritable places; *in_place: exists and is no regular file. */
int prxi_out_resolve(prxi_ctx *c, const char *path, char **target, int *in_place);
/* A new empty file (*fd) or directory (fd NULL) beside target. */
int prxi_out_temp(prxi_ctx *c, const char *target, const char *shown, char **temp, int *fd);
int prxi_out_room(prxi_ctx *c, const char *target, const char *shown, uint64_t bytes);
/* "PATH: DOING: strerror(err)" with PRX_ENOSPC for a full disk or quota, else PRX_EIO. */
int prxi_out_fail(prxi_ctx *c, const char *path, const char *doing, int err);

#endif
