/* safetensors: round trip, every kind of broken header, folders with shards, fault injection. */
#include "tests/files.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "engine/weights/safetensors.h"

static prxi_mem mem;
static prxi_ctx c;

/* u64 length, header, data bytes counting up from 0. Returns the total size. */
static size_t make(char *out, const char *header, size_t data)
{
    const uint64_t n = strlen(header);
    for (int i = 0; i < 8; i++)
        out[i] = (char)(n >> (8 * i));
    memcpy(out + 8, header, n);
    for (size_t i = 0; i < data; i++)
        out[8 + n + i] = (char)i;
    return 8 + n + data;
}

static int open_bytes(const char *buf, size_t n)
{
    prxi_tensors *t;
    prxi_clear(&c);
    const int err = prxi_tensors_open_memory(&c, &t, "m.safetensors", buf, n);
    CHECK((err == PRX_OK) == (t != NULL), "out is set on success only");
    prxi_tensors_close(&c, &t);
    return err;
}

static void test_malformed(void)
{
    static const struct {
        const char *header;
        size_t data;
        const char *say;        /* NULL: fine */
    } cases[] = {
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, NULL },
        { "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}  ", 4, NULL },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[0,0]}}", 0, NULL },
        { "{\"b\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[2,4]},"
          "\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 4, NULL },
        { "{}", 0, "no tensors" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "truncated" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "last 1 bytes" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "belong to no tensor" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}", 6, "overlaps tensor a" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "overlaps" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "twice" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8.5]}}", 8, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,1e18]}}", 8, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9007199254740992]}}", 8, "truncated" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "need 12" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]}}", 8, "shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,8]}}", 8, "large" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, "dimensions" },
        { "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "dtype F8_E4M3" },
        { "{\"a\":{\"dtype\":7,\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "dtype" },
        { "{\"a\":{\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "dtype" },
        { "{\"a\":[1,2]}", 8, "object" },
        { "[1,2]", 8, "object" },
        { "{\"a\"", 0, "JSON" },
    };
    char buf[1024];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int err = open_bytes(buf, make(buf, cases[i].header, cases[i].data));
        if (!cases[i].say) {
            CHECK(err == PRX_OK, "case %zu: %s", i, c.error.text);
            continue;
        }
        CHECK(err == PRX_EFORMAT, "case %zu accepted", i);
        CHECK(strstr(c.error.text, "m.safetensors") && strstr(c.error.text, cases[i].say), "case %zu: \"%s\" lacks \"%s\"", i,
              c.error.text, cases[i].say);
    }
}

static void test_length(void)
{
    static const uint64_t lengths[] = { 3, 9, 100, UINT32_MAX, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63 };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char buf[8 + 2] = { 0, 0, 0, 0, 0, 0, 0, 0, '{', '}' };
        for (int k = 0; k < 8; k++)
            buf[k] = (char)(lengths[i] >> (8 * k));
        CHECK(open_bytes(buf, sizeof buf) == PRX_EFORMAT && strstr(c.error.text, "header of"), "%" PRIu64 ": %s", lengths[i],
              c.error.text);
    }
    CHECK(open_bytes("1234567", 7) == PRX_EFORMAT && strstr(c.error.text, "7 bytes"), "%s", c.error.text);
    CHECK(open_bytes("", 0) == PRX_EFORMAT, "%s", c.error.text);
}

static const float f32[6] = { 1, -2, 0.5f, 3e38f, 1e-40f, 0 };
static const uint16_t bf16[3] = { 0x3f80, 0xc000, 0x0001 };
static const uint16_t f16[2] = { 0x3c00, 0x0001 };
static const uint8_t u8[5] = { 0, 1, 2, 254, 255 };

