/* Who computes a convolution of the decoder: our kernel, or one of cuDNN's configurations; measured once per shape, remembered on disk. */
#include <stdio.h>
#include <string.h>

#include "cuda.h"

enum { TRIED = 8, RUNS = 5 };               /* configurations that are timed; runs of each after a first */

/* ---- shapes ---- */

static int64_t row_of(const prxi_device_plane *p)
{
    return p->pitch / 2;
}

/* Whether picture t follows the one before it in a ring that holds exactly kt of them, none missing. */
static int is_ring(const prxi_device_conv *a)
{
    const prxi_device_plane *p = a->src;
    if (!p->base || p->rows != a->kt * a->height || p->first % a->height)
        return 0;
    for (int t = 1; t < a->kt; t++)
        if (p[t].base != p->base || p[t].rows != p->rows || p[t].pitch != p->pitch || p[t].first != (p->first + t * a->height) % p->rows)
            return 0;
    return 1;
}

static int aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

int prxi_cuda_conv_shape(const prxi_device_conv *a, prxi_cudnn_conv *s)
{
    const int whole = a->begin == 0 && a->end == a->height && a->scale == 1 && a->to.first + a->height <= a->to.rows;
    const int centred = a->kh % 2 && a->kw % 2 && a->dy == -(a->kh / 2) && a->dx == -(a->kw / 2);
    const int one = a->kt == 1 && a->src[0].base && a->src[0].first + a->height <= a->src[0].rows;
    if (!a->turn_bytes || a->out != PRXI_BF16 || a->out_pitch != a->cout || !whole || !centred || !(a->kt == 1 ? one : is_ring(a)))
        return 0;
    if (!aligned(a->src[0].base) || !aligned(a->to.base) || a->src[0].pitch % 16 || a->to.pitch % 16)
        return 0;
    *s = (prxi_cudnn_conv) { (int)a->pitch, (int)a->cout, 1, (int)a->height, (int)a->width, a->kt, a->kh, a->kw, row_of(&a->src[0]),
                             row_of(&a->to) };
    return 1;
}

static prxi_cuda_conv_choice *find(prxi_cuda *u, const prxi_cudnn_conv *s, int add)
{
    for (int i = 0; i < u->n_convs; i++)
        if (u->convs[i].add == add && memcmp(&u->convs[i].shape, s, sizeof *s) == 0)
            return &u->convs[i];
    return NULL;
}

/* ---- the two ways ---- */

static prxi_cu_plane plane_of(const prxi_device_plane *p)
{
    return (prxi_cu_plane) { p->base, p->pitch, p->rows, p->first };
}

static int by_ours(prxi_cuda *u, const prxi_device_conv *a)
{
    const prxi_cu_conv v = { a->in, a->out, a->kt, a->kh, a->kw, a->dy, a->dx, a->scale, a->oy, a->ox, a->add, a->cout, a->pitch,
                             a->shortcut_pitch, a->out_pitch, a->height, a->width, a->begin, a->end, a->weights, a->bias,
                             { plane_of(&a->src[0]), plane_of(&a->src[1]), plane_of(&a->src[2]) }, plane_of(&a->shortcut),
                             plane_of(&a->to) };
    return u->module->conv(u->dev, &v);
}

/* What is added to goes through a buffer: with a sum in its graph cuDNN offers few engines. */
static int by_cudnn(prxi_cuda *u, const prxi_device_conv *a, const prxi_cudnn_conv *s, int config)
{
    const prxi_device_plane *p = &a->src[0];
    const int64_t turn = a->kt > 1 ? p->first / a->height : 0, values = (a->height - 1) * s->y_row + a->width * a->cout;
    const unsigned char *w = (const unsigned char *)a->weights + (size_t)turn * a->turn_bytes;
    unsigned char *y = a->to.base + a->to.first * a->to.pitch, *x = p->base + (a->kt > 1 ? 0 : p->first * p->pitch);
    int err = a->add ? prxi_cuda_room(&u->own, u, (size_t)values * 2) : PRX_OK;
    if (err == PRX_OK)
        err = prxi_cudnn_convolution(&u->own, u->cudnn, s, config, x, w, a->round_bias, a->add ? u->room : y);
    return err == PRX_OK && a->add ? u->module->binary(u->dev, PRXI_BF16, PRXI_CU_ADD, values, y, u->room, y) : err;
}

