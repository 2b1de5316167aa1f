/* PSNR, SSIM, MS-SSIM against scikit-image and scipy, ours against ffmpeg's filters, and the comparison of two clips. */
#include <time.h>

#include "engine/core/cpu.h"
#include "tests/unit/quality_vectors.h"
#include "tests/unit/video_clip.h"
#include "video_io/compare.h"
#include "video_io/quality.h"
#include "video_io/ssim.h"

static uint32_t lcg(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return *s >> 16;
}

static uint8_t clip8(int v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void picture(uint8_t *p, int w, int h)
{
    uint32_t s = 1;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++)
                *p++ = clip8(40 + x * (3 + c) % 151 + y * (5 - c) % 47 + (int)(lcg(&s) % 17));
}

static void pair(const char *kind, int w, int h, uint8_t *a, uint8_t *b)
{
    const int n = 3 * w * h;
    uint32_t s = 2;
    picture(a, w, h);
    for (int i = 0; i < n; i++) {
        const int x = i / 3 % w;
        if (strcmp(kind, "noise") == 0)
            b[i] = clip8(a[i] + (int)(lcg(&s) % 41) - 20);
        else if (strcmp(kind, "blur") == 0)
            b[i] = (uint8_t)((a[x ? i - 3 : i] + 2 * a[i] + a[x + 1 < w ? i + 3 : i]) / 4);
        else
            b[i] = clip8(a[i] + (strcmp(kind, "brighter") == 0 ? 12 : 0));
    }
    if (strcmp(kind, "flat") == 0) {
        memset(a, 100, (size_t)n);
        memset(b, 110, (size_t)n);
    } else if (strcmp(kind, "one_bit") == 0) {
        b[3 * ((h / 2) * w + w / 2) + 1] ^= 1;
    }
}

/* f64 sums of at most 1e5 terms near 1, taken in another order: 1e-11 is generous, and far below what anyone reads. */
static int near(double a, double b)
{
    return (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-11 * (1 + fabs(b));
}

static void against_vectors(void)
{
    uint8_t *a = malloc(3 * 200 * 181), *b = malloc(3 * 200 * 181);
    REQUIRE(a && b, "memory");
    for (size_t i = 0; i < sizeof quality_vectors / sizeof *quality_vectors; i++) {
        const int w = quality_vectors[i].width, h = quality_vectors[i].height;
        const char *kind = quality_vectors[i].kind;
        const size_t n = 3 * (size_t)w * (size_t)h;
        int ok;
        pair(kind, w, h, a, b);
        const double psnr = prxi_psnr((double)prxi_sse_u8(a, b, n) / (double)n);
        CHECK(near(psnr, quality_vectors[i].psnr), "%s %dx%d psnr %.15g", kind, w, h, psnr);
        const double luma = prxi_ssim_luma(&clip_mem, a, b, w, h, &ok);
        CHECK(ok && near(luma, quality_vectors[i].luma), "%s %dx%d luma %.15g", kind, w, h, luma);
        const double rgb = prxi_ssim_rgb(&clip_mem, a, b, w, h, &ok);
        CHECK(ok && near(rgb, quality_vectors[i].rgb), "%s %dx%d rgb %.15g", kind, w, h, rgb);
        const double ms = prxi_ms_ssim_luma(&clip_mem, a, b, w, h, &ok);
        CHECK(ok && near(ms, quality_vectors[i].ms), "%s %dx%d ms %.15g", kind, w, h, ms);
    }
    int ok;
    CHECK(prxi_ssim_luma(&clip_mem, a, a, 64, 48, &ok) == 1 && ok, "SSIM with itself is 1");
    CHECK(isnan(prxi_ssim_luma(&clip_mem, a, b, 10, 100, &ok)) && ok, "too narrow");
    CHECK(isnan(prxi_ssim_rgb(&clip_mem, a, b, 100, 10, &ok)) && ok, "too low");
    CHECK(prxi_psnr(0) == INFINITY && prxi_psnr(255 * 255) == 0, "ends of PSNR");
    memset(a, 0, 3 * 200 * 181);
    memset(b, 255, 3 * 200 * 181);
    CHECK(prxi_sse_u8(a, b, 3 * 200 * 181) == 65025ull * 3 * 200 * 181, "no overflow");
    CHECK(prxi_sse_motion(a, b, b, a, 1000) == 510ull * 510 * 1000, "motion");
    free(a);
    free(b);
}

static void same_on_every_isa(void)
{
    enum { W = 61, H = 23 };
    static double map[4][W * H], rows[6 * W], taps[6] = { .27, .21, .11, .036, .0076, .001 };
    uint32_t s = 9;
    double ref[2], got[2];
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < W * H; i++)
            map[k][i] = 1 + lcg(&s) % 255;
    const prxi_ssim_job j = { { map[0], map[1], map[2], map[3] }, W, H, taps, rows };
    prxi_ssim_ref(&j, ref);
    if (prxi_cpu_detect() & PRXI_ISA_AVX2) {
        prxi_ssim_avx2(&j, got);
        CHECK(memcmp(ref, got, sizeof ref) == 0, "%.17g %.17g", ref[0], got[0]);
    } else {
        printf("skipped: no AVX2 here\n");
    }
}

