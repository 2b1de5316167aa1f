/* Every muxer: round trip, colours, same bytes twice, tags; and what must be refused before work starts. */
#include "tests/unit/video_clip.h"
#include "video_io/color.h"

enum { W = 64, H = 48, N = 12, FRAME = 3 * W * H };

static uint8_t *frames, *back;

/* name, lowest PSNR that the codec must keep on the test clip. The saturated square costs 4:2:0 most: y4m, which loses nothing
 * else, has 31.5 dB; the codecs are measured 0.1 dB below it. */
static const struct {
    const char *name;
    double psnr;
} kinds[] = {
    { "a.mp4", 31 }, { "a.mkv", 31 }, { "a.mov", 31 }, { "a.webm", 31 }, { "a.gif", 40 }, { "a.y4m", 31.4 },
    { "a%04d.png", INFINITY }, { "b%d.PNG", INFINITY },
};

static void round_trip(const char *name, double floor)
{
    prxi_video_spec s = clip_spec(W, H, N), got;
    s.comment = "{\"prompt\": \"a test\", \"seed\": 7}";
    REQUIRE(clip_write(clip_path(name), frames, &s) == PRX_OK, "%s: %s", name, clip_ctx.error.text);
    const int n = clip_read(clip_path(name), back, N, &got);
    CHECK(n == N, "%s: %d frames: %s", name, n, clip_ctx.error.text);
    CHECK(got.width == W && got.height == H, "%s: %dx%d", name, got.width, got.height);
    if (!strstr(name, "ng") && !strstr(name, "NG"))
        CHECK(fabs((double)got.fps_num / got.fps_den - 16) < 0.5, "%s: %d/%d fps", name, got.fps_num, got.fps_den);
    const double mse = clip_mse(frames, back, (size_t)N * FRAME);
    const double psnr = mse > 0 ? 10 * log10(255.0 * 255.0 / mse) : INFINITY;
    CHECK(psnr >= floor, "%s: %.2f dB", name, psnr);
    printf("%-12s %6.2f dB\n", name, psnr);
}

static void same_bytes(const char *ext)
{
    char a[32], b[32];
    size_t na, nb;
    snprintf(a, sizeof a, "one.%s", ext);
    snprintf(b, sizeof b, "two.%s", ext);
    const prxi_video_spec s = clip_spec(W, H, N);
    REQUIRE(clip_write(clip_path(a), frames, &s) == PRX_OK && clip_write(clip_path(b), frames, &s) == PRX_OK, "%s: %s",
            ext, clip_ctx.error.text);
    char *pa = clip_slurp(clip_path(a), &na), *pb = clip_slurp(clip_path(b), &nb);
    CHECK(na == nb && memcmp(pa, pb, na) == 0, "%s: %zu and %zu bytes differ", ext, na, nb);
    free(pa);
    free(pb);
}

/* Frames as planes, every second one: the file of RGB frames, byte for byte. */
static void planes_alike(const char *ext, int width, int height)
{
    char a[32], b[32];
    size_t na, nb;
    prxi_writer *w = NULL;
    snprintf(a, sizeof a, "rgb.%s", ext);
    snprintf(b, sizeof b, "yuv.%s", ext);
    const prxi_video_spec s = clip_spec(width, height, N);
    uint8_t *planes = malloc(prxi_yuv420_bytes(width, height));
    REQUIRE(planes && clip_write(clip_path(a), frames, &s) == PRX_OK, "%s: %s", ext, clip_ctx.error.text);
    REQUIRE(prxi_writer_open(&clip_ctx, &w, NULL, clip_path(b), &s) == PRX_OK, "%s: %s", ext, clip_ctx.error.text);
    for (int i = 0; i < N; i++) {
        const uint8_t *rgb = frames + (size_t)i * 3 * (size_t)width * (size_t)height;
        const prxi_planes p = prxi_planes_of(planes, width, height);
        prxi_rgb_to_yuv420(rgb, width, height, &p);
        const int err = i % 2 ? prxi_writer_frame(&clip_ctx, w, rgb) : prxi_writer_frame_yuv(&clip_ctx, w, planes);
        CHECK(err == PRX_OK, "%s: frame %d: %s", ext, i, clip_ctx.error.text);
    }
    CHECK(prxi_writer_takes_yuv(w) && prxi_writer_finish(&clip_ctx, w) == PRX_OK, "%s: %s", ext, clip_ctx.error.text);
    prxi_writer_close(&clip_ctx, &w);
    char *pa = clip_slurp(clip_path(a), &na), *pb = clip_slurp(clip_path(b), &nb);
    CHECK(na == nb && memcmp(pa, pb, na) == 0, "%s %dx%d: %zu and %zu bytes differ", ext, width, height, na, nb);
    free(pa);
    free(pb);
    free(planes);
}

