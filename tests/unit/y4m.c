/* Y4M: bytes of a known picture, a pipe that closes, truncated and malformed files; and everything else that a reader is given
 * and must refuse. */
#include <fcntl.h>
#include <signal.h>

#include "tests/unit/video_clip.h"
#include "engine/weights/safetensors.h"
#include "praxino/praxino.h"

static void known_bytes(void)
{
    /* Left half red, right half blue, 6 x 2; BT.709 limited: red is Y 63, Cb 102, Cr 240, blue Y 32, Cb 240, Cr 118. */
    uint8_t rgb[36];
    for (int i = 0; i < 12; i++)
        clip_fill(rgb + 3 * i, 1, i % 6 < 3 ? 255 : 0, 0, i % 6 < 3 ? 0 : 255);
    const prxi_video_spec s = clip_spec(6, 2, 1);
    REQUIRE(clip_write(clip_path("known.y4m"), rgb, &s) == PRX_OK, "%s", clip_ctx.error.text);
    size_t n;
    char *p = clip_slurp(clip_path("known.y4m"), &n);
    const char *want = "YUV4MPEG2 W6 H2 F16:1 Ip A1:1 C420mpeg2";
    CHECK(strncmp(p, want, strlen(want)) == 0, "%s", p);
    const uint8_t *y = (const uint8_t *)strstr(p, "FRAME\n") + 6;
    CHECK((size_t)(y - (uint8_t *)p) + 12 + 3 + 3 == n, "size");
    static const uint8_t luma[6] = { 63, 63, 63, 32, 32, 32 };
    CHECK(memcmp(y, luma, 6) == 0 && memcmp(y + 6, luma, 6) == 0, "Y %d %d", y[0], y[3]);
    /* Chroma is sited on columns 0, 2, 4 and filtered 1 2 1: the middle one is 3/4 red, 1/4 blue. */
    static const uint8_t cb[3] = { 102, 137, 240 }, cr[3] = { 240, 210, 118 };
    for (int i = 0; i < 3; i++)
        CHECK(abs(y[12 + i] - cb[i]) <= 1 && abs(y[15 + i] - cr[i]) <= 1, "chroma %d: %d %d", i, y[12 + i], y[15 + i]);
    free(p);
}

/* Every RGB value against the formulas of BT.709 in f64: within half a level and the rounding of the coefficients. */
static void against_formula(void)
{
    enum { W = 64, H = 64 };
    static uint8_t rgb[3 * W * H];
    const prxi_video_spec s = clip_spec(W, H, 1);
    double worst = 0;
    for (int round = 0; round < 4; round++) {
        for (int y = 0; y < H; y += 2)
            for (int x = 0; x < W; x++)
                for (int k = 0; k < 2; k++)
                    clip_fill(rgb + 3 * ((y + k) * W + x), 1, 64 * round + y, x * 4 + 3, (x * 7 + y * 5) & 255);
        REQUIRE(clip_write(clip_path("f.y4m"), rgb, &s) == PRX_OK, "%s", clip_ctx.error.text);
        size_t n;
        char *p = clip_slurp(clip_path("f.y4m"), &n);
        const uint8_t *got = (const uint8_t *)strstr(p, "FRAME\n") + 6;
        for (int i = 0; i < W * H; i++) {
            const double want = 16 + 219.0 / 255 * (.2126 * rgb[3 * i] + .7152 * rgb[3 * i + 1] + .0722 * rgb[3 * i + 2]);
            worst = fabs(got[i] - want) > worst ? fabs(got[i] - want) : worst;
        }
        free(p);
    }
    CHECK(worst <= 0.505, "Y off by %.4f", worst);
    printf("Y within %.4f of the formula\n", worst);
}

static void closed_pipe(void)
{
    enum { W = 256, H = 256 };
    int fd[2];
    uint8_t *rgb = calloc(3, W * H);
    REQUIRE(pipe(fd) == 0, "pipe");
    const int saved = dup(1);
    fflush(stdout);
    dup2(fd[1], 1);
    close(fd[1]);
    close(fd[0]);
    /* Default action: SIGPIPE would end this program. */
    signal(SIGPIPE, SIG_DFL);
    prxi_writer *w;
    const prxi_video_spec s = clip_spec(W, H, 8);
    prxi_clear(&clip_ctx);
    int err = prxi_writer_open(&clip_ctx, &w, NULL, "-", &s);
    CHECK(err == PRX_OK, "%s", clip_ctx.error.text);
    for (int i = 0; i < 8 && err == PRX_OK; i++)
        err = prxi_writer_frame(&clip_ctx, w, rgb);
    if (err == PRX_OK)
        err = prxi_writer_finish(&clip_ctx, w);
    prxi_writer_close(&clip_ctx, &w);
    dup2(saved, 1);
    close(saved);
    CHECK(err == PRX_EIO && strstr(clip_ctx.error.text, "Broken pipe"), "%d %s", err, clip_ctx.error.text);
    free(rgb);
}

