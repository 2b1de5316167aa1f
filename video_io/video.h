/* Frames out (muxers) and in (readers). */
#ifndef PRXI_VIDEO_H
#define PRXI_VIDEO_H

#include "engine/core/ctx.h"

typedef struct prxi_video_spec {
    int width, height;
    int fps_num, fps_den;
    int64_t frames;              /* expected, 0 unknown */
    const char *comment;         /* settings as JSON for the container's comment tag, or NULL */
    int crf;                     /* quality of lossy encoders, on libx264's scale 0..51; -1: default (18) */
    const char *encoder;         /* name in libavcodec, or NULL: the first of the container's list that works here */
} prxi_video_spec;

/* A muxer writes 8-bit RGB frames [height, width, 3] in order. One const descriptor per kind. */
typedef struct prxi_muxer {
    const char *name, *help;
    const char *extensions;      /* "mp4|mkv|..." */
    size_t priv_size;
    int (*open)(void *priv, prxi_ctx *c, const char *path, const prxi_video_spec *spec);
    int (*write)(void *priv, prxi_ctx *c, const uint8_t *rgb);
    /* The same of a frame in YUV 4:2:0 as color.h makes it, its three planes one behind the other without gaps; NULL: RGB only. */
    int (*write_yuv)(void *priv, prxi_ctx *c, const uint8_t *planes);
    /* Finishes the file: after PRX_OK it stands under its name. */
    int (*finish)(void *priv, prxi_ctx *c);
    /* Frees everything; without finish, removes what was written. */
    void (*close)(void *priv, prxi_ctx *c);
} prxi_muxer;

const prxi_muxer *prxi_muxer_at(int i);
/* By extension of path; "-" is y4m on standard output. NULL with an error when unknown. */
const prxi_muxer *prxi_muxer_for(prxi_ctx *c, const char *path);

/* Writer: a muxer on its own thread behind a short queue, so that encoding overlaps decoding. */
typedef struct prxi_writer prxi_writer;
/* muxer NULL: by extension. Checks what can be known before work starts: directory writable, encoder present, size
 * accepted. Errors: PRX_EINVAL, PRX_EIO, PRX_ENOTSUP. */
int  prxi_writer_open(prxi_ctx *c, prxi_writer **out, const prxi_muxer *m, const char *path,
                      const prxi_video_spec *spec);
/* Copies the frame into the queue; blocks while it is full. Returns the first error of the thread. */
int  prxi_writer_frame(prxi_ctx *c, prxi_writer *w, const uint8_t *rgb);
/* Whether frames may come as planes, and such a frame; both kinds may follow each other. */
int  prxi_writer_takes_yuv(const prxi_writer *w);
int  prxi_writer_frame_yuv(prxi_ctx *c, prxi_writer *w, const uint8_t *planes);
/* Bytes of the planes of a frame. */
size_t prxi_yuv420_bytes(int width, int height);
/* Waits for the queue, completes the file. */
int  prxi_writer_finish(prxi_ctx *c, prxi_writer *w);
/* Joins the thread and frees; an unfinished file is removed and an old target is untouched. */
void prxi_writer_close(prxi_ctx *c, prxi_writer **w);

/* Reader: any video that libavformat opens, an image sequence (%04d), y4m ("-" = stdin). */
typedef struct prxi_reader prxi_reader;
int  prxi_reader_open(prxi_ctx *c, prxi_reader **out, const char *path);
/* Frames in memory, u8 [n, height, width, 3], borrowed until close: how a dump's tensor `frames` is read. fps is 0/0. */
int  prxi_reader_open_frames(prxi_ctx *c, prxi_reader **out, const uint8_t *frames, int64_t n, int64_t height,
                             int64_t width);
/* frames is 0 when the container does not say; comment is borrowed until close. */
const prxi_video_spec *prxi_reader_spec(const prxi_reader *r);
/* 1: rgb (8-bit [height, width, 3]) filled; 0: end; negative: error. */
int  prxi_reader_next(prxi_ctx *c, prxi_reader *r, uint8_t *rgb);
/* From now on frames come at this size (PRXI_RESIZE_FILTER), and the spec says so. At most once. */
#define PRXI_RESIZE_FILTER "bicubic on each channel (libswscale)"
int  prxi_reader_resize(prxi_ctx *c, prxi_reader *r, int width, int height);
/* Presentation time of the frame last read, in seconds; NaN when unknown. */
double prxi_reader_time(const prxi_reader *r);
void prxi_reader_close(prxi_ctx *c, prxi_reader **r);

/* RGB [0,1] f32 -> u8 by truncation, as diffusers' export does (models.md 5.1). NaN becomes 0. */
void prxi_rgb_to_u8(const float *rgb, size_t n, uint8_t *out);
/* Names of encoders that open on this machine, for `doctor`, best first; NULL at the end. */
const char *prxi_encoder_at(int i);

#endif
