/* The op tables of the CUDA device: each slot hands its arguments to the module. */
#include <math.h>

#include "call.h"

/* ---- norms ---- */

static void layernorm(prxi_stream *s, const prxi_ln_args *a, prxi_dtype t)
{
    prxi_cuda *u = ready(s);
    const prxi_cu_ln x = { a->rows, a->dim, a->x, a->o, a->gate, a->mul, a->add, a->eps, a->out, NULL, NULL };
    if (u)
        done(s, u->module->layernorm(u->dev, t, &x));
}

static void layernorm_eight(prxi_stream *s, const prxi_ln_args *a, void *q, float *scale)
{
    prxi_cuda *u = ready(s);
    const prxi_cu_ln x = { a->rows, a->dim, a->x, a->o, a->gate, a->mul, a->add, a->eps, NULL, q, scale };
    if (u)
        done(s, u->module->layernorm(u->dev, PRXI_BF16, &x));
}

static void layernorm_f32(prxi_stream *s, const prxi_ln_args *a)
{
    layernorm(s, a, PRXI_F32);
}

static void layernorm_bf16(prxi_stream *s, const prxi_ln_args *a)
{
    layernorm(s, a, PRXI_BF16);
}

static void rmsnorm(prxi_stream *s, const prxi_rms_args *a, prxi_dtype t)
{
    prxi_cuda *u = ready(s);
    const prxi_cu_rms x = { a->rows, a->dim, a->x, a->ldx, a->weight, a->eps, a->rope, a->rope_rows, a->head_dim, a->out, a->ldo };
    if (u)
        done(s, u->module->rmsnorm(u->dev, t, &x));
}

static void rmsnorm_f32(prxi_stream *s, const prxi_rms_args *a)
{
    rmsnorm(s, a, PRXI_F32);
}

static void rmsnorm_bf16(prxi_stream *s, const prxi_rms_args *a)
{
    rmsnorm(s, a, PRXI_BF16);
}

/* ---- elementwise ---- */

static void binary(prxi_stream *s, prxi_dtype t, prxi_cu_binary op, int64_t n, const void *a, const void *b, void *y)
{
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->binary(u->dev, t, op, n, a, b, y));
}

#define BINARY(name, type, op)                                                                          \
    static void name(prxi_stream *s, int64_t n, const void *a, const void *b, void *y)                  \
    {                                                                                                   \
        binary(s, type, op, n, a, b, y);                                                                \
    }
BINARY(gelu_mul_f32, PRXI_F32, PRXI_CU_GELU_MUL)
BINARY(gelu_mul_bf16, PRXI_BF16, PRXI_CU_GELU_MUL)
BINARY(add_f32, PRXI_F32, PRXI_CU_ADD)
BINARY(add_bf16, PRXI_BF16, PRXI_CU_ADD)
BINARY(sub_f32, PRXI_F32, PRXI_CU_SUB)
BINARY(sub_bf16, PRXI_BF16, PRXI_CU_SUB)

static void silu_f32(prxi_stream *s, int64_t n, const void *x, void *y)
{
    binary(s, PRXI_F32, PRXI_CU_SILU, n, x, NULL, y);
}

static void silu_bf16(prxi_stream *s, int64_t n, const void *x, void *y)
{
    binary(s, PRXI_BF16, PRXI_CU_SILU, n, x, NULL, y);
}

static void convert(prxi_stream *s, prxi_cu_convert op, int64_t n, const void *x, void *y)
{
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->convert(u->dev, op, n, x, y));
}

static void f32_to_bf16(prxi_stream *s, int64_t n, const float *x, prxi_bf16 *y)
{
    convert(s, PRXI_CU_F32_TO_BF16, n, x, y);
}

static void bf16_to_f32(prxi_stream *s, int64_t n, const prxi_bf16 *x, float *y)
{
    convert(s, PRXI_CU_BF16_TO_F32, n, x, y);
}

static void f16_to_f32(prxi_stream *s, int64_t n, const uint16_t *x, float *y)
{
    convert(s, PRXI_CU_F16_TO_F32, n, x, y);
}

static void softmax(prxi_stream *s, int64_t rows, int64_t n, float *x, int64_t ld)
{
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->softmax(u->dev, rows, n, x, ld));
}

/* ---- the outside of the DiT ---- */

static prxi_cu_patch patch_of(const prxi_patch_args *a)
{
    return (prxi_cu_patch) { a->channels, a->frames, a->height, a->width, { a->patch[0], a->patch[1], a->patch[2] }, a->in, a->out };
}

