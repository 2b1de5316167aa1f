/* Containers and encoders of libav: mp4, mov, mkv, webm. libav types stay in this file, libav_read.c and gif.c. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/opt.h>

#include "color.h"
#include "libav_write.h"

enum { IO_BUFFER = 1 << 16, DEFAULT_CRF = 18 };

/* How an encoder is told its quality, given crf on libx264's scale. */
typedef enum rate { RATE_CRF, RATE_QSCALE, RATE_BITS } rate;

typedef struct encoder {
    const char *name;
    rate rate;
    int crf_shift;           /* same eye, other scale: added to crf */
    const char *options;     /* key=value:... for the encoder's private options */
} encoder;

static const encoder h264_list[] = {
    { "libx264", RATE_CRF, 0, "preset=medium" },
    { "libopenh264", RATE_BITS, 0, "" },
    { "h264_nvenc", RATE_BITS, 0, "" },
    { "h264_videotoolbox", RATE_BITS, 0, "" },
    { "mpeg4", RATE_QSCALE, 0, "" },
    { NULL, 0, 0, NULL },
};

/* Not libsvtav1: it prints to stderr by itself and hangs when it is closed before the end. */
static const encoder webm_list[] = {
    { "libvpx-vp9", RATE_CRF, 6, "deadline=good:cpu-used=3:row-mt=1" },
    { "libaom-av1", RATE_CRF, 6, "cpu-used=6:row-mt=1" },
    { "libvpx", RATE_CRF, 0, "deadline=good:cpu-used=2" },
    { NULL, 0, 0, NULL },
};

typedef struct container {
    const char *format, *options;
    const encoder *encoders;
} container;

static const container mp4 = { "mp4", "movflags=+faststart", h264_list };
static const container mov = { "mov", "movflags=+faststart", h264_list };
static const container mkv = { "matroska", "", h264_list };
static const container webm = { "webm", "", webm_list };

typedef struct video {
    prxi_av_output av;
    int64_t next;
} video;

void prxi_av_quiet(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (av_log_get_level() == AV_LOG_INFO)
        av_log_set_level(AV_LOG_QUIET);
    pthread_mutex_unlock(&lock);
}

/* ---- file ---- */

static int io_write(void *opaque, uint8_t *data, int n)
{
    prxi_av_output *o = opaque;
    for (int done = 0; done < n;) {
        const ssize_t r = write(o->out.fd, data + done, (size_t)(n - done));
        if (r >= 0)
            done += (int)r;
        else if (errno != EINTR) {
            if (!o->io_error)
                o->io_error = errno;
            return AVERROR(errno);
        }
    }
    return n;
}

static int64_t io_seek(void *opaque, int64_t offset, int whence)
{
    prxi_av_output *o = opaque;
    if (whence == AVSEEK_SIZE)
        return AVERROR(ENOSYS);
    const off_t at = lseek(o->out.fd, offset, whence & ~AVSEEK_FORCE);
    return at < 0 ? AVERROR(errno) : at;
}

int prxi_av_fail(prxi_ctx *c, const prxi_av_output *o, const char *doing, int err)
{
    if (o->io_error)
        return prxi_out_fail(c, o->out.shown, "writing failed", o->io_error);
    if (err == AVERROR(ENOMEM))
        return prxi_fail(c, PRX_ENOMEM, "%s: %s: out of memory", o->out.shown, doing);
    char text[128];
    av_strerror(err, text, sizeof text);
    return prxi_fail(c, PRX_EIO, "%s: %s: %s", o->out.shown, doing, text);
}

