/* JSON reader and files: what is accepted, what is refused, and with which words. */
#include "tests/files.h"

#include <sys/stat.h>

#include "engine/core/json.h"
#include "engine/core/utf8.h"

static prxi_mem mem;
static prxi_ctx c;

static int parse(const char *text, size_t n)
{
    prxi_json j;
    prxi_clear(&c);
    const int err = prxi_json_parse(&c, &j, "x.json", text, n);
    CHECK((err == PRX_OK) == (j.root != NULL), "root is set on success only");
    prxi_json_close(&c, &j);
    return err;
}

static void refused(const char *text, size_t n, const char *say)
{
    CHECK(parse(text, n) == PRX_EFORMAT, "accepted: %.40s", text);
    CHECK(strstr(c.error.text, "x.json") && strstr(c.error.text, say), "%s lacks \"%s\"", c.error.text, say);
}

static void test_syntax(void)
{
    static const struct {
        const char *text, *say;
    } bad[] = {
        { "", "JSON" },          { "{", "byte" },           { "{} x", "after the end" }, { "[1]", "object" },
        { "{\"a\":}", "byte 5" }, { "{\"a\" 1}", "byte" },   { "{\"a\":1,}", "byte" },    { "\"x", "without end" },
        { "{\"a\":\"\\u0000\"}", "NUL" },                   { "{\"a\":\"\\", "without end" },
        { "{\"a\":\"\xff\"}", "UTF-8" },                    { "{\"a\":\"\xed\xa0\x80\"}", "UTF-8" },
        { "{\"a\":\"\xc0\x80\"}", "UTF-8" },                { "{\"a\":nul}", "byte" },    { "{\"a\":NaN}", "NaN, which is no number" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i].text, strlen(bad[i].text), bad[i].say);
    refused("{\"a\":1\0}", 8, "NUL");
    static const char *const good[] = { "{}", " {\n} \n", "{\"a\":[1,2,{\"b\":null}]}", "{\"\\u00e9\":\"\\\\\\\"\"}",
                                        "{\"a\":Infinity,\"b\":-Infinity}", "{\"a\":\"-Infinity\"}" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(parse(good[i], strlen(good[i])) == PRX_OK, "%s: %s", good[i], c.error.text);
}

/* Depth 10,000 and a million: refused by a scan that does not recurse. */
static void test_depth(void)
{
    for (size_t depth = 990; depth <= 1000000; depth = depth == 990 ? 10000 : depth * 100) {
        char *s = malloc(2 * depth + 6);
        REQUIRE(s, "malloc");
        memcpy(s, "{\"a\":", 5);
        memset(s + 5, '[', depth);
        memset(s + 5 + depth, ']', depth);
        s[5 + 2 * depth] = '}';
        const int err = parse(s, 2 * depth + 6);
        CHECK((err == PRX_OK) == (depth == 990), "depth %zu: %s", depth, c.error.text);
        CHECK(depth == 990 || strstr(c.error.text, "1000 levels"), "%s", c.error.text);
        free(s);
    }
}

static void test_getters(void)
{
    static const char text[] = "{\"i\":7,\"neg\":-3,\"big\":9007199254740992,\"huge\":1e300,\"f\":1.5,\"b\":true,\"s\":\"\xc3\xa9\","
                               "\"n\":null,\"v\":[1,2.5,3],\"w\":[1,\"x\"],\"inf\":-Infinity}";
    prxi_json j;
    prxi_clear(&c);
    REQUIRE(prxi_json_parse(&c, &j, "cfg.json", text, strlen(text)) == PRX_OK, "%s", c.error.text);
    int64_t i = 42;
    double d = 0.25, v[3];
    int b = 1, n = -1;
    const char *s;
    CHECK(prxi_json_int(&c, &j, "absent", 0, 9, &i) == PRX_OK && i == 42, "default stays");
    CHECK(prxi_json_int(&c, &j, "n", 0, 9, &i) == PRX_OK && i == 42, "null is the default");
    CHECK(prxi_json_int(&c, &j, "i", 0, 9, &i) == PRX_OK && i == 7, "int");
    CHECK(prxi_json_int(&c, &j, "big", 0, INT64_MAX, &i) == PRX_OK && i == 9007199254740992, "2^53");
    CHECK(prxi_json_num(&c, &j, "f", &d) == PRX_OK && d == 1.5, "num");
    CHECK(prxi_json_bool(&c, &j, "absent", &b) == PRX_OK && b == 1, "bool default");
    CHECK(prxi_json_bool(&c, &j, "b", &b) == PRX_OK && b == 1, "bool");
    CHECK(prxi_json_str(&c, &j, "s", &s) == PRX_OK && s && strcmp(s, "\xc3\xa9") == 0, "string");
    CHECK(prxi_json_str(&c, &j, "absent", &s) == PRX_OK && !s, "absent string");
    CHECK(prxi_json_nums(&c, &j, "v", v, 3, &n) == PRX_OK && n == 3 && v[1] == 2.5, "array");
    i = 42;
    CHECK(prxi_json_int(&c, &j, "neg", 0, 9, &i) == PRX_EFORMAT && i == 42, "range");
    CHECK(strstr(c.error.text, "cfg.json") && strstr(c.error.text, "\"neg\"") && strstr(c.error.text, "0 to 9"), "%s",
          c.error.text);
    static const char *const not_int[] = { "huge", "f", "b", "s", "v", "inf" };
    for (size_t k = 0; k < sizeof not_int / sizeof *not_int; k++) {
        prxi_clear(&c);
        CHECK(prxi_json_int(&c, &j, not_int[k], INT64_MIN, INT64_MAX, &i) == PRX_EFORMAT, "%s", not_int[k]);
        CHECK(strstr(c.error.text, not_int[k]), "%s", c.error.text);
    }
    CHECK(prxi_json_num(&c, &j, "inf", &d) == PRX_EFORMAT && d == 1.5, "infinite number");
    CHECK(prxi_json_bool(&c, &j, "i", &b) == PRX_EFORMAT, "not a bool");
    CHECK(prxi_json_str(&c, &j, "i", &s) == PRX_EFORMAT && !s, "not a string");
    CHECK(prxi_json_nums(&c, &j, "v", v, 2, &n) == PRX_EFORMAT, "too many");
    CHECK(prxi_json_nums(&c, &j, "w", v, 3, &n) == PRX_EFORMAT, "not numbers");
    prxi_json_close(&c, &j);
}

static void test_files(void)
{
    char *p;
    size_t n;
    prxi_json j;
    prxi_clear(&c);
    CHECK(prxi_read_file(&c, tmp_path("none"), 10, &p, &n) == PRX_EINVAL && !p && strstr(c.error.text, "none"), "%s",
          c.error.text);
    prxi_clear(&c);
    CHECK(prxi_read_file(&c, tmp_dir, 10, &p, &n) == PRX_EINVAL && strstr(c.error.text, "directory"), "%s", c.error.text);
    const char *path = tmp_write("a.json", "{\"k\":1}", 7);
    prxi_clear(&c);
    CHECK(prxi_read_file(&c, path, 6, &p, &n) == PRX_EINVAL && strstr(c.error.text, "at most 6"), "%s", c.error.text);
    CHECK(prxi_read_file(&c, path, 7, &p, &n) == PRX_OK && n == 7 && strcmp(p, "{\"k\":1}") == 0, "content");
    prxi_free(&mem, p);
    CHECK(prxi_read_file(&c, tmp_write("empty", "", 0), 7, &p, &n) == PRX_OK && n == 0 && p && !*p, "empty file");
    prxi_free(&mem, p);
    CHECK(prxi_json_open(&c, &j, path, 0) == PRX_OK, "open");
    prxi_json_close(&c, &j);
    prxi_clear(&c);
    CHECK(prxi_json_open(&c, &j, path, 3) == PRX_EINVAL && !j.root, "size limit");

    CHECK(prxi_write_file(&c, path, "new", 3) == PRX_OK, "%s", c.error.text);
    CHECK(prxi_read_file(&c, path, 7, &p, &n) == PRX_OK && n == 3 && memcmp(p, "new", 3) == 0, "replaced");
    prxi_free(&mem, p);
    /* A link stays a link, the file behind it changes. */
    REQUIRE(symlink("a.json", tmp_path("link")) == 0, "symlink");
    CHECK(prxi_write_file(&c, tmp_path("link"), "two", 3) == PRX_OK, "%s", c.error.text);
    struct stat st;
    CHECK(lstat(tmp_path("link"), &st) == 0 && S_ISLNK(st.st_mode), "link replaced");
    CHECK(prxi_read_file(&c, path, 7, &p, &n) == PRX_OK && memcmp(p, "two", 3) == 0, "through the link");
    prxi_free(&mem, p);
    prxi_clear(&c);
    CHECK(prxi_write_file(&c, tmp_path("no/dir"), "x", 1) == PRX_EINVAL, "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_write_file(&c, tmp_dir, "x", 1) == PRX_EINVAL, "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_write_file(&c, "/dev/full", "x", 1) == PRX_ENOSPC && strstr(c.error.text, "/dev/full"), "%s", c.error.text);
    prxi_clear(&c);
    CHECK(prxi_write_file(&c, "/dev/null", "x", 1) == PRX_OK && stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode),
          "a device is written in place");
}

