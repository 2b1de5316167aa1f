/* Who serves attention: our kernels, emulated, and cuDNN, stood in for. Whoever is faster by the machine's clock is taken, remembered on
 * disk, and measured again when the list, cuDNN or the file is another; what is forced is not measured. */
#include "tests/files.h"

#define PRXI_CUDA_PLAIN_BUFFERS
#include "engine/core/dtype.h"
#include "fake_cudnn.h"
#include "tests/cuda/under_test.h"
#include "tests/random.h"

enum { HEADS = 1, D = 64, N = 96, BLOCK = 32, BLOCKS = N / BLOCK, ROWS = N + PRXI_ATTN_ROOM };
enum { ATTN, ATTN90, CUDNN };

static prxi_mem mem;
static prxi_ctx ctx;
static prxi_log listener;
static prxi_cuda_module module;             /* the emulation's, with kernels that cost what a test says */
static int ran[3], warnings, costs[10], own[2], broken, wrong[2];
static uint64_t lists;
static char said[1024];
static _Alignas(64) prxi_bf16 x[4][ROWS * D];

static void listen(void *cookie, int level, const char *text)
{
    (void)cookie;
    (void)text;
    warnings += level == PRX_LOG_WARN;
}

static int watch(int engine)
{
    ran[CUDNN]++;
    emu_clock(costs[engine]);
    return engine == broken;
}

/* A kernel that is not quite right. */
static prxi_cu_attn spoilt(const prxi_cu_attn *a)
{
    prxi_cu_attn y = *a;
    y.scale *= 1.1f;
    return y;
}

static int attention(void *dev, int type, const prxi_cu_attn *a)
{
    ran[ATTN]++;
    emu_clock(own[ATTN]);
    const prxi_cu_attn y = wrong[ATTN] ? spoilt(a) : *a;
    return prxi_cuda_module_table()->attention(dev, type, &y);
}

static int attention90(void *dev, int type, const prxi_cu_attn *a)
{
    ran[ATTN90]++;
    emu_clock(own[ATTN90]);
    const prxi_cu_attn y = wrong[ATTN90] ? spoilt(a) : *a;
    return prxi_cuda_module_table()->attention90(dev, type, &y);
}

/* Microseconds beside what a launch costs. */
static void cost(int attn, int attn90, int seven, int eight, int nine)
{
    own[ATTN] = attn, own[ATTN90] = attn90;
    costs[7] = seven, costs[8] = eight, costs[9] = nine;
}

static prxi_cuda *open_device(int with_cudnn)
{
    prxi_cuda *u;
    REQUIRE(prxi_cuda_open_module(&ctx, &u, &module, NULL) == PRX_OK, "%s", ctx.error.text);
    if (with_cudnn)
        REQUIRE(prxi_cudnn_open(&ctx, &u->cudnn, fake_cudnn(), NULL, NULL, &u->device, NULL) == PRX_OK, "%s", ctx.error.text);
    u->least_timed = 0;
    memset(ran, 0, sizeof ran);
    warnings = 0;
    return u;
}

/* Radial in small: the diagonal and what `more` adds below it; -1: the other diagonal. */
typedef struct list {
    prxi_block_list b;
    int32_t start[BLOCKS + 1], cols[BLOCKS * BLOCKS];
    int64_t row_ptr[BLOCKS + 1];
} list;

static void open_list(list *l, int more)
{
    int64_t at = 0;
    for (int q = 0; q <= BLOCKS; q++) {
        l->start[q] = q * BLOCK;
        l->row_ptr[q] = at;
        for (int k = more < 0 ? q : q > more ? q - more : 0; k <= q && q < BLOCKS; k++)
            l->cols[at++] = more < 0 ? BLOCKS - 1 - q : k;
    }
    l->b = (prxi_block_list) { .nq = BLOCKS, .nk = BLOCKS, .q_start = l->start, .k_start = l->start, .row_ptr = l->row_ptr,
                               .cols = l->cols, .id = ++lists };
}

