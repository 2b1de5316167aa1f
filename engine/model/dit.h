/* The diffusion transformer (Wan; models.md section 1): one forward for every variant. */
#ifndef PRXI_DIT_H
#define PRXI_DIT_H

#include "caching/cache.h"
#include "engine/kernels.h"

typedef struct prxi_dit_config {
    int heads, head_dim, layers, in_channels, out_channels, patch[3];
    int64_t text_dim, freq_dim, ffn_dim;
    int cross_attn_norm, rope_max_seq_len;
    double eps;
    int64_t params;
} prxi_dit_config;

typedef struct prxi_dit prxi_dit;          /* weights: shared, immutable */
int  prxi_dit_config_load(prxi_ctx *c, const char *dir, prxi_dit_config *out);
/* dir/config.json + weights, or a single .safetensors in the original layout (weights_file not NULL). */
int  prxi_dit_open(prxi_ctx *c, prxi_dit **out, const char *dir, const char *weights_file, const prxi_kernels *k,
                   prxi_dtype dtype);
/* How weights are kept on a device. PRXI_QUANT_FP8: the linear layers of all blocks but the first and the last in e4m3 with a scale a row
 * (not those of the text's keys and values, which run once). FP8_BESIDE: those beside the model's type, for runs that switch. */
typedef enum prxi_quant { PRXI_QUANT_NONE, PRXI_QUANT_FP8, PRXI_QUANT_FP8_BESIDE } prxi_quant;
/* The same on a device with at most `bytes` of weights there: those of later blocks come from the host as they are needed, two at a
 * time. */
int  prxi_dit_open_within(prxi_ctx *c, prxi_dit **out, const char *dir, const char *weights_file, const prxi_kernels *k,
                          prxi_dtype dtype, prxi_quant quant, size_t bytes);
void prxi_dit_close(prxi_ctx *c, prxi_dit **d);
/* What `bytes` of device memory hold of the weights: blocks that stay there (-1: not even two moving ones at a time fit), bytes taken.
 * The others, from `first` on, come from the host: block_bytes each lie there, slot_bytes at most are on the device. */
typedef struct prxi_dit_fit {
    int resident, first;
    size_t bytes, block_bytes, slot_bytes;
} prxi_dit_fit;
prxi_dit_fit prxi_dit_fit_in(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant, size_t bytes);
/* Of all weights; norms and tables in f32 are a rounding error beside them. */
size_t prxi_dit_weight_bytes(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant);
/* Of the device beside the weights while they are loaded, before there are activations: a layer in both types. */
size_t prxi_dit_load_bytes(const prxi_dit_config *cfg, prxi_dtype dtype, prxi_quant quant);
prxi_quant prxi_dit_get_quant(const prxi_dit *d);
/* Whether PRXI_QUANT_FP8 is for this model: three blocks or more, sizes in multiples of 16. */
int prxi_dit_quant_fits(const prxi_dit_config *cfg);
const prxi_dit_config *prxi_dit_get_config(const prxi_dit *d);

/* What depends on clip and prompt: RoPE, text keys and values, activations. One per job and expert weights. */
typedef struct prxi_dit_run prxi_dit_run;
typedef struct prxi_dit_clip {
    int frames, height, width;             /* latent */
    int branches;                          /* 1 or 2 */
    int text_len[PRXI_BRANCHES];           /* valid rows */
    const float *text[PRXI_BRANCHES];      /* [text_len, text_dim] f32; rows up to max_text are zero and not passed */
    int max_text;                          /* 512 */
} prxi_dit_clip;
size_t prxi_dit_run_bytes(const prxi_dit_config *cfg, const prxi_dit_clip *clip, prxi_dtype dtype, prxi_quant quant);
int  prxi_dit_run_open(prxi_ctx *c, prxi_stream *s, prxi_dit_run **out, const prxi_dit *d, const prxi_dit_clip *clip);
void prxi_dit_run_close(prxi_ctx *c, prxi_dit_run **r);
/* With PRXI_QUANT_FP8_BESIDE: whether forwards from now on use the weights in the model's type alone. */
void prxi_dit_run_wide(prxi_dit_run *r, int wide);

/* Policies in use; priv belongs to the job. */
typedef struct prxi_dit_hooks {
    const prxi_attn_policy *attn;
    void *attn_priv;
    const prxi_cache_policy *cache;
    void *cache_priv;
    prxi_cache_report *reports;            /* [branches] */
    double *density;                       /* [branches][layers]; NaN where attention did not run; may be NULL */
    prxi_attn_probe *probes;               /* the same of recall and error, when the policy measures them; may be NULL */
} prxi_dit_hooks;

/* Before the first step: who serves attention of these shapes is decided, by time where the device says so. Errors go to the stream. */
void prxi_dit_prepare(prxi_stream *s, prxi_dit_run *r, const prxi_attn_policy *attn, const void *attn_priv);
/* v[b] (f32 [out_channels, T, H, W]) = model(latents f32 [in_channels, T, H, W], step->timestep, text of branch b), for all
 * branches; both lie where the kernels run. Errors go to the stream. */
void prxi_dit_forward(prxi_stream *s, prxi_dit_run *r, const prxi_step *step, const float *latents,
                      const prxi_dit_hooks *h, float *const v[PRXI_BRANCHES]);
/* The same again, waiting after each op: "block 2, self-attention (value 7 of 96)", the first whose result is not finite, a text that stays
 * valid as long as the run; NULL: none is. */
const char *prxi_dit_find_bad(prxi_stream *s, prxi_dit_run *r, const prxi_step *step, const float *latents, const prxi_dit_hooks *h,
                              float *const v[PRXI_BRANCHES]);

#endif
