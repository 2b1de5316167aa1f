/* PNG sequence, name%04d.png from 1 as ffmpeg numbers it, or one picture under a plain name. Frames wait in a temporary folder
 * beside the target and get their names when all are there. stb_image_write does the format. */
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vout.h"
#include "video_int.h"

/* stb_image_write does not survive a refused allocation: leave it by longjmp and free what it held. */
typedef struct stb_block {
    struct stb_block *prev, *next;
    size_t bytes;
} stb_block;

typedef struct stb_state {
    prxi_mem *mem;
    stb_block head;
    size_t refused;
    jmp_buf out;
} stb_state;

static _Thread_local stb_state *stb;

static void *stb_alloc(size_t bytes)
{
    stb_block *b = prxi_alloc(stb->mem, PRXI_MEM_FRAMES, prxi_add(bytes, 64));
    if (!b) {
        stb->refused = bytes;
        longjmp(stb->out, 1);
    }
    b->bytes = bytes;
    b->next = stb->head.next;
    b->prev = &stb->head;
    if (b->next)
        b->next->prev = b;
    stb->head.next = b;
    return (char *)b + 64;
}

static void stb_free(void *p)
{
    if (!p)
        return;
    stb_block *b = (stb_block *)((char *)p - 64);
    b->prev->next = b->next;
    if (b->next)
        b->next->prev = b->prev;
    prxi_free(stb->mem, b);
}

static void *stb_realloc(void *p, size_t bytes)
{
    void *q = stb_alloc(bytes);
    if (p) {
        const size_t had = ((stb_block *)((char *)p - 64))->bytes;
        memcpy(q, p, had < bytes ? had : bytes);
        stb_free(p);
    }
    return q;
}

#define STBIW_MALLOC(n) stb_alloc(n)
#define STBIW_REALLOC(p, n) stb_realloc(p, n)
#define STBIW_FREE(p) stb_free(p)
#define STBIW_ASSERT(x) ((void)0)
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

/* prefix, zero padded number of at least `digits`, suffix. */
typedef struct pattern {
    char *prefix, *suffix;
    int numbered, digits;
} pattern;

typedef struct png {
    char *path, *folder;
    pattern name;
    int width, height;
    int64_t frames, named;
    char *file;              /* room for one file name */
    size_t file_room;
} png;

typedef struct png_out {
    prxi_ctx *ctx;
    FILE *file;
    int err;
} png_out;

/* Splits "dir/name%04d.png"; %% is a percent sign, and %d is allowed once, in the file name. */
static int parse_pattern(prxi_ctx *c, pattern *p, const char *path)
{
    const size_t n = strlen(path) + 1;
    const char *base = prxi_base_name(path);
    char *to;
    p->prefix = to = prxi_calloc(c->mem, PRXI_MEM_MISC, n, 1);
    p->suffix = prxi_calloc(c->mem, PRXI_MEM_MISC, n, 1);
    if (!p->prefix || !p->suffix)
        return prxi_fail_nomem(c, path, n);
    for (const char *s = path; *s; s++) {
        if (*s != '%' || s < base) {
            *to++ = *s;
            continue;
        }
        const char *d = s + 1;
        int width = 0;
        while (*d >= '0' && *d <= '9' && d - s < 4)
            width = 10 * width + (*d++ - '0');
        if (*d == '%' && d == s + 1) {
            *to++ = '%';
        } else if (*d == 'd' && !p->numbered && width <= 18) {
            p->numbered = 1;
            p->digits = width;
            to = p->suffix;
        } else {
            return prxi_fail(c, PRX_EINVAL, "%s: one %%d or %%04d is accepted in the file name, %%%% for a percent sign",
                             path);
        }
        s = d;
    }
    return PRX_OK;
}

static const char *frame_name(png *p, int64_t i)
{
    if (p->name.numbered)
        snprintf(p->file, p->file_room, "%s%0*lld%s", p->name.prefix, p->name.digits, (long long)i + 1, p->name.suffix);
    else
        snprintf(p->file, p->file_room, "%s", p->name.prefix);
    return p->file;
}

static const char *temp_name(png *p, char *buf, size_t n, int64_t i)
{
    snprintf(buf, n, "%s/%lld", p->folder, (long long)i);
    return buf;
}

static int check_targets(prxi_ctx *c, png *p, int64_t frames)
{
    for (int64_t i = 0; i < (frames > 0 ? frames : 1); i++) {
        char *target;
        int in_place;
        const int err = prxi_out_resolve(c, frame_name(p, i), &target, &in_place);
        prxi_free(c->mem, target);
        if (err < 0)
            return err;
        if (in_place)
            return prxi_fail(c, PRX_EINVAL, "%s: is a device or a pipe; a picture needs a file", p->file);
    }
    return PRX_OK;
}

