/* Who computes a convolution: our kernel or cuDNN, emulated and stood in for. Both give the same numbers in every turn of a ring; the
 * faster one by the machine's clock is taken, remembered on disk, and measured again when cuDNN, the device or the file is another. */
#include "engine/ops/conv.h"
#include "tests/files.h"

#define PRXI_CUDA_PLAIN_BUFFERS
#include "engine/core/dtype.h"
#include "fake_cudnn.h"
#include "tests/cuda/under_test.h"
#include "tests/random.h"

enum { IN = 16, OUT = 24, HEIGHT = 3, WIDTH = 5, ROW = (WIDTH + 1) * IN, Y_ROW = (WIDTH + 1) * OUT, KEPT = HEIGHT * Y_ROW };

static prxi_mem mem;
static prxi_ctx ctx;
static prxi_log listener;
static test_random rng;
static int ran, warnings, costs[10], broken;
static char said[1024];

static void listen(void *cookie, int level, const char *text)
{
    (void)cookie;
    (void)text;
    warnings += level == PRX_LOG_WARN;
}

static int watch(int engine)
{
    ran++;
    emu_clock(costs[engine]);
    return engine == broken;
}

static prxi_cuda *open_device(int with_cudnn)
{
    prxi_cuda *u;
    REQUIRE(prxi_cuda_open_module(&ctx, &u, prxi_cuda_module_table(), NULL) == PRX_OK, "%s", ctx.error.text);
    if (with_cudnn) {
        REQUIRE(prxi_cudnn_open(&ctx, &u->cudnn, fake_cudnn(), NULL, NULL, &u->device, NULL) == PRX_OK, "%s", ctx.error.text);
        u->device.conv_turns = 1;
    }
    ran = warnings = 0;
    return u;
}

typedef struct layer {
    prxi_conv_ops ops;
    prxi_conv *conv;
    _Alignas(64) prxi_bf16 ring[3 * HEIGHT * ROW + IN];
    _Alignas(64) prxi_bf16 y[KEPT + OUT];
} layer;

static float noise(void)
{
    return (float)random_normal(&rng);
}

/* Pixels between rows are NaN: nobody may read them. kt pictures of a ring. */
static void open_layer(prxi_cuda *u, layer *l, int kt, int k)
{
    static float w[OUT * IN * 27], bias[OUT];
    for (int i = 0; i < OUT * IN * 27; i++)
        w[i] = 0.1f * noise();
    for (int i = 0; i < OUT; i++)
        bias[i] = prxi_bf16_to_f32(prxi_f32_to_bf16(noise()));
    const prxi_conv_desc d = { .weight = w, .bias = bias, .cout = OUT, .cin = IN, .kt = kt, .kh = k, .kw = k, .dtype = PRXI_BF16,
                               .device = &u->device };
    emu_share(l, sizeof *l);
    prxi_conv_init_ref(&l->ops);
    REQUIRE(prxi_conv_open(&ctx, &l->conv, &l->ops, &d) == PRX_OK, "%s", ctx.error.text);
    for (int i = 0; i < 3 * HEIGHT * ROW + IN; i++)
        l->ring[i] = i < IN || (i - IN) % ROW >= WIDTH * IN ? 0x7fc0 : prxi_f32_to_bf16(noise());
    for (int i = 0; i < KEPT + OUT; i++)
        l->y[i] = prxi_f32_to_bf16((float)(i % 5));
}

static prxi_conv_args args_of(layer *l, int kt, int k, int oldest, int add, prxi_conv_by by)
{
    prxi_conv_args a = { .conv = l->conv, .height = HEIGHT, .width = WIDTH, .end = HEIGHT, .dy = -(k / 2), .dx = -(k / 2), .scale = 1,
                         .out = { (unsigned char *)(l->y + OUT), Y_ROW * 2, HEIGHT, 0 }, .out_pitch = OUT, .out_dtype = PRXI_BF16,
                         .add = add, .by = by };
    for (int t = 0; t < kt; t++)
        a.src[t] = (prxi_plane) { (unsigned char *)(l->ring + IN), ROW * 2, 3 * HEIGHT, (oldest + t) % 3 * HEIGHT };
    return a;
}

static int call(prxi_cuda *u, const prxi_conv_args *a, int prepare)
{
    prxi_stream s;
    prxi_ctx own = { .mem = &mem };
    prxi_stream_init(&s, &own, 1);
    s.device = &u->device;
    if (prepare)
        prxi_conv_prepare(&s, a);
    else
        prxi_conv_run(&s, NULL, a);
    const int err = prxi_stream_error(&s);
    snprintf(said, sizeof said, "%s", own.error.text);
    prxi_stream_close(&s);
    return err;
}

