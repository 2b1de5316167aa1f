/* Tensor names of the original Wan files, as published beside the paper and used by single-file tools, to the names
 * of the diffusers layout (models.md section 1.2). */
#ifndef PRXI_NAMES_H
#define PRXI_NAMES_H

#include "safetensors.h"

/* For prxi_tensors_rename. 0: the name stays; > 0: out was written; < 0: it does not fit into n bytes. */
int prxi_wan_rename(const char *name, char *out, size_t n);
/* Non-zero when the names are those of the original layout. */
int prxi_wan_is_original(const prxi_tensors *t);

#endif
