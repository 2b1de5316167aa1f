/* safetensors: a mapped, fully checked reader (single file or index of shards) and a small writer. */
#ifndef PRXI_SAFETENSORS_H
#define PRXI_SAFETENSORS_H

#include "engine/core/ctx.h"
#include "engine/core/dtype.h"

#define PRXI_MAX_DIMS 5

typedef struct prxi_tensor {
    const char *name;
    prxi_dtype dtype;
    int ndim;
    int64_t shape[PRXI_MAX_DIMS];
    const void *data;          /* inside the mapping; may be unaligned */
    size_t bytes;
    int mapped;                /* data lies in a mapped file, not in borrowed memory */
} prxi_tensor;

typedef struct prxi_tensors prxi_tensors;

/* One .safetensors file. Every header field is checked against the file: length, JSON, dtype, shape x size = range,
 * no overlap, no gap past the end. PRX_EFORMAT names the file and the tensor. */
int  prxi_tensors_open_file(prxi_ctx *c, prxi_tensors **out, const char *path);
/* The same from memory (borrowed): for fuzzing and tests. */
int  prxi_tensors_open_memory(prxi_ctx *c, prxi_tensors **out, const char *name, const void *data, size_t n);
/* A component folder: STEM[.variant].safetensors or its .index.json; shard names must be plain file names inside dir. */
int  prxi_tensors_open_dir(prxi_ctx *c, prxi_tensors **out, const char *dir, const char *stem);
void prxi_tensors_close(prxi_ctx *c, prxi_tensors **t);

int prxi_tensors_count(const prxi_tensors *t);
const prxi_tensor *prxi_tensors_at(const prxi_tensors *t, int i);
/* NULL when absent. Borrowed, valid until close. Marks the tensor as used. */
const prxi_tensor *prxi_tensors_find(prxi_tensors *t, const char *name);
/* find + check: a float dtype and exactly this shape; missing or different: PRX_EFORMAT naming both. */
int prxi_tensors_get(prxi_ctx *c, prxi_tensors *t, const char *name, int ndim, const int64_t *shape,
                     const prxi_tensor **out);
/* Renames every tensor by fn (original Wan names -> diffusers names); fn returns 0 to keep, > 0 when out was written. */
int prxi_tensors_rename(prxi_ctx *c, prxi_tensors *t, int (*fn)(const char *name, char *out, size_t n));
/* PRX_EFORMAT naming the first tensor that nobody asked for; ignore(name) != 0 lets it pass. */
int prxi_tensors_check_used(prxi_ctx *c, const prxi_tensors *t, int (*ignore)(const char *name));
/* Tells the kernel that the pages of this tensor are no longer needed (after packing). */
void prxi_tensor_drop(const prxi_tensor *t);
size_t prxi_tensors_bytes(const prxi_tensors *t);

/* New f32 copy (tag weights). NaN or Inf in it: PRX_EFORMAT naming the tensor. */
int prxi_tensor_f32(prxi_ctx *c, const prxi_tensor *t, float **out);
/* PRX_EFORMAT when a value is NaN or Inf. */
int prxi_tensor_check_finite(prxi_ctx *c, const prxi_tensor *t);

/* ---- writer: tensors in order of the list, to a temporary name, then renamed ---- */
typedef struct prxi_tensor_out {
    char name[128];
    prxi_dtype dtype;
    int ndim;
    int64_t shape[PRXI_MAX_DIMS];
    const void *data;
} prxi_tensor_out;
int prxi_tensors_write(prxi_ctx *c, const char *path, const prxi_tensor_out *t, int n, const char *metadata_json);

#endif
