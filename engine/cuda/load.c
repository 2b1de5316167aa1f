/* Finding and opening the CUDA module. */
#define _GNU_SOURCE                         /* dladdr */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

/* libpraxino_cuda.so beside the file that holds this function. */
static int beside(char *out, size_t n)
{
    Dl_info where;
    if (!dladdr((void *)(uintptr_t)prxi_cuda_load, &where) || !where.dli_fname)
        return 0;
    const char *slash = strrchr(where.dli_fname, '/');
    const int dir = slash ? (int)(slash - where.dli_fname) : 1;
    return snprintf(out, n, "%.*s/libpraxino_cuda.so", dir, slash ? where.dli_fname : ".") < (int)n;
}

static int missing(prxi_ctx *c, const char *why)
{
    return c ? prxi_fail(c, PRX_ENOTSUP, "device cuda: %s; --device cpu is available", why) : PRX_ENOTSUP;
}

static int missing_file(prxi_ctx *c, const char *path, const char *why)
{
    char text[600];
    snprintf(text, sizeof text, "the CUDA module cannot be loaded: %.480s", why ? why : path);
    return missing(c, text);
}

static int check_module(prxi_ctx *c, const prxi_cuda_module *m)
{
    if (m->abi != PRXI_CUDA_ABI || m->size != sizeof *m)
        return missing(c, "the CUDA module belongs to another version of this library");
    return PRX_OK;
}

int prxi_cuda_load(prxi_ctx *c, const prxi_cuda_module **module, void **library)
{
    char path[4096];
    const char *set = getenv("PRAXINO_CUDA_MODULE");
    *module = NULL;
    *library = NULL;
    if (set && *set)
        snprintf(path, sizeof path, "%s", set);
    else if (!beside(path, sizeof path))
        return missing(c, "the CUDA module cannot be found");
    FILE *f = fopen(path, "rb");
    if (!f) {
        char text[600];
        snprintf(text, sizeof text, "this build has no CUDA module (%.400s is not there; cmake -DPRX_CUDA=ON makes it)", path);
        return missing(c, text);
    }
    fclose(f);
    /* It stays in memory once it is closed: the CUDA runtime that is linked into it, and the driver, keep addresses of its code. */
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!*library)
        return missing_file(c, path, dlerror());
    const prxi_cuda_module *(*table)(void) = NULL;
    void *entry = dlsym(*library, PRXI_CUDA_ENTRY);
    memcpy(&table, &entry, sizeof table);
    const int err = table ? check_module(c, table()) : missing_file(c, path, "it is not a module of praxino");
    if (err == PRX_OK) {
        *module = table();
    } else {
        prxi_cuda_unload(*library);
        *library = NULL;
    }
    return err;
}

void prxi_cuda_unload(void *library)
{
    if (library)
        dlclose(library);
}

/* ---- a device of the engine ---- */

static prxi_cuda *of(prxi_device *d)
{
    return (prxi_cuda *)d;
}

/* Jobs of an engine share the device: its calls and the tables beside it are taken in turn. Recursive, as an op may move memory. */
static int unlock(prxi_device *d, int result)
{
    pthread_mutex_unlock(&of(d)->lock);
    return result;
}

static void *device_alloc(prxi_device *d, size_t bytes)
{
    pthread_mutex_lock(&of(d)->lock);
    void *p = prxi_cuda_take(of(d), bytes);
    unlock(d, 0);
    return p;
}

static void device_release(prxi_device *d, void *p)
{
    pthread_mutex_lock(&of(d)->lock);
    prxi_cuda_give(of(d), p);
    unlock(d, 0);
}

static int device_put(prxi_device *d, void *to, const void *host, size_t bytes)
{
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->put(of(d)->dev, to, host, bytes));
}

static int device_get(prxi_device *d, void *host, const void *from, size_t bytes)
{
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->get(of(d)->dev, host, from, bytes));
}

static int device_copy(prxi_device *d, void *to, const void *from, size_t bytes)
{
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->copy(of(d)->dev, to, from, bytes));
}

static int device_linear(prxi_device *d, const prxi_device_linear *a)
{
    prxi_cu_gemm g = { a->m, a->n, a->k, a->compute, a->out, a->epilogue, a->x, a->w, a->bias, a->ldx, a->ldy, a->y,
                       0, 0, 1, a->x_scale, a->w_scale };
    if (a->x_scale)
        g.compute = PRXI_CU_E4M3;
    pthread_mutex_lock(&of(d)->lock);
    const int err = a->w_scale && !a->x_scale ? prxi_cuda_eight_bits(of(d), &g) : PRX_OK;
    return unlock(d, err < 0 ? err : of(d)->module->gemm(of(d)->dev, &g));
}