static const char *write_sample(const char *name)
{
    const prxi_tensor_out t[] = {
        { "bytes \"\\", PRXI_U8, 1, { 5 }, u8 },
        { "x.weight", PRXI_F32, 2, { 2, 3 }, f32 },
        { "h", PRXI_F16, 1, { 2 }, f16 },
        { "empty", PRXI_F32, 2, { 0, 4 }, NULL },
        { "b", PRXI_BF16, 3, { 1, 3, 1 }, bf16 },
    };
    const char *path = tmp_path(name);
    prxi_clear(&c);
    REQUIRE(prxi_tensors_write(&c, path, t, 5, NULL) == PRX_OK, "%s", c.error.text);
    return path;
}

static void check_f32(prxi_tensors *t, const char *name, const float *want, size_t n)
{
    float *p = NULL;
    const prxi_tensor *x = prxi_tensors_find(t, name);
    REQUIRE(x, "%s", name);
    CHECK(prxi_tensor_f32(&c, x, &p) == PRX_OK && memcmp(p, want, n * sizeof *p) == 0, "%s: %s", name, c.error.text);
    CHECK(prxi_tensor_check_finite(&c, x) == PRX_OK, "%s", c.error.text);
    prxi_free(&mem, p);
}

static int ignore_h(const char *name)
{
    return strcmp(name, "h") == 0;
}

static int to_y(const char *name, char *out, size_t n)
{
    return strncmp(name, "x.", 2) == 0 ? snprintf(out, n, "y.%s", name + 2) : 0;
}

static int all_same(const char *name, char *out, size_t n)
{
    (void)name;
    return snprintf(out, n, "same");
}

static void test_round_trip(void)
{
    prxi_tensors *t;
    REQUIRE(prxi_tensors_open_file(&c, &t, write_sample("s.safetensors")) == PRX_OK, "%s", c.error.text);
    CHECK(prxi_tensors_count(t) == 5 && prxi_tensors_bytes(t) == 5 + 24 + 4 + 0 + 6, "count and bytes");
    CHECK(prxi_tensors_at(t, 0)->dtype == PRXI_U8 && memcmp(prxi_tensors_at(t, 0)->data, u8, 5) == 0, "first in the file");
    const float hf[2] = { 1, 0x1p-24f }, bf[3] = { 1, -2, 0x1p-133f };
    check_f32(t, "x.weight", f32, 6);
    check_f32(t, "b", bf, 3);
    CHECK(prxi_tensors_check_used(&c, t, NULL) == PRX_EFORMAT && strstr(c.error.text, "bytes \"\\"), "%s", c.error.text);
    CHECK(prxi_tensors_find(t, "bytes \"\\") && prxi_tensors_find(t, "empty") && !prxi_tensors_find(t, "none"), "find");
    prxi_clear(&c);
    CHECK(prxi_tensors_check_used(&c, t, NULL) == PRX_EFORMAT && strstr(c.error.text, "tensor h "), "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_tensors_check_used(&c, t, ignore_h) == PRX_OK, "%s", c.error.text);
    check_f32(t, "h", hf, 2);

    const prxi_tensor *x;
    CHECK(prxi_tensors_get(&c, t, "x.weight", 2, (const int64_t[]) { 2, 3 }, &x) == PRX_OK && x, "%s", c.error.text);
    CHECK(prxi_tensors_get(&c, t, "x.weight", 2, (const int64_t[]) { 3, 2 }, &x) == PRX_EFORMAT && !x &&
              strstr(c.error.text, "[2, 3]") && strstr(c.error.text, "[3, 2]"), "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_tensors_get(&c, t, "x.weight", 1, (const int64_t[]) { 6 }, &x) == PRX_EFORMAT, "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_tensors_get(&c, t, "gone", 1, (const int64_t[]) { 6 }, &x) == PRX_EFORMAT &&
              strstr(c.error.text, "gone is missing"), "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_tensors_get(&c, t, "bytes \"\\", 1, (const int64_t[]) { 5 }, &x) == PRX_EFORMAT, "a float is needed");
    prxi_clear(&c);

    prxi_tensor_drop(prxi_tensors_find(t, "x.weight"));
    check_f32(t, "x.weight", f32, 6);
    CHECK(prxi_tensors_rename(&c, t, to_y) == PRX_OK && !prxi_tensors_find(t, "x.weight"), "%s", c.error.text);
    check_f32(t, "y.weight", f32, 6);
    CHECK(prxi_tensors_rename(&c, t, all_same) == PRX_EFORMAT && strstr(c.error.text, "twice"), "%s", c.error.text);
    prxi_tensors_close(&c, &t);
    prxi_clear(&c);
}

