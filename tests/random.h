/* A small generator for random cases (splitmix64): the same on every machine. */
#ifndef PRXI_TESTS_RANDOM_H
#define PRXI_TESTS_RANDOM_H

#include <stdint.h>

typedef struct test_random {
    uint64_t state;
} test_random;

static inline uint64_t random_u64(test_random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline int random_below(test_random *r, int n)
{
    return (int)(random_u64(r) % (uint64_t)n);
}

static inline double random_uniform(test_random *r)       /* [0, 1) */
{
    return (double)(random_u64(r) >> 11) * 0x1p-53;
}

static inline double random_normal(test_random *r)        /* Irwin-Hall: within 6 sigma */
{
    double g = -6.0;
    for (int i = 0; i < 12; i++)
        g += random_uniform(r);
    return g;
}

#endif
