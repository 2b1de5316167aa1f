/* Values of a tensor: conversion to f32 and the search for NaN and infinity. Data in a file need not be aligned, so
 * elements are copied through small blocks. */
#include "safetensors_int.h"

#include <string.h>

enum { BLOCK = 1024 };

/* NaN and infinity have all bits of the exponent set: adding its lowest bit to the exponent alone then carries into the
 * place of the sign. Whole words at a time: lanes cannot disturb each other. */
typedef struct exponent {
    uint64_t mask, lowest, carry;
} exponent;

static exponent exponent_of(prxi_dtype t)
{
    switch (t) {
    case PRXI_F32:
        return (exponent) { 0x7f8000007f800000u, 0x0080000000800000u, 0x8000000080000000u };
    case PRXI_BF16:
        return (exponent) { 0x7f807f807f807f80u, 0x0080008000800080u, 0x8000800080008000u };
    case PRXI_F16:
        return (exponent) { 0x7c007c007c007c00u, 0x0400040004000400u, 0x8000800080008000u };
    default:
        return (exponent) { 0, 0, 0 };
    }
}

/* Non-zero when one of the values in n bytes is not finite. */
static int any_bad(const char *p, size_t n, prxi_dtype t)
{
    const exponent e = exponent_of(t);
    uint64_t bad = 0, x;
    size_t i = 0;
    for (; i + sizeof x <= n; i += sizeof x) {
        memcpy(&x, p + i, sizeof x);
        bad |= (x & e.mask) + e.lowest;
    }
    x = 0;
    memcpy(&x, p + i, n - i);
    bad |= (x & e.mask) + e.lowest;
    return (bad & e.carry) != 0;
}

int prxi_tensor_check_finite(prxi_ctx *c, const prxi_tensor *t)
{
    const size_t size = prxi_dtype_size(t->dtype);
    const char *p = t->data;
    if (!any_bad(p, t->bytes, t->dtype))
        return PRX_OK;
    for (size_t i = 0; i < t->bytes / size; i++) {
        if (any_bad(p + i * size, size, t->dtype))
            return prxi_fail(c, PRX_EFORMAT, "tensor %s: element %zu is NaN or infinite", t->name, i);
    }
    return PRX_EFORMAT;
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
    const int err = prxi_tensor_check_finite(c, t);
    if (err != PRX_OK)
        return err;
    const size_t size = prxi_dtype_size(t->dtype), count = t->bytes / size;
    /* An empty tensor still gives a pointer. */
    float *p = prxi_alloc(c->mem, PRXI_MEM_WEIGHTS, prxi_mul(count ? count : 1, sizeof *p));
    if (!p)
        return prxi_fail_nomem(c, t->name, prxi_mul(count, sizeof *p));
    uint32_t block[BLOCK];
    for (size_t i = 0; i < count; i += BLOCK) {
        const int n = count - i < BLOCK ? (int)(count - i) : BLOCK;
        memcpy(block, (const char *)t->data + i * size, (size_t)n * size);
        to_f32(block, t->dtype, n, p + i);
    }
    *out = p;
    return PRX_OK;
}
