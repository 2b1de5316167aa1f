/* Prompt cleaning against diffusers' prompt_clean with ftfy (tests/vectors/clean.json, made by make_clean.py). */
#include "tests/files.h"

#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "engine/model/clean.h"
#include "engine/model/text.h"

static prxi_mem mem;
static prxi_ctx c;

static void show(const char *what, const char *s)
{
    fprintf(stderr, "  %s:", what);
    for (; *s; s++)
        fprintf(stderr, *s > 0x20 && *s < 0x7f ? "%c" : "\\x%02x", (unsigned)(unsigned char)*s);
    fputc('\n', stderr);
}

static void check(const char *in, const char *want)
{
    char *out;
    size_t n;
    prxi_clear(&c);
    REQUIRE(prxi_clean_prompt(&c, in, &out, &n) == PRX_OK, "%s", c.error.text);
    const int same = strcmp(out, want) == 0;
    CHECK(same && n == strlen(out), "differs");
    if (!same) {
        show("text", in);
        show("got ", out);
        show("want", want);
    }
    prxi_free(&mem, out);
}

static void test_vectors(void)
{
    prxi_json j;
    REQUIRE(prxi_json_open(&c, &j, PRX_SOURCE_DIR "/tests/vectors/clean.json", 0) == PRX_OK, "%s", c.error.text);
    const cJSON *e;
    int count = 0;
    cJSON_ArrayForEach(e, cJSON_GetObjectItem(j.root, "cases")) {
        check(cJSON_GetArrayItem(e, 0)->valuestring, cJSON_GetArrayItem(e, 1)->valuestring);
        count++;
    }
    CHECK(count > 500, "only %d cases", count);
    prxi_json_close(&c, &j);
}

static void refused(const char *text, const char *say)
{
    char *out;
    size_t n;
    prxi_clear(&c);
    CHECK(prxi_clean_prompt(&c, text, &out, &n) == PRX_EINVAL && !out && n == 0, "accepted");
    CHECK(strstr(c.error.text, say), "\"%s\" lacks \"%s\"", c.error.text, say);
}

/* Long, nested and mark-heavy prompts end quickly and are answered. */
static void test_sizes(void)
{
    static const char *const units[] = { "a", "&amp;", "amp;", "&", "\xcc\x81", "\xcc\xa7", "\xef\xbf\xa3", "&#38;", "\x1b[", "<\n", "\n",
                                         "\xe1\x84\x80", "&CounterClockwiseContourIntegral" };
    char *big = malloc(((size_t)1 << 20) + 1), *out;
    size_t n;
    REQUIRE(big, "malloc");
    memset(big, 'x', 1 << 20);
    big[1 << 20] = '\0';
    refused(big, "65536 bytes");
    big[PRXI_MAX_PROMPT] = '\0';
    prxi_clear(&c);
    CHECK(prxi_clean_prompt(&c, big, &out, &n) == PRX_OK && n == PRXI_MAX_PROMPT, "%s", c.error.text);
    prxi_free(&mem, out);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        const size_t len = strlen(units[u]);
        size_t at = 0;
        for (; at + len <= PRXI_MAX_PROMPT; at += len)
            memcpy(big + at, units[u], len);
        big[at] = '\0';
        CHECK(prxi_clean_prompt(&c, big, &out, &n) == PRX_OK && prxi_utf8_check(out, n) == n, "%s", c.error.text);
        prxi_free(&mem, out);
    }
    free(big);
}

static int clean_in(prxi_ctx *fc)
{
    char *out;
    size_t n;
    const int err = prxi_clean_prompt(fc, "caf&eacute; \xef\xbc\x8c e\xcc\x81\n &amp;lt; x", &out, &n);
    prxi_free(fc->mem, out);
    return err;
}

int main(void)
{
    c = test_ctx(&mem, NULL);
    test_vectors();
    refused("ok \xff", "byte 3");
    refused("\xed\xa0\x80", "byte 0");
    refused("x\xc3", "byte 1");
    test_sizes();
    test_alloc a = { 0, 0, 0, 0 };
    prxi_mem m;
    prxi_ctx fc = test_ctx(&m, &a);
    FAULT_LOOP(fc, a, clean_in(&fc), (void)0);
    CHECK(atomic_load(&mem.total) == 0, "leak of %zu bytes", atomic_load(&mem.total));
    return TEST_END();
}