/* PNG and GIF are RGB. */
static void planes_refused(const char *name)
{
    const prxi_video_spec s = clip_spec(W, H, N);
    prxi_writer *w = NULL;
    REQUIRE(prxi_writer_open(&clip_ctx, &w, NULL, clip_path(name), &s) == PRX_OK, "%s: %s", name, clip_ctx.error.text);
    CHECK(!prxi_writer_takes_yuv(w) && prxi_writer_frame_yuv(&clip_ctx, w, frames) == PRX_EINVAL, "%s takes planes", name);
    prxi_clear(&clip_ctx);
    prxi_writer_close(&clip_ctx, &w);
}

static const char *find(const char *p, size_t n, const char *what)
{
    const size_t k = strlen(what);
    for (size_t i = 0; i + k <= n; i++)
        if (memcmp(p + i, what, k) == 0)
            return p + i;
    return NULL;
}

static void mp4_layout(void)
{
    size_t n;
    char *p = clip_slurp(clip_path("a.mp4"), &n);
    const char *moov = find(p, n, "moov"), *mdat = find(p, n, "mdat"), *colr = find(p, n, "colrnclx");
    CHECK(moov && mdat && moov < mdat, "faststart: moov before mdat");
    CHECK(find(p, n, "\"prompt\": \"a test\""), "comment tag");
    /* nclx: primaries, transfer, matrix as 16-bit numbers, then the full range flag (ISO 14496-12, 12.1.5). */
    CHECK(colr && memcmp(colr + 8, "\0\1\0\1\0\1\0", 7) == 0, "BT.709, limited range");
    free(p);
}

/* Flat frames of pure colours survive within what 8-bit limited range YUV can hold. */
static void colors(const char *name, int slack)
{
    static const uint8_t want[][3] = { { 255, 0, 0 }, { 0, 255, 0 }, { 0, 0, 255 }, { 255, 255, 255 }, { 0, 0, 0 },
                                       { 128, 128, 128 }, { 255, 255, 0 }, { 0, 255, 255 }, { 255, 0, 255 },
                                       { 200, 100, 50 } };
    const int n = (int)(sizeof want / sizeof *want);
    const prxi_video_spec s = clip_spec(W, H, n);
    prxi_video_spec got;
    uint8_t *flat = malloc((size_t)n * FRAME), *out = malloc((size_t)n * FRAME);
    REQUIRE(flat && out, "memory");
    for (int i = 0; i < n; i++)
        clip_fill(flat + (size_t)i * FRAME, W * H, want[i][0], want[i][1], want[i][2]);
    REQUIRE(clip_write(clip_path(name), flat, &s) == PRX_OK, "%s: %s", name, clip_ctx.error.text);
    REQUIRE(clip_read(clip_path(name), out, n, &got) == n, "%s: %s", name, clip_ctx.error.text);
    int worst = 0;
    for (size_t i = 0; i < (size_t)n * FRAME; i++)
        worst = abs(flat[i] - out[i]) > worst ? abs(flat[i] - out[i]) : worst;
    CHECK(worst <= slack, "%s: %d levels off", name, worst);
    printf("%-12s colours within %d\n", name, worst);
    free(flat);
    free(out);
}

static void refused(const char *path, const prxi_video_spec *s, int code, const char *text)
{
    prxi_writer *w;
    prxi_clear(&clip_ctx);
    const int err = prxi_writer_open(&clip_ctx, &w, NULL, path, s);
    CHECK(err == code && !w, "%s: %d, %d expected: %s", path, err, code, clip_ctx.error.text);
    CHECK(strstr(clip_ctx.error.text, text), "%s: \"%s\" lacks \"%s\"", path, clip_ctx.error.text, text);
    prxi_writer_close(&clip_ctx, &w);
}