static int device_quantise(prxi_device *d, int type, int64_t rows, int64_t k, const void *x, int64_t ldx, void *q, float *scale)
{
    const prxi_cu_quantise a = { rows, k, x, ldx, q, scale };
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->quantise(of(d)->dev, type, &a));
}

static int device_conv(prxi_device *d, const prxi_device_conv *a)
{
    pthread_mutex_lock(&of(d)->lock);
    const int err = prxi_cuda_conv(of(d), a);
    of(d)->own_failed = of(d)->own.error.code < 0;
    return unlock(d, err == PRX_OK && of(d)->wait ? of(d)->module->sync(of(d)->dev) : err);
}

static int device_conv_prepare(prxi_device *d, const prxi_device_conv *a)
{
    pthread_mutex_lock(&of(d)->lock);
    const int err = prxi_cuda_conv_prepare(of(d), a);
    of(d)->own_failed = of(d)->own.error.code < 0;
    return unlock(d, err);
}

static void *device_alloc_host(prxi_device *d, size_t bytes)
{
    pthread_mutex_lock(&of(d)->lock);
    void *p = of(d)->module->alloc_host(of(d)->dev, bytes);
    unlock(d, 0);
    return p;
}

static void device_release_host(prxi_device *d, void *p)
{
    pthread_mutex_lock(&of(d)->lock);
    of(d)->module->release_host(of(d)->dev, p);
    unlock(d, 0);
}

static int device_fetch(prxi_device *d, int slot, void *to, const void *host, size_t bytes)
{
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->fetch(of(d)->dev, slot, to, host, bytes));
}

static int device_arrive(prxi_device *d, int slot)
{
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->arrive(of(d)->dev, slot));
}

static int device_leave(prxi_device *d, int slot)
{
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->leave(of(d)->dev, slot));
}

static int device_zero(prxi_device *d, void *p, size_t bytes)
{
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->zero(of(d)->dev, p, bytes));
}

static int device_check(prxi_device *d)
{
    pthread_mutex_lock(&of(d)->lock);
    return unlock(d, of(d)->module->sync(of(d)->dev));
}

static const char *device_error(prxi_device *d)
{
    if (!of(d)->own_failed)
        return of(d)->module->last_error(of(d)->dev);
    of(d)->own_failed = 0;
    return of(d)->own.error.text;
}

void prxi_cuda_device_word(const prxi_cuda *u, char *out, size_t n)
{
    snprintf(out, n, "%.60s/sm_%d%d-%d", u->info.name, u->info.major, u->info.minor, u->info.multiprocessors);
    for (; *out; out++)
        if (*out <= ' ' || *out > '~')
            *out = '_';
}

const char *prxi_cuda_source_hash(const prxi_cuda *u, const char *name)
{
    for (const prxi_cu_kernel_row *k = u->module->kernels; k->name; k++)
        if (strcmp(k->name, name) == 0)
            return k->hash;
    return "none";
}

static void open_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(lock, &a);
    pthread_mutexattr_destroy(&a);
}

static int open_parts(prxi_cuda *u)
{
    const int err = u->module->open(u->dev);
    if (err < 0)
        return err;
    u->parts = prxi_cuda_take(u, 2 * (PRXI_CU_PARTS + 1) * sizeof *u->parts);
    if (!u->parts)
        u->module->close(u->dev);
    return u->parts ? PRX_OK : PRX_ENOMEM;
}

static void close_parts(prxi_cuda *u)
{
    prxi_cuda_give(u, u->parts);
    u->module->close(u->dev);
}

int prxi_cuda_reduce(prxi_cuda *cuda, int64_t n, const float *a, const float *b, double out[2])
{
    const int err = cuda->module->reduce(cuda->dev, n, a, b, cuda->parts);
    return err < 0 ? err : cuda->module->get(cuda->dev, out, cuda->parts + 2 * PRXI_CU_PARTS, 2 * sizeof *out);
}

