/* The whole way from a prompt to frames through the public API, against diffusers' WanPipeline on the same directories: fp32 on every
 * instruction set, bf16 against what diffusers loses by it; the same bytes for any number of threads, for a second run, for noise
 * that comes from outside and for jobs that take turns. Without Python: tests/golden/make_vectors.py made the vectors. */
#include "common.h"

#include <unistd.h>

#include <praxino/praxino.h>

#define TEXT_TOLERANCE 1e-5
#define LATENT_TOLERANCE 1e-4

typedef struct setup {
    const char *isa, *dtype;
    int threads;
} setup;

static char folder[64];

static void set(prx_job *j, const char *key, const char *value)
{
    REQUIRE(prx_job_set(j, key, value) == PRX_OK, "%s", prx_job_last_error(j));
}

static void set_number(prx_job *j, const char *key, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.17g", value);
    set(j, key, text);
}

static prx_engine *open_engine(const setup *s)
{
    prx_engine *e;
    prx_engine_params p;
    prx_engine_default_params(&p);
    p.device = "cpu";
    p.isa = s->isa;
    p.dtype = s->dtype;
    p.threads = s->threads;
    REQUIRE(prx_engine_open(&e, &p) == PRX_OK, "%s", prx_engine_last_error(e));
    return e;
}

static void dump_path(char *out, size_t n, const char *name)
{
    snprintf(out, n, "%s/%s.safetensors", folder, name);
}

/* A job with everything that the case says; scheduler and shift come from the model. */
static prx_job *open_job(prx_model *m, const golden_case *g, const char *dump)
{
    prx_job *j;
    char path[160];
    REQUIRE(prx_job_open(&j, m) == PRX_OK, "%s", g->name);
    set(j, "prompt", g->prompt);
    if (g->negative)
        set(j, "negative_prompt", g->negative);
    set_number(j, "width", (double)g->width);
    set_number(j, "height", (double)g->height);
    set_number(j, "frames", (double)g->frames);
    set_number(j, "steps", (double)g->steps);
    set_number(j, "guidance", g->guidance);
    if (g->guidance_2 != g->guidance)
        set_number(j, "guidance_2", g->guidance_2);
    set_number(j, "seed", g->seed);
    set_number(j, "max_text", (double)g->max_text);
    dump_path(path, sizeof path, dump);
    set(j, "dump", path);
    return j;
}

static uint64_t file_digest(const char *name)
{
    char path[160], *data = NULL;
    size_t n = 0;
    dump_path(path, sizeof path, name);
    prxi_clear(&golden_ctx);
    REQUIRE(prxi_read_file(&golden_ctx, path, SIZE_MAX / 4, &data, &n) == PRX_OK, "%s", golden_ctx.error.text);
    const uint64_t h = golden_digest(data, n);
    prxi_free(&golden_mem, data);
    return h;
}

/* Runs the case and returns the digest of its dump. */
static uint64_t run(const golden_case *g, const setup *s, const char *dump)
{
    prx_engine *e = open_engine(s);
    prx_model *m;
    REQUIRE(prx_model_open(&m, e, g->model) == PRX_OK, "%s", prx_engine_last_error(e));
    prx_job *j = open_job(m, g, dump);
    REQUIRE(prx_job_run(j) == PRX_OK, "%s: %s", g->name, prx_job_last_error(j));
    prx_job_close(&j);
    prx_model_close(&m);
    prx_engine_close(&e);
    return file_digest(dump);
}

static prxi_tensors *open_dump(const char *name)
{
    char path[160];
    prxi_tensors *t;
    dump_path(path, sizeof path, name);
    prxi_clear(&golden_ctx);
    REQUIRE(prxi_tensors_open_file(&golden_ctx, &t, path) == PRX_OK, "%s", golden_ctx.error.text);
    return t;
}

static float *dumped(const golden_case *g, prxi_tensors *dump, const char *name, size_t n)
{
    const prxi_tensor *t = prxi_tensors_find(dump, name);
    REQUIRE(t && t->dtype == PRXI_F32 && t->bytes == n * sizeof(float), "%s: dump of %s", g->name, name);
    float *out = malloc(t->bytes);
    REQUIRE(out, "memory");
    memcpy(out, t->data, t->bytes);
    return out;
}

static void say(const golden_case *g, const setup *s, const char *what, const double d[2], double allowed)
{
    if (getenv("GOLDEN_VERBOSE"))
        printf("%s %s %s %s: rms %.3g of %.3g, max %.3g\n", g->name, s->isa, s->dtype, what, d[0], allowed, d[1]);
}

/* allowed is for the rms; fp32 must keep the largest difference below it too. */
static void compare(const golden_case *g, const setup *s, prxi_tensors *dump, const char *name, double allowed, int exact)
{
    size_t n;
    double d[2];
    float *truth = golden_floats(g, name, &n), *ours = dumped(g, dump, name, n);
    golden_distance(ours, truth, n, d);
    if (exact)
        CHECK(!memcmp(ours, truth, n * sizeof *ours), "%s: %s is not bit-identical", g->name, name);
    CHECK(d[0] <= allowed && (strcmp(s->dtype, "f32") || d[1] <= allowed), "%s %s %s %s: rms %.3g (%.3g allowed), max %.3g",
          g->name, s->isa, s->dtype, name, d[0], allowed, d[1]);
    say(g, s, name, d, allowed);
    free(truth);
    free(ours);
}

