/* Choices on disk: what was put is found again; whatever a file holds, nothing fails and nothing wrong is believed. */
#include "engine/core/choices.h"

#include <sys/stat.h>

#include "tests/files.h"
#include "tests/random.h"

static prxi_mem mem;
static test_alloc alloc;
static prxi_ctx ctx;
static int warnings;

static void count(void *cookie, int level, const char *text)
{
    (void)cookie;
    (void)text;
    warnings += level == PRX_LOG_WARN;
}

static prxi_choices *open_it(void)
{
    prxi_choices *k = NULL;
    warnings = 0;
    REQUIRE(prxi_choices_open(&ctx, &k, "test") == PRX_OK && k, "%s", ctx.error.text);
    return k;
}

static void put(prxi_choices *k, const char *key, const char *value)
{
    CHECK(prxi_choices_put(&ctx, k, key, value) == PRX_OK, "%s: %s", key, ctx.error.text);
}

static void check_value(const prxi_choices *k, const char *key, const char *want)
{
    const char *got = prxi_choices_get(k, key);
    CHECK(want ? got && strcmp(got, want) == 0 : !got, "%s: %s, not %s", key, got ? got : "nothing", want ? want : "nothing");
}

static size_t read_back(char *out, size_t room)
{
    FILE *f = fopen(tmp_path("new/deep/test.choices"), "rb");
    REQUIRE(f, "the file is there");
    const size_t n = fread(out, 1, room, f);
    fclose(f);
    return n;
}

static void write_back(const char *text, size_t n)
{
    tmp_write("new/deep/test.choices", text, n);
}

static void test_round(void)
{
    prxi_choices *k = open_it();
    CHECK(warnings == 0, "no file is no reason to speak");
    prxi_choices_save(&ctx, k);
    CHECK(access(tmp_path("new"), F_OK) != 0, "nothing new: nothing is written");
    put(k, "a/1", "first");
    put(k, "b", "second");
    put(k, "a/1", "third");
    prxi_choices_save(&ctx, k);
    prxi_choices_close(&ctx, &k);
    k = open_it();
    check_value(k, "a/1", "third");
    check_value(k, "b", "second");
    check_value(k, "a", NULL);
    const char *value;
    CHECK(strcmp(prxi_choices_at(k, 1, &value), "b") == 0 && strcmp(value, "second") == 0 && !prxi_choices_at(k, 2, &value), "in order");
    CHECK(prxi_choices_put(&ctx, k, "with space", "x") == PRX_EINVAL, "a space");
    prxi_clear(&ctx);
    CHECK(prxi_choices_put(&ctx, k, "x", "") == PRX_EINVAL, "no value");
    prxi_clear(&ctx);
    prxi_choices_close(&ctx, &k);
}

/* Two programs at a time: each keeps what the other wrote, and its own of what both did. */
static void test_two(void)
{
    prxi_choices *k = open_it(), *other = open_it();
    put(k, "mine", "1");
    put(k, "both", "k");
    put(other, "theirs", "2");
    put(other, "both", "other");
    prxi_choices_save(&ctx, other);
    prxi_choices_save(&ctx, k);
    prxi_choices_close(&ctx, &other);
    prxi_choices_close(&ctx, &k);
    k = open_it();
    check_value(k, "mine", "1");
    check_value(k, "theirs", "2");
    check_value(k, "both", "k");
    check_value(k, "b", "second");
    prxi_choices_close(&ctx, &k);
}

/* Every byte changed, every length: the file as it was, or nothing of it and one warning; and it can be written anew. */
static void test_damage(void)
{
    char good[4096], bad[4096];
    const size_t n = read_back(good, sizeof good);
    for (size_t i = 0; i < 2 * n; i++) {
        memcpy(bad, good, n);
        if (i < n)
            bad[i] ^= 1;
        write_back(bad, i < n ? n : i - n);
        prxi_choices *k = open_it();
        const char *value;
        const int cut = i >= n && i - n >= 18 && good[i - n - 1] == '\n';      /* between lines: shorter, and whole */
        CHECK(cut ? warnings == 0 : warnings == 1 && !prxi_choices_at(k, 0, &value), "byte %zu of %zu: %d warnings", i, n, warnings);
        if (i % 50 == 0) {
            put(k, "new", "value");
            prxi_choices_save(&ctx, k);
            prxi_choices_close(&ctx, &k);
            k = open_it();
            check_value(k, "new", "value");
        }
        prxi_choices_close(&ctx, &k);
    }
    write_back(good, n);
}

static void test_unwritable(void)
{
    tmp_write("file", "x", 1);
    setenv("PRAXINO_CACHE", tmp_path("file/below"), 1);
    prxi_choices *k = open_it();
    put(k, "a", "b");
    prxi_choices_save(&ctx, k);
    put(k, "c", "d");
    prxi_choices_save(&ctx, k);
    CHECK(warnings == 1 && ctx.error.code == 0, "%d warnings, '%s'", warnings, ctx.error.text);
    check_value(k, "a", "b");
    prxi_choices_close(&ctx, &k);
    setenv("PRAXINO_CACHE", "", 1);
    k = open_it();
    put(k, "a", "b");
    prxi_choices_save(&ctx, k);
    CHECK(warnings == 0, "no folder is wanted");
    prxi_choices_close(&ctx, &k);
    setenv("PRAXINO_CACHE", tmp_path("new/deep"), 1);
}

static int session(void)
{
    prxi_choices *k;
    int err = prxi_choices_open(&ctx, &k, "test");
    for (int i = 0; i < 40 && err == PRX_OK; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%d", i);
        err = prxi_choices_put(&ctx, k, key, "x");
    }
    if (k)
        prxi_choices_close(&ctx, &k);
    return err;
}

int main(void)
{
    const prxi_log log = { count, NULL, PRX_LOG_WARN };
    tmp_open();
    setenv("PRAXINO_CACHE", tmp_path("new/deep"), 1);
    ctx = test_ctx(&mem, &alloc);
    ctx.log = &log;
    test_round();
    test_two();
    test_damage();
    test_unwritable();
    FAULT_LOOP(ctx, alloc, session(), (void)0);
    tmp_close();
    return TEST_END();
}
