/* Quality metrics on 8-bit RGB frames.
 *
 * SSIM is that of Wang, Bovik, Sheikh, Simoncelli 2004: 11 x 11 Gaussian window of sigma 1.5, weights that sum to 1, K1 .01, K2 .03,
 * L 255, population covariance, mean over the positions where the window lies inside the picture; f64. Luma is .2126 R + .7152 G +
 * .0722 B, not rounded; the RGB value is the mean of the three channels'. Equals scikit-image's structural_similarity with
 * gaussian_weights, sigma 1.5, use_sample_covariance False, data_range 255.
 * MS-SSIM is that of Wang, Simoncelli, Bovik 2003 on luma: five scales, each half the last by the mean of 2 x 2 (an odd last row or
 * column is dropped), contrast terms below 0 count as 0. */
#ifndef PRXI_QUALITY_H
#define PRXI_QUALITY_H

#include <stddef.h>
#include <stdint.h>

#include "engine/core/mem.h"

/* Sum of squared differences over n samples. PSNR = 10 log10(255^2 / mse); identical frames have no PSNR: callers say so. */
uint64_t prxi_sse_u8(const uint8_t *a, const uint8_t *b, size_t n);
/* The same of (a1 - a0) - (b1 - b0): how far the motion of b is from that of a. Sees flicker that frame by frame scores miss. */
uint64_t prxi_sse_motion(const uint8_t *a0, const uint8_t *a1, const uint8_t *b0, const uint8_t *b1, size_t n);
double prxi_psnr(double mse);        /* INFINITY for 0 */
/* Sides below 11: NaN. *ok = 0 when memory ran out. */
double prxi_ssim_luma(prxi_mem *m, const uint8_t *a, const uint8_t *b, int width, int height, int *ok);
double prxi_ssim_rgb(prxi_mem *m, const uint8_t *a, const uint8_t *b, int width, int height, int *ok);
/* SSIM as ffmpeg's filter and x264 have it, for comparison with their figures: 8 x 8 windows every 4 samples, all alike in weight,
 * sample covariance; mean of the three channels. Sides below 8: NaN. */
double prxi_ssim_blocks(const uint8_t *a, const uint8_t *b, int width, int height);
/* Sides below 176: NaN. */
double prxi_ms_ssim_luma(prxi_mem *m, const uint8_t *a, const uint8_t *b, int width, int height, int *ok);

/* |a - reference| / |reference|, Euclidean, over n values, summed in f64: how far latents are from others. 0 / 0 is 0, x / 0 infinite. */
double prxi_relative_error(const float *a, const float *reference, size_t n);

#endif
