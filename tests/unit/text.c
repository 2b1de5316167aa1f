/* UMT5 encoder against transformers (tests/vectors/text, made by make_text.py), against the weight-free oracle of
 * models.md 3.3, and what it says about broken weights. */
#include "tests/files.h"

#include <sys/stat.h>

#include "engine/core/cpu.h"
#include "engine/model/text.h"
#include "engine/weights/safetensors.h"

#define VECTORS PRX_SOURCE_DIR "/tests/vectors/text/"

static prxi_mem mem;
static prxi_ctx c;
static prxi_kernels kernels;

/* Only the tables that the encoder uses. */
static void use_isa(uint32_t isa)
{
    memset(&kernels, 0, sizeof kernels);
    kernels.isa = isa;
    prxi_norm_init_ref(&kernels.norm);
    prxi_act_init_ref(&kernels.act);
    prxi_plain_attn_init(&kernels.plain);
    prxi_norm_init_x86(&kernels.norm, isa);
    prxi_act_init_x86(&kernels.act, isa);
}

static int encode(const prxi_text *t, const int32_t *ids, int n, int threads, float *out)
{
    prxi_stream s;
    prxi_clear(&c);
    prxi_stream_init(&s, &c, threads);
    const int err = prxi_text_encode(&c, &s, t, ids, n, out);
    prxi_stream_close(&s);
    return err;
}

static double rel_l2(const float *a, const float *b, size_t n)
{
    double d = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        s += (double)b[i] * b[i];
    }
    return sqrt(d / s);
}

static float *tensor(prxi_tensors *t, const char *kind, int k, int64_t *rows)
{
    char name[32];
    float *p;
    snprintf(name, sizeof name, "%s.%d", kind, k);
    const prxi_tensor *x = prxi_tensors_find(t, name);
    if (!x)
        return NULL;
    *rows = x->shape[0];
    REQUIRE(prxi_tensor_f32(&c, x, &p) == PRX_OK, "%s", c.error.text);
    return p;
}

static void check_case(const char *name, const prxi_text *t, prxi_dtype dtype, prxi_tensors *cases, int k)
{
    int64_t n = 0, rows;
    float *idf = tensor(cases, "ids", k, &n), *want = tensor(cases, "f32", k, &rows), *hf = tensor(cases, "bf16", k, &rows);
    const size_t count = (size_t)n * (size_t)prxi_text_dim(t);
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    float *got = malloc(count * sizeof *got), *again = malloc(count * sizeof *got);
    REQUIRE(idf && want && hf && ids && got && again, "%s case %d", name, k);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)idf[i];
    CHECK(encode(t, ids, (int)n, 1, got) == PRX_OK, "%s", c.error.text);
    const double err = rel_l2(got, want, count), theirs = rel_l2(hf, want, count);
    /* f32: the project's bound for text embeddings. bf16: no farther from the truth than 1.5 times transformers. */
    const double bound = dtype == PRXI_F32 ? 1e-5 : 1.5 * theirs;
    CHECK(err <= bound, "%s %s case %d: relative error %.3g, bound %.3g", name, prxi_dtype_name(dtype), k, err, bound);
    printf("%-8s %-4s isa %x n %3d: relative error %.2e (transformers bf16 %.2e)\n", name, prxi_dtype_name(dtype), kernels.isa,
           (int)n, err, theirs);
    for (int threads = 2; threads <= 3; threads++) {
        CHECK(encode(t, ids, (int)n, threads, again) == PRX_OK, "%s", c.error.text);
        CHECK(memcmp(got, again, count * sizeof *got) == 0, "%s: %d threads differ", name, threads);
    }
    prxi_free(&mem, idf);
    prxi_free(&mem, want);
    prxi_free(&mem, hf);
    free(ids);
    free(got);
    free(again);
}

