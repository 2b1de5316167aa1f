/* Whole jobs on the emulated device, through the public interface: two at a time give what each gives alone; memory that ends, kernels that
 * do not start and a device that is lost end a job in order, and the next one is right. */
#include <praxino/praxino.h>

#include <dlfcn.h>
#include <pthread.h>

#include "emu_control.h"
#include "tests/test.h"

#define MODEL PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model"

enum { SIDE = 16, FRAMES = 5, BYTES = 3 * SIDE * SIDE * FRAMES };

static prx_engine *engine;
static prx_model *model;

typedef struct job {
    const char *seed, *attention;
    uint8_t frames[BYTES];
    int status;
    char said[1024];
} job;

static int take(void *cookie, int index, const uint8_t *rgb, int width, int height)
{
    job *j = cookie;
    memcpy(j->frames + (size_t)index * BYTES / FRAMES, rgb, (size_t)width * (size_t)height * 3);
    return 0;
}

static void *run(void *cookie)
{
    job *t = cookie;
    prx_job *j = NULL;
    char side[16], frames[16];
    snprintf(side, sizeof side, "%d", SIDE);
    snprintf(frames, sizeof frames, "%d", FRAMES);
    memset(t->frames, 0, sizeof t->frames);
    const char *const set[][2] = { { "prompt", "a red ball" }, { "width", side }, { "height", side }, { "frames", frames },
                                   { "steps", "2" }, { "guidance", "1" }, { "seed", t->seed }, { "attention", t->attention },
                                   { "keep_weights", "0" } };
    t->status = prx_job_open(&j, model);
    for (size_t i = 0; i < sizeof set / sizeof *set && t->status == PRX_OK; i++)
        t->status = prx_job_set(j, set[i][0], set[i][1]);
    if (t->status == PRX_OK) {
        prx_job_on_frame(j, take, t);
        t->status = prx_job_run(j);
    }
    snprintf(t->said, sizeof t->said, "%s", j ? prx_job_last_error(j) : "no job");
    prx_job_close(&j);
    return NULL;
}

static void open_engine(void)
{
    prx_engine_params p;
    prx_engine_default_params(&p);
    p.threads = 1;
    p.device = "cuda";
    REQUIRE(prx_engine_open(&engine, &p) == PRX_OK && prx_model_open(&model, engine, MODEL) == PRX_OK, "%s",
            engine ? prx_engine_last_error(engine) : "no engine");
}

static void close_engine(void)
{
    prx_model_close(&model);
    prx_engine_close(&engine);
}

/* What the module offers to tests. */
static void *control(const char *name)
{
    void *module = dlopen(getenv("PRAXINO_CUDA_MODULE"), RTLD_NOW), *p = module ? dlsym(module, name) : NULL;
    REQUIRE(p, "%s", name);
    return p;
}

static int (*refuse_memory)(int n), (*fail_launch)(int n), (*blocks)(void);
static void (*lose_device)(int n);

static void find_controls(void)
{
    const struct {
        const char *name;
        void *to;
    } all[] = { { "emu_refuse_memory", &refuse_memory }, { "emu_fail_launch", &fail_launch }, { "emu_blocks", &blocks },
                { "emu_lose_device", &lose_device } };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        void *p = control(all[i].name);
        memcpy(all[i].to, &p, sizeof p);
    }
}

static void check_two(const job *one, const job *two)
{
    static job a, b;
    pthread_t thread;
    a.seed = one->seed, a.attention = one->attention;
    b.seed = two->seed, b.attention = two->attention;
    REQUIRE(pthread_create(&thread, NULL, run, &a) == 0, "thread");
    run(&b);
    pthread_join(thread, NULL);
    CHECK(a.status == PRX_OK && b.status == PRX_OK, "%d %s, %d %s", a.status, a.said, b.status, b.said);
    CHECK(memcmp(a.frames, one->frames, BYTES) == 0 && memcmp(b.frames, two->frames, BYTES) == 0, "together they differ from alone");
}

/* fail(n): how it ends (0: somehow), with what text; then fail(0), and the same job is right. */
static void check_fault(const job *good, int (*fail)(int n), int n, int code, const char *what)
{
    static job j;
    j.seed = good->seed, j.attention = good->attention;
    fail(n);
    run(&j);
    fail(0);
    CHECK((code ? j.status == code : j.status < 0) && strstr(j.said, what), "%d: status %d instead of %d: %s", n, j.status, code, j.said);
    if (n % 2)
        return;
    run(&j);
    CHECK(j.status == PRX_OK && memcmp(j.frames, good->frames, BYTES) == 0, "%d: the job after it: %d %s", n, j.status, j.said);
}

static int lose(int n)
{
    lose_device(n);
    return 0;
}

int main(void)
{
    static job one = { .seed = "1", .attention = "dense" }, two = { .seed = "2", .attention = "dense" };
    const char *file = getenv("PRAXINO_CUDA_MODULE");
    REQUIRE(file && *file, "PRAXINO_CUDA_MODULE: the emulated one expected");
    find_controls();
    open_engine();
    run(&one);              /* the prompt is known from here on, and buffers that stay are there */
    const int idle = blocks();
    refuse_memory(0);
    fail_launch(0);
    run(&one);
    const int allocations = refuse_memory(0), launches = fail_launch(0);
    run(&two);
    REQUIRE(one.status == PRX_OK && two.status == PRX_OK, "%s, %s", one.said, two.said);
    CHECK(memcmp(one.frames, two.frames, BYTES) != 0, "seeds make no difference");
    CHECK(allocations > 50 && launches > 100, "%d allocations, %d launches", allocations, launches);
    check_two(&one, &two);
    check_two(&one, &one);
    for (int i = 1; i <= 6; i++) {
        check_fault(&one, refuse_memory, 1 + (allocations - 1) * i / 6, PRX_ENOMEM, "memory");
        check_fault(&one, fail_launch, 1 + (launches - 1) * i / 6, PRX_EINTERNAL, ": the launch failed");
    }
    for (int i = 1; i <= 4; i++)
        check_fault(&one, lose, 1 + (launches - 1) * i / 4, 0, "the device is lost");
    CHECK(blocks() == idle, "%d blocks stay on the device", blocks() - idle);
    close_engine();
    CHECK(blocks() == 0, "%d blocks are left", blocks());
    return TEST_END();
}