static int open_container(prxi_ctx *c, prxi_av_output *o, const char *format, const char *path)
{
    int err = prxi_vout_open(c, &o->out, path, 0);
    if (err < 0)
        return err;
    if (avformat_alloc_output_context2(&o->oc, NULL, format, NULL) < 0)
        return prxi_fail(c, PRX_ENOTSUP, "%s: libavformat here cannot write %s", path, format);
    if (!o->out.seekable && (strcmp(format, "mp4") == 0 || strcmp(format, "mov") == 0))
        return prxi_fail(c, PRX_EINVAL, "%s: %s needs a regular file; .mkv and .y4m can go to a pipe", path, format);
    uint8_t *buffer = av_malloc(IO_BUFFER);
    o->io = buffer ? avio_alloc_context(buffer, IO_BUFFER, 1, o, NULL, io_write, o->out.seekable ? io_seek : NULL) : NULL;
    if (!o->io) {
        av_free(buffer);
        return prxi_av_fail(c, o, "container", AVERROR(ENOMEM));
    }
    o->oc->pb = o->io;
    o->oc->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    /* For faststart, which reads the file again by name. */
    if (o->out.temp) {
        av_freep(&o->oc->url);
        o->oc->url = av_asprintf("file:%s", o->out.temp);
        if (!o->oc->url)
            return prxi_av_fail(c, o, "container", AVERROR(ENOMEM));
    }
    return PRX_OK;
}

int prxi_av_begin(prxi_ctx *c, prxi_av_output *o, const char *options, const char *comment)
{
    AVDictionary *dict = NULL;
    int err = avcodec_parameters_from_context(o->stream->codecpar, o->enc);
    o->stream->time_base = o->enc->time_base;
    o->stream->avg_frame_rate = o->enc->framerate;
    if (err >= 0 && comment)
        err = av_dict_set(&o->oc->metadata, "comment", comment, 0);
    if (err >= 0 && *options)
        err = av_dict_parse_string(&dict, options, "=", ":", 0);
    if (err >= 0)
        err = avformat_write_header(o->oc, &dict);
    av_dict_free(&dict);
    return err < 0 ? prxi_av_fail(c, o, "container", err) : PRX_OK;
}

int prxi_av_open(prxi_ctx *c, prxi_av_output *o, const char *format, const char *path)
{
    prxi_av_quiet();
    const int err = open_container(c, o, format, path);
    if (err < 0)
        return err;
    o->stream = avformat_new_stream(o->oc, NULL);
    o->frame = av_frame_alloc();
    o->packet = av_packet_alloc();
    return o->stream && o->frame && o->packet ? PRX_OK : prxi_av_fail(c, o, "container", AVERROR(ENOMEM));
}

/* ---- encoder ---- */

static void set_rate(AVCodecContext *e, const encoder *n, int crf)
{
    const int q = crf < 0 ? DEFAULT_CRF : crf;
    if (n->rate == RATE_CRF) {
        av_opt_set_int(e->priv_data, "crf", q + n->crf_shift, 0);
    } else if (n->rate == RATE_QSCALE) {
        e->flags |= AV_CODEC_FLAG_QSCALE;
        e->global_quality = FF_QP2LAMBDA * (q < 12 ? 2 : q / 6);
    } else {
        /* 0.2 bit a pixel at crf 18, half of it every 6 further. */
        double bits = 0.2 * e->width * e->height * av_q2d(e->framerate);
        for (int i = q; i > DEFAULT_CRF; i -= 6)
            bits *= 0.5;
        for (int i = q; i < DEFAULT_CRF; i += 6)
            bits *= 2;
        e->bit_rate = (int64_t)bits + 1;
    }
}

static int takes_yuv420(const AVCodec *codec)
{
    for (const enum AVPixelFormat *f = codec->pix_fmts; f && *f != AV_PIX_FMT_NONE; f++)
        if (*f == AV_PIX_FMT_YUV420P)
            return 1;
    return 0;
}

/* An open encoder, or NULL with *err. */
static AVCodecContext *try_encoder(const encoder *n, const prxi_video_spec *s, int global_header, int *err)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(n->name);
    *err = AVERROR_ENCODER_NOT_FOUND;
    if (!codec || !takes_yuv420(codec))
        return NULL;
    AVCodecContext *e = avcodec_alloc_context3(codec);
    *err = AVERROR(ENOMEM);
    if (!e)
        return NULL;
    e->width = s->width;
    e->height = s->height;
    e->pix_fmt = AV_PIX_FMT_YUV420P;
    e->framerate = (AVRational){ s->fps_num, s->fps_den };
    e->time_base = (AVRational){ s->fps_den, s->fps_num };
    e->color_range = AVCOL_RANGE_MPEG;
    e->colorspace = AVCOL_SPC_BT709;
    e->color_primaries = AVCOL_PRI_BT709;
    e->color_trc = AVCOL_TRC_BT709;
    e->chroma_sample_location = AVCHROMA_LOC_LEFT;
    /* Output must not depend on the machine's number of cores. */
    e->thread_count = 2;
    e->flags |= AV_CODEC_FLAG_BITEXACT | (global_header ? AV_CODEC_FLAG_GLOBAL_HEADER : 0);
    set_rate(e, n, s->crf);
    AVDictionary *dict = NULL;
    *err = *n->options ? av_dict_parse_string(&dict, n->options, "=", ":", 0) : 0;
    if (*err >= 0)
        *err = avcodec_open2(e, codec, &dict);
    av_dict_free(&dict);
    if (*err < 0)
        avcodec_free_context(&e);
    return e;
}

