/* SSIM for any processor. */
#define SSIM_FN prxi_ssim_ref
#include "ssim_tmpl.h"
