/* Latents on their way through the steps, f32. One table a device. */
#ifndef PRXI_LATENT_H
#define PRXI_LATENT_H

#include "engine/core/dtype.h"
#include "engine/core/stream.h"

typedef enum prxi_latent_kind { PRXI_LATENT_EULER, PRXI_LATENT_DPMPP, PRXI_LATENT_UNIPC } prxi_latent_kind;

/* What a scheduler does to x once its coefficients are known. With m = x - sigma v:
 *   euler   x += dt v
 *   dpmpp   x = p_keep x - p_e m - p_e (p_d (m - m1)); m1 = m
 *   unipc   y = correct ? c_keep last - c_e m1 - c_e (c_d (m2 - m1) + c_rho (m - m1) + c_d2 (m3 - m1)) : x; last = y;
 *           x = p_keep y - p_e m - p_e (p_d (m1 - m) + p_d2 (m2 - m)); m3 = m2; m2 = m1; m1 = m */
typedef struct prxi_latent_step {
    prxi_latent_kind kind;
    int64_t n;
    int correct;
    float sigma, dt;
    float c_keep, c_e, c_d, c_d2, c_rho, p_keep, p_e, p_d, p_d2;
    const float *v;
    float *x, *m1, *m2, *m3, *last;
} prxi_latent_step;

typedef struct prxi_latent_ops {
    /* cond = uncond + guidance (cond - uncond) */
    void (*guide)(prxi_stream *s, int64_t n, float *cond, const float *uncond, float guidance);
    void (*step)(prxi_stream *s, const prxi_latent_step *a);
    /* Index of the first value that is not finite, -1: all are. Waits for the device. */
    int64_t (*bad)(prxi_stream *s, int64_t n, const float *x);
    /* n values in [0, 1] to bytes of the host, cut as video_io does it; NULL on the CPU, where that is video_io's. */
    void (*bytes)(prxi_stream *s, int64_t n, const float *rgb, uint8_t *device, uint8_t *host);
    /* The same of a frame, on to the planes of video_io/color.h, which alone come to the host; device has room for both, bytes first. */
    void (*planes)(prxi_stream *s, int width, int height, const float *rgb, uint8_t *device, uint8_t *host);
} prxi_latent_ops;

void prxi_latent_init_ref(prxi_latent_ops *t);

#endif