/* The same sums by both, whichever picture is the oldest; added to what is there or not. */
static void check_numbers(prxi_cuda *u, int kt, int k, int add)
{
    static layer l, other;
    emu_share(&other, sizeof other);
    open_layer(u, &l, kt, k);
    for (int oldest = 0; oldest < (kt == 3 ? 3 : 1); oldest++) {
        other = l;
        const prxi_conv_args mine = args_of(&l, kt, k, oldest, add, PRXI_CONV_OURS);
        const prxi_conv_args theirs = args_of(&other, kt, k, oldest, add, PRXI_CONV_LIBRARY);
        REQUIRE(call(u, &theirs, 1) == PRX_OK, "%s", said);
        memcpy(other.y, l.y, sizeof l.y);
        ran = 0;
        REQUIRE(call(u, &theirs, 0) == PRX_OK, "%s", said);
        CHECK(ran == 1, "cuDNN ran %d times", ran);
        REQUIRE(call(u, &mine, 0) == PRX_OK && ran == 1, "%s", said);
        double worst = 0;
        for (int i = 0; i < KEPT; i++)
            if (i % Y_ROW < WIDTH * OUT) {
                const double a = (double)prxi_bf16_to_f32(l.y[OUT + i]), b = (double)prxi_bf16_to_f32(other.y[OUT + i]);
                worst = fmax(worst, fabs(a - b) / (fabs(a) + 4));
            }
        CHECK(worst < 0x1p-7, "%dx%dx%d%s, oldest %d: apart by %g", kt, k, k, add ? " added" : "", oldest, worst);     /* NaN fails */
    }
    prxi_conv_close(&mem, &l.conv);
}

/* Prepares a shape; the choice that was made. */
static const prxi_cuda_conv_choice *decide(prxi_cuda *u, int add, prxi_conv_by by, int code)
{
    static layer l;
    open_layer(u, &l, 3, 3);
    const prxi_conv_args a = args_of(&l, 3, 3, 0, add, by);
    const int err = call(u, &a, 1);
    CHECK(err == code, "status %d, not %d: %s", err, code, said);
    prxi_conv_close(&mem, &l.conv);
    return &u->convs[u->n_convs - 1];
}

/* A launch takes 100 us: ours is one, a sum after cuDNN another. Engines 7, 8, 9 and again 7. */
static void check_choice(void)
{
    costs[7] = 90, costs[8] = 50, costs[9] = 70;
    prxi_cuda *u = open_device(1);
    const prxi_cuda_conv_choice *k = decide(u, 0, PRXI_CONV_AUTO, PRX_OK);
    CHECK(k->config == 1 && k->engine == 8 && fabs(k->theirs - 50) < 0.1 && fabs(k->ours - 100) < 0.1 && !k->recalled,
          "config %d, engine %d, %g and %g us", k->config, (int)k->engine, k->theirs, k->ours);
    k = decide(u, 1, PRXI_CONV_AUTO, PRX_OK);
    CHECK(k->config == 1 && fabs(k->theirs - 150) < 0.1 && u->n_convs == 2, "added: config %d, %g us", k->config, k->theirs);
    const int measured = ran;
    decide(u, 1, PRXI_CONV_AUTO, PRX_OK);
    CHECK(ran == measured && u->n_convs == 2, "a shape is measured once");
    prxi_cuda_close(&ctx, &u);
}

/* What runs afterwards is what was decided. */
static void check_followed(void)
{
    static layer l;
    prxi_cuda *u = open_device(1);
    open_layer(u, &l, 3, 3);
    prxi_conv_args a = args_of(&l, 3, 3, 1, 0, PRXI_CONV_AUTO);
    CHECK(call(u, &a, 0) == PRX_OK && ran == 0, "not prepared: ours");
    CHECK(call(u, &a, 1) == PRX_OK && ran == 0 && u->convs[0].recalled, "remembered: nothing is measured");
    CHECK(call(u, &a, 0) == PRX_OK && ran == 1, "cuDNN was faster");
    a.by = PRXI_CONV_OURS;
    CHECK(call(u, &a, 0) == PRX_OK && ran == 1, "ours was asked for");
    a.src[0].base = NULL;
    a.by = PRXI_CONV_LIBRARY;
    CHECK(call(u, &a, 0) == PRX_OK && ran == 1, "no history yet: ours");
    a = args_of(&l, 3, 3, 1, 1, PRXI_CONV_AUTO);
    CHECK(call(u, &a, 1) == PRX_OK && call(u, &a, 0) == PRX_OK && ran == 1, "with the sum ours was faster");
    a.by = PRXI_CONV_LIBRARY;
    CHECK(call(u, &a, 0) == PRX_OK && ran == 2, "cuDNN was asked for");
    prxi_conv_close(&mem, &l.conv);
    prxi_cuda_close(&ctx, &u);
}

