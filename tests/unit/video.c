/* The writer and what goes wrong under it: errors of the encoder's thread, cancelling at any time, refused memory, full disks. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/unit/video_clip.h"

enum { W = 64, H = 48, N = 6, FRAME = 3 * W * H };

static uint8_t *frames;

/* ---- a muxer that fails when told to ---- */

static int fail_at, seen, finished, closed;

static int probe_open(void *priv, prxi_ctx *c, const char *path, const prxi_video_spec *s)
{
    (void)priv, (void)s;
    seen = finished = closed = 0;
    return fail_at == -1 ? prxi_fail(c, PRX_ENOTSUP, "%s: refused", path) : PRX_OK;
}

static int probe_write(void *priv, prxi_ctx *c, const uint8_t *rgb)
{
    (void)priv;
    const struct timespec ms = { 0, 1000000 };
    nanosleep(&ms, NULL);
    CHECK(rgb[0] == (uint8_t)seen && rgb[FRAME - 1] == (uint8_t)(seen + 1), "frame %d in order", seen);
    return ++seen == fail_at ? prxi_fail(c, PRX_EIO, "frame %d: broken", seen) : PRX_OK;
}

static int probe_finish(void *priv, prxi_ctx *c)
{
    (void)priv;
    finished = 1;
    return fail_at == 1000 ? prxi_fail(c, PRX_EIO, "end: broken") : PRX_OK;
}

static void probe_close(void *priv, prxi_ctx *c)
{
    (void)priv, (void)c;
    closed++;
}

static const prxi_muxer probe = { "probe", "", "probe", 8, probe_open, probe_write, NULL, probe_finish, probe_close };

static int probe_run(int at, int n, int finish)
{
    static uint8_t rgb[FRAME];
    const prxi_video_spec s = clip_spec(W, H, 0);
    prxi_writer *w;
    fail_at = at;
    prxi_clear(&clip_ctx);
    int err = prxi_writer_open(&clip_ctx, &w, &probe, "probe", &s);
    for (int i = 0; i < n && err >= 0; i++) {
        rgb[0] = (uint8_t)i;
        rgb[FRAME - 1] = (uint8_t)(i + 1);
        err = prxi_writer_frame(&clip_ctx, w, rgb);
    }
    if (err >= 0 && finish) {
        err = prxi_writer_finish(&clip_ctx, w);
        CHECK(prxi_writer_frame(&clip_ctx, w, rgb) < 0, "no frame after the end");
    }
    prxi_writer_close(&clip_ctx, &w);
    CHECK(!w && closed == 1, "closed %d times", closed);
    return err;
}

static void thread_errors(void)
{
    CHECK(probe_run(0, 40, 1) == PRX_OK && seen == 40 && finished, "all is written");
    CHECK(probe_run(-1, 1, 1) == PRX_ENOTSUP && seen == 0, "open fails");
    for (int at = 1; at <= 12; at += 3) {
        CHECK(probe_run(at, 12, 1) == PRX_EIO && seen == at && !finished, "frame %d fails", at);
        CHECK(strstr(clip_ctx.error.text, "broken"), "%s", clip_ctx.error.text);
    }
    CHECK(probe_run(1000, 3, 1) == PRX_EIO && finished, "the end fails");
    for (int n = 0; n < 8; n++) {
        CHECK(probe_run(0, n, 0) == PRX_OK && !finished && seen <= n, "cancelled after %d", n);
    }
}

/* ---- refused memory ---- */

typedef struct budget {
    long left;
} budget;

static void *spend(void *cookie, size_t n)
{
    budget *b = cookie;
    return b->left-- > 0 ? malloc(n) : NULL;
}

static void unspend(void *cookie, void *p)
{
    (void)cookie;
    free(p);
}

/* Writes and reads back with the k-th allocation refused; 1 when all went well. */
static int starve(const char *out, const char *in, long k)
{
    budget b = { k };
    const prx_allocator a = { spend, unspend, &b };
    const prxi_mem saved = clip_mem;
    prxi_video_spec s = clip_spec(W, H, N), got;
    prxi_mem_init(&clip_mem, &a);
    int err = clip_write(out, frames, &s);
    if (err == PRX_OK)
        err = clip_read(in, NULL, 0, &got);
    CHECK(err >= 0 || err == PRX_ENOMEM, "%s, allocation %ld: %d %s", out, k, err, clip_ctx.error.text);
    CHECK(atomic_load(&clip_mem.total) == 0, "%s, allocation %ld leaks", out, k);
    clip_mem = saved;
    return err >= 0;
}

