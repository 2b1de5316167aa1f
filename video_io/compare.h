/* Two clips beside each other: what `praxino compare` reports. */
#ifndef PRXI_COMPARE_H
#define PRXI_COMPARE_H

#include <cjson/cJSON.h>

#include "video.h"

/* What to do with clips that do not fit together; all zero: refuse them. */
typedef struct prxi_alignment {
    int trim;                /* compare as many frames as both have */
    int64_t offset;          /* frames of b to skip; negative: of a */
    int resize;              /* 1: b to the size of a; 2: a to the size of b; 0: neither */
} prxi_alignment;

/* {"frames", "width", "height", "identical": bool,
 *  "psnr": {"mean_of_frames", "clip", "identical_frames", "per_frame": []},
 *  "ssim": {"luma", "rgb", "blocks", "luma_per_frame": [], "rgb_per_frame": []}, "ms_ssim": {"luma", "luma_per_frame": []},
 *  "temporal": {"psnr", "per_frame": []},
 *  "alignment": null, or {"trim": bool, "offset", "left_out": {"a", "b"}, "resized": null or {"clip": "a"|"b", "from": [w, h], "filter"}}}
 * clip: PSNR of the mean squared error over the whole clip; mean_of_frames: mean of the PSNRs of the frames that differ. What does
 * not exist is null: PSNR where there is no difference, SSIM of pictures that are too small, temporal values before the second frame.
 * alignment is null where nothing was asked for; left_out are frames at the end that have no partner.
 * Different sizes or lengths: PRX_EINVAL with both numbers. how may be NULL. Free *out with cJSON_Delete. */
int prxi_compare(prxi_ctx *c, prxi_reader *a, prxi_reader *b, const prxi_alignment *how, cJSON **out);

#endif