static int measured_again(void)
{
    prxi_cuda *u = open_device(1);
    const int recalled = decide(u, 0, PRXI_CONV_AUTO, PRX_OK)->recalled;
    CHECK(recalled == (ran == 0), "remembered %d, cuDNN ran %d times", recalled, ran);
    prxi_cuda_close(&ctx, &u);
    return !recalled;
}

/* Replaces what is remembered of every shape. */
static void remember(const char *value)
{
    prxi_choices *k;
    const char *was;
    REQUIRE(prxi_choices_open(&ctx, &k, "cuda") == PRX_OK && prxi_choices_at(k, 0, &was), "%s", ctx.error.text);
    for (int i = 0; prxi_choices_at(k, i, &was); i++)
        CHECK(prxi_choices_put(&ctx, k, prxi_choices_at(k, i, &was), value) == PRX_OK, "%s", ctx.error.text);
    prxi_choices_save(&ctx, k);
    prxi_choices_close(&ctx, &k);
}

static void check_memory(void)
{
    CHECK(!measured_again(), "as it was");
    fake_cudnn_version(91901);
    CHECK(measured_again() && !measured_again(), "another cuDNN");
    fake_cudnn_version(91900);
    CHECK(!measured_again(), "the first is still known");
    remember("1:9:50.0:100.0");
    CHECK(measured_again() && !measured_again(), "the configuration has another engine now");
    remember("2:8:50.0:100.0");
    CHECK(measured_again() && !measured_again(), "the configuration cannot be planned any more");
    static const char *const senseless[] = { "x", "1:8:50.0", "1:8:50.0:100.0:", "-2:8:1:1", "1:8:nan:1", "1:8:-1:1" };
    for (size_t i = 0; i < sizeof senseless / sizeof *senseless; i++) {
        remember(senseless[i]);
        CHECK(measured_again() && warnings == 1 && !measured_again(), "'%s': %d warnings", senseless[i], warnings);
    }
    tmp_write("cuda.choices", "praxino choices 2\nwhatever", 26);
    CHECK(measured_again() && !measured_again(), "a file of another program");
    remember("-1:-1:0.0:100.0");
    prxi_cuda *u = open_device(1);
    decide(u, 0, PRXI_CONV_LIBRARY, PRX_ENOTSUP);
    CHECK(strstr(said, "no plan for 16 to 24 channels"), "%s", said);
    prxi_cuda_close(&ctx, &u);
    CHECK(unlink(tmp_path("cuda.choices")) == 0, "it was there");
}

static void multiply(prxi_cuda *u, int n)
{
    static float x[64], w[64], y[64];
    emu_share(x, sizeof x);
    emu_share(w, sizeof w);
    emu_share(y, sizeof y);
    for (int m = 1; m <= n; m++) {
        const prxi_device_linear a = { m, 4, 8, PRXI_F32, PRXI_F32, 0, x, w, NULL, 8, 4, y, NULL, NULL };
        CHECK(u->device.linear(&u->device, &a) == PRX_OK, "%s", u->device.error(&u->device));
    }
}

/* Algorithms of products find their way to the disk and back, bit by bit; not where nothing is to be measured. */
static void check_products(void)
{
    prxi_cuda *u = open_device(0);
    multiply(u, 3);
    CHECK(emu_gemms_recalled() == 0, "nothing was known");
    multiply(u, 2);
    CHECK(emu_gemms_recalled() == 2, "known by now");
    prxi_cuda_close(&ctx, &u);
    u = open_device(0);
    multiply(u, 4);
    CHECK(emu_gemms_recalled() == 3, "three of four are on the disk");
    snprintf(u->info.cublaslt, sizeof u->info.cublaslt, "other");
    multiply(u, 4);
    CHECK(emu_gemms_recalled() == 0, "another library");
    prxi_cuda_close(&ctx, &u);
    remember("00");
    u = open_device(0);
    multiply(u, 4);
    CHECK(emu_gemms_recalled() == 0, "what is too short is no algorithm");
    prxi_cuda_close(&ctx, &u);
    setenv("PRAXINO_CUDA_TUNE", "0", 1);
    u = open_device(0);
    multiply(u, 4);
    CHECK(emu_gemms_recalled() == 0, "nothing is to be remembered");
    prxi_cuda_close(&ctx, &u);
    setenv("PRAXINO_CUDA_TUNE", "1", 1);
    CHECK(unlink(tmp_path("cuda.choices")) == 0, "it was there");
}