static int call(prxi_cuda *u, const prxi_block_list *b, int prepare)
{
    const prxi_attn_args a = { HEADS, D, N, N, x[0], x[1], x[2], x[3], D, D, D, D, 0.125f, 0, NULL, PRXI_ATTN_ROOM };
    prxi_kernels k;
    prxi_stream s;
    prxi_ctx mine = { .mem = &mem };
    prxi_cuda_kernels(&k, u);
    prxi_stream_init(&s, &mine, 1);
    s.device = &u->device;
    if (prepare)
        k.attn.prepare(&s, PRXI_BF16, &a, b);
    else if (b)
        k.attn.blocks[PRXI_BF16](&s, &a, b);
    else
        k.attn.dense[PRXI_BF16](&s, &a);
    const int err = prxi_stream_error(&s);
    snprintf(said, sizeof said, "%s", mine.error.text);
    prxi_stream_close(&s);
    return err;
}

/* Prepares a shape, and runs it: who did, -1 for several or none. */
static int served(prxi_cuda *u, const prxi_block_list *b)
{
    REQUIRE(call(u, b, 1) == PRX_OK, "%s", said);
    int was[3];
    memcpy(was, ran, sizeof was);
    REQUIRE(call(u, b, 0) == PRX_OK, "%s", said);
    int who = -1, n = 0;
    for (int i = 0; i < 3; i++)
        if (ran[i] > was[i]) {
            who = i;
            n += ran[i] - was[i];
        }
    memcpy(ran, was, sizeof was);
    return n == 1 ? who : -1;
}

static const prxi_cuda_attn_choice *last(const prxi_cuda *u)
{
    REQUIRE(u->n_attns > 0, "nothing was measured");
    return &u->attns[u->n_attns - 1];
}

/* Everybody's turn to win, dense and by a list; a launch takes 100 us. The same numbers whoever does it. */
static void check_choice(void)
{
    static const struct {
        int costs[5], who, engine;
    } turns[] = { { { 0, 50, 400, 300, 200 }, ATTN, 9 },    { { 200, 50, 400, 300, 200 }, ATTN90, 9 },
                  { { 200, 150, 90, 300, 200 }, CUDNN, 7 }, { { 200, 150, 90, 80, 200 }, CUDNN, 8 },
                  { { 200, 150, 90, 80, 70 }, CUDNN, 9 } };
    static prxi_bf16 first[N * D];
    list l;
    open_list(&l, 1);
    for (int dense = 0; dense < 2; dense++)
        for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
            const int *c = turns[i].costs;
            cost(c[0], c[1], c[2], c[3], c[4]);
            prxi_cuda *u = open_device(1);
            const int who = served(u, dense ? NULL : &l.b);
            const prxi_cuda_attn_choice *k = last(u);
            CHECK(who == turns[i].who && (int)k->engine == turns[i].engine && !k->recalled, "dense %d, turn %zu: %d, engine %d", dense, i,
                  who, (int)k->engine);
            CHECK(fabs(k->us[ATTN] - 100 - c[0]) < 0.1 && fabs(k->us[CUDNN] - (who == CUDNN ? costs[k->engine] : 200)) < 0.1,
                  "dense %d, turn %zu: %g, %g us", dense, i, k->us[ATTN], k->us[CUDNN]);
            CHECK(k->page == (dense ? 0 : BLOCK) && fabs(k->density - (dense ? 1 : 5.0 / 9)) < 1e-9, "page %d, density %g", k->page,
                  k->density);
            double worst = 0;
            for (int e = 0; e < N * D; e++)
                worst = fmax(worst, fabs((double)prxi_bf16_to_f32(x[3][e]) - (double)prxi_bf16_to_f32(first[e])));
            CHECK(i == 0 || worst < 0.02, "dense %d, turn %zu: apart by %g", dense, i, worst);
            memcpy(first, x[3], sizeof first);
            prxi_cuda_close(&ctx, &u);
            CHECK(unlink(tmp_path("cuda.choices")) == 0, "it was there");
        }
}

