/* The CUDA device in the place of the CPU's tables, for the kernel checks: emulated, or that of the module which PRAXINO_CUDA_MODULE
 * names. Test buffers come from memory that both sides see. */
#ifndef PRXI_TESTS_CUDA_UNDER_TEST_H
#define PRXI_TESTS_CUDA_UNDER_TEST_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu_control.h"
#include "engine/cuda/cuda.h"

const prxi_cuda_module *prxi_cuda_module_table(void);       /* of the emulation */

static inline prxi_cuda *cuda_under_test(void)
{
    static prxi_mem mem;
    static prxi_ctx ctx;
    static prxi_cuda *cuda;
    if (cuda)
        return cuda;
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    const char *file = getenv("PRAXINO_CUDA_MODULE");
    const int err = file ? prxi_cuda_open(&ctx, &cuda) : prxi_cuda_open_module(&ctx, &cuda, prxi_cuda_module_table(), NULL);
    if (err < 0) {
        fprintf(stderr, "%s\n", ctx.error.text);
        exit(1);
    }
    cuda->wait = 1;
    return cuda;
}

static inline prxi_device *cuda_device(void)
{
    return &cuda_under_test()->device;
}

static inline void cuda_seed(uint64_t seed)
{
    if (!getenv("PRAXINO_CUDA_MODULE"))
        emu_seed(seed);
}

/* emu_shared_room, of the module where that is the emulation. */
static inline void cuda_shared_room(int kib)
{
    const char *file = getenv("PRAXINO_CUDA_MODULE");
    void *module = file ? dlopen(file, RTLD_NOW | RTLD_NOLOAD) : NULL, *entry = module ? dlsym(module, "emu_shared_room") : NULL;
    void (*set)(int kib) = emu_shared_room;
    if (file)
        memcpy(&set, &entry, sizeof set);
    if (set)
        set(kib);
    if (module)
        dlclose(module);
}

/* Any of the tables may be NULL. Returns the device's name. */
static inline const char *cuda_tables(prxi_norm_ops *norm, prxi_act_ops *act, prxi_attn_ops *attn)
{
    prxi_cuda *cuda = cuda_under_test();
    prxi_kernels k;
    prxi_cuda_kernels(&k, cuda);
    if (norm)
        *norm = k.norm;
    if (act)
        *act = k.act;
    if (attn)
        *attn = k.attn;
    return cuda->info.name;
}

static inline void *cuda_test_alloc(size_t n)
{
    prxi_cuda *cuda = cuda_under_test();
    unsigned char *p = cuda->module->alloc_shared(cuda->dev, n ? n : 1);
    return p ? memset(p, 0, n) : NULL;
}

static inline void cuda_test_free(void *p)
{
    prxi_cuda *cuda = cuda_under_test();
    if (p)
        cuda->module->release(cuda->dev, p);
}

#ifndef PRXI_CUDA_PLAIN_BUFFERS
#define malloc(n) cuda_test_alloc(n)
#define calloc(n, size) cuda_test_alloc((n) * (size))
#define free(p) cuda_test_free(p)
#endif

#endif