static void test_utf8(void)
{
    static const uint32_t cps[] = { 1, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff };
    for (size_t i = 0; i < sizeof cps / sizeof *cps; i++) {
        char s[4];
        uint32_t back = 0;
        const int n = prxi_utf8_encode(cps[i], s);
        CHECK(prxi_utf8_decode(s, (size_t)n, &back) == n && back == cps[i], "U+%x", cps[i]);
        CHECK(n == 1 || prxi_utf8_decode(s, (size_t)n - 1, &back) == 0, "cut U+%x", cps[i]);
    }
    static const char *const bad[] = { "\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                                       "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3(" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(prxi_utf8_check(bad[i], strlen(bad[i])) == 0, "bad %zu", i);
    CHECK(prxi_utf8_check("a\xc3\xa9z\xff", 5) == 4, "offset");
}

static int read_parse(prxi_ctx *cx, const char *path)
{
    prxi_json j;
    const int err = prxi_json_open(cx, &j, path, 0);
    prxi_json_close(cx, &j);
    return err;
}

static void test_faults(void)
{
    test_alloc a = { 0, 0, 0, 0 };
    prxi_mem m;
    prxi_ctx fc = test_ctx(&m, &a);
    const char *path = tmp_write("f.json", "{\"k\":[1,2,3]}", 13);
    FAULT_LOOP(fc, a, read_parse(&fc, path), (void)0);
    FAULT_LOOP(fc, a, prxi_write_file(&fc, tmp_path("out"), "abc", 3), (void)0);
    char cmd[128];
    snprintf(cmd, sizeof cmd, "! ls '%s' | grep -q tmp", tmp_dir);
    CHECK(system(cmd) == 0, "a temporary file was left");
}

/* Every bit comes back. */
static void test_exact(void)
{
    uint64_t seed = 1;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const double v = (double)(seed >> 11) * 0x1p-53 * pow(10, (double)(i % 40) - 20);
        cJSON *made = prxi_json_exact(v);
        char *text = cJSON_PrintUnformatted(made);
        REQUIRE(text, "memory");
        CHECK(strtod(text, NULL) == v, "%.17g became %s", v, text);
        cJSON_free(text);
        cJSON_Delete(made);
    }
    cJSON *nan = prxi_json_exact(NAN);
    CHECK(cJSON_IsNull(nan), "no number is null");
    cJSON_Delete(nan);
}

int main(void)
{
    c = test_ctx(&mem, NULL);
    tmp_open();
    test_syntax();
    test_depth();
    test_getters();
    test_files();
    test_utf8();
    test_faults();
    test_exact();
    tmp_close();
    CHECK(atomic_load(&mem.total) == 0, "leak of %zu bytes", atomic_load(&mem.total));
    return TEST_END();
}