/* What is known is not measured: in the same device, on disk, for a list of the same blocks. */
static int measured(int more)
{
    list l;
    open_list(&l, more);
    prxi_cuda *u = open_device(1);
    CHECK(served(u, &l.b) == CUDNN, "cuDNN is the fastest");
    const int again = !last(u)->recalled, runs = ran[ATTN] + ran[ATTN90] + ran[CUDNN];
    CHECK(again == (runs > 0), "remembered %d, %d runs", !again, runs);
    CHECK(served(u, &l.b) == CUDNN && u->n_attns == 1 && ran[ATTN] + ran[ATTN90] + ran[CUDNN] == runs, "a shape is measured once");
    open_list(&l, more);
    CHECK(served(u, &l.b) == CUDNN && u->n_attns == 2 && last(u)->recalled && ran[ATTN] + ran[ATTN90] + ran[CUDNN] == runs,
          "a list of the same blocks");
    prxi_cuda_close(&ctx, &u);
    return again;
}

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
    cost(200, 150, 90, 80, 85);
    CHECK(measured(1) && !measured(1), "remembered");
    CHECK(measured(0) && !measured(0) && !measured(1), "another list");
    CHECK(measured(-1) && !measured(-1) && !measured(0), "other columns");
    fake_cudnn_version(91901);
    CHECK(measured(1) && !measured(1), "another cuDNN");
    fake_cudnn_version(91900);
    CHECK(!measured(1), "the first is still known");
    remember("300.0:250.0:80.0:1:9");
    CHECK(measured(1) && !measured(1), "the configuration has another engine now");
    remember("300.0:250.0:80.0:2:8");
    CHECK(measured(1) && !measured(1), "the configuration cannot be planned any more");
    static const char *const senseless[] = { "x", "1:1:1:1", "1:1:1:1:8:", "-1:-1:-1:1:8", "1:nan:1:1:8", "1:-2:1:1:8", "1:1:1:-1:8" };
    for (size_t i = 0; i < sizeof senseless / sizeof *senseless; i++) {
        remember(senseless[i]);
        CHECK(measured(1) && warnings == 1 && !measured(1), "'%s': %d warnings", senseless[i], warnings);
    }
    tmp_write("cuda.choices", "praxino choices 2\nwhatever", 26);
    CHECK(measured(1) && !measured(1), "a file of another program");
    CHECK(unlink(tmp_path("cuda.choices")) == 0, "it was there");
}

/* What is said decides, and no clock; but cuDNN's own configurations are measured where it must serve. */
static void check_forced(void)
{
    static const struct {
        prxi_cuda_attention want;
        int dense, list, timed;
    } rows[] = { { PRXI_CUDA_PORTABLE, ATTN, ATTN, 0 }, { PRXI_CUDA_HOPPER, ATTN90, ATTN90, 0 }, { PRXI_CUDA_CUDNN, CUDNN, ATTN90, 1 },
                 { PRXI_CUDA_PAGED, ATTN, CUDNN, 2 }, { PRXI_CUDA_AUTO, ATTN, ATTN, 2 } };
    list l;
    cost(0, 50, 400, 300, 200);                 /* attn is the fastest */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        prxi_cuda *u = open_device(1);
        u->want = rows[i].want;
        open_list(&l, 1);
        const int dense = served(u, NULL), sparse = served(u, &l.b);
        CHECK(dense == rows[i].dense && sparse == rows[i].list && u->n_attns == rows[i].timed, "%zu: %d, %d, %d timed", i, dense, sparse,
              u->n_attns);
        prxi_cuda_close(&ctx, &u);
        unlink(tmp_path("cuda.choices"));
    }
}

