/* Tokenizer against Hugging Face's fast tokenizers (tests/vectors/tokenizer, made by make_tokenizer.py), the rules of added
 * tokens, broken model files, refused allocations. */
#include "tests/files.h"

#include <sys/stat.h>

#include "engine/core/json.h"
#include "engine/model/text.h"
#include "engine/model/tokenizer_int.h"

#define VECTORS PRX_SOURCE_DIR "/tests/vectors/tokenizer/"
enum { MAX_IDS = 4096 };

static prxi_mem mem;
static prxi_ctx c;
static char *model;
static size_t model_n;

static void copy_file(const char *from, const char *to)
{
    char *data;
    size_t n;
    REQUIRE(prxi_read_file(&c, from, 1 << 24, &data, &n) == PRX_OK, "%s", c.error.text);
    tmp_write(to, data, n);
    prxi_free(&mem, data);
}

static prxi_tokenizer *open_tokenizer(const char *dir)
{
    prxi_tokenizer *t;
    prxi_clear(&c);
    REQUIRE(prxi_tokenizer_open(&c, &t, tmp_path(dir)) == PRX_OK, "%s", c.error.text);
    return t;
}

static void check_ids(const prxi_tokenizer *t, const char *variant, const char *text, const cJSON *want)
{
    static int32_t ids[MAX_IDS];
    int n = 0, i = 0;
    prxi_clear(&c);
    CHECK(prxi_tokenizer_encode(&c, t, text, MAX_IDS, ids, &n) == PRX_OK, "%s", c.error.text);
    int same = n == cJSON_GetArraySize(want);
    const cJSON *e;
    cJSON_ArrayForEach(e, want) {
        same = same && ids[i] == (int32_t)e->valuedouble;
        i++;
    }
    CHECK(same, "%s: ids differ for \"%.60s\"", variant, text);
    if (same)
        return;
    fprintf(stderr, "  got ");
    for (i = 0; i < n && i < 40; i++)
        fprintf(stderr, " %d", ids[i]);
    fprintf(stderr, "\n  want");
    i = 0;
    cJSON_ArrayForEach(e, want) {
        if (i++ < 40)
            fprintf(stderr, " %d", e->valueint);
    }
    fputc('\n', stderr);
}

/* The ids of transformers, for the three forms of tokenizer.json that it has written over the years. */
static void test_vectors(void)
{
    prxi_json j;
    REQUIRE(prxi_json_open(&c, &j, VECTORS "cases.json", 0) == PRX_OK, "%s", c.error.text);
    const cJSON *variants = cJSON_GetObjectItem(j.root, "variants"), *cases = cJSON_GetObjectItem(j.root, "cases"), *e;
    CHECK(cJSON_GetArraySize(cases) > 400 && cJSON_GetArraySize(variants) == 3, "vectors");
    for (int v = 0; v < cJSON_GetArraySize(variants); v++) {
        char path[512];
        const char *name = cJSON_GetArrayItem(variants, v)->valuestring;
        snprintf(path, sizeof path, VECTORS "%s/tokenizer.json", name);
        copy_file(path, "tok/tokenizer.json");
        prxi_tokenizer *t = open_tokenizer("tok");
        cJSON_ArrayForEach(e, cases) {
            const cJSON *ids = cJSON_GetArrayItem(e, cJSON_GetArraySize(e) > 2 ? 1 + v : 1);
            check_ids(t, name, cJSON_GetArrayItem(e, 0)->valuestring, ids);
        }
        prxi_tokenizer_close(&c, &t);
    }
    prxi_json_close(&c, &j);
}

