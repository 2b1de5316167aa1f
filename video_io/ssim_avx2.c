/* SSIM, compiled for AVX2; bit for bit the same as ssim_ref.c, as nothing is contracted or reordered. */
#define SSIM_FN prxi_ssim_avx2
#include "ssim_tmpl.h"