static void patchify(prxi_stream *s, const prxi_patch_args *a, prxi_dtype t)
{
    prxi_cuda *u = ready(s);
    const prxi_cu_patch x = patch_of(a);
    if (u)
        done(s, u->module->patchify(u->dev, t, &x));
}

static void patchify_f32(prxi_stream *s, const prxi_patch_args *a)
{
    patchify(s, a, PRXI_F32);
}

static void patchify_bf16(prxi_stream *s, const prxi_patch_args *a)
{
    patchify(s, a, PRXI_BF16);
}

static void unpatchify(prxi_stream *s, const prxi_patch_args *a)
{
    prxi_cuda *u = ready(s);
    const prxi_cu_patch x = patch_of(a);
    if (u)
        done(s, u->module->unpatchify(u->dev, &x));
}

static void modulate(prxi_stream *s, const prxi_modulate_args *a)
{
    prxi_cuda *u = ready(s);
    const prxi_cu_modulate x = { a->rows, a->dim, a->period, a->table, a->vec, a->ones, a->out };
    if (u)
        done(s, u->module->modulate(u->dev, &x));
}

/* ---- attention ---- */

static void attention(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t)
{
    prxi_cuda *u = a->heads > 0 && a->q_len > 0 ? ready(s) : NULL;
    if (!u)
        return;
    const int err = prxi_cuda_attend(u, a, b, t);
    u->own_failed = u->own.error.code < 0;
    done(s, err);
}

static void prepare_attention(prxi_stream *s, prxi_dtype t, const prxi_attn_args *a, const prxi_block_list *b)
{
    prxi_cuda *u = a->heads > 0 && a->q_len > 0 ? ready(s) : NULL;
    if (!u)
        return;
    const int err = prxi_cuda_attend_prepare(u, a, b, t);
    u->own_failed = u->own.error.code < 0;
    done(s, err);
}

static void dense_f32(prxi_stream *s, const prxi_attn_args *a)
{
    attention(s, a, NULL, PRXI_F32);
}

static void dense_bf16(prxi_stream *s, const prxi_attn_args *a)
{
    attention(s, a, NULL, PRXI_BF16);
}

static void blocks_f32(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b)
{
    attention(s, a, b, PRXI_F32);
}

static void blocks_bf16(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b)
{
    attention(s, a, b, PRXI_BF16);
}

static prxi_cu_nearest nearest_of(const prxi_nearest_args *a)
{
    return (prxi_cu_nearest) { a->heads, a->head_dim, a->k, a->n, a->ldx, a->x, a->centroids, a->labels, a->products, a->sums,
                               a->counts, NULL };
}

static void nearest(prxi_stream *s, const prxi_nearest_args *a, prxi_dtype t)
{
    prxi_cuda *u = ready(s);
    const prxi_cu_nearest x = nearest_of(a);
    if (u)
        done(s, u->module->nearest(u->dev, t, &x));
}

static void nearest_f32(prxi_stream *s, const prxi_nearest_args *a)
{
    nearest(s, a, PRXI_F32);
}

static void nearest_bf16(prxi_stream *s, const prxi_nearest_args *a)
{
    nearest(s, a, PRXI_BF16);
}

static void gather(prxi_stream *s, const prxi_nearest_args *a, prxi_dtype t)
{
    prxi_cuda *u = ready(s);
    const prxi_cu_nearest x = nearest_of(a);
    if (u)
        done(s, u->module->gather(u->dev, t, &x));
}

static void gather_f32(prxi_stream *s, const prxi_nearest_args *a)
{
    gather(s, a, PRXI_F32);
}

static void gather_bf16(prxi_stream *s, const prxi_nearest_args *a)
{
    gather(s, a, PRXI_BF16);
}

/* ---- clusters ---- */

static void cluster(prxi_stream *s, const prxi_cluster_args *a)
{
    const prxi_cu_cluster x = { a->heads, a->head_dim, a->k, a->iters, a->fresh, a->n, a->ldx, a->tolerance, a->x, a->centroids, a->means,
                                a->labels, a->perm, a->start, a->counts, a->stopped, a->halves, a->moved, a->seeding, a->reseed, a->seed,
                                a->far, a->gaps };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->cluster(u->dev, a->dtype, &x));
}

