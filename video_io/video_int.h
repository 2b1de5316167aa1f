/* Shared by the files of video_io only: the muxer descriptors and the libav reader. */
#ifndef PRXI_VIDEO_INT_H
#define PRXI_VIDEO_INT_H

#include "video.h"

extern const prxi_muxer prxi_muxer_mp4, prxi_muxer_mov, prxi_muxer_mkv, prxi_muxer_webm, prxi_muxer_gif;
extern const prxi_muxer prxi_muxer_y4m, prxi_muxer_png, prxi_muxer_hash, prxi_muxer_null;

/* The file name behind the last slash, and its extension without the dot ("" if none). */
const char *prxi_base_name(const char *path);
const char *prxi_extension(const char *path);

/* What a reader takes its frames from: libavformat, behind the wall of libav_read.c. */
typedef struct prxi_av_input prxi_av_input;
int prxi_av_input_open(prxi_ctx *c, prxi_av_input **out, const char *path, prxi_video_spec *spec);
int prxi_av_input_next(prxi_ctx *c, prxi_av_input *in, uint8_t *rgb);
/* Presentation time of the last frame in seconds; NaN when the file has none. */
double prxi_av_input_time(const prxi_av_input *in);
void prxi_av_input_close(prxi_ctx *c, prxi_av_input **in);

/* 8-bit RGB frames to another size: libswscale's bicubic on each channel; shrinking widens the filter. */
typedef struct prxi_resize prxi_resize;
int prxi_resize_open(prxi_ctx *c, prxi_resize **out, int width, int height, int to_width, int to_height);
int prxi_resize_run(prxi_ctx *c, prxi_resize *r, const uint8_t *rgb, uint8_t *out);
void prxi_resize_close(prxi_ctx *c, prxi_resize **r);

/* Silences libav's own log, which goes to stderr, unless the program has chosen a level. */
void prxi_av_quiet(void);

#endif