static void test_vectors(const char *name, prxi_dtype dtype)
{
    char dir[256], path[300];
    prxi_text *t;
    prxi_tensors *cases;
    snprintf(dir, sizeof dir, VECTORS "%s", name);
    snprintf(path, sizeof path, "%s/cases.safetensors", dir);
    REQUIRE(prxi_text_open(&c, &t, dir, &kernels, dtype) == PRX_OK, "%s", c.error.text);
    REQUIRE(prxi_tensors_open_file(&c, &cases, path) == PRX_OK, "%s", c.error.text);
    for (int k = 0; k < prxi_tensors_count(cases) / 3; k++)
        check_case(name, t, dtype, cases, k);
    prxi_tensors_close(&c, &cases);
    prxi_text_close(&c, &t);
}

/* ---- a model written by the test ---- */

enum { VOCAB = 32, DIM = 16, KV = 4, FF = 32, HEADS = 4, LAYERS = 2, MAX_TENSORS = 32 };
static prxi_tensor_out list[MAX_TENSORS];
static float store[MAX_TENSORS][FF * 32];
static int listed;

/* models.md 3.3, last paragraph: sines whose phase comes from the bytes of the name. */
static void add(const char *name, int64_t rows, int64_t cols)
{
    prxi_tensor_out *t = &list[listed];
    float *v = store[listed++];
    const int64_t n = rows * (cols ? cols : 1);
    int sum = 0;
    for (const char *s = name; *s; s++)
        sum += (unsigned char)*s;
    const double off = 0.1 * (sum % 97);
    for (int64_t i = 0; i < n; i++)
        v[i] = cols ? (float)(0.2 * sin(0.7 * (double)i + off)) : (float)(1 + 0.25 * sin(0.5 * (double)i + off));
    *t = (prxi_tensor_out) { "", PRXI_F32, cols ? 2 : 1, { rows, cols }, v };
    snprintf(t->name, sizeof t->name, "%s", name);
}

static void add_block(int i)
{
    static const struct {
        const char *part;
        int rows, cols;
    } parts[] = {
        { "0.layer_norm", DIM, 0 },
        { "0.SelfAttention.q", HEADS * KV, DIM },
        { "0.SelfAttention.k", HEADS * KV, DIM },
        { "0.SelfAttention.v", HEADS * KV, DIM },
        { "0.SelfAttention.o", DIM, HEADS * KV },
        { "0.SelfAttention.relative_attention_bias", 32, HEADS },
        { "1.layer_norm", DIM, 0 },
        { "1.DenseReluDense.wi_0", FF, DIM },
        { "1.DenseReluDense.wi_1", FF, DIM },
        { "1.DenseReluDense.wo", DIM, FF },
    };
    char name[96];
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        snprintf(name, sizeof name, "encoder.block.%d.layer.%s.weight", i, parts[p].part);
        add(name, parts[p].rows, parts[p].cols);
    }
}

static void make_model(const char *embed)
{
    static const char config[] = "{\"vocab_size\":32,\"d_model\":16,\"d_kv\":4,\"d_ff\":32,\"num_heads\":4,\"num_layers\":2}";
    listed = 0;
    add(embed, VOCAB, DIM);
    for (int i = 0; i < LAYERS; i++)
        add_block(i);
    add("encoder.final_layer_norm.weight", DIM, 0);
    tmp_write("m/config.json", config, strlen(config));
}

static void write_model(void)
{
    prxi_clear(&c);
    REQUIRE(prxi_tensors_write(&c, tmp_path("m/model.safetensors"), list, listed, NULL) == PRX_OK, "%s", c.error.text);
}

static int find(const char *part)
{
    for (int i = 0; i < listed; i++)
        if (strstr(list[i].name, part))
            return i;
    REQUIRE(0, "no %s", part);
    return 0;
}

