/* The transformer with weights in 8 bits, on a small random model: what is converted and how often; the same bytes wherever its weights are
 * and whether somebody looks; beside weights of the model's type it is the one network or the other; faults while blocks move. */
#include "tests/test.h"

#define PRXI_CUDA_PLAIN_BUFFERS
#include "engine/model/dit_int.h"
#include "engine/weights/safetensors.h"
#include "tests/cuda/under_test.h"
#include "tests/files.h"
#include "tests/random.h"

enum { LAYERS = 5, DIM = 32, FFN = 48, TEXT = 16, FREQ = 32, CHANNELS = 4, FRAMES = 2, SIDE = 4, ROWS = 3, TENSORS = 200,
       ELEMS = CHANNELS * FRAMES * SIDE * SIDE, FORWARDS = 3 };

static prxi_mem mem;
static prxi_ctx ctx;
static test_random rng = { 1 };
static float latents[ELEMS], text[ROWS * TEXT], v[FORWARDS][ELEMS];
static float plain[ELEMS], eight[ELEMS];        /* of the network as it is, and in 8 bits */

/* ---- the model ---- */

static prxi_tensor_out tensors[TENSORS];
static float values[1 << 20];
static int n_tensors;
static size_t n_values;

/* Values around `mean` that leave the size of what they multiply about as it is. */
static void add(const char *name, float mean, int ndim, const int64_t *shape)
{
    prxi_tensor_out *t = &tensors[n_tensors++];
    int64_t n = 1, row = 1;
    REQUIRE(n_tensors <= TENSORS, "room");
    snprintf(t->name, sizeof t->name, "%s", name);
    t->dtype = PRXI_F32;
    t->ndim = ndim;
    t->data = values + n_values;
    for (int i = 0; i < ndim; i++) {
        t->shape[i] = shape[i];
        n *= shape[i];
        row *= i ? shape[i] : 1;
    }
    REQUIRE(n_values + (size_t)n <= sizeof values / sizeof *values, "room");
    for (int64_t i = 0; i < n; i++)
        values[n_values++] = mean + (float)random_normal(&rng) * (ndim > 1 ? 1.0f / sqrtf((float)row) : 0.1f);
}

static void add_linear(const char *prefix, const char *name, int64_t n, int64_t k)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    add(full, 0, 2, (int64_t[]) { n, k });
    snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    add(full, 0, 1, &n);
}

static void add_vector(const char *prefix, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    add(full, strstr(name, "weight") ? 1 : 0, 1, (int64_t[]) { DIM });
}

static void add_block(int i, int cross_norm)
{
    static const char *const attn[] = { "attn1.", "attn2." }, *const linears[] = { "to_q", "to_k", "to_v", "to_out.0" };
    char block[32], prefix[64], table[64];
    snprintf(block, sizeof block, "blocks.%d.", i);
    snprintf(table, sizeof table, "%sscale_shift_table", block);
    add(table, 0, 3, (int64_t[]) { 1, 6, DIM });
    for (int a = 0; a < 2; a++) {
        snprintf(prefix, sizeof prefix, "%s%s", block, attn[a]);
        for (int l = 0; l < 4; l++)
            add_linear(prefix, linears[l], DIM, DIM);
        add_vector(prefix, "norm_q.weight");
        add_vector(prefix, "norm_k.weight");
    }
    if (cross_norm) {
        add_vector(block, "norm2.weight");
        add_vector(block, "norm2.bias");
    }
    add_linear(block, "ffn.net.0.proj", FFN, DIM);
    add_linear(block, "ffn.net.2", DIM, FFN);
}

