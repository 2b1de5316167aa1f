/* Engine: the machine, its kernels, and what every object of it shares. */
#include "engine.h"

#include "engine/core/cpu.h"

#include <string.h>

PRX_API const char *prx_version(void)
{
    return PRX_VERSION;
}

PRX_API uint32_t prx_version_api(void)
{
    return PRX_API_VERSION;
}

PRX_API void prx_engine_default_params(prx_engine_params *p)
{
    memset(p, 0, sizeof *p);
    p->device = "auto";
    p->isa = "auto";
    p->dtype = "auto";
    p->log_level = PRX_LOG_WARN;
}

void prxi_ctx_init(prxi_ctx *c, prx_engine *e)
{
    c->mem = &e->mem;
    c->log = &e->log;
    prxi_clear(c);
}

static int choose_device(prx_engine *e, const char *device)
{
    if (strcmp(device, "cpu") == 0)
        return PRX_OK;
    if (strcmp(device, "auto") == 0)
        return prxi_cuda_open_if_qualified(&e->ctx, &e->cuda);
    if (strcmp(device, "cuda") == 0)
        return prxi_cuda_open(&e->ctx, &e->cuda);
    return prxi_fail(&e->ctx, PRX_EINVAL, "device: '%s': auto, cpu or cuda expected", device);
}

static int choose_isa(prx_engine *e, const char *isa, uint32_t *mask)
{
    const int64_t bits = prxi_cpu_mask(isa);
    if (bits == -1)
        return prxi_fail(&e->ctx, PRX_EINVAL, "isa: '%s': auto, ref, avx2 or avx512 expected", isa);
    if (bits < 0)
        return prxi_fail(&e->ctx, PRX_ENOTSUP, "isa %s: this processor offers %s", isa,
                         prxi_cpu_name(prxi_cpu_detect()));
    *mask = (uint32_t)bits;
    return PRX_OK;
}

static int choose_dtype(prx_engine *e, const char *dtype, uint32_t isa)
{
    if (strcmp(dtype, "auto") == 0)
        e->dtype = e->cuda || isa & PRXI_ISA_AVX512_BF16 ? PRXI_BF16 : PRXI_F32;
    else if (strcmp(dtype, "f32") == 0)
        e->dtype = PRXI_F32;
    else if (strcmp(dtype, "bf16") == 0)
        e->dtype = PRXI_BF16;
    else
        return prxi_fail(&e->ctx, PRX_EINVAL, "dtype: '%s': auto, f32 or bf16 expected", dtype);
    return PRX_OK;
}

PRX_API int prx_engine_open(prx_engine **out, const prx_engine_params *params)
{
    prx_engine_params p;
    prx_engine_default_params(&p);
    if (params)
        p = *params;
    *out = NULL;
    prxi_mem mem;
    prxi_mem_init(&mem, p.allocator);
    prx_engine *e = prxi_calloc(&mem, PRXI_MEM_MISC, 1, sizeof *e);
    if (!e)
        return PRX_ENOMEM;
    e->mem.allocator = mem.allocator;      /* counters start at zero: the engine itself is freed through `mem` */
    e->log = (prxi_log) { p.log, p.log_cookie, p.log_level };
    prxi_ctx_init(&e->ctx, e);
    *out = e;
    uint32_t isa = 0;
    int err;
    if ((err = choose_device(e, p.device ? p.device : "auto")) < 0 ||
        (err = choose_isa(e, p.isa ? p.isa : "auto", &isa)) < 0 ||
        (err = choose_dtype(e, p.dtype ? p.dtype : "auto", isa)) < 0)
        return err;
    if (p.threads < 0 || p.threads > 1024)
        return prxi_fail(&e->ctx, PRX_EINVAL, "threads: %d: 0 (all cores) to 1024 expected", p.threads);
    e->threads = p.threads ? p.threads : prxi_cpu_cores();
    prxi_kernels_init(&e->kernels, isa);
    if (e->cuda) {
        prxi_cuda_kernels(&e->device_kernels, e->cuda);
        prxi_logf(&e->ctx, PRX_LOG_INFO, "device cuda (%s): text encoder, transformer, decoder", e->cuda->info.name);
    }
    prxi_logf(&e->ctx, PRX_LOG_INFO, "cpu, isa %s, dtype %s, %d thread%s", prxi_cpu_name(isa),
              prxi_dtype_name(e->dtype), e->threads, e->threads == 1 ? "" : "s");
    return PRX_OK;
}

const prxi_kernels *prxi_engine_model_kernels(const prx_engine *e)
{
    return e->cuda ? &e->device_kernels : &e->kernels;
}

PRX_API void prx_engine_close(prx_engine **ep)
{
    if (!ep || !*ep)
        return;
    prxi_cuda_close(&(*ep)->ctx, &(*ep)->cuda);
    prxi_mem mem;
    prxi_mem_init(&mem, &(*ep)->mem.allocator);
    prxi_free(&mem, *ep);
    *ep = NULL;
}

PRX_API const char *prx_engine_last_error(const prx_engine *e)
{
    return e ? e->ctx.error.text : "out of memory";
}

PRX_API void prx_text_free(prx_engine *e, char *text)
{
    if (e && text)
        prxi_free(&e->mem, text);
}

int prxi_json_text(prxi_ctx *c, cJSON *tree, char **out)
{
    char *text = tree ? cJSON_Print(tree) : NULL;
    cJSON_Delete(tree);
    *out = text ? prxi_strdup(c->mem, text) : NULL;
    cJSON_free(text);
    return *out ? PRX_OK : prxi_fail_nomem(c, "JSON text", 0);
}
