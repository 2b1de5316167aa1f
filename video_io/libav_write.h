/* An output file of libavformat with one video stream; for libav_write.c and gif.c only. */
#ifndef PRXI_LIBAV_WRITE_H
#define PRXI_LIBAV_WRITE_H

#include "vout.h"
#include "video_int.h"

typedef struct prxi_av_output {
    prxi_vout out;
    struct AVFormatContext *oc;
    struct AVIOContext *io;
    struct AVCodecContext *enc;
    struct AVStream *stream;
    struct AVFrame *frame;
    struct AVPacket *packet;
    int io_error;            /* errno of the first write that failed */
} prxi_av_output;

/* File and container; then the caller opens enc, and begin writes the header. */
int prxi_av_open(prxi_ctx *c, prxi_av_output *o, const char *format, const char *path);
int prxi_av_begin(prxi_ctx *c, prxi_av_output *o, const char *options, const char *comment);
/* Encodes o->frame (end: drains the encoder) and writes what comes out. */
int prxi_av_send(prxi_ctx *c, prxi_av_output *o, int end);
int prxi_av_end(prxi_ctx *c, prxi_av_output *o);
void prxi_av_close(prxi_ctx *c, prxi_av_output *o);
int prxi_av_fail(prxi_ctx *c, const prxi_av_output *o, const char *doing, int err);

#endif