static void write_model(int cross_norm)
{
    char config[512];
    n_tensors = 0, n_values = 0;
    for (int i = 0; i < LAYERS; i++)
        add_block(i, cross_norm);
    add("patch_embedding.weight", 0, 5, (int64_t[]) { DIM, CHANNELS, 1, 2, 2 });
    add_vector("patch_embedding.", "bias");
    add_linear("condition_embedder.", "time_embedder.linear_1", DIM, FREQ);
    add_linear("condition_embedder.", "time_embedder.linear_2", DIM, DIM);
    add_linear("condition_embedder.", "time_proj", 6 * DIM, DIM);
    add_linear("condition_embedder.", "text_embedder.linear_1", DIM, TEXT);
    add_linear("condition_embedder.", "text_embedder.linear_2", DIM, DIM);
    add_linear("", "proj_out", 4 * CHANNELS, DIM);
    add("scale_shift_table", 0, 3, (int64_t[]) { 1, 2, DIM });
    REQUIRE(prxi_tensors_write(&ctx, tmp_path("diffusion_pytorch_model.safetensors"), tensors, n_tensors, NULL) == PRX_OK, "%s",
            ctx.error.text);
    const int n = snprintf(config, sizeof config, "{\"num_attention_heads\": 2, \"attention_head_dim\": %d, \"num_layers\": %d, "
                           "\"in_channels\": %d, \"out_channels\": %d, \"text_dim\": %d, \"freq_dim\": %d, \"ffn_dim\": %d, "
                           "\"cross_attn_norm\": %s}", DIM / 2, LAYERS, CHANNELS, CHANNELS, TEXT, FREQ, FFN, cross_norm ? "true" : "false");
    tmp_write("config.json", config, (size_t)n);
}

/* ---- runs ---- */

typedef struct how {
    prxi_quant quant;
    size_t budget;              /* of weights */
    int wide[FORWARDS];         /* forwards in the model's type */
    int look;                   /* the last one is that of the guard */
    int norms, converted;       /* of the first forward: norms into 8 bits, other inputs brought there */
    size_t weights;             /* bytes that opening the network has taken */
} how;

static void run(prxi_stream *s, prxi_dit_run *r, how *h)
{
    prxi_cache_report report;
    const prxi_dit_hooks hooks = { .attn = prxi_attn_policy_find("dense"), .cache = prxi_cache_policy_find("none"), .reports = &report };
    const prxi_step step = { .steps = 1, .timestep = 500 };
    for (int i = 0; i < FORWARDS; i++) {
        float *const out[PRXI_BRANCHES] = { v[i], NULL };
        const int before[] = { emu_launched("layernorm to 8 bits"), emu_launched("quantise") };
        prxi_dit_run_wide(r, h->wide[i]);
        if (h->look && i == FORWARDS - 1)
            CHECK(!prxi_dit_find_bad(s, r, &step, latents, &hooks, out), "nothing is wrong");
        else
            prxi_dit_forward(s, r, &step, latents, &hooks, out);
        if (i == 0) {
            h->norms = emu_launched("layernorm to 8 bits") - before[0];
            h->converted = emu_launched("quantise") - before[1];
        }
    }
}