int prxi_cuda_open_module(prxi_ctx *c, prxi_cuda **out, const prxi_cuda_module *module, void *library)
{
    *out = NULL;
    prxi_cuda *cuda = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *cuda);
    void *dev = cuda ? prxi_calloc(c->mem, PRXI_MEM_MISC, 1, module->device_bytes) : NULL;
    if (!dev || prxi_cuda_open_lists(cuda, c) < 0 || prxi_choices_open(c, &cuda->choices, "cuda") < 0) {
        if (cuda)
            prxi_free(c->mem, cuda->lists);
        prxi_free(c->mem, dev);
        prxi_free(c->mem, cuda);
        prxi_cuda_unload(library);
        return prxi_fail_nomem(c, "device", module->device_bytes);
    }
    cuda->device = (prxi_device) { "cuda", device_alloc, device_release, device_put, device_get, device_copy, device_zero,
                                   device_alloc_host, device_release_host, device_fetch, device_arrive, device_leave,
                                   device_linear, device_quantise, device_conv, device_conv_prepare, 0, device_check, device_error,
                                   &prxi_cuda_cache_ops,
                                   &prxi_cuda_cluster_ops };
    cuda->module = module;
    cuda->library = library;
    cuda->dev = dev;
    cuda->own = (prxi_ctx) { .mem = c->mem, .log = c->log };
    const char *wait = getenv("PRAXINO_CUDA_SYNC");
    cuda->wait = wait && strcmp(wait, "1") == 0;
    open_lock(&cuda->lock);
    int err = module->probe(&cuda->info);
    if (err < 0)
        missing(c, cuda->info.why);
    else if ((err = open_parts(cuda)) < 0)
        missing(c, module->last_error(dev));
    else if ((err = prxi_cuda_choose(c, cuda)) < 0)
        close_parts(cuda);
    if (err < 0) {
        pthread_mutex_destroy(&cuda->lock);
        prxi_choices_close(c, &cuda->choices);
        prxi_free(c->mem, cuda->lists);
        prxi_free(c->mem, cuda->held);
        prxi_free(c->mem, dev);
        prxi_free(c->mem, cuda);
        prxi_cuda_unload(library);
        return err == PRX_EINVAL ? err : PRX_ENOTSUP;
    }
    prxi_cuda_remember_gemm(cuda);
    *out = cuda;
    return PRX_OK;
}

int prxi_cuda_open(prxi_ctx *c, prxi_cuda **out)
{
    const prxi_cuda_module *module;
    void *library;
    *out = NULL;
    const int err = prxi_cuda_load(c, &module, &library);
    return err < 0 ? err : prxi_cuda_open_module(c, out, module, library);
}

const char *prxi_cuda_unqualified(const prxi_cu_kernel_row *rows, int hopper)
{
    for (const prxi_cu_kernel_row *k = rows; k->name; k++) {
        const int only_hopper = strcmp(k->name, "attn90") == 0 || strcmp(k->name, "quant") == 0;
        if ((hopper || !only_hopper) && strncmp(k->state, "qualified", 9) != 0)
            return k->name;
    }
    return NULL;
}

int prxi_cuda_open_if_qualified(prxi_ctx *c, prxi_cuda **out)
{
    const prxi_cuda_module *module;
    void *library;
    prxi_cu_info info;
    *out = NULL;
    const int found = prxi_cuda_load(NULL, &module, &library) == PRX_OK;
    if (!found || module->probe(&info) < 0 || info.devices < 1) {
        prxi_cuda_unload(library);
        return PRX_OK;
    }
    const char *name = prxi_cuda_unqualified(module->kernels, info.hopper);
    if (!name && !info.emulated)
        return prxi_cuda_open_module(c, out, module, library);
    if (info.emulated)
        prxi_logf(c, PRX_LOG_INFO, "device auto: cpu, not %s", info.name);
    else
        prxi_logf(c, PRX_LOG_WARN, "device auto: cpu, though there is %s: no GPU has run the kernels of %s as they are (doctor lists "
                  "them); --device cuda uses them", info.name, name);
    prxi_cuda_unload(library);
    return PRX_OK;
}

void prxi_cuda_close(prxi_ctx *c, prxi_cuda **p)
{
    prxi_cuda *cuda = *p;
    *p = NULL;
    if (!cuda)
        return;
    prxi_cuda_drop_lists(cuda, c);
    prxi_choices_save(c, cuda->choices);
    prxi_choices_close(c, &cuda->choices);
    prxi_cudnn_close(c, &cuda->cudnn);
    prxi_device_free(c, &cuda->device, cuda->room);
    prxi_device_free(c, &cuda->device, cuda->eight);
    close_parts(cuda);
    prxi_cuda_unload(cuda->library);
    pthread_mutex_destroy(&cuda->lock);
    prxi_free(c->mem, cuda->held);
    prxi_free(c->mem, cuda->dev);
    prxi_free(c->mem, cuda);
}