static void compare_frames(const golden_case *g, const setup *s, prxi_tensors *dump)
{
    const prxi_tensor *a = prxi_tensors_find(dump, "frames"), *b = golden_tensor(g, "frames");
    REQUIRE(a && a->dtype == PRXI_U8 && a->bytes == b->bytes, "%s: dump of frames", g->name);
    const uint8_t *x = a->data, *y = b->data;
    size_t differ = 0;
    double sum = 0, largest = 0;
    for (size_t i = 0; i < b->bytes; i++) {
        const double d = (x[i] - y[i]) / 255.0;
        differ += x[i] != y[i];
        sum += d * d;
        largest = fmax(largest, fabs(d));
    }
    const double d[2] = { sqrt(sum / (double)b->bytes), largest };
    if (!strcmp(s->dtype, "f32")) {
        /* Both are cut to integers, so a byte differs only where 255 x is this close to one: latents that agree to 1e-4
         * decode to pixels that agree to about 1e-3 of a step. */
        CHECK(largest <= 1.01 / 255 && differ <= b->bytes / 50, "%s %s f32: frames: max %.3g, %zu of %zu bytes differ",
              g->name, s->isa, largest, differ, b->bytes);
        say(g, s, "frames", d, 1.0 / 255);
        return;
    }
    double reference[2];
    golden_bf16(g, "frames", -1, reference);
    /* Both were cut to bytes: two uniform errors of 1/255. */
    const double cut = 1.0 / (255 * 255 * 6.0), allowed = sqrt(pow(GOLDEN_BF16_FACTOR * reference[0], 2) + cut);
    CHECK(d[0] <= allowed, "%s %s bf16: frames: rms %.3g (%.3g allowed)", g->name, s->isa, d[0], allowed);
    say(g, s, "frames", d, allowed);
}

static void check_numbers(const golden_case *g, const setup *s, const char *name)
{
    static const char *const embeds[2] = { "prompt_embeds", "negative_prompt_embeds" };
    const int f32 = !strcmp(s->dtype, "f32");
    prxi_tensors *dump = open_dump(name);
    double reference[2];
    for (int b = 0; b < g->branches; b++) {
        golden_bf16(g, "text", b, reference);
        compare(g, s, dump, embeds[b], f32 ? TEXT_TOLERANCE : GOLDEN_BF16_FACTOR * reference[0], 0);
    }
    for (int i = 0; i <= g->steps; i++) {
        char tensor[32];
        double allowed = LATENT_TOLERANCE;
        snprintf(tensor, sizeof tensor, "latents.%03d", i);
        if (!f32 && i) {
            golden_bf16(g, "latents", i - 1, reference);
            allowed = GOLDEN_BF16_FACTOR * reference[0];
        }
        compare(g, s, dump, tensor, allowed, i == 0);
    }
    compare_frames(g, s, dump);
    prxi_tensors_close(&golden_ctx, &dump);
}

static void check_case(const golden_case *g)
{
    static const char *const dtypes[] = { "f32", "bf16" };
    for (const char *const *isa = golden_isas(); *isa; isa++)
        for (int d = 0; d < 2; d++) {
            setup s = { *isa, dtypes[d], 1 };
            const uint64_t first = run(g, &s, "one");
            check_numbers(g, &s, "one");
            for (s.threads = 1; s.threads <= 3; s.threads++)
                CHECK(run(g, &s, "again") == first, "%s %s %s: a second run with %d threads gives other bytes", g->name, *isa,
                      s.dtype, s.threads);
        }
}

/* Noise from outside, under another seed: the same clip. The latents that the job shows are those of the dump. */
static void check_injected(const golden_case *g)
{
    const setup s = { "auto", "f32", 2 };
    size_t n;
    int64_t shape[4];
    const float *shown = NULL;
    float *noise = golden_floats(g, "latents.000", &n);
    const uint64_t alone = run(g, &s, "alone");
    prx_engine *e = open_engine(&s);
    prx_model *m;
    REQUIRE(prx_model_open(&m, e, g->model) == PRX_OK, "%s", prx_engine_last_error(e));
    prx_job *j = open_job(m, g, "injected");
    set(j, "seed", "999");
    REQUIRE(prx_job_set_latents(j, noise, n) == PRX_OK, "%s", prx_job_last_error(j));
    memset(noise, 0, n * sizeof *noise);      /* copied, they said */
    REQUIRE(prx_job_run(j) == PRX_OK, "%s", prx_job_last_error(j));
    REQUIRE(prx_job_get_latents(j, &shown, shape) == PRX_OK, "%s", prx_job_last_error(j));
    CHECK(shape[0] == g->shape[0] && shape[1] == g->shape[1] && shape[2] == g->shape[2] && shape[3] == g->shape[3],
          "%s: shape of the latents", g->name);
    char name[32];
    snprintf(name, sizeof name, "latents.%03d", (int)g->steps);
    prxi_tensors *dump = open_dump("injected");
    float *last = dumped(g, dump, name, n);
    CHECK(!memcmp(last, shown, n * sizeof *last), "%s: the job shows other latents than it dumps", g->name);
    CHECK(file_digest("injected") == alone, "%s: the noise of the seed, given from outside, makes another clip", g->name);
    free(last);
    free(noise);
    prxi_tensors_close(&golden_ctx, &dump);
    prx_job_close(&j);
    prx_model_close(&m);
    prx_engine_close(&e);
}