static int open_encoder(prxi_ctx *c, prxi_av_output *o, const container *k, const prxi_video_spec *s)
{
    const int header = o->oc->oformat->flags & AVFMT_GLOBALHEADER;
    int err = AVERROR_ENCODER_NOT_FOUND;
    char tried[256] = "";
    size_t len = 0;
    for (const encoder *n = k->encoders; n->name; n++) {
        if (s->encoder && strcmp(s->encoder, n->name) != 0)
            continue;
        o->enc = try_encoder(n, s, header, &err);
        if (o->enc) {
            prxi_logf(c, n == k->encoders ? PRX_LOG_INFO : PRX_LOG_WARN, "%s: encoder %s%s%s", o->out.shown, n->name,
                      n == k->encoders ? "" : ", as the preferred one is not available: ",
                      n == k->encoders ? "" : k->encoders[0].name);
            return PRX_OK;
        }
        if (len < sizeof tried)
            len += (size_t)snprintf(tried + len, sizeof tried - len, "%s%s", len ? ", " : "", n->name);
    }
    if (!*tried)
        return prxi_fail(c, PRX_EINVAL, "%s: encoder \"%s\" is not one for %s", o->out.shown, s->encoder, k->format);
    char text[128];
    av_strerror(err, text, sizeof text);
    return prxi_fail(c, PRX_ENOTSUP, "%s: no encoder for %s works here (tried %s; last: %s)", o->out.shown, k->format,
                     tried, text);
}

static int video_open(video *v, prxi_ctx *c, const char *path, const prxi_video_spec *s, const container *k)
{
    prxi_av_output *o = &v->av;
    if (k->encoders == h264_list && (s->width % 2 || s->height % 2))
        return prxi_fail(c, PRX_EINVAL, "%s: %dx%d: H.264 in yuv420p needs an even width and height; .webm, .gif, .png and "
                         ".y4m take any", path, s->width, s->height);
    int err = prxi_av_open(c, o, k->format, path);
    if (err < 0 || (err = open_encoder(c, o, k, s)) < 0)
        return err;
    o->frame->format = o->enc->pix_fmt;
    o->frame->width = s->width;
    o->frame->height = s->height;
    if (av_frame_get_buffer(o->frame, 0) < 0)
        return prxi_av_fail(c, o, "frame", AVERROR(ENOMEM));
    return prxi_av_begin(c, o, k->options, s->comment);
}

int prxi_av_send(prxi_ctx *c, prxi_av_output *o, int end)
{
    int err = avcodec_send_frame(o->enc, end ? NULL : o->frame);
    if (err < 0)
        return prxi_av_fail(c, o, "encoder", err);
    while ((err = avcodec_receive_packet(o->enc, o->packet)) >= 0) {
        o->packet->stream_index = 0;
        if (!o->packet->duration)
            o->packet->duration = 1;
        av_packet_rescale_ts(o->packet, o->enc->time_base, o->stream->time_base);
        err = av_interleaved_write_frame(o->oc, o->packet);
        if (err < 0 || o->io_error)
            return prxi_av_fail(c, o, "container", err);
    }
    return err == AVERROR(EAGAIN) || err == AVERROR_EOF ? PRX_OK : prxi_av_fail(c, o, "encoder", err);
}

