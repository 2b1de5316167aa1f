/* Quality metrics on 8-bit RGB frames. */
#ifndef PRXI_QUALITY_H
#define PRXI_QUALITY_H

#include <stddef.h>
#include <stdint.h>

#include "engine/core/mem.h"

/* Sum of squared differences over n samples. PSNR = 10 log10(255^2 / mse); identical frames have no PSNR: callers say so. */
uint64_t prxi_sse_u8(const uint8_t *a, const uint8_t *b, size_t n);
double prxi_psnr(double mse);        /* INFINITY for 0 */
/* SSIM of luma (bt709, f64), 11x11 Gaussian window of sigma 1.5, K1 .01, K2 .03, valid region, mean. Sides below 11: NaN.
 * *ok = 0 when memory ran out. */
double prxi_ssim_luma(prxi_mem *m, const uint8_t *a, const uint8_t *b, int width, int height, int *ok);
double prxi_ssim_rgb(prxi_mem *m, const uint8_t *a, const uint8_t *b, int width, int height, int *ok);

#endif