static int png_open(void *priv, prxi_ctx *c, const char *path, const prxi_video_spec *spec)
{
    png *p = priv;
    int err;
    p->width = spec->width;
    p->height = spec->height;
    p->path = prxi_strdup(c->mem, path);
    p->file_room = strlen(path) + 64;
    p->file = prxi_alloc(c->mem, PRXI_MEM_MISC, p->file_room);
    if (!p->path || !p->file)
        return prxi_fail_nomem(c, path, p->file_room);
    /* stb_image_write counts in int. */
    if (prxi_mul((size_t)spec->height, prxi_add(prxi_mul(3, (size_t)spec->width), 1)) > INT32_MAX / 4)
        return prxi_fail(c, PRX_EINVAL, "%s: %dx%d is too large for a PNG here", path, spec->width, spec->height);
    if ((err = parse_pattern(c, &p->name, path)) < 0)
        return err;
    if (!p->name.numbered && spec->frames > 1)
        return prxi_fail(c, PRX_EINVAL, "%s: %lld frames need a number in the name, such as %%04d.png", path,
                         (long long)spec->frames);
    if ((err = check_targets(c, p, spec->frames)) < 0)
        return err;
    return prxi_out_temp(c, p->name.prefix, path, &p->folder, NULL);
}

static void put(void *cookie, void *data, int n)
{
    png_out *o = cookie;
    if (!o->err && n > 0 && fwrite(data, 1, (size_t)n, o->file) != (size_t)n)
        o->err = errno ? errno : EIO;
}

/* Reached through a pointer, so that nothing of it lives in the frame that longjmp returns to. */
static void call_stb(const png *p, png_out *o, const uint8_t *rgb)
{
    stbi_write_png_to_func(put, o, p->width, p->height, 3, rgb, 3 * p->width);
}

/* Returns 0, or an errno; ENOMEM: stb was refused *refused bytes. */
static int encode(png *p, png_out *o, const uint8_t *rgb, size_t *refused)
{
    void (*volatile call)(const png *, png_out *, const uint8_t *) = call_stb;
    stb_state state;
    memset(&state, 0, sizeof state);
    state.mem = o->ctx->mem;
    stb = &state;
    if (setjmp(state.out) == 0)
        call(p, o, rgb);
    else
        o->err = ENOMEM;
    while (state.head.next)
        stb_free((char *)state.head.next + 64);
    stb = NULL;
    *refused = state.refused;
    return o->err;
}

static int png_write(void *priv, prxi_ctx *c, const uint8_t *rgb)
{
    png *p = priv;
    if (!p->name.numbered && p->frames > 0)
        return prxi_fail(c, PRX_EINVAL, "%s: more than one frame needs a number in the name, such as %%04d.png", p->path);
    char name[4096];
    png_out o = { c, fopen(temp_name(p, name, sizeof name, p->frames), "wb"), 0 };
    if (!o.file)
        return prxi_out_fail(c, p->path, "writing failed", errno);
    p->frames++;
    size_t refused;
    errno = 0;
    int err = encode(p, &o, rgb, &refused);
    if (fclose(o.file) != 0 && !err)
        err = errno;
    if (refused)
        return prxi_fail_nomem(c, "PNG encoder", refused);
    return err ? prxi_out_fail(c, p->path, "writing failed", err) : PRX_OK;
}

static int png_finish(void *priv, prxi_ctx *c)
{
    png *p = priv;
    char name[4096];
    for (; p->named < p->frames; p->named++)
        if (rename(temp_name(p, name, sizeof name, p->named), frame_name(p, p->named)) != 0)
            return prxi_out_fail(c, p->file, "cannot be given its name", errno);
    if (rmdir(p->folder) != 0)
        return prxi_out_fail(c, p->folder, "cannot be removed", errno);
    prxi_free(c->mem, p->folder);
    p->folder = NULL;
    struct stat st;
    if (p->name.numbered && stat(frame_name(p, p->frames), &st) == 0)
        prxi_logf(c, PRX_LOG_WARN, "%s is left from an older sequence and follows the new one", p->file);
    return PRX_OK;
}

static void png_close(void *priv, prxi_ctx *c)
{
    png *p = priv;
    char name[4096];
    if (p->folder) {
        for (int64_t i = p->named; i < p->frames; i++)
            unlink(temp_name(p, name, sizeof name, i));
        rmdir(p->folder);
    }
    prxi_free(c->mem, p->folder);
    prxi_free(c->mem, p->name.prefix);
    prxi_free(c->mem, p->name.suffix);
    prxi_free(c->mem, p->file);
    prxi_free(c->mem, p->path);
}

const prxi_muxer prxi_muxer_png = {
    .name = "png",
    .help = "PNG sequence, name%04d.png numbered from 1; a plain name for one frame",
    .extensions = "png",
    .priv_size = sizeof(png),
    .open = png_open,
    .write = png_write,
    .finish = png_finish,
    .close = png_close,
};
