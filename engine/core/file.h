/* Files: a whole file in, and output that appears under its name only when it is complete. */
#ifndef PRXI_FILE_H
#define PRXI_FILE_H

#include "ctx.h"

/* An output in the making: bytes go to a temporary name beside the target (or straight into a target that is
 * not a regular file, such as a pipe or a device). */
typedef struct prxi_outfile {
    int fd;
    char *path;         /* the target, links resolved */
    char *temp;         /* NULL: written in place */
} prxi_outfile;

int prxi_outfile_open(prxi_ctx *c, prxi_outfile *f, const char *path);
int prxi_outfile_put(prxi_ctx *c, prxi_outfile *f, const void *data, size_t n);
/* fsync + rename on success; on any failure the target is as it was and the temporary name is gone. */
int prxi_outfile_commit(prxi_ctx *c, prxi_outfile *f);
/* Gives up: removes the temporary name. Harmless after commit. */
void prxi_outfile_abort(prxi_ctx *c, prxi_outfile *f);

/* PRX_EINVAL for what a user can name wrongly (absent, not a file, no permission), PRX_ENOSPC, PRX_ENOMEM or PRX_EIO. */
int prxi_errno_status(int err);

#endif
