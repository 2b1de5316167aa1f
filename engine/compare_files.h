/* Comparison of two files, each a video, an image sequence or a dump. */
#ifndef PRXI_COMPARE_FILES_H
#define PRXI_COMPARE_FILES_H

#include "video_io/compare.h"

/* As prxi_compare (video_io/compare.h). PRX_EINVAL for what cannot be opened or does not match. */
int prxi_compare_files(prxi_ctx *c, const char *a, const char *b, cJSON **out);

#endif
