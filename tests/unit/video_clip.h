/* For the tests of video_io: a temporary folder, clips, small wrappers that end the test when they cannot go on. */
#ifndef PRXI_VIDEO_CLIP_H
#define PRXI_VIDEO_CLIP_H

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/test.h"
#include "video_io/video.h"

static prxi_mem clip_mem;
static prxi_ctx clip_ctx;
static char clip_dir[64];

static inline void clip_remove(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char name[512];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (snprintf(name, sizeof name, "%s/%s", dir, e->d_name) < (int)sizeof name && unlink(name) != 0)
            clip_remove(name);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

static inline void clip_begin(void)
{
    prxi_mem_init(&clip_mem, NULL);
    clip_ctx.mem = &clip_mem;
    snprintf(clip_dir, sizeof clip_dir, "/tmp/praxino-test-XXXXXX");
    REQUIRE(mkdtemp(clip_dir), "no temporary folder");
}

static inline void clip_end(void)
{
    CHECK(atomic_load(&clip_mem.total) == 0, "%zu bytes are still allocated", atomic_load(&clip_mem.total));
    clip_remove(clip_dir);
}

/* DIR/name; four at a time may be in use. */
static inline const char *clip_path(const char *name)
{
    static char ring[4][256];
    static int at;
    at = (at + 1) % 4;
    snprintf(ring[at], sizeof ring[at], "%s/%s", clip_dir, name);
    return ring[at];
}

/* Entries of the folder, temporary ones included. */
static inline int clip_entries(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d)
        closedir(d);
    return n;
}

/* A smooth picture in which a bright square moves: codecs and chroma subsampling do well on it. */
static inline void clip_frame(uint8_t *rgb, int width, int height, int t)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, rgb += 3) {
            const int in = x >= 4 + t && x < 20 + t && y >= 8 && y < 24;
            rgb[0] = (uint8_t)(in ? 220 : 40 + 120 * x / width);
            rgb[1] = (uint8_t)(in ? 60 : 60 + 100 * y / height);
            rgb[2] = (uint8_t)(in ? 50 : 160 - 60 * x / width);
        }
}

static inline void clip_fill(uint8_t *rgb, size_t pixels, int r, int g, int b)
{
    for (size_t i = 0; i < pixels; i++, rgb += 3) {
        rgb[0] = (uint8_t)r;
        rgb[1] = (uint8_t)g;
        rgb[2] = (uint8_t)b;
    }
}

static inline prxi_video_spec clip_spec(int width, int height, int frames)
{
    return (prxi_video_spec){ .width = width, .height = height, .fps_num = 16, .fps_den = 1, .frames = frames, .crf = -1 };
}

/* Writes frames [n, height, width, 3]; returns the first error. */
static inline int clip_write(const char *path, const uint8_t *frames, const prxi_video_spec *s)
{
    prxi_writer *w;
    prxi_clear(&clip_ctx);
    int err = prxi_writer_open(&clip_ctx, &w, NULL, path, s);
    for (int i = 0; i < s->frames && err >= 0; i++)
        err = prxi_writer_frame(&clip_ctx, w, frames + (size_t)i * 3 * (size_t)s->width * (size_t)s->height);
    if (err >= 0)
        err = prxi_writer_finish(&clip_ctx, w);
    prxi_writer_close(&clip_ctx, &w);
    return err;
}

/* Reads everything: number of frames or an error; at most max frames are stored. */
static inline int clip_read(const char *path, uint8_t *frames, int max, prxi_video_spec *s)
{
    prxi_reader *r;
    memset(s, 0, sizeof *s);
    prxi_clear(&clip_ctx);
    int err = prxi_reader_open(&clip_ctx, &r, path);
    if (err < 0)
        return err;
    *s = *prxi_reader_spec(r);
    const size_t bytes = 3 * (size_t)s->width * (size_t)s->height;
    uint8_t *one = malloc(bytes);
    int n = 0;
    while ((err = prxi_reader_next(&clip_ctx, r, one)) == 1) {
        if (n < max)
            memcpy(frames + (size_t)n * bytes, one, bytes);
        n++;
    }
    free(one);
    prxi_reader_close(&clip_ctx, &r);
    return err < 0 ? err : n;
}

static inline char *clip_slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    REQUIRE(f, "%s", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = calloc(*n + 1, 1);
    REQUIRE(p && fread(p, 1, *n, f) == *n, "%s", path);
    fclose(f);
    return p;
}

static inline void clip_put(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(data, 1, n, f) == n && fclose(f) == 0, "%s", path);
}

static inline double clip_mse(const uint8_t *a, const uint8_t *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum / (double)n;
}

#endif
