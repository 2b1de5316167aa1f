/* Frames of anything that libavformat opens, as 8-bit RGB by the matrix and range that the file states. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "video_int.h"

struct prxi_av_input {
    char *path;
    AVFormatContext *ic;
    AVCodecContext *dec;
    AVFrame *frame;
    AVPacket *packet;
    struct SwsContext *sws;
    int stream, width, height;
    int format, matrix, range;   /* what sws was set up for */
    int is_y4m, draining;
    int64_t count, stated;       /* frames given; frames by the container, 0 unknown */
    int64_t end;                 /* of the last whole frame in a Y4M file */
    double time;
};

static int fail(prxi_ctx *c, const prxi_av_input *in, const char *what, int err)
{
    char text[128];
    if (err == AVERROR(ENOMEM))
        return prxi_fail(c, PRX_ENOMEM, "%s: %s: out of memory", in->path, what);
    av_strerror(err, text, sizeof text);
    return prxi_fail(c, err == AVERROR(EIO) || err == AVERROR(EACCES) ? PRX_EIO : PRX_EFORMAT, "%s: %s: %s", in->path,
                     what, text);
}

/* Files are opened as files whatever their names look like, and nothing in them may open a network address. */
static int open_format(prxi_ctx *c, prxi_av_input *in)
{
    const int is_stdin = strcmp(in->path, "-") == 0, numbered = strchr(prxi_base_name(in->path), '%') != NULL;
    struct stat st;
    if (!is_stdin && !numbered && stat(in->path, &st) != 0)
        return prxi_fail(c, PRX_EINVAL, "%s: %s", in->path, strerror(errno));
    if (!is_stdin && !numbered && S_ISDIR(st.st_mode))
        return prxi_fail(c, PRX_EINVAL, "%s: is a folder; a video, a sequence (%%04d.png) or a dump is expected", in->path);
    AVDictionary *dict = NULL;
    char *url = is_stdin ? av_strdup("pipe:0") : av_asprintf("file:%s", in->path);
    int err = url ? av_dict_set(&dict, "protocol_whitelist", "file,pipe", 0) : AVERROR(ENOMEM);
    const AVInputFormat *format = numbered ? av_find_input_format("image2") : NULL;
    if (err >= 0)
        err = avformat_open_input(&in->ic, url, format, &dict);
    av_dict_free(&dict);
    av_free(url);
    if (err < 0 && numbered)
        return prxi_fail(c, PRX_EINVAL, "%s: no such sequence (numbers begin at 0 to 4)", in->path);
    return err < 0 ? fail(c, in, "not a readable video", err) : PRX_OK;
}

