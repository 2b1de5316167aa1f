/* Pictures of the VAE between convolutions. Planes and pitches are those of conv.h; a padding channel is zero. One table a device. */
#ifndef PRXI_FRAME_H
#define PRXI_FRAME_H

#include "conv.h"

/* Rows [begin, end) of out = silu(x / |x| * sqrt(channels) * gamma), as prxi_conv_ops.rms_silu has it. */
typedef struct prxi_frame_norm {
    prxi_dtype type;
    int64_t begin, end, width, channels;
    prxi_plane x, out;
    const float *gamma;
    int silu;
    const prxi_conv_ops *conv;              /* whose rms_silu the CPU uses */
} prxi_frame_norm;

/* The zero pixels before, between and after rows [begin, end) of a plane that is not a ring. */
typedef struct prxi_frame_clear {
    prxi_plane plane;
    int64_t begin, end;
    size_t pixel;                           /* bytes */
} prxi_frame_clear;

typedef struct prxi_frame_copy {
    prxi_plane from, to;
    int64_t rows;
    size_t bytes;                           /* of a row, a multiple of 4 */
} prxi_frame_copy;

/* DupUp3D (models.md 2.5), rows [begin, end) of the doubled picture: up += x, the channels of x repeated and spread over the 2 x 2
 * pixels and `times` frames that come from one; sub is which of them. */
typedef struct prxi_frame_dup {
    prxi_dtype type;
    prxi_plane x, up;
    int64_t begin, end, width;              /* width of up */
    int channels, up_channels, times, sub;
} prxi_frame_dup;

/* De-normalisation as the pipeline does it, then post_quant_conv, a matrix in f32: out = weight (z / inv_std + mean) + bias. */
typedef struct prxi_frame_latent {
    prxi_dtype type;
    int channels;                           /* at most PRXI_FRAME_LATENT */
    int64_t height, width, plane_step, row_step;
    const float *z, *inv_std, *mean, *weight, *bias;
    prxi_plane out;
} prxi_frame_latent;

enum { PRXI_FRAME_LATENT = 256 };

/* conv_out gave what this frame adds to itself, to the next and to the one after (f32, in that order of channels from the last): raw
 * rows [begin, end) of this one, and next and after brought forward. */
typedef struct prxi_frame_carry {
    int64_t begin, end, width, pitch;       /* pitch: floats between pixels of taps */
    int channels;
    prxi_plane taps;
    float *next, *after, *raw;              /* [height][width][channels] */
    const float *bias;
} prxi_frame_carry;

/* raw [height][width][3 p p] to RGB in [0, 1], [height p][width p][3]: unpatchify, clamp. */
typedef struct prxi_frame_rgb {
    int64_t height, width;
    int patch;
    const float *raw;
    float *rgb;
} prxi_frame_rgb;

typedef struct prxi_frame_ops {
    void (*norm)(prxi_stream *s, const prxi_frame_norm *a);
    void (*clear)(prxi_stream *s, const prxi_frame_clear *a);
    void (*copy)(prxi_stream *s, const prxi_frame_copy *a);
    void (*dup)(prxi_stream *s, const prxi_frame_dup *a);
    void (*latent)(prxi_stream *s, const prxi_frame_latent *a);
    void (*carry)(prxi_stream *s, const prxi_frame_carry *a);
    void (*rgb)(prxi_stream *s, const prxi_frame_rgb *a);
} prxi_frame_ops;

void prxi_frame_init_ref(prxi_frame_ops *t);

#endif