/* What is written to standard output is what a file would hold, and can be read from standard input. */
static void through_pipe(void)
{
    enum { W = 32, H = 16, N = 3, FRAME = 3 * W * H };
    static uint8_t rgb[N * FRAME], back[N * FRAME], direct[N * FRAME];
    prxi_video_spec s = clip_spec(W, H, N), got;
    for (int i = 0; i < N; i++)
        clip_frame(rgb + i * FRAME, W, H, i);
    const int out = dup(1), in = dup(0), f = open(clip_path("std.y4m"), O_CREAT | O_RDWR, 0644);
    fflush(stdout);
    dup2(f, 1);
    const int err = clip_write("-", rgb, &s);
    dup2(out, 1);
    lseek(f, 0, SEEK_SET);
    dup2(f, 0);
    const int n = clip_read("-", back, N, &got);
    dup2(in, 0);
    close(in);
    close(out);
    close(f);
    CHECK(err == PRX_OK && n == N && got.width == W && got.height == H, "%d %d %s", err, n, clip_ctx.error.text);
    CHECK(clip_write(clip_path("file.y4m"), rgb, &s) == PRX_OK && clip_read(clip_path("file.y4m"), direct, N, &got) == N, "%s",
          clip_ctx.error.text);
    CHECK(memcmp(back, direct, sizeof back) == 0, "the same either way");
}

static void refused(const char *path, int code, const char *text)
{
    prxi_video_spec s;
    const int n = clip_read(path, NULL, 0, &s);
    CHECK(n == code, "%s: %d, %d expected: %s", path, n, code, clip_ctx.error.text);
    CHECK(strstr(clip_ctx.error.text, text), "%s: \"%s\" lacks \"%s\"", path, clip_ctx.error.text, text);
}

/* The first part of a file, or a file with some bytes overwritten. */
static void damage(const char *from, const char *to, double keep, double zero_from, double zero_to)
{
    size_t n;
    char *p = clip_slurp(clip_path(from), &n);
    memset(p + (size_t)(zero_from * (double)n), 0, (size_t)((zero_to - zero_from) * (double)n));
    clip_put(clip_path(to), p, (size_t)(keep * (double)n));
    free(p);
}

static void malformed(void)
{
    enum { W = 64, H = 48, N = 10, FRAME = 3 * W * H };
    uint8_t *rgb = malloc(N * FRAME);
    const prxi_video_spec s = clip_spec(W, H, N);
    for (int i = 0; i < N; i++)
        clip_frame(rgb + i * FRAME, W, H, i);
    refused("", PRX_EINVAL, "empty");
    refused(clip_path("absent.mp4"), PRX_EINVAL, "No such file");
    refused(clip_path("absent%04d.png"), PRX_EINVAL, "no such sequence");
    refused(clip_dir, PRX_EINVAL, "folder");
    refused("http://127.0.0.1:9/a.mp4", PRX_EINVAL, "No such file");
    refused("concat:a|b", PRX_EINVAL, "No such file");
    refused(clip_path("dump.safetensors"), PRX_EINVAL, "frames");
    clip_put(clip_path("empty.mp4"), "", 0);
    refused(clip_path("empty.mp4"), PRX_EFORMAT, "not a readable video");
    clip_put(clip_path("text.mp4"), "this is no video, whatever its name says\n", 41);
    refused(clip_path("text.mp4"), PRX_EFORMAT, "not a readable video");
    clip_put(clip_path("list.m3u8"), "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", 44);
    refused(clip_path("list.m3u8"), PRX_EFORMAT, "list.m3u8");
    static const char *const bad[] = { "YUV4MPEG2 W0 H16 F16:1 C420\nFRAME\n", "YUV4MPEG2 W-5 H16 F16:1\nFRAME\n",
                                       "YUV4MPEG2 H16 F16:1\nFRAME\n", "YUV4MPEG2 W999999999 H999999999 F16:1\nFRAME\n",
                                       "YUV4MPEG2 W16 H16 F16:1 C420\n", "YUV4MPEG2 W16 H16 F16:1 Cxyz\nFRAME\n" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        clip_put(clip_path("bad.y4m"), bad[i], strlen(bad[i]));
        refused(clip_path("bad.y4m"), PRX_EFORMAT, "bad.y4m");
    }
    REQUIRE(clip_write(clip_path("ok.mp4"), rgb, &s) == PRX_OK && clip_write(clip_path("ok.y4m"), rgb, &s) == PRX_OK &&
                clip_write(clip_path("ok.mkv"), rgb, &s) == PRX_OK && clip_write(clip_path("ok1.png"), rgb, &(prxi_video_spec){
                .width = W, .height = H, .fps_num = 16, .fps_den = 1, .frames = 1, .crf = -1 }) == PRX_OK, "%s",
            clip_ctx.error.text);
    damage("ok.y4m", "cut.y4m", 0.55, 0, 0);
    refused(clip_path("cut.y4m"), PRX_EFORMAT, "ends within frame 5");
    damage("ok.mp4", "cut.mp4", 0.8, 0, 0);
    refused(clip_path("cut.mp4"), PRX_EFORMAT, "cut.mp4");
    damage("ok.mp4", "holes.mp4", 1, 0.6, 0.9);
    refused(clip_path("holes.mp4"), PRX_EFORMAT, "holes.mp4");
    damage("ok1.png", "cut.png", 0.5, 0, 0);
    refused(clip_path("cut.png"), PRX_EFORMAT, "cut.png");
    free(rgb);
}

