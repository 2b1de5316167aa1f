/* Attention of the VAE's middle block: one head as wide as the channels, over the positions of one frame. In f32, by tiles of
 * query rows, so that only a tile of the S x S scores exists. Its memory is the part of the frame buffer that is free then: the
 * normalised input, then the result; queries, keys and values; scores and sums of a tile. */
#include "vae_int.h"

static size_t tile_of(const prxi_vae *v)
{
    return v->k.device ? PRXI_WIDE_TILE_DEVICE : PRXI_WIDE_TILE;
}

static size_t norm_bytes(const prxi_vae *v, int64_t positions)
{
    const int64_t c = v->mid[0].cout;
    return prxi_carve_size(prxi_mul((size_t)positions, (size_t)prxi_conv_pitch(c) * prxi_dtype_size(v->dtype)));
}

size_t prxi_vae_attention_bytes(const prxi_vae *v, int64_t positions)
{
    const size_t n = (size_t)positions, c = (size_t)v->mid[0].cout;
    const size_t qkv = prxi_mul(n, (size_t)prxi_conv_pitch(3 * (int64_t)c) * sizeof(float));
    return prxi_add(prxi_add(norm_bytes(v, positions), qkv), prxi_mul(prxi_add(n, c), tile_of(v) * sizeof(float)));
}

void prxi_vae_attention(prxi_vae_core *k, prxi_stream *s, const prxi_plane *x)
{
    const prxi_vae *v = k->v;
    const int64_t c = v->mid[0].cout, n = k->h * k->w, pitch = prxi_conv_pitch(c), ld = prxi_conv_pitch(3 * c);
    const int64_t el = (int64_t)prxi_dtype_size(v->dtype);
    if (prxi_vae_stop(s))
        return;
    float *rows = (float *)(void *)(k->x + norm_bytes(v, n)), *scores = rows + n * ld;
    const prxi_wide_attn a = { n, c, ld, rows, scores, scores + n * (int64_t)tile_of(v), v->dtype, k->x, pitch, &v->k.act, v->k.isa };
    const prxi_plane norm = { k->x, k->w * pitch * el, k->h, 0 };
    const prxi_plane qkv = { (unsigned char *)rows, k->w * ld * (int64_t)sizeof(float), k->h, 0 };
    prxi_vae_norm(v, s, 0, k->h, k->w, c, x, v->attn_norm, 0, &norm);
    const prxi_conv_args in = { .conv = v->qkv, .src = { norm }, .height = k->h, .width = k->w, .end = k->h, .out = qkv,
                                .scale = 1, .out_pitch = ld, .out_dtype = PRXI_F32 };
    prxi_vae_conv(k, s, in);
    if (prxi_vae_stop(s))
        return;
    v->k.plain.wide(s, &a);
    const prxi_conv_args out = { .conv = v->proj, .src = { norm }, .height = k->h, .width = k->w, .end = k->h, .out = *x,
                                 .scale = 1, .out_pitch = pitch, .out_dtype = v->dtype, .add = 1 };
    prxi_vae_conv(k, s, out);
}