static void to_bytes(void)
{
    /* Truncation of the f32 product, as numpy's (frame * 255).astype(uint8) does it. */
    static const float in[] = { 0, 1, 0.5f, 0.00392156f, 0.00392157f, 0.99999994f, 254.5f / 255, -0.1f, 1.7f, NAN, INFINITY, -INFINITY };
    static const uint8_t want[] = { 0, 255, 127, 0, 1, 254, 254, 0, 255, 0, 255, 0 };
    uint8_t out[12];
    prxi_rgb_to_u8(in, 12, out);
    for (int i = 0; i < 12; i++)
        CHECK(out[i] == want[i], "%g -> %d", (double)in[i], out[i]);
    /* k / 255 in f32 times 255 falls below k for some k: the product, not the quotient, decides. */
    for (int k = 0; k < 256; k++) {
        const float v = (float)k / 255;
        prxi_rgb_to_u8(&v, 1, out);
        CHECK(out[0] == (uint8_t)(v * 255.0f), "%d", k);
    }
}

static double number(const cJSON *root, const char *group, const char *name)
{
    const cJSON *o = cJSON_GetObjectItem(cJSON_GetObjectItem(root, group), name);
    return cJSON_IsNumber(o) ? o->valuedouble : NAN;
}

static int compare_frames(const uint8_t *a, int na, const uint8_t *b, int nb, int w, int h, cJSON **out)
{
    prxi_reader *ra, *rb;
    prxi_clear(&clip_ctx);
    REQUIRE(prxi_reader_open_frames(&clip_ctx, &ra, a, na, h, w) == PRX_OK, "open");
    REQUIRE(prxi_reader_open_frames(&clip_ctx, &rb, b, nb, h, w) == PRX_OK, "open");
    const int err = prxi_compare(&clip_ctx, ra, rb, NULL, out);
    prxi_reader_close(&clip_ctx, &ra);
    prxi_reader_close(&clip_ctx, &rb);
    return err;
}

static void comparison(void)
{
    enum { W = 32, H = 20, N = 4, FRAME = 3 * W * H };
    static uint8_t a[N * FRAME], b[N * FRAME];
    cJSON *o;
    for (int i = 0; i < N; i++)
        clip_frame(a + i * FRAME, W, H, i);
    memcpy(b, a, sizeof a);
    REQUIRE(compare_frames(a, N, b, N, W, H, &o) == PRX_OK, "%s", clip_ctx.error.text);
    char *text = cJSON_PrintUnformatted(o);
    CHECK(cJSON_IsTrue(cJSON_GetObjectItem(o, "identical")), "identical");
    CHECK(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetObjectItem(o, "psnr"), "clip")), "no infinity");
    CHECK(!strstr(text, "inf") && !strstr(text, "nan") && number(o, "ssim", "luma") == 1, "%s", text);
    cJSON_free(text);
    cJSON_Delete(o);
    /* One sample of the second frame off by 16: mse 256 / FRAME there, over the clip a quarter of it. */
    b[FRAME + 7] ^= 16;
    REQUIRE(compare_frames(a, N, b, N, W, H, &o) == PRX_OK, "%s", clip_ctx.error.text);
    CHECK(cJSON_IsFalse(cJSON_GetObjectItem(o, "identical")), "not identical");
    CHECK(near(number(o, "psnr", "mean_of_frames"), prxi_psnr(256.0 / FRAME)), "mean of the frames that differ");
    CHECK(near(number(o, "psnr", "clip"), prxi_psnr(256.0 / (N * FRAME))), "clip");
    CHECK(number(o, "psnr", "identical_frames") == 3, "three are identical");
    /* Two of the three differences of frames see it. */
    CHECK(near(number(o, "temporal", "psnr"), prxi_psnr(512.0 / (3 * FRAME))), "temporal");
    const cJSON *list = cJSON_GetObjectItem(cJSON_GetObjectItem(o, "psnr"), "per_frame");
    CHECK(cJSON_GetArraySize(list) == N && cJSON_IsNull(cJSON_GetArrayItem(list, 0)) &&
              cJSON_IsNumber(cJSON_GetArrayItem(list, 1)), "per frame");
    CHECK(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetObjectItem(o, "ms_ssim"), "luma")), "too small for MS-SSIM");
    cJSON_Delete(o);
    REQUIRE(compare_frames(a, 1, b + FRAME, 1, W, H, &o) == PRX_OK, "%s", clip_ctx.error.text);
    CHECK(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetObjectItem(o, "temporal"), "psnr")), "one frame has no motion");
    cJSON_Delete(o);
    CHECK(compare_frames(a, N, b, N - 1, W, H, &o) == PRX_EINVAL && !o && strstr(clip_ctx.error.text, "4 frames") &&
              strstr(clip_ctx.error.text, "second 3"), "%s", clip_ctx.error.text);
    prxi_reader *ra, *rb;
    prxi_clear(&clip_ctx);
    prxi_reader_open_frames(&clip_ctx, &ra, a, 1, H, W);
    prxi_reader_open_frames(&clip_ctx, &rb, a, 1, W, H);
    CHECK(prxi_compare(&clip_ctx, ra, rb, NULL, &o) == PRX_EINVAL && strstr(clip_ctx.error.text, "32x20") &&
              strstr(clip_ctx.error.text, "20x32"), "%s", clip_ctx.error.text);
    prxi_reader_close(&clip_ctx, &ra);
    prxi_reader_close(&clip_ctx, &rb);
    prxi_clear(&clip_ctx);
    CHECK(prxi_reader_open_frames(&clip_ctx, &ra, a, 0, H, W) == PRX_EFORMAT && !ra, "no frames");
}