static void sequence_sizes(void)
{
    static uint8_t rgb[3 * 32 * 32];
    prxi_video_spec s = clip_spec(32, 32, 1), t = clip_spec(16, 16, 1);
    CHECK(clip_write(clip_path("s1.png"), rgb, &s) == PRX_OK && clip_write(clip_path("s2.png"), rgb, &t) == PRX_OK, "%s",
          clip_ctx.error.text);
    refused(clip_path("s%d.png"), PRX_EFORMAT, "16x16");
}

/* Through the public function, which knows dumps. */
static int compare(prx_engine *e, const char *a, const char *b, const char *text)
{
    char *json;
    const int err = prx_compare(e, a, b, NULL, &json);
    const char *said = err < 0 ? prx_engine_last_error(e) : json;
    CHECK(strstr(said, text), "%s, %s: %s", a, b, said);
    prx_text_free(e, json);
    return err;
}

static void dumps(void)
{
    static uint8_t frames[2 * 4 * 6 * 3];
    static float f[24];
    prx_engine *e;
    prx_engine_params params;
    prxi_tensor_out t = { "frames", PRXI_U8, 4, { 2, 4, 6, 3 }, frames };
    const prxi_video_spec s = clip_spec(6, 4, 2);
    prxi_clear(&clip_ctx);
    prx_engine_default_params(&params);
    REQUIRE(prx_engine_open(&e, &params) == PRX_OK, "%s", prx_engine_last_error(e));
    for (size_t i = 0; i < sizeof frames; i++)
        frames[i] = (uint8_t)(i * 37);
    REQUIRE(prxi_tensors_write(&clip_ctx, clip_path("d.safetensors"), &t, 1, NULL) == PRX_OK &&
                clip_write(clip_path("d%d.png"), frames, &s) == PRX_OK, "%s", clip_ctx.error.text);
    CHECK(compare(e, clip_path("d.safetensors"), clip_path("d%d.png"), "true") == PRX_OK, "a dump and its pictures");
    CHECK(compare(e, clip_path("d%d.png"), clip_path("d1.png"), "the first has 2 frames, the second 1") == PRX_EINVAL, "uneven");
    CHECK(compare(e, clip_path("d2.png"), clip_path("d%d.png"), "the first has 1 frames, the second 2") == PRX_EINVAL, "uneven");
    t = (prxi_tensor_out){ "frames", PRXI_F32, 4, { 1, 4, 2, 3 }, f };
    REQUIRE(prxi_tensors_write(&clip_ctx, clip_path("e.safetensors"), &t, 1, NULL) == PRX_OK, "%s", clip_ctx.error.text);
    CHECK(compare(e, clip_path("e.safetensors"), clip_path("d%d.png"), "u8") == PRX_EFORMAT, "f32 frames");
    t.name[0] = 'g';
    REQUIRE(prxi_tensors_write(&clip_ctx, clip_path("e.safetensors"), &t, 1, NULL) == PRX_OK, "%s", clip_ctx.error.text);
    CHECK(compare(e, clip_path("d%d.png"), clip_path("e.safetensors"), "frames") < 0, "no frames");
    prx_engine_close(&e);
}