static int forward(prxi_cuda *cuda, how *h)
{
    prxi_kernels k;
    prxi_stream s;
    prxi_dit *d = NULL;
    prxi_dit_run *r = NULL;
    memset(v, 0, sizeof v);
    prxi_cuda_kernels(&k, cuda);
    prxi_clear(&ctx);
    prxi_stream_init(&s, &ctx, 1);
    s.device = k.device;
    const size_t before = emu_bytes();
    int err = prxi_dit_open_within(&ctx, &d, tmp_dir, NULL, &k, PRXI_BF16, h->quant, h->budget);
    h->weights = emu_bytes() - before;
    const prxi_dit_clip clip = { FRAMES, SIDE, SIDE, 1, { ROWS, 0 }, { text, NULL }, 16 };
    if (err == PRX_OK)
        err = prxi_dit_run_open(&ctx, &s, &r, d, &clip);
    if (err == PRX_OK) {
        run(&s, r, h);
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

static void must_run(how *h)
{
    prxi_cuda *cuda;
    open_device(&cuda);
    emu_fail_launch(0);
    REQUIRE(forward(cuda, h) == PRX_OK, "%s", ctx.error.text);
    prxi_cuda_close(&ctx, &cuda);
    CHECK(emu_blocks() == 0, "%d blocks stay on the device", emu_blocks());
}

static int is(int i, const float *want)
{
    return memcmp(v[i], want, sizeof v[i]) == 0;
}

/* Weights on the device are what the plan counts, but for vectors in f32 and the rounding up of small pieces. */
static void check_resident(const prxi_dit_config *cfg)
{
    how h = { PRXI_QUANT_NONE, SIZE_MAX, { 0, 0, 0 }, 0, 0, 0, 0 };
    must_run(&h);
    memcpy(plain, v[0], sizeof plain);
    CHECK(h.norms == 0 && h.converted == 0 && is(1, plain), "nothing in 8 bits");
    h = (how) { PRXI_QUANT_FP8, SIZE_MAX, { 0, 0, 0 }, 1, 0, 0, 0 };
    must_run(&h);
    memcpy(eight, v[0], sizeof eight);
    const size_t only = h.weights;
    const int blocks = LAYERS - 2, norms = cfg->cross_attn_norm ? 3 : 2;
    CHECK(h.norms == norms * blocks && h.converted == (6 - norms) * blocks, "%d norms into 8 bits, %d other inputs in %d blocks", h.norms,
          h.converted, blocks);
    CHECK(is(1, eight) && is(2, eight), "the same again, and where somebody looks");
    double lost = 0, size = 0;
    for (int i = 0; i < ELEMS; i++)
        lost += pow(eight[i] - plain[i], 2), size += pow(plain[i], 2);
    /* Inputs and weights lose 1/16 at most, 1/16/sqrt(3) in the mean square of a uniform error: 0.05 of a product; three blocks of five. */
    CHECK(lost > 0 && sqrt(lost / size) < 0.05 * 2, "8 bits cost %.3g of the output", sqrt(lost / size));
    printf("8 bits cost %.3g of the output\n", sqrt(lost / size));
    h = (how) { PRXI_QUANT_FP8_BESIDE, SIZE_MAX, { 1, 0, 1 }, 0, 0, 0, 0 };
    must_run(&h);
    CHECK(is(0, plain) && is(1, eight) && is(2, plain), "both beside each other");
    const size_t more = prxi_dit_weight_bytes(cfg, PRXI_BF16, PRXI_QUANT_FP8_BESIDE) -
                        prxi_dit_weight_bytes(cfg, PRXI_BF16, PRXI_QUANT_FP8);
    const size_t exact = (size_t)blocks * 2 * (6 * DIM * DIM + 2 * DIM * FFN);
    CHECK(more == exact && h.weights - only >= exact && h.weights - only < exact + exact / 8,
          "%zu bytes more, %zu planned, %zu taken", exact, more, h.weights - only);
}

/* Blocks that come from the host: the same bytes with any number of them, also when the use of blocks changes from forward to forward. */
static void check_streamed(const prxi_dit_config *cfg, prxi_quant quant)
{
    const prxi_dit_fit all = prxi_dit_fit_in(cfg, PRXI_BF16, quant, SIZE_MAX), none = prxi_dit_fit_in(cfg, PRXI_BF16, quant, 1);
    const prxi_dit_fit wide = prxi_dit_fit_in(cfg, PRXI_BF16, PRXI_QUANT_NONE, SIZE_MAX);
    const int both = quant == PRXI_QUANT_FP8_BESIDE;
    CHECK(all.resident == LAYERS && none.resident == -1 && none.bytes < all.bytes, "%d and %d blocks", all.resident, none.resident);
    CHECK(both || all.slot_bytes < wide.slot_bytes * 2 / 3, "%zu bytes a block travel, %zu in bf16", all.slot_bytes, wide.slot_bytes);
    for (int stay = 0; stay <= LAYERS - 4; stay++) {
        how h = { quant, none.bytes + (size_t)stay * all.block_bytes, { 0, both, 0 }, 0, 0, 0, 0 };
        const prxi_dit_fit fit = prxi_dit_fit_in(cfg, PRXI_BF16, quant, h.budget);
        CHECK(fit.resident == 2 + stay && fit.first == 1 + stay && fit.bytes <= h.budget, "%d stay, from %d on they move", fit.resident,
              fit.first);
        must_run(&h);
        CHECK(is(0, eight) && is(1, both ? plain : eight) && is(2, eight), "%d blocks of those in 8 bits stay", stay);
        CHECK(h.norms == (cfg->cross_attn_norm ? 3 : 2) * (LAYERS - 2), "%d norms into 8 bits", h.norms);
    }
    prxi_cuda *cuda;
    how less = { quant, none.bytes - 1, { 0, 0, 0 }, 0, 0, 0, 0 };
    open_device(&cuda);
    CHECK(forward(cuda, &less) == PRX_ENOMEM && strstr(ctx.error.text, "two blocks"), "%s", ctx.error.text);
    prxi_cuda_close(&ctx, &cuda);
}

/* With `fail` set to n: how it ended; then the device again without faults. */
static void check_fault(int (*fail)(int n), int n, how *h, int code, const char *what)
{
    prxi_cuda *cuda;
    open_device(&cuda);
    fail(n);
    const int err = forward(cuda, h);
    CHECK(err == code && strstr(ctx.error.text, what), "%s %d: %d, '%s'", what, n, err, ctx.error.text);
    fail(0);
    if (n % 4 == 1)
        CHECK(forward(cuda, h) == PRX_OK && is(0, eight) && is(1, plain), "%s %d: the next run: %s", what, n, ctx.error.text);
    prxi_cuda_close(&ctx, &cuda);
    CHECK(emu_blocks() == 0 && atomic_load(&mem.total) == 0, "%s %d: %d blocks, %zu bytes stay", what, n, emu_blocks(),
          atomic_load(&mem.total));
}

static void check_faults(const prxi_dit_config *cfg)
{
    how h = { PRXI_QUANT_FP8_BESIDE, prxi_dit_fit_in(cfg, PRXI_BF16, PRXI_QUANT_FP8_BESIDE, 1).bytes, { 0, 1, 0 }, 0, 0, 0, 0 };
    prxi_cuda *cuda;
    open_device(&cuda);
    emu_fail_launch(0), emu_refuse_memory(0);
    REQUIRE(forward(cuda, &h) == PRX_OK, "%s", ctx.error.text);
    const int launches = emu_fail_launch(0), allocations = emu_refuse_memory(0);
    prxi_cuda_close(&ctx, &cuda);
    CHECK(launches > 100 && allocations > 100, "%d launches, %d allocations", launches, allocations);
    for (int n = 1; n <= allocations; n += 7)
        check_fault(emu_refuse_memory, n, &h, PRX_ENOMEM, "memory");
    for (int n = 1; n <= launches; n += 41)
        check_fault(emu_fail_launch, n, &h, PRX_EINTERNAL, "the launch failed");
}

int main(void)
{
    setenv("PRAXINO_EMU_CHIP", "90", 1);
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    tmp_open();
    for (int i = 0; i < ELEMS; i++)
        latents[i] = (float)random_normal(&rng);
    for (int i = 0; i < ROWS * TEXT; i++)
        text[i] = (float)random_normal(&rng);
    emu_share(latents, sizeof latents);
    emu_share(v, sizeof v);
    for (int cross_norm = 0; cross_norm < 2; cross_norm++) {
        prxi_dit_config cfg;
        write_model(cross_norm);
        REQUIRE(prxi_dit_config_load(&ctx, tmp_dir, &cfg) == PRX_OK && prxi_dit_quant_fits(&cfg), "%s", ctx.error.text);
        check_resident(&cfg);
        check_streamed(&cfg, cross_norm ? PRXI_QUANT_FP8_BESIDE : PRXI_QUANT_FP8);
        if (cross_norm)
            check_faults(&cfg);
    }
    tmp_close();
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leak", atomic_load(&mem.total));
    return TEST_END();
}