static void test_oracle(const char *embed)
{
    static const float last[16] = { -1.815132f, 0.686162f, 1.636005f, 0.810685f, -1.162881f, -0.856776f, 0.806410f, 0.511961f,
                                    -0.277385f, -1.270442f, 0.117339f, 1.315851f, 0.926737f, -0.838816f, -1.522275f, 0.857310f };
    static const float first[8] = { 1.095806f, 2.159147f, -1.396271f, -0.623242f, -0.322676f, 1.050396f, -0.085524f, -1.310401f };
    static const float seven[5] = { -2.286623f, 0.081658f, 0.881735f, 1.389642f, -0.518778f };
    float out[24 * DIM];
    int32_t ids[24];
    prxi_text *t;
    make_model("shared.weight");
    snprintf(list[0].name, sizeof list[0].name, "%s", embed);
    write_model();
    REQUIRE(prxi_text_open(&c, &t, tmp_path("m"), &kernels, PRXI_F32) == PRX_OK, "%s", c.error.text);
    CHECK(prxi_text_dim(t) == DIM, "dim");
    for (int i = 0; i < 24; i++)
        ids[i] = (7 * i + 4) % VOCAB;
    CHECK(encode(t, ids, 24, 2, out) == PRX_OK, "%s", c.error.text);
    /* 2e-6: six printed decimals of values around 1, plus f32 rounding. */
    for (int i = 0; i < 16; i++)
        CHECK(fabsf(out[23 * DIM + i] - last[i]) <= 2e-6f, "last[%d] %f, not %f", i, (double)out[23 * DIM + i], (double)last[i]);
    for (int i = 0; i < 8; i++)
        CHECK(fabsf(out[i] - first[i]) <= 2e-6f, "first[%d] %f, not %f", i, (double)out[i], (double)first[i]);
    for (int i = 0; i < 7; i++)
        ids[i] = (7 * i + 1) % VOCAB;
    CHECK(encode(t, ids, 7, 1, out) == PRX_OK, "%s", c.error.text);
    for (int i = 0; i < 5; i++)
        CHECK(fabsf(out[i] - seven[i]) <= 2e-6f, "seven[%d] %f, not %f", i, (double)out[i], (double)seven[i]);
    CHECK(encode(t, (const int32_t[]) { 3, VOCAB }, 2, 1, out) == PRX_EINVAL && strstr(c.error.text, "token 32"), "%s",
          c.error.text);
    CHECK(encode(t, (const int32_t[]) { -1 }, 1, 1, out) == PRX_EINVAL, "%s", c.error.text);
    CHECK(encode(t, ids, 0, 1, out) == PRX_EINVAL, "%s", c.error.text);
    prxi_text_close(&c, &t);
}

static void refused(const char *say)
{
    prxi_text *t;
    prxi_clear(&c);
    CHECK(prxi_text_open(&c, &t, tmp_path("m"), &kernels, PRXI_F32) == PRX_EFORMAT && !t, "accepted, expected \"%s\"", say);
    CHECK(strstr(c.error.text, say), "\"%s\" lacks \"%s\"", c.error.text, say);
}

