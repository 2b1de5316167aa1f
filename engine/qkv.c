#include "engine/qkv.h"

#include <string.h>

static const char *const names[] = { "q", "k", "v" };

static int check_shape(prxi_ctx *c, const prxi_tensor *x, const char *path, int which, prxi_qkv *out)
{
    const int64_t *shape = x->shape + (x->ndim == 4 && x->shape[0] == 1);
    if (x->ndim < 3 || x->ndim - (shape - x->shape) != 3 || shape[0] < 1 || shape[0] > INT32_MAX / 8 || shape[1] < 1 || shape[1] > 1024 ||
        shape[2] < 1 || shape[2] > 256 || (which && (shape[0] != out->tokens || shape[1] != out->heads || shape[2] != out->head_dim)))
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: a shape [tokens, heads, head_dim] expected%s", path, names[which],
                         which ? ", the same for q, k and v" : "");
    const prxi_dtype type = x->dtype == PRXI_BF16 ? PRXI_BF16 : PRXI_F32;
    if (which && type != out->dtype)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: the type of q expected", path, names[which]);
    out->tokens = shape[0], out->heads = (int)shape[1], out->head_dim = (int)shape[2], out->dtype = type;
    return PRX_OK;
}

static int read_one(prxi_ctx *c, prxi_tensors *file, const char *path, int which, int need_v, prxi_qkv *out)
{
    const prxi_tensor *x = prxi_tensors_find(file, names[which]);
    if (!x && which == 2 && !need_v)
        return PRX_OK;
    if (!x)
        return prxi_fail(c, PRX_EFORMAT, "%s: tensor %s: missing; render --dump FILE --set dump_layer=N writes q, k and v", path,
                         names[which]);
    int err = check_shape(c, x, path, which, out);
    if (err == PRX_OK && out->dtype == PRXI_F32) {
        float *copy = NULL;
        err = prxi_tensor_f32(c, x, &copy);
        out->rows[which] = copy;
        return err;
    }
    if (err < 0 || (err = prxi_tensor_check_finite(c, x)) < 0)
        return err;
    if (!(out->rows[which] = prxi_alloc(c->mem, PRXI_MEM_MISC, x->bytes)))
        return prxi_fail_nomem(c, path, x->bytes);
    memcpy(out->rows[which], x->data, x->bytes);
    return PRX_OK;
}

int prxi_qkv_read(prxi_ctx *c, prxi_tensors *file, const char *path, int need_v, prxi_qkv *out)
{
    int err = PRX_OK;
    for (int i = 0; i < 3 && err == PRX_OK; i++)
        err = read_one(c, file, path, i, need_v, out);
    return err;
}

void prxi_qkv_close(prxi_ctx *c, prxi_qkv *x)
{
    for (int i = 0; i < 3; i++) {
        prxi_free(c->mem, x->rows[i]);
        x->rows[i] = NULL;
    }
}