static int ffmpeg(const char *in, const char *how, const char *out)
{
    char command[1024];
    snprintf(command, sizeof command, "ffmpeg -v error -y %s %s %s", in, how, out);
    return system(command);
}

/* Files of other programs: every matrix and range that they state, 10 bits, frames at uneven times. */
static void foreign(void)
{
    enum { W = 64, H = 48, N = 8, FRAME = 3 * W * H };
    static uint8_t flat[N * FRAME], back[N * FRAME];
    static const uint8_t want[N][3] = { { 255, 0, 0 }, { 0, 255, 0 }, { 0, 0, 255 }, { 255, 255, 255 },
                                        { 0, 0, 0 }, { 128, 128, 128 }, { 200, 100, 50 }, { 30, 60, 220 } };
    /* Levels off: rounding of 8-bit limited range YUV is 2 to 3, of 10 bits 1. */
    static const struct {
        const char *name, *how;
        int slack;
    } files[] = {
        { "709.mkv", "-vf scale=out_color_matrix=bt709:out_range=tv -pix_fmt yuv444p -c:v ffv1 -colorspace bt709 -color_range tv", 3 },
        { "601.mkv", "-vf scale=out_color_matrix=bt601:out_range=tv -pix_fmt yuv444p -c:v ffv1 -colorspace smpte170m -color_range tv", 3 },
        { "full.mkv", "-vf scale=out_color_matrix=bt709:out_range=pc -pix_fmt yuv444p -c:v ffv1 -colorspace bt709 -color_range pc", 3 },
        { "10.mkv", "-vf scale=out_color_matrix=bt709:out_range=tv -pix_fmt yuv420p10le -c:v ffv1 -colorspace bt709 -color_range tv", 2 },
        { "rgb.mkv", "-c:v ffv1 -pix_fmt bgr0", 0 },
        { "jpeg.avi", "-vf scale=out_color_matrix=bt601:out_range=pc -pix_fmt yuvj444p -c:v mjpeg -q:v 2", 4 },
    };
    const prxi_video_spec s = clip_spec(W, H, N);
    prxi_video_spec got;
    if (system("ffmpeg -version >/dev/null 2>&1") != 0) {
        printf("skipped: ffmpeg is not installed\n");
        return;
    }
    for (int i = 0; i < N; i++)
        clip_fill(flat + i * FRAME, W * H, want[i][0], want[i][1], want[i][2]);
    REQUIRE(clip_write(clip_path("in%d.png"), flat, &s) == PRX_OK, "%s", clip_ctx.error.text);
    char in[300];
    snprintf(in, sizeof in, "-framerate 16 -i %s", clip_path("in%d.png"));
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        REQUIRE(ffmpeg(in, files[k].how, clip_path(files[k].name)) == 0, "%s", files[k].name);
        CHECK(clip_read(clip_path(files[k].name), back, N, &got) == N, "%s: %s", files[k].name, clip_ctx.error.text);
        int worst = 0;
        for (size_t i = 0; i < sizeof back; i++)
            worst = abs(back[i] - flat[i]) > worst ? abs(back[i] - flat[i]) : worst;
        CHECK(worst <= files[k].slack, "%s: %d levels off", files[k].name, worst);
        printf("%-9s colours within %d\n", files[k].name, worst);
    }
    REQUIRE(ffmpeg(in, "-vf \"select='not(between(n,2,4))'\" -fps_mode vfr -c:v ffv1", clip_path("vfr.mkv")) == 0, "vfr");
    static const double at[] = { 0, 0.062, 0.312, 0.375, 0.438 };
    prxi_reader *r;
    REQUIRE(prxi_reader_open(&clip_ctx, &r, clip_path("vfr.mkv")) == PRX_OK, "%s", clip_ctx.error.text);
    for (int i = 0; i < 5; i++)
        CHECK(prxi_reader_next(&clip_ctx, r, back) == 1 && fabs(prxi_reader_time(r) - at[i]) < 0.002, "frame %d at %.3f", i,
              prxi_reader_time(r));
    CHECK(prxi_reader_next(&clip_ctx, r, back) == 0, "five frames");
    prxi_reader_close(&clip_ctx, &r);
}

int main(void)
{
    clip_begin();
    known_bytes();
    against_formula();
    closed_pipe();
    through_pipe();
    malformed();
    sequence_sizes();
    dumps();
    foreign();
    clip_end();
    return TEST_END();
}