static void test_broken(void)
{
    prxi_text *t;
    float out[DIM];
    int i;
    make_model("shared.weight");
    store[find("block.1.layer.1.DenseReluDense.wo")][77] = NAN;
    write_model();
    refused("encoder.block.1.layer.1.DenseReluDense.wo.weight: element 77 is NaN");
    make_model("shared.weight");
    store[find("block.0.layer.0.layer_norm")][3] = INFINITY;
    write_model();
    refused("encoder.block.0.layer.0.layer_norm.weight: element 3 is NaN");
    make_model("shared.weight");
    list[find("block.1.layer.0.SelfAttention.q")].name[0] = 'E';
    write_model();
    refused("encoder.block.1.layer.0.SelfAttention.q.weight is missing");
    make_model("shared.weight");
    i = find("block.1.layer.0.SelfAttention.o");
    list[i].shape[0] = 8, list[i].shape[1] = 32;
    write_model();
    refused("shape [8, 32], the configuration needs [16, 16]");
    make_model("shared.weight");
    add("encoder.surprise", 4, 4);
    write_model();
    refused("encoder.surprise is unknown");
    snprintf(list[listed - 1].name, sizeof list[0].name, "decoder.block.0.q");
    write_model();
    CHECK(prxi_text_open(&c, &t, tmp_path("m"), &kernels, PRXI_F32) == PRX_OK, "decoder parts are ignored: %s", c.error.text);
    prxi_text_close(&c, &t);
    /* NaN in an embedding row is seen when the row is used: reading all rows of a large vocabulary would take seconds. */
    make_model("shared.weight");
    store[0][5 * DIM + 2] = NAN;
    write_model();
    REQUIRE(prxi_text_open(&c, &t, tmp_path("m"), &kernels, PRXI_F32) == PRX_OK, "%s", c.error.text);
    CHECK(encode(t, (const int32_t[]) { 4 }, 1, 1, out) == PRX_OK, "%s", c.error.text);
    CHECK(encode(t, (const int32_t[]) { 5 }, 1, 1, out) == PRX_EFORMAT && strstr(c.error.text, "shared.weight: row 5"), "%s",
          c.error.text);
    prxi_text_close(&c, &t);
    static const char *const configs[] = { "{\"d_model\":0}", "{\"d_model\":\"x\"}", "{\"num_heads\":-1}",
                                           "{\"feed_forward_proj\":\"relu\"}", "{\"layer_norm_epsilon\":0}",
                                           "{\"relative_attention_num_buckets\":30}", "{\"relative_attention_max_distance\":8}",
                                           "{\"vocab_size\":1e300}", "[]", "{" };
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        tmp_write("m/config.json", configs[k], strlen(configs[k]));
        refused("m/config.json");
    }
    tmp_write("m/config.json", "{\"num_layers\":3}", 16);
    refused("shape");
    unlink(tmp_path("m/config.json"));
    prxi_clear(&c);
    CHECK(prxi_text_open(&c, &t, tmp_path("m"), &kernels, PRXI_F32) == PRX_EINVAL && !t, "%s", c.error.text);
}

static int encode_in(prxi_ctx *fc, const prxi_text *t)
{
    prxi_stream s;
    float out[3 * DIM];
    prxi_stream_init(&s, fc, 1);
    const int err = prxi_text_encode(fc, &s, t, (const int32_t[]) { 1, 2, 3 }, 3, out);
    prxi_stream_close(&s);
    return err;
}

static void test_faults(prxi_dtype dtype)
{
    test_alloc a = { 0, 0, 0, 0 };
    prxi_mem m;
    prxi_ctx fc = test_ctx(&m, &a);
    prxi_text *t;
    make_model("shared.weight");
    write_model();
    FAULT_LOOP(fc, a, prxi_text_open(&fc, &t, tmp_path("m"), &kernels, dtype), prxi_text_close(&fc, &t));
    prxi_clear(&fc);
    REQUIRE(prxi_text_open(&fc, &t, tmp_path("m"), &kernels, dtype) == PRX_OK, "%s", fc.error.text);
    FAULT_LOOP(fc, a, encode_in(&fc, t), (void)0);
    prxi_text_close(&fc, &t);
    CHECK(a.alive == 0, "%ld leaked", a.alive);
}

int main(void)
{
    static const char *const names[] = { "square", "wide", "long", "buckets" };
    c = test_ctx(&mem, NULL);
    tmp_open();
    REQUIRE(mkdir(tmp_path("m"), 0777) == 0, "mkdir");
    const uint32_t all = prxi_cpu_detect();
    for (int best = 0; best < 2; best++) {
        use_isa(best ? all : 0);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            test_vectors(names[i], PRXI_F32);
            test_vectors(names[i], PRXI_BF16);
        }
        test_oracle("shared.weight");
    }
    test_oracle("encoder.embed_tokens.weight");
    test_broken();
    test_faults(PRXI_F32);
    test_faults(PRXI_BF16);
    tmp_close();
    CHECK(atomic_load(&mem.total) == 0, "leak of %zu bytes", atomic_load(&mem.total));
    return TEST_END();
}