static void refusals(void)
{
    prxi_video_spec s = clip_spec(W, H, N);
    const int before = clip_entries(clip_dir);
    refused("", &s, PRX_EINVAL, "empty");
    refused(clip_path("a.xyz"), &s, PRX_EINVAL, ".mp4 .mkv .mov .webm .gif .png .y4m");
    refused(clip_path("mp4"), &s, PRX_EINVAL, "no extension");
    refused(clip_path(".mp4"), &s, PRX_EINVAL, "no extension");
    refused(clip_path("none/a.mp4"), &s, PRX_EIO, "No such file");
    refused(clip_path("a.mp4/b.mp4"), &s, PRX_EIO, "Not a directory");
    refused(clip_path("one.png"), &s, PRX_EINVAL, "%04d");
    refused(clip_path("%s.png"), &s, PRX_EINVAL, "%04d");
    refused(clip_path("%d%d.png"), &s, PRX_EINVAL, "%04d");
    refused(clip_path("%n.png"), &s, PRX_EINVAL, "%04d");
    refused(clip_path("%99999999d.png"), &s, PRX_EINVAL, "%04d");
    char dir[256];
    snprintf(dir, sizeof dir, "%s", clip_path("dir.mp4"));
    mkdir(dir, 0755);
    refused(dir, &s, PRX_EINVAL, "folder");
    rmdir(dir);
    s = clip_spec(17, 16, 1);
    refused(clip_path("odd.mp4"), &s, PRX_EINVAL, "even");
    s = clip_spec(0, 16, 1);
    refused(clip_path("zero.mp4"), &s, PRX_EINVAL, "0x16");
    s = clip_spec(W, H, 1);
    s.fps_den = 0;
    refused(clip_path("fps.mp4"), &s, PRX_EINVAL, "16/0");
    s = clip_spec(W, H, 1);
    s.crf = 52;
    refused(clip_path("crf.mp4"), &s, PRX_EINVAL, "52");
    s = clip_spec(W, H, 1);
    s.encoder = "nonsense";
    refused(clip_path("enc.mp4"), &s, PRX_EINVAL, "nonsense");
    s = clip_spec(16384, 16384, 1);
    s.frames = (int64_t)1 << 40;
    refused(clip_path("huge.y4m"), &s, PRX_ENOSPC, "left");
    CHECK(clip_entries(clip_dir) == before, "a refused file leaves nothing");
}

/* An unfinished file vanishes and the old one stays; a link stays a link; permissions are kept. */
static void atomic_target(void)
{
    static const char *const names[] = { "t.mp4", "t.y4m", "t.gif", "t1.png", "t.digest" };
    const prxi_video_spec s = clip_spec(W, H, 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        prxi_writer *w;
        size_t n;
        clip_put(clip_path(names[i]), "old", 3);
        const int before = clip_entries(clip_dir);
        prxi_clear(&clip_ctx);
        const char *open_as = strstr(names[i], "png") ? "t%d.png" : names[i];
        REQUIRE(prxi_writer_open(&clip_ctx, &w, NULL, clip_path(open_as), &s) == PRX_OK, "%s", clip_ctx.error.text);
        CHECK(prxi_writer_frame(&clip_ctx, w, frames) == PRX_OK, "%s", clip_ctx.error.text);
        prxi_writer_close(&clip_ctx, &w);
        char *p = clip_slurp(clip_path(names[i]), &n);
        CHECK(n == 3 && memcmp(p, "old", 3) == 0, "%s: the old file is untouched", names[i]);
        CHECK(clip_entries(clip_dir) == before, "%s: nothing is left over", names[i]);
        free(p);
    }
    struct stat st;
    chmod(clip_path("t.mp4"), 0640);
    REQUIRE(symlink("t.mp4", clip_path("link.mp4")) == 0, "link");
    CHECK(clip_write(clip_path("link.mp4"), frames, &s) == PRX_OK, "%s", clip_ctx.error.text);
    CHECK(lstat(clip_path("link.mp4"), &st) == 0 && S_ISLNK(st.st_mode), "a link stays");
    CHECK(stat(clip_path("t.mp4"), &st) == 0 && st.st_size > 3 && (st.st_mode & 0777) == 0640, "its file is replaced");
}