/* Not measured: small shapes, lists that may change, anything without times; then the order is the static one. */
static void check_static(void)
{
    list l;
    prxi_cuda *u = open_device(1);
    open_list(&l, 1);
    u->least_timed = 1e9;
    CHECK(served(u, NULL) == CUDNN && served(u, &l.b) == ATTN90 && u->n_attns == 0, "small shapes");
    u->least_timed = 0;
    l.b.id = 0;
    CHECK(served(u, &l.b) == ATTN90 && u->n_attns == 0, "a list that may change");
    prxi_cuda_close(&ctx, &u);
    setenv("PRAXINO_CUDA_TUNE", "0", 1);
    u = open_device(1);
    open_list(&l, 1);
    CHECK(served(u, NULL) == CUDNN && served(u, &l.b) == ATTN90 && u->n_attns == 0, "no clock is asked");
    u->want = PRXI_CUDA_PAGED;
    CHECK(served(u, &l.b) == CUDNN, "pages all the same");
    prxi_cuda_close(&ctx, &u);
    setenv("PRAXINO_CUDA_TUNE", "1", 1);
    u = open_device(0);
    CHECK(served(u, NULL) == ATTN && served(u, &l.b) == ATTN && u->n_attns == 2 && last(u)->us[CUDNN] < 0, "without cuDNN");
    prxi_cuda_close(&ctx, &u);
    unlink(tmp_path("cuda.choices"));
    CHECK(access(tmp_path("cuda.choices"), F_OK) != 0, "nothing is left");
}

/* A configuration that does not run is none; where none does, cuDNN is none, or the end where it must serve. */
static void check_broken(void)
{
    list l;
    cost(200, 150, 90, 80, 70);
    broken = 9;
    prxi_cuda *u = open_device(1);
    open_list(&l, 1);
    CHECK(served(u, &l.b) == CUDNN && last(u)->engine == 8 && last(u)->config == 1, "engine %d", (int)last(u)->engine);
    CHECK(fake_cudnn_alive() < 4 * 64, "what was tried is forgotten");
    prxi_cuda_close(&ctx, &u);
    unlink(tmp_path("cuda.choices"));
    for (int want = PRXI_CUDA_AUTO; want <= PRXI_CUDA_PAGED; want += PRXI_CUDA_PAGED) {
        u = open_device(1);
        u->want = (prxi_cuda_attention)want;
        const prxi_attn_args a = { HEADS, D, N, N, x[0], x[1], x[2], x[3], D, D, D, D, 0.125f, 0, NULL, 0 };
        size_t bytes = 1;
        CHECK(prxi_cuda_plan_list(&ctx, u, &a, NULL, PRXI_BF16, &bytes) == (want ? PRX_ENOTSUP : PRX_OK) && !bytes, "%s", ctx.error.text);
        prxi_clear(&ctx);
        CHECK(prxi_cuda_plan_list(&ctx, u, &a, &l.b, PRXI_BF16, &bytes) == PRX_OK && bytes == 4 * (12 + 4 + 4), "%zu bytes", bytes);
        fake_cudnn_configs(1);                  /* engine 9 alone */
        const int err = call(u, &l.b, 1);
        CHECK(err == (want ? PRX_ENOTSUP : PRX_OK) && (!want || strstr(said, "no plan for 96 x 96")), "%d: %d, %s", want, err, said);
        CHECK(want || served(u, &l.b) == ATTN90, "ours");
        fake_cudnn_configs(0);
        prxi_cuda_close(&ctx, &u);
        unlink(tmp_path("cuda.choices"));
    }
    broken = 0;
}

/* The fastest does not serve where its numbers are wrong: that is said, and remembered; where everybody's are, it is an error. */
static void check_wrong(void)
{
    list l;
    open_list(&l, 1);
    cost(200, 50, 90, 80, 70);
    wrong[ATTN90] = 1;
    for (int turn = 0; turn < 2; turn++)
        for (int dense = 0; dense < 2; dense++) {
            prxi_cuda *u = open_device(1);
            CHECK(served(u, dense ? NULL : &l.b) == CUDNN && last(u)->us[ATTN90] < 0 && last(u)->recalled == turn, "attn90 is wrong");
            CHECK(warnings == !turn, "%d warnings", warnings);
            prxi_cuda_close(&ctx, &u);
        }
    unlink(tmp_path("cuda.choices"));
    wrong[ATTN] = 1;
    prxi_cuda *u = open_device(1);
    CHECK(served(u, NULL) == CUDNN && last(u)->us[ATTN] < 0 && warnings == 2, "both of ours are wrong: %d warnings", warnings);
    prxi_cuda_close(&ctx, &u);
    unlink(tmp_path("cuda.choices"));
    u = open_device(0);
    CHECK(call(u, &l.b, 1) == PRX_ENUMERIC && strstr(said, "no kernel gives right numbers"), "%s", said);
    prxi_cuda_close(&ctx, &u);
    CHECK(access(tmp_path("cuda.choices"), F_OK) != 0, "nothing of it is kept");
    wrong[ATTN] = wrong[ATTN90] = 0;
}

