/* Two clips beside each other: what `praxino compare` reports. */
#ifndef PRXI_COMPARE_H
#define PRXI_COMPARE_H

#include <cjson/cJSON.h>

#include "video.h"

/* {"frames", "width", "height", "identical": bool,
 *  "psnr": {"mean_of_frames", "clip", "identical_frames", "per_frame": []},
 *  "ssim": {"luma", "rgb", "blocks", "luma_per_frame": [], "rgb_per_frame": []}, "ms_ssim": {"luma", "luma_per_frame": []},
 *  "temporal": {"psnr", "per_frame": []}}
 * clip: PSNR of the mean squared error over the whole clip; mean_of_frames: mean of the PSNRs of the frames that differ. What does
 * not exist is null: PSNR where there is no difference, SSIM of pictures that are too small, temporal values before the second frame.
 * Different sizes or lengths: PRX_EINVAL with both numbers. Free *out with cJSON_Delete. */
int prxi_compare(prxi_ctx *c, prxi_reader *a, prxi_reader *b, cJSON **out);

#endif
