/* Wan 2.1 and 2.2 VAE decoders, streamed by latent frame (models.md section 2). */
#ifndef PRXI_VAE_H
#define PRXI_VAE_H

#include "engine/core/stream.h"
#include "engine/kernels.h"

typedef struct prxi_vae prxi_vae;              /* weights: shared, immutable */

typedef struct prxi_vae_info {
    int z_dim, scale_spatial, scale_temporal;  /* pixels per latent; frames = (T - 1) * scale_temporal + 1 */
    const float *mean, *std;                   /* [z_dim] */
} prxi_vae_info;

/* DIR/vae: config.json + diffusion_pytorch_model*.safetensors. dtype: of activations and weights. */
int  prxi_vae_open(prxi_ctx *c, prxi_vae **out, const char *dir, const prxi_kernels *k, prxi_dtype dtype);
void prxi_vae_close(prxi_ctx *c, prxi_vae **v);
const prxi_vae_info *prxi_vae_get_info(const prxi_vae *v);
/* Reads the config only: for planning and inspect. mean/std are NULL. */
int prxi_vae_config(prxi_ctx *c, const char *dir, prxi_vae_info *out);

typedef struct prxi_vae_job {
    int frames, height, width;      /* latent size T, h, w */
    int tiling;                     /* 0 off; 1 tiles of 256 px, stride 192, blended as diffusers does */
    int conv;                       /* prxi_conv_by, of a device */
} prxi_vae_job;

/* Device memory that a decode takes, weights and frames included; reads the config only. */
int prxi_vae_device_bytes(prxi_ctx *c, const char *dir, const prxi_kernels *k, prxi_dtype dtype, const prxi_vae_job *job, size_t *bytes);

typedef struct prxi_decoder prxi_decoder;      /* state of one clip: causal history, workspace */
/* Workspace that a decode needs, independent of frames. */
size_t prxi_decoder_bytes(const prxi_vae *v, const prxi_vae_job *job);
int  prxi_decoder_open(prxi_ctx *c, prxi_decoder **out, const prxi_vae *v, const prxi_vae_job *job);
void prxi_decoder_close(prxi_ctx *c, prxi_decoder **d);
/* Where rgb must lie: NULL is the host, with tiles always. */
struct prxi_device *prxi_decoder_device(const prxi_vae *v, const prxi_vae_job *job);
/* Decodes latent frame t (0, 1, 2, ... in order) of latents [z_dim, T, h, w] (f32, as the sampler leaves them: normalised; where the
 * kernels run), *n = frames produced (1 for t = 0, then scale_temporal). rgb: [n, H, W, 3] f32 in [0, 1], room for scale_temporal
 * frames. */
int  prxi_decoder_next(prxi_ctx *c, prxi_stream *s, prxi_decoder *d, const float *latents, int t, float *rgb, int *n);

#endif
