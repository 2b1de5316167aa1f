/* Which kernel serves attention: cuDNN, the one for Hopper, or the portable one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

static int parse(prxi_ctx *c, prxi_cuda_attention *want)
{
    static const char *const names[] = { "auto", "portable", "hopper", "cudnn" };
    const char *set = getenv("PRAXINO_CUDA_ATTENTION");
    *want = PRXI_CUDA_AUTO;
    if (!set || !*set)
        return PRX_OK;
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(set, names[i]) == 0) {
            *want = (prxi_cuda_attention)i;
            return PRX_OK;
        }
    return prxi_fail(c, PRX_EINVAL, "PRAXINO_CUDA_ATTENTION: '%s': auto, portable, hopper or cudnn expected", set);
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
    return want == PRXI_CUDA_CUDNN || !u->info.emulated || (set && *set);
}

int prxi_cuda_choose(prxi_ctx *c, prxi_cuda *u)
{
    prxi_cuda_attention want;
    int err = parse(c, &want);
    if (err < 0 || (err = parse_tune(c, u)) < 0)
        return err;
    u->hopper = u->info.hopper && want != PRXI_CUDA_PORTABLE;
    if (want == PRXI_CUDA_HOPPER && !u->hopper)
        return prxi_fail(c, PRX_ENOTSUP, "PRAXINO_CUDA_ATTENTION: hopper: %s", u->info.major == 9 && u->info.minor == 0
                             ? "this module was compiled without sm_90a" : "this chip is not of sm_90");
    if (want_cudnn(u, want)) {
        err = open_cudnn(c, u);
        if (err < 0 && want == PRXI_CUDA_CUDNN)
            return err;
        if (err < 0)
            snprintf(u->no_cudnn, sizeof u->no_cudnn, "%.190s", c->error.text);
        prxi_clear(c);
    }
    u->device.conv_turns = u->cudnn != NULL;
    u->must_cudnn = want == PRXI_CUDA_CUDNN;
    u->dense_cudnn = u->cudnn && (want == PRXI_CUDA_AUTO || want == PRXI_CUDA_CUDNN);
    const char *own = u->hopper ? "attn90 (wgmma, sm_90a)" : "attn (mma.sync)";
    if (u->dense_cudnn)
        snprintf(u->attention, sizeof u->attention, "dense: cuDNN %zu; block lists: %s", prxi_cudnn_version(u->cudnn), own);
    else
        snprintf(u->attention, sizeof u->attention, "%s%s%s", own, *u->no_cudnn ? "; " : "", u->no_cudnn);
    return PRX_OK;
}

static int aligned(const void *p, int64_t ld)
{
    return (uintptr_t)p % 16 == 0 && ld % 8 == 0;
}

/* cuDNN has no bias of the last key, and no negative or zero rows. */
int prxi_cuda_by_cudnn(prxi_ctx *c, prxi_cuda *u, const prxi_attn_args *a, prxi_dtype t)
{
    if (!u->dense_cudnn || t != PRXI_BF16 || (a->head_dim != 64 && a->head_dim != 128) || a->kv_len <= 0 || a->tail_bias != 0)
        return 0;
    if (!aligned(a->q, a->ldq) || !aligned(a->k, a->ldk) || !aligned(a->v, a->ldv) || !aligned(a->o, a->ldo))
        return 0;
    if (u->must_cudnn)
        return 1;
    const prxi_cudnn_attn s = prxi_cuda_cudnn_shape(a);
    if (prxi_cudnn_plan_attn(c, u->cudnn, &s, NULL) == PRX_OK)
        return 1;
    prxi_logf(c, PRX_LOG_WARN, "attention of %lld x %lld tokens: own kernel, as %s", (long long)a->q_len, (long long)a->kv_len,
              c->error.text);
    prxi_clear(c);
    return 0;
}

prxi_cudnn_attn prxi_cuda_cudnn_shape(const prxi_attn_args *a)
{
    return (prxi_cudnn_attn) { a->heads, a->head_dim, a->lse != NULL, a->q_len, a->kv_len, a->ldq, a->ldk, a->ldv, a->ldo };
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
