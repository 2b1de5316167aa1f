/* Tensor names of the original Wan files -> diffusers names (models.md 1.2). */
#ifndef PRXI_NAMES_H
#define PRXI_NAMES_H

#include "safetensors.h"

/* 1 when the tensors carry original Wan names (blocks.N.self_attn...). */
int prxi_wan_is_original(const prxi_tensors *t);
/* Callback of prxi_tensors_rename: 0 keep, 1 written, negative when out is too small. */
int prxi_wan_rename(const char *name, char *out, size_t n);

#endif
