/* Helpers for tests that make files: a temporary directory, small files in it, a context, and an allocator that
 * fails on demand and counts what is alive. */
#ifndef PRXI_TEST_FILES_H
#define PRXI_TEST_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/core/ctx.h"
#include "tests/test.h"

static char tmp_dir[64];

static inline void tmp_open(void)
{
    strcpy(tmp_dir, "/tmp/praxino-test-XXXXXX");
    REQUIRE(mkdtemp(tmp_dir), "mkdtemp");
}

static inline void tmp_close(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", tmp_dir);
    CHECK(system(cmd) == 0, "cleanup");
}

/* Path in the directory; four results are alive at a time. */
static inline const char *tmp_path(const char *name)
{
    static char buf[4][512];
    static int k;
    char *p = buf[k++ & 3];
    snprintf(p, sizeof buf[0], "%s/%s", tmp_dir, name);
    return p;
}

static inline const char *tmp_write(const char *name, const void *data, size_t n)
{
    const char *path = tmp_path(name);
    FILE *f = fopen(path, "wb");
    REQUIRE(f, "%s", path);
    CHECK(fwrite(data, 1, n, f) == n && fclose(f) == 0, "%s", path);
    return path;
}

/* Fails from the allocation with number `fail_at` on (counted from 1; 0: never), only that one when `once`. */
typedef struct test_alloc {
    long calls, fail_at, alive;
    int once;
} test_alloc;

static inline void *test_alloc_get(void *cookie, size_t n)
{
    test_alloc *a = cookie;
    a->calls++;
    if (a->fail_at && (a->once ? a->calls == a->fail_at : a->calls >= a->fail_at))
        return NULL;
    a->alive++;
    return malloc(n);
}

static inline void test_alloc_put(void *cookie, void *p)
{
    test_alloc *a = cookie;
    a->alive--;
    free(p);
}

static inline prxi_ctx test_ctx(prxi_mem *m, test_alloc *a)
{
    const prx_allocator hook = { test_alloc_get, test_alloc_put, a };
    prxi_mem_init(m, a ? &hook : NULL);
    return (prxi_ctx) { .mem = m };
}

/* expr runs with the N-th allocation failing for N = 1, 2, ... until it succeeds; each failure must be PRX_ENOMEM and
 * leave nothing alive after cleanup, and so must the success. Needs prxi_ctx c over test_alloc a. */
#define FAULT_LOOP(c, a, expr, cleanup)                                                            \
    do {                                                                                          \
        for (int once_ = 0; once_ < 2; once_++) {                                                 \
            int err_ = -1;                                                                        \
            long n_ = 0;                                                                          \
            while (err_ != PRX_OK && n_ < 100000) {                                               \
                (a) = (test_alloc) { 0, ++n_, (a).alive, once_ };                                 \
                prxi_clear(&(c));                                                                 \
                const long before_ = (a).alive;                                                   \
                err_ = (expr);                                                                    \
                if (err_ != PRX_OK && (err_ != PRX_ENOMEM || (a).alive != before_)) {             \
                    CHECK(0, "allocation %ld: status %d, %ld leaked: %s", n_, err_,               \
                          (a).alive - before_, (c).error.text);                                   \
                    break;                                                                        \
                }                                                                                 \
                if (err_ == PRX_OK) {                                                             \
                    cleanup;                                                                      \
                    CHECK((a).alive == before_, "%ld leaked after success", (a).alive - before_); \
                    CHECK(n_ > 1, "no allocation was refused");                                   \
                }                                                                                 \
            }                                                                                     \
            (a).fail_at = 0;                                                                      \
        }                                                                                         \
    } while (0)

#endif