/* A configuration that does not run is none; a shape that cuDNN has no form of is not asked about; without cuDNN nothing changes. */
static void check_exceptions(void)
{
    broken = 8;
    prxi_cuda *u = open_device(1);
    const prxi_cuda_conv_choice *k = decide(u, 0, PRXI_CONV_AUTO, PRX_OK);
    CHECK(k->config == 3 && k->engine == 9, "config %d, engine %d", k->config, (int)k->engine);
    broken = 0;
    prxi_cuda_close(&ctx, &u);
    u = open_device(0);
    static layer l;
    open_layer(u, &l, 3, 3);
    prxi_conv_args a = args_of(&l, 3, 3, 0, 0, PRXI_CONV_AUTO);
    CHECK(call(u, &a, 1) == PRX_OK && call(u, &a, 0) == PRX_OK && ran == 0 && u->n_convs == 0, "without cuDNN");
    prxi_conv_close(&mem, &l.conv);
    prxi_cuda_close(&ctx, &u);
}

/* Prepares with the n-th call of cuDNN (0), allocation (1) or launch (2) failing; how many there were. */
static int fail_at(int kind, int n, int *err)
{
    static int (*const fail[3])(int n) = { fake_cudnn_fail, emu_refuse_memory, emu_fail_launch };
    static layer l;
    prxi_cuda *u = open_device(1);
    open_layer(u, &l, 3, 3);
    const prxi_conv_args a = args_of(&l, 3, 3, 0, 1, PRXI_CONV_AUTO);
    fail[kind](n);
    *err = call(u, &a, 1);
    const int calls = fail[kind](0);
    prxi_conv_close(&mem, &l.conv);
    prxi_cuda_close(&ctx, &u);
    CHECK(emu_blocks() == 0 && fake_cudnn_alive() == 0 && atomic_load(&mem.total) == 0, "kind %d, call %d: something stays", kind, n);
    return calls;
}

/* An end in order: a decision or a reason. What of cuDNN fails is not used; memory that ends, and our own kernel, are errors. */
static void check_faults(void)
{
    int err, ends[3] = { 0 };
    setenv("PRAXINO_CACHE", "", 1);
    for (int kind = 0; kind < 3; kind++) {
        const int calls = fail_at(kind, 0, &err);
        CHECK(err == PRX_OK && calls > 1, "%d calls, status %d", calls, err);
        for (int n = 1; n <= calls; n += kind ? 1 : 29) {
            fail_at(kind, n, &err);
            CHECK(err == PRX_OK || *said, "kind %d, call %d: status %d without a reason", kind, n, err);
            CHECK(kind != 1 || err == PRX_ENOMEM, "allocation %d: status %d, %s", n, err, said);
            ends[kind] += err < 0;
        }
    }
    CHECK(ends[0] == 0 && ends[1] == 2 && ends[2] == 6, "%d, %d and %d failures were reported", ends[0], ends[1], ends[2]);
}

int main(void)
{
    rng.state = 3;
    prxi_mem_init(&mem, NULL);
    listener = (prxi_log) { listen, NULL, PRX_LOG_INFO };
    ctx = (prxi_ctx) { .mem = &mem, .log = &listener };
    tmp_open();
    setenv("PRAXINO_CACHE", tmp_dir, 1);
    setenv("PRAXINO_CUDA_TUNE", "1", 1);
    unsetenv("PRAXINO_CUDNN");
    fake_cudnn_watch(watch);
    check_choice();
    check_followed();
    check_memory();
    check_products();
    check_exceptions();
    prxi_cuda *u = open_device(1);
    for (int add = 0; add < 2; add++) {
        check_numbers(u, 3, 3, add);
        check_numbers(u, 3, 1, add);
        check_numbers(u, 1, 1, add);
        check_numbers(u, 1, 3, add);
    }
    prxi_cuda_close(&ctx, &u);
    check_faults();
    tmp_close();
    CHECK(fake_cudnn_alive() == 0 && emu_blocks() == 0 && atomic_load(&mem.total) == 0, "leaks");
    return TEST_END();
}