static void test_not_finite(void)
{
    float v[2100];
    for (int i = 0; i < 2100; i++)
        v[i] = (float)i;
    v[2049] = NAN;
    const uint16_t hb[2] = { 0, 0x7f80 }, hh[2] = { 0xfc01, 0 };
    const prxi_tensor t[] = {
        { .name = "nan32", .dtype = PRXI_F32, .data = v, .bytes = sizeof v },
        { .name = "inf16", .dtype = PRXI_BF16, .data = hb, .bytes = sizeof hb },
        { .name = "nanh", .dtype = PRXI_F16, .data = hh, .bytes = sizeof hh },
    };
    static const char *const say[] = { "nan32: element 2049", "inf16: element 1", "nanh: element 0" };
    for (int i = 0; i < 3; i++) {
        float *p;
        prxi_clear(&c);
        CHECK(prxi_tensor_check_finite(&c, &t[i]) == PRX_EFORMAT && strstr(c.error.text, say[i]), "%s", c.error.text);
        prxi_clear(&c);
        CHECK(prxi_tensor_f32(&c, &t[i], &p) == PRX_EFORMAT && !p && strstr(c.error.text, say[i]), "%s", c.error.text);
    }
}

static int open_dir(const char *name, prxi_tensors **t)
{
    prxi_clear(&c);
    return prxi_tensors_open_dir(&c, t, tmp_path(name), "model");
}

static void bad_index(const char *json, const char *say)
{
    prxi_tensors *t;
    tmp_write("sh/model.safetensors.index.json", json, strlen(json));
    CHECK(open_dir("sh", &t) == PRX_EFORMAT && !t && strstr(c.error.text, say), "%s: \"%s\" lacks \"%s\"", json, c.error.text,
          say);
}

