/* Inside of prxi_tensors, shared by the reader (safetensors.c) and the component folders (shards.c). */
#ifndef PRXI_SAFETENSORS_INT_H
#define PRXI_SAFETENSORS_INT_H

#include "safetensors.h"

typedef struct prxi_mapping {
    void *base;
    size_t bytes;
} prxi_mapping;

struct prxi_tensors {
    char *path;                 /* file or folder, for messages */
    prxi_tensor *tensor;        /* in file order; names are ours */
    unsigned char *used;
    int *by_name;               /* indices sorted by name */
    int count, capacity;
    prxi_mapping *map;
    int maps;
};

int prxi_tensors_new(prxi_ctx *c, prxi_tensors **out, const char *path);
/* Maps the file and adds what its header lists. */
int prxi_tensors_add_file(prxi_ctx *c, prxi_tensors *t, const char *path);
/* Sorts the names once all files are in; a name that occurs twice is PRX_EFORMAT. */
int prxi_tensors_index(prxi_ctx *c, prxi_tensors *t);
/* Position in t->tensor, or -1. */
int prxi_tensors_position(const prxi_tensors *t, const char *name);

#endif