static void select_clusters(prxi_stream *s, const prxi_select_args *a)
{
    prxi_device_blocks *b = a->blocks;
    const prxi_cu_select x = { a->heads, a->head_dim, a->cq, a->ck, a->least, a->tiles_each, a->n, a->scale, a->top_p, a->q_centroids,
                               a->k_centroids, b->q_start, b->k_start, b->cols, a->keys, b->row_ptr, b->row_end, b->tiles, a->kept,
                               b->n_items, prxi_cuda_head_group(a->heads, a->head_dim, a->n), b->items };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->select(u->dev, a->dtype, &x));
}

/* The kernel for Hopper takes its work from a queue. */
static int item_rows(const prxi_device *d, prxi_dtype t, int head_dim)
{
    const prxi_cuda *u = (const prxi_cuda *)d;
    return u->hopper && t == PRXI_BF16 && (head_dim == 64 || head_dim == 128) ? PRXI_CU_QUEUE_ROWS : 0;
}

const prxi_cluster_ops prxi_cuda_cluster_ops = { PRXI_CU_CHUNK, PRXI_CU_CLUSTERS, PRXI_CU_TILE_ROWS, sizeof(prxi_cu_tile), item_rows,
                                                 cluster, select_clusters };

/* ---- latents ---- */

static void guide(prxi_stream *s, int64_t n, float *cond, const float *uncond, float guidance)
{
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->guide(u->dev, n, cond, uncond, guidance));
}

static void latent_step(prxi_stream *s, const prxi_latent_step *a)
{
    const prxi_cu_step x = { a->kind, a->n, a->correct, a->sigma, a->dt, a->c_keep, a->c_e, a->c_d, a->c_d2, a->c_rho, a->p_keep, a->p_e,
                             a->p_d, a->p_d2, a->v, a->x, a->m1, a->m2, a->m3, a->last };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->sched_step(u->dev, &x));
}

static int64_t bad(prxi_stream *s, int64_t n, const float *x)
{
    double out[2] = { 0, -1 };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, prxi_cuda_reduce(u, n, x, NULL, out));
    return (int64_t)out[1];
}

static void rgb_bytes(prxi_stream *s, int64_t n, const float *rgb, uint8_t *device, uint8_t *host)
{
    prxi_cuda *u = ready(s);
    if (!u)
        return;
    const int err = u->module->rgb_to_u8(u->dev, n, rgb, device);
    done(s, err < 0 ? err : u->module->get(u->dev, host, device, (size_t)n));
}

static void rgb_planes(prxi_stream *s, int width, int height, const float *rgb, uint8_t *device, uint8_t *host)
{
    const int half = (width + 1) / 2;
    const size_t luma = (size_t)width * (size_t)height, chroma = (size_t)half * (((size_t)height + 1) / 2);
    uint8_t *y = device + 3 * luma;
    const prxi_cu_yuv a = { device, width, height, { y, y + luma, y + luma + chroma }, { width, half, half } };
    prxi_cuda *u = ready(s);
    if (!u)
        return;
    int err = u->module->rgb_to_u8(u->dev, (int64_t)(3 * luma), rgb, device);
    if (err == PRX_OK)
        err = u->module->rgb_to_yuv(u->dev, &a);
    done(s, err < 0 ? err : u->module->get(u->dev, host, y, luma + 2 * chroma));
}

/* ---- the VAE ---- */

static prxi_cu_plane plane_of(const prxi_plane *p)
{
    return (prxi_cu_plane) { p->base, p->pitch, p->rows, p->first };
}

static void frame_norm(prxi_stream *s, const prxi_frame_norm *a)
{
    const prxi_cu_rms_silu x = { a->begin, a->end, a->width, a->channels, prxi_conv_pitch(a->channels), plane_of(&a->x),
                                 plane_of(&a->out), a->gamma, a->silu };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->rms_silu(u->dev, a->type, &x));
}

/* Convolutions of this device know where the picture ends: nothing reads the pixels round it. */
static void frame_clear(prxi_stream *s, const prxi_frame_clear *a)
{
    (void)s, (void)a;
}

static void frame_copy(prxi_stream *s, const prxi_frame_copy *a)
{
    const prxi_cu_frame_copy x = { plane_of(&a->from), plane_of(&a->to), a->rows, a->bytes };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->frame_copy(u->dev, &x));
}

static void frame_dup(prxi_stream *s, const prxi_frame_dup *a)
{
    const prxi_cu_frame_dup x = { plane_of(&a->x), plane_of(&a->up), a->begin, a->end, a->width, prxi_conv_pitch(a->channels),
                                  prxi_conv_pitch(a->up_channels), a->channels, a->up_channels, a->times, a->sub };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->frame_dup(u->dev, a->type, &x));
}

