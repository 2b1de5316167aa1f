/* Pixel conversion on the way out: RGB to BT.709 limited range, in integers, equal on every machine. */
#ifndef PRXI_COLOR_H
#define PRXI_COLOR_H

#include <stdint.h>

typedef struct prxi_planes {
    uint8_t *data[3];
    int stride[3];
} prxi_planes;

/* Planes one behind the other without gaps. */
prxi_planes prxi_planes_of(uint8_t *first, int width, int height);

/* rgb [height, width, 3] -> Y [height, width], Cb, Cr [(height + 1) / 2, (width + 1) / 2]. Chroma is sited as H.264 and MPEG-2
 * have it by default: on the even columns, between two rows; filter 1 2 1 across, 1 1 down, edges repeated.
 * ITU-R BT.709-6 section 3 (coefficients) and item 4.6 (quantisation to 16..235 and 16..240). */
void prxi_rgb_to_yuv420(const uint8_t *rgb, int width, int height, const prxi_planes *out);

#endif