static void digests(void)
{
    size_t n, m;
    const prxi_video_spec s = clip_spec(W, H, N);
    REQUIRE(clip_write(clip_path("a.digest"), frames, &s) == PRX_OK, "%s", clip_ctx.error.text);
    char *a = clip_slurp(clip_path("a.digest"), &n);
    frames[FRAME + 5] ^= 1;
    REQUIRE(clip_write(clip_path("b.digest"), frames, &s) == PRX_OK, "%s", clip_ctx.error.text);
    frames[FRAME + 5] ^= 1;
    char *b = clip_slurp(clip_path("b.digest"), &m);
    CHECK(strncmp(a, "size 64x48\nframe 0 ", 19) == 0 && strstr(a, "\nclip 12 "), "layout: %s", a);
    CHECK(n == m && strncmp(a, b, (size_t)(strstr(a, "frame 1") - a)) == 0 &&
              strcmp(strstr(a, "\nclip"), strstr(b, "\nclip")) != 0, "one changed bit shows");
    free(a);
    free(b);
}

static void other_encoders(void)
{
    printf("encoders that open here:");
    for (int i = 0; prxi_encoder_at(i); i++)
        printf(" %s", prxi_encoder_at(i));
    printf("\n");
    prxi_video_spec s = clip_spec(W, H, N), got;
    s.encoder = "mpeg4";
    REQUIRE(clip_write(clip_path("m4.mp4"), frames, &s) == PRX_OK, "%s", clip_ctx.error.text);
    CHECK(clip_read(clip_path("m4.mp4"), back, N, &got) == N, "%s", clip_ctx.error.text);
    const double psnr = 10 * log10(255.0 * 255.0 / clip_mse(frames, back, (size_t)N * FRAME));
    CHECK(psnr > 30, "mpeg4: %.2f dB", psnr);
    prxi_video_spec odd = clip_spec(35, 21, 3);
    uint8_t *small = malloc(3 * 3 * 35 * 21);
    for (int i = 0; i < 3; i++)
        clip_frame(small + i * 3 * 35 * 21, 35, 21, i);
    static const char *const names[] = { "odd.webm", "odd.gif", "odd.y4m", "odd%d.png" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK(clip_write(clip_path(names[i]), small, &odd) == PRX_OK, "%s", clip_ctx.error.text);
        CHECK(clip_read(clip_path(names[i]), back, N, &got) == 3 && got.width == 35 && got.height == 21, "%s: %s", names[i],
              clip_ctx.error.text);
    }
    free(small);
}

int main(void)
{
    clip_begin();
    frames = malloc((size_t)N * FRAME);
    back = malloc((size_t)N * FRAME);
    REQUIRE(frames && back, "memory");
    for (int i = 0; i < N; i++)
        clip_frame(frames + (size_t)i * FRAME, W, H, i);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        round_trip(kinds[i].name, kinds[i].psnr);
    mp4_layout();
    static const char *const exts[] = { "mp4", "mkv", "mov", "webm", "gif", "y4m" };
    for (size_t i = 0; i < sizeof exts / sizeof *exts; i++)
        same_bytes(exts[i]);
    planes_alike("y4m", W, H);
    planes_alike("y4m", W - 1, H - 1);
    planes_alike("mp4", W, H);
    planes_alike("webm", W - 1, H - 1);
    planes_refused("planes.gif");
    planes_refused("p%02d.png");
    /* One level of Y is 1.16 of RGB, one of Cb up to 2.1: rounding both leaves 2 to 3. */
    colors("c.y4m", 3);
    colors("c.mp4", 4);
    colors("c.mkv", 4);
    colors("c%02d.png", 0);
    colors("c.gif", 1);
    refusals();
    atomic_target();
    digests();
    other_encoders();
    free(frames);
    free(back);
    clip_end();
    return TEST_END();
}