/* config -1: our kernel. */
static int run(prxi_cuda *u, const prxi_device_conv *a, const prxi_cudnn_conv *s, int config)
{
    return config < 0 ? by_ours(u, a) : by_cudnn(u, a, s, config);
}

int prxi_cuda_conv(prxi_cuda *u, const prxi_device_conv *a)
{
    prxi_cudnn_conv s;
    prxi_clear(&u->own);
    if (!u->cudnn || a->by == PRXI_CONV_OURS || !prxi_cuda_conv_shape(a, &s))
        return by_ours(u, a);
    const prxi_cuda_conv_choice *k = find(u, &s, a->add);
    if (!k)                                 /* nobody prepared it */
        return by_ours(u, a);
    const int ours = a->by == PRXI_CONV_AUTO && (k->config < 0 || !(k->theirs < k->ours));
    return run(u, a, &s, ours ? -1 : k->config);
}

/* ---- measuring ---- */

/* Microseconds of a run, or the error of it. */
static int measure(prxi_cuda *u, const prxi_device_conv *a, const prxi_cudnn_conv *s, int config, double *us)
{
    float ms = 0;
    int err = run(u, a, s, config);
    if (err == PRX_OK)
        err = u->module->mark(u->dev, 0);
    for (int i = 0; i < RUNS && err == PRX_OK; i++)
        err = run(u, a, s, config);
    if (err == PRX_OK)
        err = u->module->mark(u->dev, 1);
    if (err == PRX_OK)
        err = u->module->between(u->dev, &ms);
    *us = (double)ms * 1000 / RUNS;
    return err;
}

/* The fastest of cuDNN's configurations; one that cannot be planned or does not run is passed over. No memory is an error. */
static int best_of_cudnn(prxi_cuda *u, const prxi_device_conv *a, const prxi_cudnn_conv *s, prxi_cuda_conv_choice *k)
{
    prxi_cudnn_plan_info info;
    for (int i = 0, from = 0; i < TRIED; i++, from = info.config + 1) {
        double us;
        int err = prxi_cudnn_plan_conv(&u->own, u->cudnn, s, from, &info);
        if (err < 0) {                      /* no further one */
            prxi_clear(&u->own);
            return err == PRX_ENOMEM ? err : PRX_OK;
        }
        err = measure(u, a, s, from, &us);
        if (err == PRX_ENOMEM)
            return err;
        const int better = err == PRX_OK && (k->config < 0 || us < k->theirs);
        if (better && k->config >= 0)
            prxi_cudnn_drop_conv(u->cudnn, s, k->config);
        if (!better || from != info.config)
            prxi_cudnn_drop_conv(u->cudnn, s, from);
        if (better) {
            k->config = info.config;
            k->engine = info.engine;
            k->theirs = us;
        }
        prxi_clear(&u->own);
    }
    return PRX_OK;
}

/* ---- on disk: "config:engine:their microseconds:ours" ---- */

static void key_of(const prxi_cuda *u, const prxi_cudnn_conv *s, int add, char key[PRXI_CHOICE_KEY])
{
    char device[96];
    prxi_cuda_device_word(u, device, sizeof device);
    snprintf(key, PRXI_CHOICE_KEY, "conv/%s/cudnn-%zu/%s/%dx%dx%d:%d-%d:%dx%d:%lld:%lld:%d", device, prxi_cudnn_version(u->cudnn),
             prxi_cuda_source_hash(u, "conv"), s->kt, s->kh, s->kw, s->in, s->out, s->height, s->width, (long long)s->x_row,
             (long long)s->y_row, add);
}

