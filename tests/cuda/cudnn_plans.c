/* Every graph that the engine asks of cuDNN is planned for five chips, with no device: profiles of their properties take its place, and
 * NULL_DRIVER that of the driver. Skipped where cuDNN is not installed. `cuda_cudnn_plans A100 H200`: these chips only. */
#include "tests/test.h"

#include <dlfcn.h>

#include "engine/cuda/cudnn.h"

typedef struct chip {
    const char *name;
    int version, multiprocessors, shared, l2, threads, blocks;
} chip;

static const chip chips[] = {
    { "A100", 800, 108, 166912, 41943040, 2048, 32 },    { "L40S", 890, 142, 101376, 100663296, 1536, 24 },
    { "H200", 900, 132, 232448, 52428800, 2048, 32 },    { "B200", 1000, 148, 232448, 132644864, 2048, 32 },
    { "RTX5090", 1200, 170, 101376, 100663296, 1536, 24 },
};

/* Wan at 480p and 720p; a small network; text; with and without log-sum-exp. */
static const prxi_cudnn_attn attns[] = {
    { 12, 128, 0, 32760, 32760, 1536, 1536, 1536, 1536, 0, 0, 0 }, { 40, 128, 1, 75600, 75600, 5120, 5120, 5120, 5120, 0, 0, 0 },
    { 4, 64, 0, 1152, 1152, 256, 768, 768, 256, 0, 0, 0 }, { 12, 128, 0, 32760, 512, 1536, 1536, 1536, 1536, 0, 0, 0 },
};

/* Lists by pages: Radial at 480p and 720p, smaller pages, small heads, log-sum-exp. */
static const prxi_cudnn_attn paged[] = {
    { 12, 128, 0, 32760, 32760, 1536, 1536, 1536, 1536, 128, 128, 256 },
    { 40, 128, 0, 75600, 75600, 5120, 5120, 5120, 5120, 128, 128, 300 },
    { 40, 128, 0, 75600, 75600, 5120, 5120, 5120, 5120, 128, 64, 600 },
    { 12, 128, 0, 32760, 32760, 1536, 1536, 1536, 1536, 128, 16, 1024 },
    { 12, 128, 0, 32760, 32760, 1536, 1536, 1536, 1536, 64, 64, 512 },
    { 4, 64, 0, 1152, 1152, 256, 256, 256, 256, 128, 128, 9 },
    { 4, 64, 0, 1152, 1152, 256, 256, 256, 256, 64, 16, 40 },
    { 12, 128, 1, 32768, 32768, 1536, 1536, 1536, 1536, 128, 128, 256 },
    { 12, 128, 0, 32760, 32760, 1536, 1536, 1536, 1536, 128, 8, 2048 },
    { 12, 128, 0, 32760, 32760, 1536, 1536, 1536, 1536, 128, 32, 512 },
};

/* The decoder of Wan, in the rows of its rings: convolutions of the largest and the smallest stage, in time alone, between counts of
 * channels, its first, and one of a single pixel. */
static const prxi_cudnn_conv convs[] = {
    { 96, 96, 1, 480, 832, 3, 3, 3, 833 * 96, 832 * 96 },    { 384, 384, 1, 60, 104, 3, 3, 3, 105 * 384, 105 * 384 },
    { 384, 384, 1, 60, 104, 3, 1, 1, 105 * 384, 105 * 384 }, { 192, 384, 1, 120, 208, 3, 3, 3, 209 * 192, 208 * 384 },
    { 16, 384, 1, 60, 104, 3, 3, 3, 105 * 16, 105 * 384 },   { 384, 384, 1, 60, 104, 1, 1, 1, 104 * 384, 105 * 384 },
};

static void profile(const chip *p, char *out, size_t n)
{
    snprintf(out, n,
             "{\"deviceName\":\"%s\",\"deviceVer\":%d,\"multiProcessorCount\":%d,\"maxSharedMemoryPerBlockOptin\":%d,\"l2CacheSize\":%d,"
             "\"maxThreadsPerSM\":%d,\"maxCtasPerSM\":%d,\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
             "\"warpSize\":32,\"regsPerBlock\":65536,\"maxSharedMemoryPerBlock\":49152,\"reservedSharedMemoryPerBlock\":1024,"
             "\"smClockRateKHz\":1980000,\"memClockRateKHz\":3201000,\"maxRegistersPerSM\":65536,\"pciDeviceId\":0,"
             "\"maxThreadsPerBlock\":1024,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"driverVer\":13010,\"cudaDeviceId\":0,"
             "\"totalGlobalMem\":80000000000,\"deviceId\":0}",
             p->name, p->version, p->multiprocessors, p->shared, p->l2, p->threads, p->blocks);
}

static void report(prxi_ctx *c, const chip *p, const char *what, size_t i, int err, const prxi_cudnn_plan_info *info)
{
    CHECK(err == PRX_OK, "%s, %s %zu: %s", p->name, what, i, c->error.text);
    CHECK(err < 0 || (info->configs > 0 && info->workspace >= 0 && info->workspace < (int64_t)1 << 30), "%s, %s %zu: workspace %lld",
          p->name, what, i, (long long)info->workspace);
    if (err == PRX_OK)
        printf("%-8s %s %zu: engine %lld of %d, workspace %lld\n", p->name, what, i, (long long)info->engine, info->configs,
               (long long)info->workspace);
    prxi_clear(c);
}

static void plan_for(prxi_ctx *c, const prxi_cudnn_api *api, const chip *p)
{
    char text[1200];
    prxi_cudnn *u = NULL;
    prxi_cudnn_plan_info info, again;
    profile(p, text, sizeof text);
    REQUIRE(prxi_cudnn_open(c, &u, api, NULL, text, NULL, NULL) == PRX_OK, "%s: %s", p->name, c->error.text);
    for (size_t i = 0; i < sizeof attns / sizeof *attns; i++)
        report(c, p, "attention", i, prxi_cudnn_plan_attn(c, u, &attns[i], 0, &info), &info);
    for (size_t i = 0; i < sizeof paged / sizeof *paged; i++)
        report(c, p, "pages", i, prxi_cudnn_plan_attn(c, u, &paged[i], 0, &info), &info);
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        report(c, p, "convolution", i, prxi_cudnn_plan_conv(c, u, &convs[i], 0, &info), &info);
    CHECK(prxi_cudnn_plan_attn(c, u, &attns[0], 0, &again) == PRX_OK && again.configs > 0, "%s: a plan is found again", p->name);
    prxi_cudnn_close(c, &u);
}

static int wanted(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return 1;
    return argc == 1;
}

int main(int argc, char **argv)
{
    prxi_mem mem;
    prxi_ctx ctx = { .mem = &mem };
    prxi_cudnn_api api;
    void *library = NULL;
    prxi_mem_init(&mem, NULL);
    if (!dlopen(NULL_DRIVER, RTLD_NOW | RTLD_GLOBAL)) {
        printf("skipped: %s\n", dlerror());
        return 77;
    }
    if (prxi_cudnn_load(&ctx, &api, &library) < 0) {
        printf("skipped: %s\n", ctx.error.text);
        return 77;
    }
    printf("cuDNN %zu\n", api.version());
    for (size_t i = 0; i < sizeof chips / sizeof *chips; i++)
        if (wanted(argc, argv, chips[i].name))
            plan_for(&ctx, &api, &chips[i]);
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leak", atomic_load(&mem.total));
    return TEST_END();
}
