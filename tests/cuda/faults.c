/* A device that fails: the n-th allocation is refused, the n-th kernel does not start. The network comes back with a status and a text that
 * says what, nothing stays on the device or the host, and the next run on the same device gives the right bytes. */
#include "tests/test.h"

#define PRXI_CUDA_PLAIN_BUFFERS
#include "engine/model/dit.h"
#include "tests/cuda/under_test.h"
#include "tests/random.h"

#define MODEL PRX_SOURCE_DIR "/tests/vectors/golden/wan21_euler/model/transformer"

enum { FRAMES = 2, SIDE = 8, ROWS = 3, ELEMS = 16 * FRAMES * SIDE * SIDE };

static prxi_mem mem;
static prxi_ctx ctx;
static float latents[ELEMS], text[ROWS * 64], v[ELEMS], good[ELEMS];       /* shared with the device */

enum { FORWARDS = 2 };
static const char *model = MODEL;
static size_t budget = SIZE_MAX;        /* of weights: SIZE_MAX, or so little that two blocks at a time come from the host */

/* Opens the device and the network, runs forwards, closes both. */
static int forward(prxi_cuda *cuda)
{
    prxi_kernels k;
    prxi_stream s;
    prxi_dit *d = NULL;
    prxi_dit_run *r = NULL;
    prxi_cache_report report;
    prxi_cuda_kernels(&k, cuda);
    prxi_clear(&ctx);
    prxi_stream_init(&s, &ctx, 1);
    s.device = k.device;
    int err = prxi_dit_open_within(&ctx, &d, model, NULL, &k, PRXI_BF16, PRXI_QUANT_NONE, budget);
    if (err == PRX_OK) {
        const prxi_dit_config *c = prxi_dit_get_config(d);
        REQUIRE(c->in_channels * FRAMES * SIDE * SIDE <= ELEMS && c->text_dim <= 64, "the model fits the test");
        const prxi_dit_clip clip = { FRAMES, SIDE, SIDE, 1, { ROWS, 0 }, { text, NULL }, 16 };
        err = prxi_dit_run_open(&ctx, &s, &r, d, &clip);
    }
    if (err == PRX_OK) {
        const prxi_dit_hooks hooks = { .attn = prxi_attn_policy_find("dense"), .cache = prxi_cache_policy_find("none"),
                                       .reports = &report };
        const prxi_step step = { .steps = 1, .timestep = 500 };
        float *const out[PRXI_BRANCHES] = { v, NULL };
        for (int i = 0; i < FORWARDS; i++)
            prxi_dit_forward(&s, r, &step, latents, &hooks, out);
        err = prxi_stream_error(&s);
    }
    prxi_dit_run_close(&ctx, &r);
    prxi_dit_close(&ctx, &d);
    prxi_stream_close(&s);
    return err;
}

static void open_device(prxi_cuda **cuda)
{
    REQUIRE(prxi_cuda_open_module(&ctx, cuda, prxi_cuda_module_table(), NULL) == PRX_OK, "%s", ctx.error.text);
}

/* With `fail` set to 1, 2, ...: how it ended; then the device again without faults. */
static void check(int (*fail)(int n), int n, int code, const char *what)
{
    prxi_cuda *cuda;
    open_device(&cuda);
    fail(n);
    const int err = forward(cuda);
    CHECK(err == code && strstr(ctx.error.text, what), "%s %d: %d, '%s'", what, n, err, ctx.error.text);
    fail(0);
    if (n % 8 == 1) {
        memset(v, 0, sizeof v);
        CHECK(forward(cuda) == PRX_OK && memcmp(v, good, sizeof v) == 0, "%s %d: the next run: %s", what, n, ctx.error.text);
    }
    prxi_cuda_close(&ctx, &cuda);
    CHECK(emu_blocks() == 0, "%s %d: %d blocks stay on the device", what, n, emu_blocks());
    CHECK(atomic_load(&mem.total) == 0, "%s %d: %zu bytes leak", what, n, atomic_load(&mem.total));
}

/* Weights that come from the host as they are needed: the same bytes, with one block that stays and with none; less is refused. */
static void check_streamed(void)
{
    prxi_dit_config cfg;
    prxi_cuda *cuda;
    model = PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model/transformer";
    REQUIRE(prxi_dit_config_load(&ctx, model, &cfg) == PRX_OK && cfg.layers > 2, "%s", ctx.error.text);
    open_device(&cuda);
    REQUIRE(forward(cuda) == PRX_OK, "%s", ctx.error.text);
    memcpy(good, v, sizeof v);
    prxi_cuda_close(&ctx, &cuda);
    const prxi_dit_fit all = prxi_dit_fit_in(&cfg, PRXI_BF16, PRXI_QUANT_NONE, SIZE_MAX);
    const prxi_dit_fit none = prxi_dit_fit_in(&cfg, PRXI_BF16, PRXI_QUANT_NONE, 1);
    CHECK(all.resident == cfg.layers && none.resident == -1 && none.bytes < all.bytes, "%d and %d blocks", all.resident, none.resident);
    for (int stay = 0; stay <= cfg.layers - 2; stay++) {
        budget = none.bytes + (size_t)stay * all.block_bytes;
        const prxi_dit_fit fit = prxi_dit_fit_in(&cfg, PRXI_BF16, PRXI_QUANT_NONE, budget);
        CHECK(fit.resident == (budget >= all.bytes ? cfg.layers : stay) && fit.bytes <= budget,
              "%d stay instead of %d", fit.resident, stay);
        open_device(&cuda);
        memset(v, 0, sizeof v);
        CHECK(forward(cuda) == PRX_OK && memcmp(v, good, sizeof v) == 0, "%d blocks stay: %s", stay, ctx.error.text);
        prxi_cuda_close(&ctx, &cuda);
    }
    budget = none.bytes - 1;
    open_device(&cuda);
    CHECK(forward(cuda) == PRX_ENOMEM && strstr(ctx.error.text, "two blocks"), "%s", ctx.error.text);
    emu_refuse_memory(0);
    budget = none.bytes;
    REQUIRE(forward(cuda) == PRX_OK, "%s", ctx.error.text);
    const int allocations = emu_refuse_memory(0);
    prxi_cuda_close(&ctx, &cuda);
    for (int n = 1; n <= allocations; n += 3)
        check(emu_refuse_memory, n, PRX_ENOMEM, "memory");
    budget = SIZE_MAX;
}

int main(void)
{
    test_random rng = { 1 };
    prxi_cuda *cuda;
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    for (int i = 0; i < ELEMS; i++)
        latents[i] = (float)random_normal(&rng);
    for (int i = 0; i < ROWS * 64; i++)
        text[i] = (float)random_normal(&rng);
    emu_share(latents, sizeof latents);
    emu_share(text, sizeof text);
    emu_share(v, sizeof v);
    open_device(&cuda);
    emu_fail_launch(0);
    emu_refuse_memory(0);
    REQUIRE(forward(cuda) == PRX_OK, "%s", ctx.error.text);
    memcpy(good, v, sizeof v);
    const int launches = emu_fail_launch(0), allocations = emu_refuse_memory(0);
    prxi_cuda_close(&ctx, &cuda);
    CHECK(launches > 20 && allocations > 20, "%d launches, %d allocations", launches, allocations);
    for (int n = 1; n <= allocations; n++)
        check(emu_refuse_memory, n, PRX_ENOMEM, "out of memory");
    for (int n = 1; n <= launches; n++)
        check(emu_fail_launch, n, PRX_EINTERNAL, "the launch failed");
    check_streamed();
    return TEST_END();
}