/* Prepares, and runs, with the n-th call of cuDNN (0), allocation (1) or launch (2) failing; how many there were. err: of either. */
static int fail_at(int kind, int n, int err[2])
{
    static int (*const fail[3])(int n) = { fake_cudnn_fail, emu_refuse_memory, emu_fail_launch };
    list l;
    prxi_cuda *u = open_device(1);
    open_list(&l, 1);
    fail[kind](n);
    err[0] = call(u, &l.b, 1);
    err[1] = err[0] < 0 ? PRX_OK : call(u, &l.b, 0);
    const int calls = fail[kind](0);
    prxi_cuda_close(&ctx, &u);
    CHECK(emu_blocks() == 0 && fake_cudnn_alive() == 0 && atomic_load(&mem.total) == 0, "kind %d, call %d: something stays", kind, n);
    return calls;
}

/* An end in order: a decision or a reason. What of cuDNN fails is not used, unless it fails after the decision. */
static void check_faults(void)
{
    int err[2], ends[3] = { 0 };
    setenv("PRAXINO_CACHE", "", 1);
    for (int kind = 0; kind < 3; kind++) {
        const int calls = fail_at(kind, 0, err);
        CHECK(err[0] == PRX_OK && err[1] == PRX_OK && calls > 1, "%d calls, status %d, %d", calls, err[0], err[1]);
        for (int n = 1; n <= calls; n += kind ? 1 : 17) {
            fail_at(kind, n, err);
            CHECK((err[0] == PRX_OK && err[1] == PRX_OK) || *said, "kind %d, call %d: status %d, %d without a reason", kind, n,
                  err[0], err[1]);
            CHECK(kind != 1 || err[0] == PRX_ENOMEM, "allocation %d: status %d, %s", n, err[0], said);
            ends[kind] += err[0] < 0;
        }
    }
    /* launches: four of attn (attn90 is not of this chip), three of the plain kernel */
    CHECK(ends[0] == 0 && ends[1] == 3 && ends[2] == 7, "%d, %d and %d failures were reported", ends[0], ends[1], ends[2]);
}

int main(void)
{
    test_random rng = { 3 };
    prxi_mem_init(&mem, NULL);
    listener = (prxi_log) { listen, NULL, PRX_LOG_INFO };
    ctx = (prxi_ctx) { .mem = &mem, .log = &listener };
    module = *prxi_cuda_module_table();
    module.attention = attention;
    module.attention90 = attention90;
    emu_share(x, sizeof x);
    for (int i = 0; i < 4 * ROWS * D; i++)
        x[i / (ROWS * D)][i % (ROWS * D)] = prxi_f32_to_bf16((float)random_normal(&rng));
    tmp_open();
    setenv("PRAXINO_CACHE", tmp_dir, 1);
    setenv("PRAXINO_CUDA_TUNE", "1", 1);
    setenv("PRAXINO_EMU_CHIP", "90", 1);
    unsetenv("PRAXINO_CUDNN");
    unsetenv("PRAXINO_CUDA_ATTENTION");
    fake_cudnn_watch(watch);
    check_choice();
    check_forced();
    check_static();
    check_broken();
    check_wrong();
    unsetenv("PRAXINO_EMU_CHIP");               /* without attn90, whose emulation takes longest */
    check_memory();
    check_faults();
    tmp_close();
    CHECK(fake_cudnn_alive() == 0 && emu_blocks() == 0 && atomic_load(&mem.total) == 0, "leaks");
    return TEST_END();
}
