/* VAE decoder: weights and the state of one clip. Shared by vae_load.c, vae_run.c, vae_mid.c and vae_tile.c. */
#ifndef PRXI_VAE_INT_H
#define PRXI_VAE_INT_H

#include "vae.h"

enum { PRXI_VAE_MAX_BLOCKS = 8, PRXI_VAE_MAX_RES = 16, PRXI_VAE_TILE = 256, PRXI_VAE_STRIDE = 192 };

typedef struct prxi_vae_dims {
    int z_dim, base_dim, blocks, mult[PRXI_VAE_MAX_BLOCKS], res_per_block;   /* res_per_block: num_res_blocks + 1 */
    int temporal[PRXI_VAE_MAX_BLOCKS];      /* of up block i */
    int is_residual, patch, out_channels;
    int scale_spatial, scale_temporal;
    float mean[256], inv_std[256], std[256];
} prxi_vae_dims;

/* norm1, silu, conv1, norm2, silu, conv2 + shortcut; the 1x1x1 shortcut, where there is one, is part of conv2. */
typedef struct prxi_vae_res {
    int cin, cout;
    float *norm1, *norm2;
    prxi_conv *conv1, *conv2;
} prxi_vae_res;

typedef struct prxi_vae_block {
    int cin, cout, up_cout;
    int has_up, temporal;
    prxi_vae_res res[PRXI_VAE_MAX_RES];
    prxi_conv *time[2];         /* channels of output frames 2t and 2t + 1 */
    prxi_conv *phase[4];        /* nearest x2 and the 3x3 after it, as a 2x2 kernel for each output parity (y, x) */
} prxi_vae_block;

struct prxi_vae {
    prxi_vae_dims cfg;
    prxi_vae_info info;
    prxi_kernels k;
    prxi_dtype dtype;
    float *post_weight, *post_bias;         /* post_quant_conv [z][z]; these vectors lie where the kernels run */
    float *latent_stats;                    /* inv_std, mean: [2][z] */
    prxi_conv *conv_in, *conv_out;          /* conv_out: outputs (kt, channel), 3x3, no bias */
    float *out_bias;
    prxi_vae_res mid[2];
    float *attn_norm;
    prxi_conv *qkv, *proj;
    prxi_vae_block block[PRXI_VAE_MAX_BLOCKS];
    float *norm_out;
};

/* Input frames of a convolution: the frame being written and the two before it, rows in a ring. */
typedef struct prxi_vae_ring {
    prxi_plane plane;           /* first is unused */
    int64_t height, frames;     /* frames: begun so far */
} prxi_vae_ring;

/* The one frame that travels through the stages; every geometry has its place in a shared buffer (see vae_run.c). */
typedef struct prxi_vae_geom {
    int c;
    int64_t h, w;
    size_t offset;
} prxi_vae_geom;

typedef struct prxi_vae_stage {
    int64_t h, w, strip;
    prxi_vae_geom in, out, up;  /* before and after the first residual block; after the upsampler */
    prxi_vae_ring ring[PRXI_VAE_MAX_RES][2];
    prxi_vae_ring time;
    int64_t frames;             /* seen by this stage */
    unsigned char *copy;        /* is_residual: the stage's input, for the shortcut round the block */
} prxi_vae_stage;

typedef struct prxi_vae_core prxi_vae_core;
/* A decoded frame is in core->raw: `frame` counts those of this latent. */
typedef void (*prxi_vae_sink)(void *cookie, prxi_stream *s, const prxi_vae_core *k, int frame);

struct prxi_vae_core {
    const prxi_vae *v;
    int64_t h, w;               /* latent size */
    int64_t raw_h, raw_w;       /* of a decoded frame, before unpatchify */
    prxi_vae_stage mid, stage[PRXI_VAE_MAX_BLOCKS];
    prxi_vae_ring in, out;
    float *carry[2];            /* what conv_out owes the next two frames */
    float *taps;                /* conv_out of a strip */
    float *raw;                 /* a decoded frame: [raw_h][raw_w][out_channels], not clamped */
    unsigned char *x;           /* the travelling frame */
    size_t x_bytes;
    unsigned char *strip;       /* conv1 of a strip */
    void *scratch;              /* of convolutions */
    size_t scratch_bytes;
    prxi_vae_sink sink;
    void *cookie;
    int emitted;                /* frames of this latent so far */
    prxi_conv_by by;            /* who computes convolutions, on a device */
};

/* Places everything in base (zeroed by the caller, where the kernels run) and returns the bytes taken; base NULL only counts. */
size_t prxi_vae_core_init(prxi_vae_core *k, const prxi_vae *v, int64_t h, int64_t w, unsigned char *base);
/* z, where the kernels run: the latent frame's channels are plane_step floats apart, its rows row_step. */
void prxi_vae_core_next(prxi_vae_core *k, prxi_stream *s, const float *z, int64_t plane_step, int64_t row_step);

/* Before the first: lets a device decide, for each convolution as it is from the third frame on, who computes it. The rings stay zero,
 * the rest is written. */
void prxi_vae_core_prepare(prxi_vae_core *k, prxi_stream *s);

/* prxi_conv_run with the core's scratch. */
void prxi_vae_conv(prxi_vae_core *k, prxi_stream *s, prxi_conv_args a);

/* Mid-block attention on the frame at k->x. */
size_t prxi_vae_attention_bytes(const prxi_vae *v, int64_t positions);
void prxi_vae_attention(prxi_vae_core *k, prxi_stream *s, const prxi_plane *x);
/* Rows [begin, end) of a picture of w pixels and c channels, normalised; gamma as prxi_conv_ops.rms_silu has it. */
void prxi_vae_norm(const prxi_vae *v, prxi_stream *s, int64_t begin, int64_t end, int64_t w, int64_t c,
                   const prxi_plane *x, const float *gamma, int silu, const prxi_plane *out);
static inline int prxi_vae_stop(const prxi_stream *s)
{
    return prxi_stream_error(s) < 0 || (s->cancel && atomic_load(s->cancel));
}

struct prxi_decoder {
    const prxi_vae *v;
    prxi_vae_job job;
    prxi_vae_core core;
    unsigned char *base;
    size_t bytes;
    int next;
    float *rgb;                 /* of the running call */
    struct prxi_vae_tiles *tiles;
};

/* Tiling: whole clip at the first call, finished frames are kept. */
size_t prxi_vae_tile_bytes(const prxi_vae *v, const prxi_vae_job *job);      /* of the part where the kernels run */
size_t prxi_vae_tiles_bytes(const prxi_vae *v, const prxi_vae_job *job);
int prxi_vae_tiles_open(prxi_ctx *c, prxi_decoder *d);
void prxi_vae_tiles_close(prxi_ctx *c, prxi_decoder *d);
int prxi_vae_tiles_next(prxi_ctx *c, prxi_stream *s, prxi_decoder *d, const float *latents, int t, float *rgb, int n);
int prxi_vae_is_tiled(const prxi_vae *v, const prxi_vae_job *job);

#endif
