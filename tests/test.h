/* A test program: CHECK counts and reports, TEST_END prints `N passed, N failed` and gives the exit code. */
#ifndef PRXI_TEST_H
#define PRXI_TEST_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_passed, test_failed;

#define CHECK(cond, ...)                                                                          \
    do {                                                                                          \
        if (cond) {                                                                               \
            test_passed++;                                                                        \
        } else {                                                                                  \
            test_failed++;                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);                            \
            fprintf(stderr, __VA_ARGS__);                                                         \
            fputc('\n', stderr);                                                                  \
        }                                                                                         \
    } while (0)

/* For what the rest of the test cannot do without. */
#define REQUIRE(cond, ...)                                                                        \
    do {                                                                                          \
        const int failed_before_ = test_failed;                                                   \
        CHECK(cond, __VA_ARGS__);                                                                 \
        if (test_failed != failed_before_) {                                                      \
            printf("%d passed, %d failed\n", test_passed, test_failed);                           \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

#define TEST_END() (printf("%d passed, %d failed\n", test_passed, test_failed), test_failed || !test_passed)

#endif