int prxi_av_end(prxi_ctx *c, prxi_av_output *o)
{
    int err = prxi_av_send(c, o, 1);
    if (err < 0)
        return err;
    err = av_write_trailer(o->oc);
    avio_flush(o->io);
    if (err < 0 || o->io_error || o->io->error < 0)
        return prxi_av_fail(c, o, "container", err < 0 ? err : o->io->error);
    return prxi_vout_finish(c, &o->out);
}

void prxi_av_close(prxi_ctx *c, prxi_av_output *o)
{
    avcodec_free_context(&o->enc);
    av_frame_free(&o->frame);
    av_packet_free(&o->packet);
    avformat_free_context(o->oc);
    o->oc = NULL;
    if (o->io)
        av_freep(&o->io->buffer);
    avio_context_free(&o->io);
    prxi_vout_close(c, &o->out);
}

static int video_send(video *v, prxi_ctx *c)
{
    AVFrame *f = v->av.frame;
    f->pts = v->next++;
    /* A quality scale is asked of every frame. */
    f->quality = v->av.enc->flags & AV_CODEC_FLAG_QSCALE ? v->av.enc->global_quality : 0;
    return prxi_av_send(c, &v->av, 0);
}

static int video_write(void *priv, prxi_ctx *c, const uint8_t *rgb)
{
    video *v = priv;
    AVFrame *f = v->av.frame;
    if (av_frame_make_writable(f) < 0)
        return prxi_av_fail(c, &v->av, "frame", AVERROR(ENOMEM));
    const prxi_planes p = { { f->data[0], f->data[1], f->data[2] },
                            { f->linesize[0], f->linesize[1], f->linesize[2] } };
    prxi_rgb_to_yuv420(rgb, f->width, f->height, &p);
    return video_send(v, c);
}

static int video_write_yuv(void *priv, prxi_ctx *c, const uint8_t *planes)
{
    video *v = priv;
    AVFrame *f = v->av.frame;
    if (av_frame_make_writable(f) < 0)
        return prxi_av_fail(c, &v->av, "frame", AVERROR(ENOMEM));
    for (int i = 0; i < 3; i++) {
        const int w = i ? (f->width + 1) / 2 : f->width, h = i ? (f->height + 1) / 2 : f->height;
        for (int y = 0; y < h; y++, planes += w)
            memcpy(f->data[i] + (ptrdiff_t)y * f->linesize[i], planes, (size_t)w);
    }
    return video_send(v, c);
}

static int video_finish(void *priv, prxi_ctx *c)
{
    video *v = priv;
    return prxi_av_end(c, &v->av);
}

static void video_close(void *priv, prxi_ctx *c)
{
    video *v = priv;
    prxi_av_close(c, &v->av);
}

const char *prxi_encoder_at(int i)
{
    static const encoder *const lists[] = { h264_list, webm_list };
    const prxi_video_spec probe = { .width = 256, .height = 256, .fps_num = 16, .fps_den = 1, .crf = -1 };
    prxi_av_quiet();
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        for (const encoder *n = lists[k]; n->name; n++) {
            int err;
            AVCodecContext *e = try_encoder(n, &probe, 0, &err);
            avcodec_free_context(&e);
            if (err >= 0 && i-- == 0)
                return n->name;
        }
    return NULL;
}

/* ---- descriptors ---- */

#define CONTAINER(id, text)                                                                       \
    static int open_##id(void *priv, prxi_ctx *c, const char *path, const prxi_video_spec *spec)  \
    {                                                                                             \
        return video_open(priv, c, path, spec, &id);                                              \
    }                                                                                             \
    const prxi_muxer prxi_muxer_##id = {                                                          \
        .name = #id,                                                                              \
        .help = text,                                                                             \
        .extensions = #id,                                                                        \
        .priv_size = sizeof(video),                                                               \
        .open = open_##id,                                                                        \
        .write = video_write,                                                                     \
        .write_yuv = video_write_yuv,                                                             \
        .finish = video_finish,                                                                   \
        .close = video_close,                                                                     \
    };

CONTAINER(mp4, "MP4: H.264 (libx264, or what libavcodec has), yuv420p, BT.709, faststart")
CONTAINER(mov, "QuickTime, encoded as mp4")
CONTAINER(mkv, "Matroska, encoded as mp4")
CONTAINER(webm, "WebM: VP9, or AV1 where that is missing")
