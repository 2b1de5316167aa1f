/* A muxer on its own thread behind a ring of frames, so that encoding overlaps the work that makes the frames. All writing is
 * done by that thread, with every signal blocked: interrupts go to the caller's threads, and a closed pipe is an error, not SIGPIPE. */
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "video_int.h"

enum { RING = 3, MAX_SIDE = 32768 };

struct prxi_writer {
    prxi_ctx ctx;            /* of the thread; read by the caller under the lock or after the join */
    const prxi_muxer *mux;
    void *priv;
    uint8_t *ring;
    size_t bytes, rgb_bytes; /* of a slot; of one frame in RGB */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    int first, filled;       /* ring slots: first is the oldest */
    size_t yuv_bytes;        /* of a frame as planes */
    int yuv[RING];           /* slot holds planes */
    int started, ending, stop, done;
    int err;
};

static int check_spec(prxi_ctx *c, const char *path, const prxi_video_spec *s)
{
    if (s->width < 1 || s->height < 1 || s->width > MAX_SIDE || s->height > MAX_SIDE)
        return prxi_fail(c, PRX_EINVAL, "%s: size %dx%d is outside 1..%d", path, s->width, s->height, MAX_SIDE);
    if (s->fps_num < 1 || s->fps_den < 1 || s->fps_num / s->fps_den > 1000 || s->fps_den / s->fps_num > 1000)
        return prxi_fail(c, PRX_EINVAL, "%s: frame rate %d/%d is outside 0.001..1000", path, s->fps_num, s->fps_den);
    if (s->frames < 0)
        return prxi_fail(c, PRX_EINVAL, "%s: %lld frames", path, (long long)s->frames);
    if (s->crf < -1 || s->crf > 51)
        return prxi_fail(c, PRX_EINVAL, "%s: crf %d is outside 0..51 (-1: default)", path, s->crf);
    return PRX_OK;
}

/* The next frame to write, or NULL at the end or when stopped. */
static const uint8_t *take(prxi_writer *w, int *yuv)
{
    pthread_mutex_lock(&w->lock);
    while (w->filled == 0 && !w->ending && !w->stop)
        pthread_cond_wait(&w->changed, &w->lock);
    const uint8_t *frame = w->filled > 0 && !w->stop ? w->ring + (size_t)w->first * w->bytes : NULL;
    *yuv = w->yuv[w->first];
    pthread_mutex_unlock(&w->lock);
    return frame;
}

static void give_back(prxi_writer *w, int err)
{
    pthread_mutex_lock(&w->lock);
    w->first = (w->first + 1) % RING;
    w->filled--;
    w->err = err;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void *run(void *cookie)
{
    prxi_writer *w = cookie;
    const uint8_t *frame;
    int err = PRX_OK, yuv;
    while (err == PRX_OK && (frame = take(w, &yuv))) {
        err = (yuv ? w->mux->write_yuv : w->mux->write)(w->priv, &w->ctx, frame);
        give_back(w, err);
    }
    if (err == PRX_OK && !w->stop)
        err = w->mux->finish(w->priv, &w->ctx);
    pthread_mutex_lock(&w->lock);
    w->err = err;
    w->done = 1;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int start(prxi_ctx *c, prxi_writer *w)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int err = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    w->started = err == 0;
    return err ? prxi_fail(c, PRX_EIO, "encoder thread: %s", strerror(err)) : PRX_OK;
}

static int open_muxer(prxi_ctx *c, prxi_writer *w, const char *path, const prxi_video_spec *spec)
{
    w->rgb_bytes = w->bytes = prxi_mul(3, prxi_mul((size_t)spec->width, (size_t)spec->height));
    w->yuv_bytes = prxi_yuv420_bytes(spec->width, spec->height);
    w->bytes = w->bytes < w->yuv_bytes ? w->yuv_bytes : w->bytes;       /* one row of one pixel */
    w->ring = prxi_alloc(c->mem, PRXI_MEM_FRAMES, prxi_mul(RING, w->bytes));
    if (!w->ring)
        return prxi_fail_nomem(c, "frame queue", prxi_mul(RING, w->bytes));
    w->priv = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, w->mux->priv_size);
    if (!w->priv)
        return prxi_fail_nomem(c, w->mux->name, w->mux->priv_size);
    /* Codecs start threads of their own here, which inherit the signal mask. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int err = w->mux->open(w->priv, c, path, spec);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return err < 0 ? err : start(c, w);
}

int prxi_writer_open(prxi_ctx *c, prxi_writer **out, const prxi_muxer *m, const char *path,
                     const prxi_video_spec *spec)
{
    *out = NULL;
    if (!path || !*path)
        return prxi_fail(c, PRX_EINVAL, "output: the file name is empty");
    if (!m && !(m = prxi_muxer_for(c, path)))
        return c->error.code;
    int err = check_spec(c, path, spec);
    if (err < 0)
        return err;
    prxi_writer *w = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *w);
    if (!w)
        return prxi_fail_nomem(c, "video writer", sizeof *w);
    w->ctx.mem = c->mem;
    w->ctx.log = c->log;
    w->mux = m;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    if ((err = open_muxer(c, w, path, spec)) < 0)
        prxi_writer_close(c, &w);
    *out = w;
    return err;
}

static int put(prxi_ctx *c, prxi_writer *w, const uint8_t *frame, size_t bytes, int yuv)
{
    pthread_mutex_lock(&w->lock);
    while (w->filled == RING && !w->done)
        pthread_cond_wait(&w->changed, &w->lock);
    const int err = w->err, over = w->ending;
    const int slot = (w->first + w->filled) % RING;
    pthread_mutex_unlock(&w->lock);
    if (err < 0)
        return prxi_pass_error(c, &w->ctx);
    if (over)
        return prxi_fail(c, PRX_ESTATE, "video writer: a frame after the end");
    memcpy(w->ring + (size_t)slot * w->bytes, frame, bytes);
    pthread_mutex_lock(&w->lock);
    w->yuv[slot] = yuv;
    w->filled++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return PRX_OK;
}

int prxi_writer_frame(prxi_ctx *c, prxi_writer *w, const uint8_t *rgb)
{
    return put(c, w, rgb, w->rgb_bytes, 0);
}

int prxi_writer_takes_yuv(const prxi_writer *w)
{
    return w->mux->write_yuv != NULL;
}

int prxi_writer_frame_yuv(prxi_ctx *c, prxi_writer *w, const uint8_t *planes)
{
    return w->mux->write_yuv ? put(c, w, planes, w->yuv_bytes, 1) : prxi_fail(c, PRX_EINVAL, "video writer: it takes RGB only");
}

static void join(prxi_writer *w, int stop)
{
    pthread_mutex_lock(&w->lock);
    w->ending = 1;
    w->stop |= stop;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (w->started)
        pthread_join(w->thread, NULL);
    w->started = 0;
}

int prxi_writer_finish(prxi_ctx *c, prxi_writer *w)
{
    join(w, 0);
    return w->err < 0 ? prxi_pass_error(c, &w->ctx) : PRX_OK;
}

void prxi_writer_close(prxi_ctx *c, prxi_writer **pw)
{
    prxi_writer *w = *pw;
    if (!w)
        return;
    join(w, 1);
    if (w->priv)
        w->mux->close(w->priv, &w->ctx);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    prxi_free(c->mem, w->priv);
    prxi_free(c->mem, w->ring);
    prxi_free(c->mem, w);
    *pw = NULL;
}
