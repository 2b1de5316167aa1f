/* Which kernel serves attention: cuDNN, the one for Hopper, or the portable one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

#define LEAST_TIMED 1e9                   /* multiply-adds: below, no choice is worth a measurement */

static int parse(prxi_ctx *c, prxi_cuda_attention *want)
{
    static const char *const names[] = { "auto", "portable", "hopper", "cudnn", "paged" };
    const char *set = getenv("PRAXINO_CUDA_ATTENTION");
    *want = PRXI_CUDA_AUTO;
    if (!set || !*set)
        return PRX_OK;
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(set, names[i]) == 0) {
            *want = (prxi_cuda_attention)i;
            return PRX_OK;
        }
    return prxi_fail(c, PRX_EINVAL, "PRAXINO_CUDA_ATTENTION: '%s': auto, portable, hopper, cudnn or paged expected", set);
}

/* Whether times decide, as PRAXINO_CUDA_TUNE says: 1 unless the times are those of an emulation. */
static int parse_tune(prxi_ctx *c, prxi_cuda *u)
{
    const char *set = getenv("PRAXINO_CUDA_TUNE");
    const int given = set && *set;
    u->tune = given ? strcmp(set, "1") == 0 : !u->info.emulated;
    return !given || u->tune || strcmp(set, "0") == 0 ? PRX_OK
                                                      : prxi_fail(c, PRX_EINVAL, "PRAXINO_CUDA_TUNE: '%s': 0 or 1 expected", set);
}

static int open_cudnn(prxi_ctx *c, prxi_cuda *u)
{
    prxi_cudnn_api api;
    void *library;
    const int err = prxi_cudnn_load(c, &api, &library);
    return err < 0 ? err : prxi_cudnn_open(c, &u->cudnn, &api, library, NULL, &u->device, u->module->stream(u->dev));
}

/* cuDNN where it is installed; in emulation only the one that PRAXINO_CUDNN names. */
static int want_cudnn(const prxi_cuda *u, prxi_cuda_attention want)
{
    const char *set = getenv("PRAXINO_CUDNN");
    return want >= PRXI_CUDA_CUDNN || !u->info.emulated || (set && *set);
}

/* For doctor and stats. */
static void describe(prxi_cuda *u)
{
    const char *own = u->hopper ? "attn90 (wgmma, sm_90a)" : "attn (mma.sync)";
    const size_t version = u->cudnn ? prxi_cudnn_version(u->cudnn) : 0;
    if (u->tune && (u->want == PRXI_CUDA_AUTO || u->want == PRXI_CUDA_PAGED) && (u->cudnn || u->hopper))
        snprintf(u->attention, sizeof u->attention, "by measurement of each shape: %sattn (mma.sync)%s%s",
                 u->hopper ? "attn90 (wgmma, sm_90a), " : "", u->cudnn ? ", cuDNN" : "",
                 u->want == PRXI_CUDA_PAGED ? "; block lists: its pages alone" : "");
    else if (u->cudnn && u->want == PRXI_CUDA_PAGED)
        snprintf(u->attention, sizeof u->attention, "dense: cuDNN %zu; block lists: its pages alone", version);
    else if (u->cudnn && (u->want == PRXI_CUDA_AUTO || u->want == PRXI_CUDA_CUDNN))
        snprintf(u->attention, sizeof u->attention, "dense: cuDNN %zu; block lists: %s", version, own);
    else
        snprintf(u->attention, sizeof u->attention, "%s", own);
    const size_t n = strlen(u->attention);
    if (!u->cudnn && *u->no_cudnn)
        snprintf(u->attention + n, sizeof u->attention - n, "; %s", u->no_cudnn);
}

int prxi_cuda_choose(prxi_ctx *c, prxi_cuda *u)
{
    int err = parse(c, &u->want);
    if (err < 0 || (err = parse_tune(c, u)) < 0)
        return err;
    u->hopper = u->info.hopper && u->want != PRXI_CUDA_PORTABLE;
    u->least_timed = u->info.emulated ? 0 : LEAST_TIMED;     /* an emulation has small shapes alone */
    if (u->want == PRXI_CUDA_HOPPER && !u->hopper)
        return prxi_fail(c, PRX_ENOTSUP, "PRAXINO_CUDA_ATTENTION: hopper: %s", u->info.major == 9 && u->info.minor == 0
                             ? "this module was compiled without sm_90a" : "this chip is not of sm_90");
    if (want_cudnn(u, u->want)) {
        err = open_cudnn(c, u);
        if (err < 0 && u->want >= PRXI_CUDA_CUDNN)
            return err;
        if (err < 0)
            snprintf(u->no_cudnn, sizeof u->no_cudnn, "%.190s", c->error.text);
        prxi_clear(c);
    }
    u->device.conv_turns = u->cudnn != NULL;
    describe(u);
    return PRX_OK;
}

int prxi_cuda_room(prxi_ctx *c, prxi_cuda *u, size_t bytes)
{
    if (bytes <= u->room_bytes)
        return PRX_OK;
    prxi_device_free(c, &u->device, u->room);
    u->room_bytes = 0;
    u->room = prxi_device_alloc(c, &u->device, PRXI_MEM_SCRATCH, bytes);
    if (!u->room)
        return prxi_fail_nomem(c, "q, k and v in the order of a block list", bytes);
    u->room_bytes = bytes;
    return PRX_OK;
}