static void expect(const prxi_tokenizer *t, const char *text, int max, const char *want)
{
    int32_t ids[64];
    char got[512] = "";
    int n = 0;
    prxi_clear(&c);
    CHECK(prxi_tokenizer_encode(&c, t, text, max, ids, &n) == PRX_OK, "%s", c.error.text);
    for (int i = 0; i < n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%d", i ? " " : "", ids[i]);
    CHECK(strcmp(got, want) == 0, "\"%s\" max %d: %s, not %s", text, max, got, want);
}

/* Without tokenizer.json: special pieces and extra ids as transformers derives them. */
static void test_plain(void)
{
    char want[32];
    unlink(tmp_path("tok/tokenizer.json"));
    prxi_tokenizer *t = open_tokenizer("tok");
    expect(t, "", 8, "1");
    expect(t, " \n ", 8, "1");
    expect(t, "</s>", 8, "1 1");
    expect(t, "</s>", 1, "1");
    expect(t, "<pad> <unk></s>", 8, "0 3 1 1");
    expect(t, "<pad><pad><pad><pad>", 3, "0 0 1");
    expect(t, "<extra_id_99>", 8, "1100 1");
    expect(t, "<extra_id_0>", 8, "1199 1");
    prxi_tokenizer_close(&c, &t);
    tmp_write("tok/tokenizer_config.json", "{\"extra_ids\": 300}", 18);
    t = open_tokenizer("tok");
    for (int k = 0; k < 300; k += 299) {
        char text[32];
        snprintf(text, sizeof text, "<extra_id_%d>", k);
        snprintf(want, sizeof want, "%d 1", 1399 - k);
        expect(t, text, 8, want);
    }
    int32_t ids[4];
    int n;
    CHECK(prxi_tokenizer_encode(&c, t, "x", 0, ids, &n) == PRX_EINVAL, "max 0");
    prxi_clear(&c);
    CHECK(prxi_tokenizer_encode(&c, t, "x\xff", 4, ids, &n) == PRX_EINVAL && n == 0 && strstr(c.error.text, "UTF-8"), "%s",
          c.error.text);
    char *big = malloc((1 << 20) + 1);
    REQUIRE(big, "malloc");
    memset(big, 'a', 1 << 20);
    big[1 << 20] = '\0';
    prxi_clear(&c);
    CHECK(prxi_tokenizer_encode(&c, t, big, 4, ids, &n) == PRX_EINVAL && strstr(c.error.text, "65536"), "%s", c.error.text);
    big[PRXI_MAX_PROMPT] = '\0';
    prxi_clear(&c);
    CHECK(prxi_tokenizer_encode(&c, t, big, 4, ids, &n) == PRX_OK && n == 4 && ids[3] == 1, "%s", c.error.text);
    free(big);
    prxi_tokenizer_close(&c, &t);
    unlink(tmp_path("tok/tokenizer_config.json"));
}

static void refused(const char *say)
{
    prxi_tokenizer *t;
    prxi_clear(&c);
    const int err = prxi_tokenizer_open(&c, &t, tmp_path("tok"));
    CHECK((err == PRX_EFORMAT || err == PRX_EINVAL) && !t, "accepted, expected \"%s\"", say);
    CHECK(strstr(c.error.text, say), "\"%s\" lacks \"%s\"", c.error.text, say);
    prxi_tokenizer_close(&c, &t);
}

static void json(const char *text, const char *say)
{
    tmp_write("tok/tokenizer.json", text, strlen(text));
    refused(say);
}

static void test_json(void)
{
#define PRE "\"pre_tokenizer\":{\"type\":\"Metaspace\"}"
    json("", "\"pre_tokenizer\"");
    json("{}", "Metaspace");
    json("{" PRE "}", "\"model\" is missing");
    json("{" PRE ",\"model\":{\"type\":\"BPE\"}}", "\"BPE\" is not supported");
    json("{" PRE ",\"model\":{\"unk_id\":-1}}", "out of range");
    json("{" PRE ",\"model\":{\"unk_id\":x}}", "JSON");
    json("{" PRE ",\"model\":{},\"added_tokens\":{}}", "an array");
    json("{" PRE ",\"model\":{},\"added_tokens\":[{\"id\":1}]}", "content or id");
    json("{" PRE ",\"model\":{},\"added_tokens\":[{\"id\":1,\"content\":\"\"}]}", "content or id");
    json("{" PRE ",\"model\":{},\"added_tokens\":[{\"id\":-1,\"content\":\"x\"}]}", "content or id");
    json("{" PRE ",\"model\":{},\"added_tokens\":[", "JSON");
    json("{\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"model\":{}}", "Metaspace");
    static const char good[] = "{ \"x\":[\"}\\\"\",{}], " PRE ",\"added_tokens\":[{\"id\":7,\"content\":\"ab\",\"single_word\":true},"
                               "{\"id\":8,\"content\":\"<x>\",\"lstrip\":true},{\"id\":9,\"content\":\"<x>y\",\"rstrip\":true}],"
                               "\"model\":{\"vocab\":[[\"a\",0]],\"unk_id\":5}}";
    tmp_write("tok/tokenizer.json", good, strlen(good));
    prxi_tokenizer *t = open_tokenizer("tok");
    expect(t, "ab", 8, "7 1");
    expect(t, "<x>", 8, "8 1");
    expect(t, "<x>y", 8, "9 1");
    expect(t, "ab <x>y ab", 8, "7 260 9 7 1");
    expect(t, "\xe9\xbe\x98", 8, "260 5 1");
    prxi_tokenizer_close(&c, &t);
    unlink(tmp_path("tok/tokenizer.json"));
}

static void test_broken_model(void)
{
    char *bytes = malloc(model_n + 16);
    REQUIRE(bytes, "malloc");
    unlink(tmp_path("tok/spiece.model"));
    refused("spiece.model");
    tmp_write("tok/tokenizer.json", "{}", 2);
    refused("tokenizer.json alone");
    unlink(tmp_path("tok/tokenizer.json"));
    tmp_write("tok/spiece.model", "", 0);
    refused("exactly one piece");
    tmp_write("tok/spiece.model", "\x0a\xff", 2);
    refused("truncated?");
    /* Cut at many places: never a crash, always a reason. */
    for (size_t n = 1; n < model_n; n = n + n / 7 + 1) {
        tmp_write("tok/spiece.model", model, n);
        prxi_tokenizer *t;
        prxi_clear(&c);
        const int err = prxi_tokenizer_open(&c, &t, tmp_path("tok"));
        CHECK(err == PRX_OK || strstr(c.error.text, "spiece.model"), "cut at %zu: %s", n, c.error.text);
        prxi_tokenizer_close(&c, &t);
    }
    free(bytes);
    tmp_write("tok/spiece.model", model, model_n);
}

/* What the check itself must see, whatever the library would do with it. */
static void check_says(const void *data, size_t n, const char *say)
{
    prxi_spm_spec spec;
    prxi_clear(&c);
    CHECK(prxi_spm_check(&c, "m", data, n, &spec) == PRX_EFORMAT && strstr(c.error.text, say), "\"%s\" lacks \"%s\"",
          c.error.text, say);
}

static void test_check(void)
{
    check_says("\x0a\x05\x0a\x01u\x18\x02\x0a\x02\x0a\x00", 11, "a piece is empty");
    check_says("\x0a\x03\x0a\x01\xff", 5, "UTF-8");
    check_says("\x0a\x08\x0a\x01x\x15\x00\x00\xc0\x7f", 10, "score");
    check_says("\x0a\x03\x0a\x01x", 5, "exactly one piece");
    check_says("\x12\x02\x18\x02", 4, "unigram");
    check_says("\x12\x03\xc0\x01\x01", 5, "suffix");
    check_says("\x1a\x06\x12\x04\x00\x04\x00\x00", 8, "wrong size");
    check_says("\x22\x00", 2, "self test");
    check_says("\x0b", 1, "malformed");
    check_says("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 12, "malformed");
    /* The table of the real model, with one offset that leads outside. */
    char *bad = malloc(model_n);
    REQUIRE(bad, "malloc");
    memcpy(bad, model, model_n);
    int seen = 0;
    for (size_t i = model_n / 4; i + 4 < model_n && seen < 50; i += 997) {
        memcpy(bad, model, model_n);
        memset(bad + i, 0x7f, 4);
        prxi_spm_spec spec;
        prxi_clear(&c);
        seen += prxi_spm_check(&c, "m", bad, model_n, &spec) == PRX_EFORMAT;
    }
    CHECK(seen > 10, "only %d broken tables were seen", seen);
    free(bad);
}

static int encode_in(prxi_ctx *fc, const prxi_tokenizer *t)
{
    int32_t ids[64];
    int n;
    return prxi_tokenizer_encode(fc, t, "a red </s> ball &amp; \xe9\xbe\x98", 64, ids, &n);
}

static void test_faults(void)
{
    test_alloc a = { 0, 0, 0, 0 };
    prxi_mem m;
    prxi_ctx fc = test_ctx(&m, &a);
    prxi_tokenizer *t;
    copy_file(VECTORS "none/tokenizer.json", "tok/tokenizer.json");
    FAULT_LOOP(fc, a, prxi_tokenizer_open(&fc, &t, tmp_path("tok")), prxi_tokenizer_close(&fc, &t));
    prxi_clear(&fc);
    REQUIRE(prxi_tokenizer_open(&fc, &t, tmp_path("tok")) == PRX_OK, "%s", fc.error.text);
    FAULT_LOOP(fc, a, encode_in(&fc, t), (void)0);
    prxi_tokenizer_close(&fc, &t);
    CHECK(a.alive == 0, "%ld leaked", a.alive);
}

int main(void)
{
    c = test_ctx(&mem, NULL);
    tmp_open();
    REQUIRE(mkdir(tmp_path("tok"), 0777) == 0, "mkdir");
    copy_file(VECTORS "spiece.model", "tok/spiece.model");
    REQUIRE(prxi_read_file(&c, VECTORS "spiece.model", 1 << 24, &model, &model_n) == PRX_OK, "%s", c.error.text);
    test_vectors();
    test_plain();
    test_json();
    test_broken_model();
    test_check();
    test_faults();
    prxi_free(&mem, model);
    tmp_close();
    CHECK(atomic_load(&mem.total) == 0, "leak of %zu bytes", atomic_load(&mem.total));
    return TEST_END();
}
