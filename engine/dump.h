/* --dump: a safetensors file whose tensors are known beforehand and written as they come. */
#ifndef PRXI_DUMP_H
#define PRXI_DUMP_H

#include "engine/weights/safetensors.h"

typedef struct prxi_dump prxi_dump;
/* names, dtypes and shapes of list; data is ignored. Writes to a temporary name beside path. */
int  prxi_dump_open(prxi_ctx *c, prxi_dump **out, const char *path, const prxi_tensor_out *list, int n);
/* n bytes of tensor `name` at byte `at` inside it; bytes never written are zero. */
int  prxi_dump_write(prxi_ctx *c, prxi_dump *d, const char *name, size_t at, const void *data, size_t n);
int  prxi_dump_finish(prxi_ctx *c, prxi_dump *d);
void prxi_dump_close(prxi_ctx *c, prxi_dump **d);      /* unfinished: removed */

#endif
