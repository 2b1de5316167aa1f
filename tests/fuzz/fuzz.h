/* A fuzz target: one function over bytes, and seeds to begin with. Built with PRX_FUZZ it runs under libFuzzer; in the
 * ordinary tests common.c runs it over a fixed number of mutated seeds. */
#ifndef PRXI_FUZZ_H
#define PRXI_FUZZ_H

#include <stddef.h>
#include <stdint.h>

typedef struct fuzz_seed {
    const char *data;
    size_t n;
} fuzz_seed;

#define FUZZ_TEXT(s) { s, sizeof(s) - 1 }

extern const fuzz_seed fuzz_seeds[];       /* ends with data NULL */
extern const int fuzz_rounds;              /* mutations in the ordinary tests */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#endif
