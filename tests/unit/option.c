/* Option tables: defaults, ranges, choices, messages, nearest names, numbers under a foreign locale. */
#include <locale.h>
#include <stddef.h>

#include "engine/core/option.h"
#include "tests/test.h"

typedef struct settings {
    int64_t blocks;
    double threshold;
    int verbose, mode;
    char path[PRXI_OPT_STRING_MAX];
} settings;

static const prxi_option table[] = {
    { "blocks", PRXI_OPT_INT, offsetof(settings, blocks), 1, 64, NULL, "8", "blocks" },
    { "threshold", PRXI_OPT_DOUBLE, offsetof(settings, threshold), 0, 1, NULL, "0.08", "threshold" },
    { "verbose", PRXI_OPT_BOOL, offsetof(settings, verbose), 0, 0, NULL, "off", "verbose" },
    { "mode", PRXI_OPT_CHOICE, offsetof(settings, mode), 0, 0, "taylor|newton|none", "newton", "mode" },
    { "path", PRXI_OPT_STRING, offsetof(settings, path), 0, 0, NULL, "", "path" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

static int set(settings *s, const char *name, const char *value)
{
    prxi_clear(&ctx);
    return prxi_option_set(&ctx, table, s, "cache.", name, value);
}

static void test_set_get(void)
{
    settings s;
    char buf[64];
    memset(&s, 0xaa, sizeof s);
    REQUIRE(prxi_option_defaults(&ctx, table, &s) == PRX_OK, "%s", ctx.error.text);
    CHECK(s.blocks == 8 && s.threshold == 0.08 && s.verbose == 0 && s.mode == 1 && s.path[0] == 0, "defaults");
    CHECK(set(&s, "blocks", "64") == PRX_OK && s.blocks == 64, "upper end");
    CHECK(set(&s, "threshold", "1e-3") == PRX_OK && s.threshold == 1e-3, "exponent");
    CHECK(set(&s, "verbose", "Yes") == PRX_OK && s.verbose == 1, "bool");
    CHECK(set(&s, "mode", "none") == PRX_OK && s.mode == 2, "choice");
    CHECK(set(&s, "path", "a b") == PRX_OK && strcmp(s.path, "a b") == 0, "string");
    static const char *const want[][2] = { { "blocks", "64" }, { "threshold", "0.001" }, { "verbose", "on" },
                                           { "mode", "none" }, { "path", "a b" } };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        CHECK(prxi_option_get(table, &s, want[i][0], buf, sizeof buf) == PRX_OK && strcmp(buf, want[i][1]) == 0,
              "%s is %s", want[i][0], buf);
    CHECK(prxi_option_get(table, &s, "nothing", buf, sizeof buf) == PRX_EINVAL, "unknown");
    CHECK(prxi_option_get(table, &s, "path", buf, 3) == PRX_EINVAL, "too small");
    CHECK(prxi_option_get(table, &s, "path", buf, 4) == PRX_OK, "just enough");
}

static void test_refusals(void)
{
    static const char *const bad[][2] = {
        { "blocks", "0" },       { "blocks", "65" },     { "blocks", "" },          { "blocks", " 8" },
        { "blocks", "8x" },      { "blocks", "8.0" },    { "blocks", "0x8" },       { "threshold", "nan" },
        { "threshold", "inf" },  { "threshold", "-0.1" }, { "threshold", "1.0001" }, { "threshold", "" },
        { "threshold", "0,5" },  { "threshold", "1e999" }, { "verbose", "2" },       { "verbose", "" },
        { "mode", "tay" },       { "mode", "taylor|newton" }, { "mode", "" },
        { "blocks", "99999999999999999999" },
    };
    settings s, before;
    memset(&s, 0, sizeof s);
    prxi_option_defaults(&ctx, table, &s);
    before = s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(set(&s, bad[i][0], bad[i][1]) == PRX_EINVAL, "%s=%s accepted", bad[i][0], bad[i][1]);
        CHECK(strstr(ctx.error.text, bad[i][0]) && strstr(ctx.error.text, bad[i][1]), "%s", ctx.error.text);
    }
    CHECK(memcmp(&s, &before, sizeof s) == 0, "a refused value changed the settings");
    char longest[PRXI_OPT_STRING_MAX + 1];
    memset(longest, 'x', sizeof longest);
    longest[PRXI_OPT_STRING_MAX] = 0;
    CHECK(set(&s, "path", longest) == PRX_EINVAL, "string too long");
    longest[PRXI_OPT_STRING_MAX - 1] = 0;
    CHECK(set(&s, "path", longest) == PRX_OK, "longest string");
    set(&s, "mode", "tay");
    CHECK(strcmp(ctx.error.text, "cache.mode: 'tay' is not accepted: must be taylor|newton|none") == 0, "%s",
          ctx.error.text);
    set(&s, "blocks", "0");
    CHECK(strcmp(ctx.error.text, "cache.blocks: '0' is not accepted: must be a whole number from 1 to 64") == 0, "%s",
          ctx.error.text);
    set(&s, "treshold", "0");
    CHECK(strcmp(ctx.error.text, "cache.treshold: unknown option; did you mean cache.threshold?") == 0, "%s",
          ctx.error.text);
    set(&s, "zebra", "0");
    CHECK(strstr(ctx.error.text, "accepted: blocks, threshold, verbose, mode, path"), "%s", ctx.error.text);
}

static void test_nearest(void)
{
    static const char *const names[] = { "width", "height", "frames", "negative-prompt", "seed" };
    static const struct { const char *name, *want; } cases[] = {
        { "widht", "width" }, { "hieght", "height" }, { "FRAMES", "frames" }, { "negative_prompt", "negative-prompt" },
        { "sed", "seed" },    { "x", NULL },          { "", NULL },           { "completely", NULL },
        { "fram", "frames" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = prxi_nearest(cases[i].name, names, 5);
        CHECK(got == cases[i].want || (got && cases[i].want && strcmp(got, cases[i].want) == 0), "%s: %s",
              cases[i].name, got ? got : "none");
    }
}

static void test_numbers(void)
{
    static const double values[] = { 0, 1, -1, 0.1, 0.08, 1.0 / 3.0, 1e300, 5e-324, 123456789.0, 2.5, 1e-7 };
    setlocale(LC_ALL, "de_DE.UTF-8");      /* where it is installed; harmless elsewhere */
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[40];
        double back = NAN;
        prxi_print_num(values[i], text, sizeof text);
        CHECK(prxi_parse_num(text, &back) && back == values[i], "%s", text);
    }
    char text[40];
    prxi_print_num(0.1, text, sizeof text);
    CHECK(strcmp(text, "0.1") == 0, "%s", text);
    int64_t v = 0;
    CHECK(prxi_parse_int("-9223372036854775808", &v) && v == INT64_MIN, "smallest");
    CHECK(!prxi_parse_int("9223372036854775808", &v), "overflow");
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    test_set_get();
    test_refusals();
    test_nearest();
    test_numbers();
    return TEST_END();
}
