/* exp and what is made of it, on the vectors of vec_*.h (include that first); typed loads and stores. */
#ifndef PRXI_VEC_MATH_H
#define PRXI_VEC_MATH_H

/* n <= VL lanes of p[i...]; with constant n and t the choice is made by the compiler. */
static PRXI_ALWAYS_INLINE vf vf_get(const void *p, prxi_dtype t, int64_t i, int n)
{
    if (t == PRXI_F32)
        return n == VL ? vf_load((const float *)p + i) : vf_load_n((const float *)p + i, n);
    return n == VL ? vf_load_bf16((const prxi_bf16 *)p + i) : vf_load_bf16_n((const prxi_bf16 *)p + i, n);
}

static PRXI_ALWAYS_INLINE void vf_put(void *p, prxi_dtype t, int64_t i, int n, vf v)
{
    if (t == PRXI_F32 && n == VL)
        vf_store((float *)p + i, v);
    else if (t == PRXI_F32)
        vf_store_n((float *)p + i, v, n);
    else if (n == VL)
        vf_store_bf16((prxi_bf16 *)p + i, v);
    else
        vf_store_bf16_n((prxi_bf16 *)p + i, v, n);
}

/* v as it reads back after a store in type t. */
static PRXI_ALWAYS_INLINE vf vf_rounded(vf v, prxi_dtype t)
{
    return t == PRXI_F32 ? v : vf_from_bf16(vf_to_bf16(v));
}

/* e^x within 1.5 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, e^r by its series to r^7 (rest below 6e-9), ln 2 in two parts. Above
 * 88.73 infinity, below -104 zero, NaN stays. */
static PRXI_ALWAYS_INLINE vf vf_exp(vf x)
{
    x = vf_min(vf_set1(89.0f), vf_max(vf_set1(-105.0f), x));
    const vf n = vf_round(vf_mul(x, vf_set1(1.44269504f)));
    vf r = vf_fma(n, vf_set1(-0.693359375f), x);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.0f / 5040.0f);
    p = vf_fma(p, r, vf_set1(1.0f / 720.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 120.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 24.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 6.0f));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_ldexp(p, n);
}

static PRXI_ALWAYS_INLINE vf vf_silu(vf x)
{
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_sub(vf_set1(0.0f), x))));
}

/* As engine/ops/ref/act.c: x / (1 + exp(-2u)). */
static PRXI_ALWAYS_INLINE vf vf_gelu_tanh(vf x)
{
    const vf cube = vf_mul(vf_mul(x, x), x);
    const vf u2 = vf_mul(vf_set1(-1.5957691216f), vf_fma(vf_set1(0.044715f), cube, x));
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(u2)));
}

#endif