/* Runs a command and returns the number after `key` in its output, NaN if there is none. */
static double ask(const char *command, const char *key)
{
    char line[512];
    double v = NAN;
    FILE *p = popen(command, "r");
    while (p && fgets(line, sizeof line, p)) {
        const char *at = strstr(line, key);
        if (at)
            v = atof(at + strlen(key));
    }
    if (p)
        pclose(p);
    return v;
}

/* ffmpeg compares PNG sequences as RGB: the same numbers as ours, to the two digits that it prints. */
static void against_ffmpeg(void)
{
    enum { W = 64, H = 48, N = 3, FRAME = 3 * W * H };
    static uint8_t a[N * FRAME], b[N * FRAME];
    if (system("ffmpeg -version >/dev/null 2>&1") != 0) {
        printf("skipped: ffmpeg is not installed\n");
        return;
    }
    for (int i = 0; i < N; i++)
        pair(i == 1 ? "blur" : "noise", W, H, a + i * FRAME, b + i * FRAME);
    const prxi_video_spec s = clip_spec(W, H, N);
    REQUIRE(clip_write(clip_path("fa%d.png"), a, &s) == PRX_OK && clip_write(clip_path("fb%d.png"), b, &s) == PRX_OK, "%s",
            clip_ctx.error.text);
    char command[1024];
    snprintf(command, sizeof command, "ffmpeg -v info -i %s -i %s -lavfi psnr -f null - 2>&1", clip_path("fa%d.png"),
             clip_path("fb%d.png"));
    cJSON *o;
    REQUIRE(compare_frames(a, N, b, N, W, H, &o) == PRX_OK, "%s", clip_ctx.error.text);
    const double theirs = ask(command, "average:"), ours = number(o, "psnr", "clip");
    CHECK(fabs(theirs - ours) < 1e-5, "psnr: ffmpeg %.6f, here %.6f", theirs, ours);
    cJSON_Delete(o);
}

static void speed(void)
{
    enum { W = 832, H = 480 };
    uint8_t *a = malloc(3 * W * H), *b = malloc(3 * W * H);
    struct timespec t0, t1;
    int ok;
    pair("noise", W, H, a, b);
    clock_gettime(CLOCK_MONOTONIC, &t0);
    const double luma = prxi_ssim_luma(&clip_mem, a, b, W, H, &ok);
    clock_gettime(CLOCK_MONOTONIC, &t1);
    printf("832x480 luma SSIM %.4f in %.1f ms\n", luma, 1e3 * (double)(t1.tv_sec - t0.tv_sec) + 1e-6 * (double)(t1.tv_nsec - t0.tv_nsec));
    CHECK(ok && luma > 0 && luma < 1, "%g", luma);
    free(a);
    free(b);
}

int main(void)
{
    clip_begin();
    against_vectors();
    same_on_every_isa();
    to_bytes();
    comparison();
    against_ffmpeg();
    speed();
    clip_end();
    return TEST_END();
}
