/* Values of a tensor: conversion to f32 and the search for NaN and infinity. Data in a file need not be aligned, so
 * elements are copied through small blocks. */
#include "safetensors_int.h"

#include <string.h>

enum { BLOCK = 1024 };

/* Offsets of the exponent: all ones means NaN or infinity. 0 when every value is finite. */
static unsigned bad_f32(const uint32_t *v, int n)
{
    unsigned bad = 0;
    for (int i = 0; i < n; i++)
        bad |= (v[i] & 0x7f800000u) == 0x7f800000u;
    return bad;
}

static unsigned bad_16(const uint16_t *v, int n, unsigned exponent)
{
    unsigned bad = 0;
    for (int i = 0; i < n; i++)
        bad |= (v[i] & exponent) == exponent;
    return bad;
}

static unsigned bad_block(const void *v, prxi_dtype t, int n)
{
    if (t == PRXI_F32)
        return bad_f32(v, n);
    return t == PRXI_U8 ? 0 : bad_16(v, n, t == PRXI_BF16 ? 0x7f80u : 0x7c00u);
}

/* The element that made bad_block complain, for the message. */
static int fail_at(prxi_ctx *c, const prxi_tensor *t, size_t first, const void *v, int n)
{
    const size_t size = prxi_dtype_size(t->dtype);
    for (int i = 0; i < n; i++) {
        if (bad_block((const char *)v + (size_t)i * size, t->dtype, 1))
            return prxi_fail(c, PRX_EFORMAT, "tensor %s: element %zu is NaN or infinite", t->name, first + (size_t)i);
    }
    return PRX_EFORMAT;
}

int prxi_tensor_check_finite(prxi_ctx *c, const prxi_tensor *t)
{
    const size_t size = prxi_dtype_size(t->dtype), count = t->bytes / size;
    uint32_t block[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        const int n = count - i < BLOCK ? (int)(count - i) : BLOCK;
        memcpy(block, (const char *)t->data + i * size, (size_t)n * size);
        if (bad_block(block, t->dtype, n))
            return fail_at(c, t, i, block, n);
    }
    return PRX_OK;
}

static void to_f32(const void *v, prxi_dtype t, int n, float *out)
{
    const uint16_t *h = v;
    const uint8_t *b = v;
    switch (t) {
    case PRXI_BF16:
        for (int i = 0; i < n; i++)
            out[i] = prxi_bf16_to_f32(h[i]);
        break;
    case PRXI_F16:
        for (int i = 0; i < n; i++)
            out[i] = prxi_f16_to_f32(h[i]);
        break;
    case PRXI_U8:
        for (int i = 0; i < n; i++)
            out[i] = b[i];
        break;
    default:
        memcpy(out, v, (size_t)n * sizeof *out);
    }
}

int prxi_tensor_f32(prxi_ctx *c, const prxi_tensor *t, float **out)
{
    *out = NULL;
    const size_t size = prxi_dtype_size(t->dtype), count = t->bytes / size;
    /* An empty tensor still gives a pointer. */
    float *p = prxi_alloc(c->mem, PRXI_MEM_WEIGHTS, prxi_mul(count ? count : 1, sizeof *p));
    if (!p)
        return prxi_fail_nomem(c, t->name, prxi_mul(count, sizeof *p));
    uint32_t block[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        const int n = count - i < BLOCK ? (int)(count - i) : BLOCK;
        memcpy(block, (const char *)t->data + i * size, (size_t)n * size);
        if (bad_block(block, t->dtype, n)) {
            prxi_free(c->mem, p);
            return fail_at(c, t, i, block, n);
        }
        to_f32(block, t->dtype, n, p + i);
    }
    *out = p;
    return PRX_OK;
}