static int open_decoder(prxi_ctx *c, prxi_av_input *in)
{
    int err = avformat_find_stream_info(in->ic, NULL);
    if (err < 0)
        return fail(c, in, "not a readable video", err);
    const AVCodec *codec = NULL;
    in->stream = av_find_best_stream(in->ic, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
    if (in->stream < 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: holds no video that can be decoded here", in->path);
    in->dec = avcodec_alloc_context3(codec);
    in->frame = av_frame_alloc();
    in->packet = av_packet_alloc();
    if (!in->dec || !in->frame || !in->packet)
        return fail(c, in, "decoder", AVERROR(ENOMEM));
    const AVStream *st = in->ic->streams[in->stream];
    err = avcodec_parameters_to_context(in->dec, st->codecpar);
    in->dec->pkt_timebase = st->time_base;
    in->dec->err_recognition = AV_EF_EXPLODE | AV_EF_CRCCHECK;
    in->dec->thread_count = 1;
    if (err >= 0)
        err = avcodec_open2(in->dec, codec, NULL);
    if (err < 0)
        return fail(c, in, "decoder", err);
    in->is_y4m = strcmp(in->ic->iformat->name, "yuv4mpegpipe") == 0;
    in->width = in->dec->width;
    in->height = in->dec->height;
    if (in->width < 1 || in->height < 1 || in->width > 32768 || in->height > 32768)
        return prxi_fail(c, PRX_EFORMAT, "%s: size %dx%d is outside 1..32768", in->path, in->width, in->height);
    return PRX_OK;
}

int prxi_av_input_open(prxi_ctx *c, prxi_av_input **out, const char *path, prxi_video_spec *spec)
{
    *out = NULL;
    prxi_av_quiet();
    prxi_av_input *in = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *in);
    if (!in)
        return prxi_fail_nomem(c, path, sizeof *in);
    in->format = AV_PIX_FMT_NONE;
    in->time = NAN;
    in->path = prxi_strdup(c->mem, path);
    int err = in->path ? PRX_OK : prxi_fail_nomem(c, path, strlen(path));
    if (err < 0 || (err = open_format(c, in)) < 0 || (err = open_decoder(c, in)) < 0) {
        prxi_av_input_close(c, &in);
        return err;
    }
    AVStream *st = in->ic->streams[in->stream];
    const AVRational fps = av_guess_frame_rate(in->ic, st, NULL);
    in->stated = st->nb_frames > 0 ? st->nb_frames : 0;
    const AVDictionaryEntry *comment = av_dict_get(in->ic->metadata, "comment", NULL, 0);
    *spec = (prxi_video_spec){ .width = in->width, .height = in->height, .fps_num = fps.num, .fps_den = fps.den,
                               .frames = in->stated, .comment = comment ? comment->value : NULL, .crf = -1 };
    *out = in;
    return PRX_OK;
}

/* Untagged files: YUV4MPEG2 cannot say, and ours is BT.709; else what players assume, by size. */
static int matrix_of(const prxi_av_input *in, const AVFrame *f)
{
    switch (f->colorspace) {
    case AVCOL_SPC_BT709:
        return SWS_CS_ITU709;
    case AVCOL_SPC_FCC:
        return SWS_CS_FCC;
    case AVCOL_SPC_BT470BG:
    case AVCOL_SPC_SMPTE170M:
        return SWS_CS_ITU601;
    case AVCOL_SPC_SMPTE240M:
        return SWS_CS_SMPTE240M;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
        return SWS_CS_BT2020;
    default:
        return in->is_y4m || in->width >= 1280 || in->height > 576 ? SWS_CS_ITU709 : SWS_CS_ITU601;
    }
}

/* The J formats are full range by another name. */
static int plain_format(int format, int *full)
{
    static const int pairs[][2] = {
        { AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUV420P }, { AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUV422P },
        { AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUV444P }, { AV_PIX_FMT_YUVJ440P, AV_PIX_FMT_YUV440P },
        { AV_PIX_FMT_YUVJ411P, AV_PIX_FMT_YUV411P },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (format == pairs[i][0]) {
            *full = 1;
            return pairs[i][1];
        }
    return format;
}

static int set_up_sws(prxi_ctx *c, prxi_av_input *in, const AVFrame *f)
{
    int full = f->color_range == AVCOL_RANGE_JPEG;
    const int format = plain_format(f->format, &full), matrix = matrix_of(in, f);
    if (in->sws && in->format == format && in->matrix == matrix && in->range == full)
        return PRX_OK;
    sws_freeContext(in->sws);
    in->sws = sws_getContext(f->width, f->height, format, f->width, f->height, AV_PIX_FMT_RGB24,
                             SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT,
                             NULL, NULL, NULL);
    if (!in->sws)
        return prxi_fail(c, PRX_EFORMAT, "%s: pixel format %s cannot be converted", in->path,
                         av_get_pix_fmt_name(format) ? av_get_pix_fmt_name(format) : "?");
    /* swscale takes BT.601 for everything unless told. */
    sws_setColorspaceDetails(in->sws, sws_getCoefficients(matrix), full, sws_getCoefficients(SWS_CS_DEFAULT), 1, 0,
                             1 << 16, 1 << 16);
    in->format = format;
    in->matrix = matrix;
    in->range = full;
    return PRX_OK;
}

static int convert(prxi_ctx *c, prxi_av_input *in, uint8_t *rgb)
{
    const AVFrame *f = in->frame;
    if (f->width != in->width || f->height != in->height)
        return prxi_fail(c, PRX_EFORMAT, "%s: frame %lld is %dx%d, the first was %dx%d", in->path, (long long)in->count,
                         f->width, f->height, in->width, in->height);
    if (f->flags & AV_FRAME_FLAG_CORRUPT || f->decode_error_flags)
        return prxi_fail(c, PRX_EFORMAT, "%s: frame %lld is damaged", in->path, (long long)in->count);
    const int err = set_up_sws(c, in, f);
    if (err < 0)
        return err;
    uint8_t *const to[4] = { rgb, NULL, NULL, NULL };
    const int stride[4] = { 3 * f->width, 0, 0, 0 };
    if (sws_scale(in->sws, (const uint8_t *const *)f->data, f->linesize, 0, f->height, to, stride) != f->height)
        return prxi_fail(c, PRX_EFORMAT, "%s: frame %lld cannot be converted", in->path, (long long)in->count);
    const int64_t pts = f->best_effort_timestamp;
    in->time = pts == AV_NOPTS_VALUE ? NAN : (double)pts * av_q2d(in->ic->streams[in->stream]->time_base);
    in->count++;
    return 1;
}

static int ended(prxi_ctx *c, const prxi_av_input *in)
{
    if (in->count == 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: holds no frame", in->path);
    if (in->count < in->stated)
        return prxi_fail(c, PRX_EFORMAT, "%s: ends after %lld of %lld frames", in->path, (long long)in->count,
                         (long long)in->stated);
    return 0;
}

/* Feeds the decoder one packet of our stream, or the end. */
static int feed(prxi_ctx *c, prxi_av_input *in)
{
    for (;;) {
        int err = av_read_frame(in->ic, in->packet);
        if (err == AVERROR_EOF) {
            /* libavformat takes a Y4M frame that is cut short for the end. */
            if (in->is_y4m && avio_tell(in->ic->pb) != in->end)
                return prxi_fail(c, PRX_EFORMAT, "%s: ends within frame %lld", in->path, (long long)in->count);
            in->draining = 1;
            err = avcodec_send_packet(in->dec, NULL);
        } else if (err < 0) {
            return fail(c, in, "reading stopped", err);
        } else if (in->packet->stream_index != in->stream) {
            av_packet_unref(in->packet);
            continue;
        } else {
            in->end = in->packet->pos + in->packet->size;
            err = avcodec_send_packet(in->dec, in->packet);
            av_packet_unref(in->packet);
        }
        return err < 0 && err != AVERROR_EOF ? fail(c, in, "damaged video", err) : PRX_OK;
    }
}

int prxi_av_input_next(prxi_ctx *c, prxi_av_input *in, uint8_t *rgb)
{
    for (;;) {
        const int err = avcodec_receive_frame(in->dec, in->frame);
        if (err >= 0) {
            const int got = convert(c, in, rgb);
            av_frame_unref(in->frame);
            return got;
        }
        if (err == AVERROR_EOF)
            return ended(c, in);
        if (err != AVERROR(EAGAIN) || in->draining)
            return fail(c, in, "damaged video", err);
        const int fed = feed(c, in);
        if (fed < 0)
            return fed;
    }
}

double prxi_av_input_time(const prxi_av_input *in)
{
    return in->time;
}

void prxi_av_input_close(prxi_ctx *c, prxi_av_input **pin)
{
    prxi_av_input *in = *pin;
    if (!in)
        return;
    sws_freeContext(in->sws);
    avcodec_free_context(&in->dec);
    av_frame_free(&in->frame);
    av_packet_free(&in->packet);
    avformat_close_input(&in->ic);
    prxi_free(c->mem, in->path);
    prxi_free(c->mem, in);
    *pin = NULL;
}