static void refused_memory(void)
{
    static const char *const names[][2] = { { "m.mp4", "m.mp4" }, { "m.gif", "m.gif" }, { "m.y4m", "m.y4m" },
                                            { "m%d.png", "m%d.png" }, { "m.webm", "m.webm" }, { "m.digest", "m.y4m" } };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        long k = 0;
        /* PNG makes thousands of small allocations a frame: take steps once past the first ones. */
        while (k < 1000000 && !starve(clip_path(names[i][0]), clip_path(names[i][1]), k))
            k += k < 60 ? 1 : k / 7;
        CHECK(k > 3 && k < 1000000, "%s: %ld", names[i][0], k);
        DIR *d = opendir(clip_dir);
        for (struct dirent *e; d && (e = readdir(d));)
            CHECK(!strstr(e->d_name, ".tmp"), "%s is left over", e->d_name);
        if (d)
            closedir(d);
    }
}

/* ---- full disks ---- */

static void noise(uint8_t *rgb, size_t n)
{
    uint32_t s = 5;
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        rgb[i] = (uint8_t)(s >> 24);
    }
}

static void full(const char *dir, const char *how)
{
    static const char *const names[] = { "x.mp4", "x.mkv", "x.webm", "x.gif", "x.y4m", "x%d.png" };
    enum { BW = 256, BH = 192, BN = 6 };
    uint8_t *big = malloc((size_t)BN * 3 * BW * BH);
    REQUIRE(big, "memory");
    noise(big, (size_t)BN * 3 * BW * BH);
    prxi_video_spec s = clip_spec(BW, BH, BN);
    s.crf = 4;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512], old[512];
        size_t n;
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        snprintf(old, sizeof old, "%s/%s", dir, strchr(names[i], '%') ? "x1.png" : names[i]);
        clip_put(old, "old", 3);
        const int err = clip_write(path, big, &s);
        CHECK(err == PRX_ENOSPC, "%s, %s: %d %s", how, names[i], err, clip_ctx.error.text);
        CHECK(clip_entries(dir) == 1, "%s, %s: %d files", how, names[i], clip_entries(dir));
        char *p = clip_slurp(old, &n);
        CHECK(n == 3 && memcmp(p, "old", 3) == 0, "%s: the old file is untouched", names[i]);
        free(p);
        unlink(old);
    }
    free(big);
}

static void full_disk(void)
{
    char dir[256];
    snprintf(dir, sizeof dir, "%s", clip_path("small"));
    REQUIRE(mkdir(dir, 0755) == 0, "folder");
    /* The limit on file sizes is a full disk for one process; its signal must not end the program. */
    struct rlimit was, low;
    getrlimit(RLIMIT_FSIZE, &was);
    low = was;
    low.rlim_cur = 100000;
    setrlimit(RLIMIT_FSIZE, &low);
    full(dir, "file size limit");
    setrlimit(RLIMIT_FSIZE, &was);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=128k") == 0) {
        full(dir, "tmpfs");
        umount(dir);
    } else {
        printf("skipped: no tmpfs can be mounted here\n");
    }
}

/* A file system without room is known before work starts where the size is. */
static void room_first(void)
{
    prxi_writer *w;
    prxi_video_spec s = clip_spec(4096, 4096, 1);
    s.frames = (int64_t)1 << 36;
    prxi_clear(&clip_ctx);
    CHECK(prxi_writer_open(&clip_ctx, &w, NULL, clip_path("room.gif"), &s) == PRX_ENOSPC, "%s", clip_ctx.error.text);
    prxi_clear(&clip_ctx);
    s.frames = INT64_MAX;
    CHECK(prxi_writer_open(&clip_ctx, &w, NULL, clip_path("room.y4m"), &s) == PRX_ENOSPC, "%s", clip_ctx.error.text);
}

int main(void)
{
    clip_begin();
    frames = malloc((size_t)N * FRAME);
    REQUIRE(frames, "memory");
    for (int i = 0; i < N; i++)
        clip_frame(frames + (size_t)i * FRAME, W, H, i);
    thread_errors();
    refused_memory();
    full_disk();
    room_first();
    free(frames);
    clip_end();
    return TEST_END();
}
