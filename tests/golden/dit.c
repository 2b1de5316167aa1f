/* The transformer alone, fed with the latents and embeddings of the reference run: fp32 on every instruction set, bf16 against what
 * diffusers loses by it, the same bytes for any number of threads. */
#include "common.h"

#include "attention/attention.h"
#include "engine/model/dit.h"
#include "shared.h"

/* fp32: two summation orders of the same sums. */
#define TOLERANCE 2e-5
#ifdef PRXI_KCHECK_CUDA
#define THREADS 2               /* two orders of warps and copies */
#else
#define THREADS 3
#endif

typedef struct runner {
    const golden_case *g;
    prxi_kernels k;
    prxi_dit *dit[2];
    prxi_dit_run *run[2];
    prxi_stream s;
    float *text[2];
    int text_len[2];
} runner;

static int experts(const golden_case *g)
{
    int n = 1;
    for (int i = 0; i < g->steps; i++)
        if (golden_expert(g, i) + 1 > n)
            n = golden_expert(g, i) + 1;
    return n;
}

static void start(runner *r, const golden_case *g, const char *isa, prxi_dtype dtype, int threads)
{
    static const char *const folder[2] = { "transformer", "transformer_2" };
    static const char *const embeds[2] = { "prompt_embeds", "negative_prompt_embeds" };
    static const char *const ids[2] = { "ids", "negative_ids" };
    memset(r, 0, sizeof *r);
    r->g = g;
    prxi_clear(&golden_ctx);
    prxi_kernels_init(&r->k, (uint32_t)prxi_cpu_mask(isa));
    prxi_stream_init(&r->s, &golden_ctx, threads);
#ifdef PRXI_KCHECK_CUDA
    prxi_cuda_kernels(&r->k, cuda_under_test());
    r->s.device = r->k.device;
    cuda_seed((uint64_t)threads);
#endif
    prxi_dit_clip clip = { .frames = g->shape[1], .height = g->shape[2], .width = g->shape[3], .branches = (int)g->branches,
                           .max_text = (int)g->max_text };
    for (int b = 0; b < clip.branches; b++) {
        int32_t list[512];
        size_t n;
        r->text[b] = golden_floats(g, embeds[b], &n);
        clip.text[b] = r->text[b];
        clip.text_len[b] = golden_ids(g, ids[b], list, 512);
    }
    for (int e = 0; e < experts(g); e++) {
        char dir[600];
        snprintf(dir, sizeof dir, "%s/%s", g->model, folder[e]);
        REQUIRE(prxi_dit_open(&golden_ctx, &r->dit[e], dir, NULL, &r->k, dtype) == PRX_OK, "%s", golden_ctx.error.text);
        REQUIRE(prxi_dit_run_open(&golden_ctx, &r->s, &r->run[e], r->dit[e], &clip) == PRX_OK, "%s", golden_ctx.error.text);
    }
}

static void stop(runner *r)
{
    prxi_stream_close(&r->s);
    for (int e = 0; e < 2; e++) {
        if (r->run[e])
            prxi_dit_run_close(&golden_ctx, &r->run[e]);
        if (r->dit[e])
            prxi_dit_close(&golden_ctx, &r->dit[e]);
        free(r->text[e]);
    }
}

static int stored(const golden_case *g, int step)
{
#ifdef PRXI_KCHECK_CUDA
    return step == g->steps - 1;
#endif
    return step == 0 || step == 1 || step == g->steps - 1;
}

/* v: [branches][elems] */
static void forward(runner *r, int step, float *v)
{
    const golden_case *g = r->g;
    char name[32];
    size_t n;
    snprintf(name, sizeof name, "latents.%03d", step);
    float *stored_latents = golden_floats(g, name, &n), *latents = shared_alloc(n * sizeof *latents);
    REQUIRE(latents, "memory");
    memcpy(latents, stored_latents, n * sizeof *latents);
    free(stored_latents);
    prxi_cache_report reports[2];
    double *density = malloc(2 * 64 * sizeof *density);
    REQUIRE(density, "memory");
    const prxi_dit_hooks hooks = { .attn = prxi_attn_policy_find("dense"), .cache = prxi_cache_policy_find("none"),
                                   .reports = reports, .density = density };
    const prxi_step st = { .index = step, .steps = (int)g->steps, .timestep = (float)golden_timestep(g, step),
                           .expert = golden_expert(g, step) };
    float *const out[2] = { v, v + g->elems };
    prxi_dit_forward(&r->s, r->run[st.expert], &st, latents, &hooks, out);
    CHECK(prxi_stream_error(&r->s) == 0, "%s: %s", g->name, golden_ctx.error.text);
    free(density);
    shared_free(latents);
}

static void compare(const golden_case *g, const char *isa, prxi_dtype dtype, int step, const float *v)
{
    static const char *const branch[2] = { "cond", "uncond" };
    for (int b = 0; b < g->branches; b++) {
        char name[32];
        size_t n;
        double d[2], allowed[2] = { TOLERANCE, TOLERANCE };
        snprintf(name, sizeof name, "v.%03d.%s", step, branch[b]);
        float *truth = golden_floats(g, name, &n);
        REQUIRE(n == g->elems, "%s: %s has %zu values", g->name, name, n);
        golden_distance(v + (size_t)b * g->elems, truth, n, d);
        if (dtype == PRXI_BF16) {
            golden_bf16(g, "v", step * (int)g->branches + b, allowed);
            allowed[0] *= GOLDEN_BF16_FACTOR;
            allowed[1] = INFINITY;      /* one value: no statistics */
        }
        CHECK(d[0] <= allowed[0] && d[1] <= allowed[1], "%s %s %s %s: rms %.3g (%.3g allowed), max %.3g", g->name, isa,
              prxi_dtype_name(dtype), name, d[0], allowed[0], d[1]);
        if (getenv("GOLDEN_VERBOSE"))
            printf("%s %s %s %s: rms %.3g of %.3g, max %.3g\n", g->name, isa, prxi_dtype_name(dtype), name, d[0], allowed[0], d[1]);
        free(truth);
    }
}

static void check(const golden_case *g, const char *isa, prxi_dtype dtype)
{
    float *v = shared_alloc(2 * g->elems * sizeof *v);
    REQUIRE(v, "memory");
    uint64_t first = 0;
    for (int threads = 1; threads <= THREADS; threads++) {
        runner r;
        uint64_t digest = 0;
        start(&r, g, isa, dtype, threads);
        for (int step = 0; step < g->steps; step++) {
            if (!stored(g, step))
                continue;
            forward(&r, step, v);
            if (threads == 1)
                compare(g, isa, dtype, step, v);
            digest = digest * 31 + golden_digest(v, (size_t)g->branches * g->elems * sizeof *v);
        }
        stop(&r);
        if (threads == 1)
            first = digest;
        CHECK(digest == first, "%s %s %s: %d threads give other bytes than 1", g->name, isa, prxi_dtype_name(dtype), threads);
    }
    shared_free(v);
}

static void check_case(const golden_case *g)
{
#ifdef PRXI_KCHECK_CUDA
    static const char *const device[] = { "ref", NULL };      /* the tables of the device replace it */
    const char *const *isa = device;
#else
    const char *const *isa = golden_isas();
#endif
    for (; *isa; isa++)
        for (int dtype = PRXI_F32; dtype <= PRXI_BF16; dtype++)
            check(g, *isa, (prxi_dtype)dtype);
}

int main(int argc, char **argv)
{
    return golden_main(argc, argv, check_case);
}