static int digest_frame(void *cookie, int index, const uint8_t *rgb, int width, int height)
{
    uint64_t *h = cookie;
    *h = *h * 1099511628211u + golden_digest(rgb, (size_t)width * (size_t)height * 3) + (uint64_t)index;
    return 0;
}

/* A job that stops after two steps, taken up by another engine from the state that it saved: the same frames. */
static void check_resume(const golden_case *g)
{
    setup s = { "auto", "f32", 2 };
    char state[160];
    uint64_t frames[2] = { 0, 0 };
    dump_path(state, sizeof state, "state");
    for (int k = 0; k < 3; k++) {      /* 0: all at once; 1: the beginning; 2: the rest */
        prx_engine *e = open_engine(&s);
        prx_model *m;
        REQUIRE(prx_model_open(&m, e, g->model) == PRX_OK, "%s", prx_engine_last_error(e));
        prx_job *j = open_job(m, g, "resumed");
        if (k == 1) {
            set(j, "save_state", state);
            set(j, "save_every", "1");
        } else if (k == 2) {
            set(j, "resume", state);
        }
        prx_job_on_frame(j, digest_frame, &frames[k == 2]);
        int more = 1;
        for (int unit = 0; more == 1 && (k != 1 || unit < 3); unit++)      /* text, two steps */
            more = prx_job_step(j);
        CHECK(more == (k == 1), "%s: part %d: %s", g->name, k, prx_job_last_error(j));
        prx_job_close(&j);
        prx_model_close(&m);
        prx_engine_close(&e);
        s.threads = 1;
    }
    CHECK(frames[0] == frames[1], "%s: a resumed job gives other frames", g->name);
    unlink(state);
}

/* Two jobs of one engine take turns, unit by unit. */
static void check_turns(const golden_case *a, const golden_case *b)
{
    const setup s = { "auto", "f32", 2 };
    const uint64_t alone_a = run(a, &s, "alone"), alone_b = run(b, &s, "alone");
    prx_engine *e = open_engine(&s);
    prx_model *m[2];
    REQUIRE(prx_model_open(&m[0], e, a->model) == PRX_OK, "%s", prx_engine_last_error(e));
    REQUIRE(prx_model_open(&m[1], e, b->model) == PRX_OK, "%s", prx_engine_last_error(e));
    prx_job *j[3] = { open_job(m[0], a, "turn0"), open_job(m[1], b, "turn1"), open_job(m[0], a, "turn2") };
    int more[3] = { 1, 1, 1 };
    while (more[0] || more[1] || more[2])
        for (int i = 0; i < 3; i++) {
            if (more[i])
                more[i] = prx_job_step(j[i]);
            REQUIRE(more[i] >= 0, "%s", prx_job_last_error(j[i]));
        }
    for (int i = 0; i < 3; i++)
        prx_job_close(&j[i]);
    prx_model_close(&m[1]);
    prx_model_close(&m[0]);
    prx_engine_close(&e);
    CHECK(file_digest("turn0") == alone_a && file_digest("turn2") == alone_a, "%s: other bytes beside %s", a->name, b->name);
    CHECK(file_digest("turn1") == alone_b, "%s: other bytes beside %s", b->name, a->name);
}

static void remove_dumps(void)
{
    static const char *const names[] = { "one", "again", "alone", "injected", "turn0", "turn1", "turn2", "resumed" };
    for (int i = 0; i < 8; i++) {
        char path[160];
        dump_path(path, sizeof path, names[i]);
        unlink(path);
    }
    CHECK(rmdir(folder) == 0, "%s: something was left behind", folder);
}

int main(int argc, char **argv)
{
    golden_case g[6];
    int n = 0;
    golden_begin();
    strcpy(folder, "/tmp/praxino-golden-XXXXXX");
    REQUIRE(mkdtemp(folder), "mkdtemp");
    for (int i = 0; golden_names[i]; i++)
        if (argc < 2 || !strcmp(argv[1], golden_names[i]))
            golden_open(&g[n++], golden_names[i]);
    for (int i = 0; i < n; i++)
        check_case(&g[i]);
    for (int i = 0; i < n; i++) {
        check_injected(&g[i]);
        if (g[i].steps > 2)
            check_resume(&g[i]);
    }
    for (int i = 0; i + 1 < n; i++)
        check_turns(&g[i], &g[i + 1]);
    for (int i = 0; i < n; i++)
        golden_close(&g[i]);
    remove_dumps();
    CHECK(atomic_load(&golden_mem.total) == 0, "%zu bytes leaked", atomic_load(&golden_mem.total));
    return TEST_END();
}