static void test_shards(void)
{
    prxi_tensors *t;
    REQUIRE(mkdir(tmp_path("sh"), 0777) == 0, "mkdir");
    CHECK(open_dir("sh", &t) == PRX_EINVAL && strstr(c.error.text, "model.safetensors"), "%s", c.error.text);
    const prxi_tensor_out one = { "one", PRXI_F32, 1, { 6 }, f32 }, two = { "two", PRXI_BF16, 1, { 3 }, bf16 };
    CHECK(prxi_tensors_write(&c, tmp_path("sh/model-1.safetensors"), &one, 1, NULL) == PRX_OK, "%s", c.error.text);
    CHECK(prxi_tensors_write(&c, tmp_path("sh/model-2.safetensors"), &two, 1, "{\"a\":\"b\"}") == PRX_OK, "%s", c.error.text);
    static const char good[] = "{\"metadata\":{\"total_size\":30},\"weight_map\":{\"one\":\"model-1.safetensors\","
                               "\"two\":\"model-2.safetensors\"}}";
    tmp_write("sh/model.safetensors.index.json", good, strlen(good));
    REQUIRE(open_dir("sh", &t) == PRX_OK, "%s", c.error.text);
    check_f32(t, "one", f32, 6);
    CHECK(prxi_tensors_find(t, "two") && prxi_tensors_count(t) == 2, "both shards");
    prxi_tensors_close(&c, &t);

    bad_index("{}", "weight_map");
    bad_index("{\"weight_map\":{}}", "weight_map");
    bad_index("{\"weight_map\":{\"one\":1}}", "plain");
    bad_index("{\"weight_map\":{\"one\":\"model-9.safetensors\"}}", "model-9.safetensors is not there");
    bad_index("{\"weight_map\":{\"one\":\"../sh/model-1.safetensors\"}}", "plain");
    bad_index("{\"weight_map\":{\"one\":\"/etc/model-1.safetensors\"}}", "plain");
    bad_index("{\"weight_map\":{\"one\":\"..\"}}", "plain");
    bad_index("{\"weight_map\":{\"one\":\"\"}}", "plain");
    bad_index("{\"weight_map\":{\"three\":\"model-1.safetensors\"}}", "tensor three is missing from its shard");
    bad_index("{\"weight_map\":", "JSON");
    CHECK(prxi_tensors_write(&c, tmp_path("sh/model-3.safetensors"), &one, 1, NULL) == PRX_OK,
          "an old error does not disturb");
    bad_index("{\"weight_map\":{\"one\":\"model-1.safetensors\",\"x\":\"model-3.safetensors\"}}", "one occurs twice");

    /* The plain file wins; without it and the index, a variant. */
    REQUIRE(rename(tmp_path("sh/model-2.safetensors"), tmp_path("sh/model.safetensors")) == 0, "rename");
    REQUIRE(open_dir("sh", &t) == PRX_OK && prxi_tensors_find(t, "two"), "%s", c.error.text);
    prxi_tensors_close(&c, &t);
    REQUIRE(rename(tmp_path("sh/model.safetensors"), tmp_path("sh/model.fp16.safetensors")) == 0, "rename");
    REQUIRE(unlink(tmp_path("sh/model.safetensors.index.json")) == 0, "unlink");
    REQUIRE(open_dir("sh", &t) == PRX_OK && prxi_tensors_find(t, "two"), "%s", c.error.text);
    prxi_tensors_close(&c, &t);
    /* A truncated shard. */
    REQUIRE(truncate(tmp_path("sh/model.fp16.safetensors"), 60) == 0, "truncate");
    CHECK(open_dir("sh", &t) == PRX_EFORMAT && strstr(c.error.text, "truncated"), "%s", c.error.text);
    REQUIRE(truncate(tmp_path("sh/model.fp16.safetensors"), 0) == 0, "truncate");
    CHECK(open_dir("sh", &t) == PRX_EFORMAT && strstr(c.error.text, "8 bytes"), "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_tensors_open_file(&c, &t, tmp_path("none.safetensors")) == PRX_EINVAL && !t, "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_tensors_open_file(&c, &t, tmp_dir) == PRX_EFORMAT && !t, "%s", c.error.text);
    prxi_clear(&c);
}

static void test_faults(void)
{
    test_alloc a = { 0, 0, 0, 0 };
    prxi_mem m;
    prxi_ctx fc = test_ctx(&m, &a);
    prxi_tensors *t = NULL;
    static const char good[] = "{\"weight_map\":{\"x.weight\":\"model-1.safetensors\"}}";
    write_sample("sh/model-1.safetensors");
    tmp_write("sh/model.safetensors.index.json", good, strlen(good));
    FAULT_LOOP(fc, a, prxi_tensors_open_dir(&fc, &t, tmp_path("sh"), "model"), prxi_tensors_close(&fc, &t));
    prxi_clear(&fc);
    REQUIRE(prxi_tensors_open_dir(&fc, &t, tmp_path("sh"), "model") == PRX_OK, "%s", fc.error.text);
    FAULT_LOOP(fc, a, prxi_tensors_rename(&fc, t, to_y), (void)0);
    prxi_tensors_close(&fc, &t);
    CHECK(a.alive == 0, "%ld leaked", a.alive);
    const prxi_tensor_out one = { "one", PRXI_F32, 1, { 6 }, f32 };
    FAULT_LOOP(fc, a, prxi_tensors_write(&fc, tmp_path("w.safetensors"), &one, 1, NULL), (void)0);
    prxi_clear(&fc);
    CHECK(prxi_tensors_write(&fc, "/dev/full", &one, 1, NULL) == PRX_ENOSPC, "%s", fc.error.text);
}

int main(void)
{
    c = test_ctx(&mem, NULL);
    tmp_open();
    test_malformed();
    test_length();
    test_round_trip();
    test_not_finite();
    test_shards();
    test_faults();
    tmp_close();
    CHECK(atomic_load(&mem.total) == 0, "leak of %zu bytes", atomic_load(&mem.total));
    return TEST_END();
}
