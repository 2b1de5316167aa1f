/* Queries, keys and values of one attention call in a safetensors file, as `render --dump FILE --set dump_layer=N` writes
 * them: tensors q, k and v of one shape [tokens, heads, head_dim] and one type. */
#ifndef PRXI_QKV_H
#define PRXI_QKV_H

#include "engine/weights/safetensors.h"

typedef struct prxi_qkv {
    prxi_dtype dtype;           /* bf16 as it lies there, everything else as f32 */
    int heads, head_dim;
    int64_t tokens;
    void *rows[3];              /* q, k, v [tokens][heads][head_dim]; v is NULL where the file has none and none is needed */
} prxi_qkv;

/* out starts zeroed; what it holds after an error is closed all the same. */
int prxi_qkv_read(prxi_ctx *c, prxi_tensors *file, const char *path, int need_v, prxi_qkv *out);
void prxi_qkv_close(prxi_ctx *c, prxi_qkv *x);

#endif
