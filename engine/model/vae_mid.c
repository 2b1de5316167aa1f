/* Attention of the VAE's middle block: one head as wide as the channels, over the positions of one frame. In f32, by tiles of
 * query rows, so that only a tile of the S x S scores exists. Its memory is the part of the frame buffer that is free then. */
#include "vae_int.h"

#include <math.h>

#include "engine/ops/gemm.h"

enum { QUERIES = 128, KEYS = 256, CHANNELS = 64, CHUNK = 8 };

typedef struct attention {
    prxi_vae_core *k;
    const prxi_plane *x;
    int64_t n, c, ld;           /* positions, channels, floats between positions of qkv */
    unsigned char *norm;        /* [n][pitch]: normalised input, then the result */
    float *qkv, *scores, *out;  /* [n][ld], [QUERIES][n], [QUERIES][c] */
    int64_t q0, queries;
} attention;

static size_t norm_bytes(const prxi_vae *v, int64_t positions)
{
    const int64_t c = v->mid[0].cout;
    return prxi_carve_size(prxi_mul((size_t)positions, (size_t)prxi_conv_pitch(c) * prxi_dtype_size(v->dtype)));
}

size_t prxi_vae_attention_bytes(const prxi_vae *v, int64_t positions)
{
    const size_t n = (size_t)positions, c = (size_t)v->mid[0].cout;
    const size_t qkv = prxi_mul(n, (size_t)prxi_conv_pitch(3 * (int64_t)c) * sizeof(float));
    return prxi_add(prxi_add(norm_bytes(v, positions), qkv), prxi_mul(prxi_add(n, c), QUERIES * sizeof(float)));
}

static void scores_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const attention *a = cookie;
    const int64_t begin = i * KEYS, keys = a->n - begin < KEYS ? a->n - begin : KEYS;
    prxi_sgemm(1, a->queries, keys, a->c, 1.0f / sqrtf((float)a->c), a->qkv + a->q0 * a->ld, a->ld,
               a->qkv + begin * a->ld + a->c, a->ld, a->scores + begin, a->n, a->k->v->k.isa);
}

static void values_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const attention *a = cookie;
    const int64_t begin = i * CHANNELS, count = a->c - begin < CHANNELS ? a->c - begin : CHANNELS;
    prxi_sgemm(0, a->queries, count, a->n, 1.0f, a->scores, a->n, a->qkv + 2 * a->c + begin, a->ld, a->out + begin,
               a->c, a->k->v->k.isa);
}

static void store_task(void *cookie, int64_t i, int thread)
{
    (void)thread;
    const attention *a = cookie;
    const int64_t pitch = prxi_conv_pitch(a->c), end = (i + 1) * CHUNK < a->queries ? (i + 1) * CHUNK : a->queries;
    for (int64_t q = i * CHUNK; q < end; q++) {
        for (int64_t c = 0; c < a->c; c++)
            prxi_store(a->norm, a->k->v->dtype, (size_t)((a->q0 + q) * pitch + c), a->out[q * a->c + c]);
        if (pitch != a->c)
            prxi_store(a->norm, a->k->v->dtype, (size_t)((a->q0 + q) * pitch + a->c), 0.0f);
    }
}

static void attend(attention *a, prxi_stream *s)
{
    const prxi_vae *v = a->k->v;
    for (a->q0 = 0; a->q0 < a->n && !prxi_vae_stop(s); a->q0 += QUERIES) {
        a->queries = a->n - a->q0 < QUERIES ? a->n - a->q0 : QUERIES;
        prxi_parallel_for(s, (a->n + KEYS - 1) / KEYS, scores_task, a);
        v->k.act.softmax(s, a->queries, a->n, a->scores, a->n);
        prxi_parallel_for(s, (a->c + CHANNELS - 1) / CHANNELS, values_task, a);
        prxi_parallel_for(s, (a->queries + CHUNK - 1) / CHUNK, store_task, a);
    }
}

void prxi_vae_attention(prxi_vae_core *k, prxi_stream *s, const prxi_plane *x)
{
    const prxi_vae *v = k->v;
    const int64_t c = v->mid[0].cout, n = k->h * k->w, pitch = prxi_conv_pitch(c), ld = prxi_conv_pitch(3 * c);
    const int64_t el = (int64_t)prxi_dtype_size(v->dtype);
    if (prxi_vae_stop(s))
        return;
    attention a = { k, x, n, c, ld, k->x, NULL, NULL, NULL, 0, 0 };
    a.qkv = (float *)(void *)(k->x + norm_bytes(v, n));
    a.scores = a.qkv + n * ld;
    a.out = a.scores + n * QUERIES;
    const prxi_plane norm = { a.norm, k->w * pitch * el, k->h, 0 };
    const prxi_plane qkv = { (unsigned char *)a.qkv, k->w * ld * (int64_t)sizeof(float), k->h, 0 };
    prxi_vae_norm(v, s, 0, k->h, k->w, c, x, v->attn_norm, 0, &norm);
    const prxi_conv_args in = { .conv = v->qkv, .src = { norm }, .height = k->h, .width = k->w, .end = k->h, .out = qkv,
                                .scale = 1, .out_pitch = ld, .out_dtype = PRXI_F32 };
    prxi_vae_conv(k, s, in);
    attend(&a, s);
    const prxi_conv_args out = { .conv = v->proj, .src = { norm }, .height = k->h, .width = k->w, .end = k->h, .out = *x,
                                 .scale = 1, .out_pitch = pitch, .out_dtype = v->dtype, .add = 1 };
    prxi_vae_conv(k, s, out);
}
