/* The guard against values that are not finite: wherever one begins, its second look names the block and the op; a job that meets one says
 * step, place and value. Compiled for the emulated device too. */
#include <praxino/praxino.h>

#include "engine/model/dit_int.h"
#include "tests/random.h"
#include "tests/test.h"

#ifdef PRXI_KCHECK_CUDA
#define PRXI_CUDA_PLAIN_BUFFERS
#include "tests/cuda/under_test.h"
#endif

#define MODEL PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model"

enum { FRAMES = 2, SIDE = 8, ROWS = 3, ELEMS = 16 * FRAMES * SIDE * SIDE, TEXT = 64 };

static prxi_mem mem;
static prxi_ctx ctx;
static prxi_kernels kernels;
static float latents[ELEMS], text[ROWS * TEXT], v[ELEMS];

static void open_kernels(void)
{
    prxi_kernels_init(&kernels, 0);
#ifdef PRXI_KCHECK_CUDA
    prxi_cuda_kernels(&kernels, cuda_under_test());
    emu_share(latents, sizeof latents);
    emu_share(v, sizeof v);
#endif
}

typedef struct net {
    prxi_stream s;
    prxi_dit *d;
    prxi_dit_run *r;
} net;

static void open_net(net *n, prxi_dtype t)
{
    n->d = NULL;
    prxi_stream_init(&n->s, &ctx, 1);
    n->s.device = kernels.device;
    REQUIRE(prxi_dit_open(&ctx, &n->d, MODEL "/transformer", NULL, &kernels, t) == PRX_OK, "%s", ctx.error.text);
    const prxi_dit_config *c = prxi_dit_get_config(n->d);
    REQUIRE(c->in_channels * FRAMES * SIDE * SIDE <= ELEMS && c->text_dim <= TEXT && c->layers == 3, "the model fits the test");
    const prxi_dit_clip clip = { FRAMES, SIDE, SIDE, 1, { ROWS, 0 }, { text, NULL }, 16 };
    REQUIRE(prxi_dit_run_open(&ctx, &n->s, &n->r, n->d, &clip) == PRX_OK, "%s", ctx.error.text);
}

static void close_net(net *n)
{
    prxi_dit_run_close(&ctx, &n->r);
    prxi_dit_close(&ctx, &n->d);
    prxi_stream_close(&n->s);
}

static const char *look(net *n)
{
    prxi_cache_report reports[PRXI_BRANCHES];
    const prxi_dit_hooks hooks = { prxi_attn_policy_find("dense"), NULL, prxi_cache_policy_find("none"), NULL, reports, NULL, NULL };
    const prxi_step step = { .steps = 1, .timestep = 500 };
    float *const out[PRXI_BRANCHES] = { v, NULL };
    const char *found = prxi_dit_find_bad(&n->s, n->r, &step, latents, &hooks, out);
    CHECK(prxi_stream_error(&n->s) == PRX_OK, "%s", ctx.error.text);
    return found ? found : "nothing";
}

/* Puts a value into the network's memory; what was there. */
static float put(void *values, prxi_dtype t, int i, float value)
{
#ifdef PRXI_KCHECK_CUDA
    emu_device_begin();
#endif
    const float was = prxi_load(values, t, (size_t)i);
    prxi_store(values, t, (size_t)i, value);
#ifdef PRXI_KCHECK_CUDA
    emu_device_end();
#endif
    return was;
}

/* A value of the network's memory is not finite, then what it was again. */
static void check_place(net *n, void *values, prxi_dtype t, int i, const char *want)
{
    const float was = put(values, t, i, i % 2 ? NAN : INFINITY);
    const char *got = look(n);
    CHECK(strncmp(got, want, strlen(want)) == 0, "'%s' instead of '%s'", got, want);
    put(values, t, i, was);
}

static void check_places(prxi_dtype t)
{
    net n;
    open_net(&n, t);
    prxi_dit_block *b = n.d->blocks;
    CHECK(strcmp(look(&n), "nothing") == 0, "all is well: %s", look(&n));
    check_place(&n, latents, PRXI_F32, 6, "the latents before it (value 6 of ");
    check_place(&n, b[2].table, PRXI_F32, 0, "embedding of the timestep (value ");
    check_place(&n, b[0].self.norm_q, PRXI_F32, 2, "block 0, queries of self-attention (value 2 of ");
    check_place(&n, b[1].self.norm_k, PRXI_F32, 4, "block 1, keys of self-attention (value 4 of ");
    check_place(&n, b[2].norm2_bias, PRXI_F32, 7, "block 2, sum and norm before cross-attention (value 7 of ");
    check_place(&n, b[1].cross.norm_q, PRXI_F32, 1, "block 1, queries of cross-attention (value 1 of ");
    check_place(&n, n.r->text[0][2].v, t, 1, "block 2, cross-attention (value 1 of ");
    check_place(&n, n.d->table, PRXI_F32, 1, "norm of the head (value 1 of ");
    CHECK(strcmp(look(&n), "nothing") == 0, "all is well again");
    close_net(&n);
}

#ifndef PRXI_KCHECK_CUDA
/* A job whose latents are too large to be squared. */
static void check_job(void)
{
    prx_engine *e;
    prx_model *m;
    prx_job *j;
    static float huge[16 * FRAMES * 4 * 4];
    prx_engine_params p;
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++)
        huge[i] = i % 2 ? 3e38f : -3e38f;
    prx_engine_default_params(&p);
    p.threads = 1;
    p.dtype = "f32";
    REQUIRE(prx_engine_open(&e, &p) == PRX_OK && prx_model_open(&m, e, MODEL) == PRX_OK, "%s", prx_engine_last_error(e));
    REQUIRE(prx_job_open(&j, m) == PRX_OK, "%s", prx_engine_last_error(e));
    static const char *const set[][2] = { { "prompt", "a ball" }, { "width", "32" }, { "height", "32" }, { "frames", "5" },
                                          { "steps", "2" } };
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        REQUIRE(prx_job_set(j, set[i][0], set[i][1]) == PRX_OK, "%s", prx_job_last_error(j));
    REQUIRE(prx_job_set_latents(j, huge, sizeof huge / sizeof *huge) == PRX_OK, "%s", prx_job_last_error(j));
    const int err = prx_job_run(j);
    const char *said = prx_job_last_error(j);
    CHECK(err == PRX_ENUMERIC && strstr(said, "step 1: the network's output is not finite") && strstr(said, "it begins in "), "%d: %s", err,
          said);
    CHECK(strstr(said, "norm before self-attention") || strstr(said, "embedding of the patches"), "%s", said);
    prx_job_close(&j);
    prx_model_close(&m);
    prx_engine_close(&e);
}
#endif

int main(void)
{
    test_random rng = { 1 };
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    for (int i = 0; i < ELEMS; i++)
        latents[i] = (float)random_normal(&rng);
    for (int i = 0; i < ROWS * TEXT; i++)
        text[i] = (float)random_normal(&rng);
    open_kernels();
    check_places(PRXI_F32);
    check_places(PRXI_BF16);
#ifndef PRXI_KCHECK_CUDA
    check_job();
#endif
    return TEST_END();
}