/* What was remembered, if cuDNN still means the same by it. */
static int recall(prxi_cuda *u, const prxi_cudnn_conv *s, const char *key, prxi_cuda_conv_choice *k)
{
    const char *text = prxi_choices_get(u->choices, key);
    prxi_cudnn_plan_info info;
    long long engine;
    int used = 0;
    if (!text)
        return 0;
    if (sscanf(text, "%d:%lld:%lf:%lf%n", &k->config, &engine, &k->theirs, &k->ours, &used) != 4 || text[used] || k->config < -1 ||
        !(k->theirs >= 0 && k->ours >= 0)) {
        prxi_logf(&u->own, PRX_LOG_WARN, "what is remembered of a convolution, '%s', has no meaning; it is measured again", text);
        return 0;
    }
    k->engine = engine;
    if (k->config < 0)
        return 1;
    const int same = prxi_cudnn_plan_conv(&u->own, u->cudnn, s, k->config, &info) == PRX_OK && info.config == k->config &&
                     info.engine == engine;
    if (!same)
        prxi_logf(&u->own, PRX_LOG_INFO, "cuDNN's configuration %d is another one than before; a convolution is measured again", k->config);
    prxi_clear(&u->own);
    return same;
}

static int decide(prxi_cuda *u, const prxi_device_conv *a, const prxi_cudnn_conv *s, prxi_cuda_conv_choice *k)
{
    char key[PRXI_CHOICE_KEY], value[PRXI_CHOICE_VALUE];
    key_of(u, s, a->add, key);
    *k = (prxi_cuda_conv_choice) { .shape = *s, .add = a->add, .config = -1 };
    if (recall(u, s, key, k)) {
        k->recalled = 1;
        return PRX_OK;
    }
    *k = (prxi_cuda_conv_choice) { .shape = *s, .add = a->add, .config = -1 };
    int err = measure(u, a, s, -1, &k->ours);
    if (err == PRX_OK)
        err = best_of_cudnn(u, a, s, k);
    if (err < 0)
        return err;
    snprintf(value, sizeof value, "%d:%lld:%.1f:%.1f", k->config, (long long)k->engine, k->theirs, k->ours);
    err = prxi_choices_put(&u->own, u->choices, key, value);
    if (err == PRX_OK)
        prxi_choices_save(&u->own, u->choices);
    return err;
}

int prxi_cuda_conv_prepare(prxi_cuda *u, const prxi_device_conv *a)
{
    prxi_cudnn_conv s;
    prxi_clear(&u->own);
    if (!u->cudnn || a->by == PRXI_CONV_OURS || (!u->tune && a->by == PRXI_CONV_AUTO) || !prxi_cuda_conv_shape(a, &s))
        return PRX_OK;
    const prxi_cuda_conv_choice *old = find(u, &s, a->add);
    if (!old && u->n_convs == PRXI_CUDA_CONVS)
        u->n_convs = 0;                     /* shapes of other clips: begin anew */
    prxi_cuda_conv_choice *k = old ? NULL : &u->convs[u->n_convs];
    const int err = k ? decide(u, a, &s, k) : PRX_OK;
    if (err < 0)
        return err;
    if (k) {
        u->n_convs++;
        prxi_logf(&u->own, PRX_LOG_INFO, "convolution %dx%dx%d, %d to %d channels, %dx%d%s: %s (cuDNN %.1f us, engine %lld; own %.1f us)%s",
                  s.kt, s.kh, s.kw, s.in, s.out, s.width, s.height, a->add ? ", added" : "",
                  k->config >= 0 && k->theirs < k->ours ? "cuDNN" : "own kernel", k->theirs, (long long)k->engine, k->ours,
                  k->recalled ? ", as remembered" : "");
    }
    if (a->by == PRXI_CONV_LIBRARY && (k ? k : old)->config < 0)
        return prxi_fail(&u->own, PRX_ENOTSUP, "vae.conv: cudnn: it has no plan for %d to %d channels of %dx%d pixels", s.in, s.out,
                         s.width, s.height);
    return PRX_OK;
}