static void frame_latent(prxi_stream *s, const prxi_frame_latent *a)
{
    const prxi_cu_frame_latent x = { a->channels, a->height, a->width, prxi_conv_pitch(a->channels), a->plane_step, a->row_step, a->z,
                                     a->inv_std, a->mean, a->weight, a->bias, plane_of(&a->out) };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->frame_latent(u->dev, a->type, &x));
}

static void frame_carry(prxi_stream *s, const prxi_frame_carry *a)
{
    const prxi_cu_frame_carry x = { a->begin, a->end, a->width, a->pitch, a->channels, plane_of(&a->taps), a->next, a->after, a->raw,
                                    a->bias };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->frame_carry(u->dev, &x));
}

static void frame_rgb(prxi_stream *s, const prxi_frame_rgb *a)
{
    const prxi_cu_frame_rgb x = { a->height, a->width, a->patch, a->raw, a->rgb };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->frame_rgb(u->dev, &x));
}

/* ---- attention beside the transformer ---- */

static void text_attention(prxi_stream *s, const prxi_text_attn *a)
{
    const prxi_cu_text_attn x = { a->n, a->ld, a->ldo, a->heads, a->head_dim, a->q, a->k, a->v, a->out, a->table, a->bucket };
    prxi_cuda *u = ready(s);
    if (u)
        done(s, u->module->text_attention(u->dev, &x));
}

/* Two products and a softmax a tile of queries. */
static int wide_tile(prxi_cuda *u, const prxi_wide_attn *a, int64_t q0)
{
    const int64_t c = a->channels, left = a->n - q0, m = left < PRXI_WIDE_TILE_DEVICE ? left : PRXI_WIDE_TILE_DEVICE;
    unsigned char *out = (unsigned char *)a->out + (size_t)(q0 * a->pitch) * prxi_dtype_size(a->type);
    const prxi_cu_gemm scores = { m, a->n, c, PRXI_F32, PRXI_F32, 0, a->qkv + q0 * a->ld, a->qkv + c, NULL, a->ld, a->n, a->scores, a->ld,
                                  0, 1.0f / sqrtf((float)c), NULL, NULL };
    const prxi_cu_gemm values = { m, c, a->n, PRXI_F32, PRXI_F32, 0, a->scores, a->qkv + 2 * c, NULL, a->n, c, a->sums, a->ld, 1, 1,
                                  NULL, NULL };
    int err = u->module->gemm(u->dev, &scores);
    if (err == PRX_OK)
        err = u->module->softmax(u->dev, m, a->n, a->scores, a->n);
    if (err == PRX_OK)
        err = u->module->gemm(u->dev, &values);
    return err < 0 ? err : u->module->store_rows(u->dev, a->type, m, c, a->pitch, a->sums, out);
}

static void wide_attention(prxi_stream *s, const prxi_wide_attn *a)
{
    for (int64_t q0 = 0; q0 < a->n; q0 += PRXI_WIDE_TILE_DEVICE) {
        prxi_cuda *u = ready(s);
        if (!u)
            return;
        done(s, wide_tile(u, a, q0));
    }
}

void prxi_cuda_kernels(prxi_kernels *k, prxi_cuda *cuda)
{
    *k = (prxi_kernels) {
        .device = &cuda->device,
        .norm = { { layernorm_f32, layernorm_bf16 }, { rmsnorm_f32, rmsnorm_bf16 }, layernorm_eight },
        .act = { { gelu_mul_f32, gelu_mul_bf16 }, { silu_f32, silu_bf16 }, { add_f32, add_bf16 }, { sub_f32, sub_bf16 },
                 f32_to_bf16, bf16_to_f32, f16_to_f32, softmax },
        .attn = { { dense_f32, dense_bf16 }, { blocks_f32, blocks_bf16 }, { nearest_f32, nearest_bf16 },
                  { gather_f32, gather_bf16 }, prepare_attention },
        .outer = { { patchify_f32, patchify_bf16 }, unpatchify, modulate },
        .frame = { frame_norm, frame_clear, frame_copy, frame_dup, frame_latent, frame_carry, frame_rgb },
        .plain = { text_attention, wide_attention },
        .latent = { guide, latent_step, bad, rgb_bytes, rgb_planes },
    };
}
