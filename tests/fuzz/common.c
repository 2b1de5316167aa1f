/* Runs a fuzz target without libFuzzer: every seed, then mutated seeds from a fixed generator. Passing means that it came
 * back every time; the sanitizer build sees what else went wrong. With libFuzzer, gives it the seeds. */
#include <stdio.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#if defined(PRX_LIBFUZZER)

int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Writes the seeds into the last argument, the corpus folder, before libFuzzer reads it. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *dir = (*argv)[*argc - 1];
    for (int i = 0; *argc > 1 && dir[0] != '-' && fuzz_seeds[i].data; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/seed-%d", dir, i);
        FILE *f = fopen(path, "wb");
        if (f) {
            fwrite(fuzz_seeds[i].data, 1, fuzz_seeds[i].n, f);
            fclose(f);
        }
    }
    return 0;
}

#else

enum { MAX_BYTES = 4096 };

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint32_t next(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % limit;
}

/* Flips, overwrites, cuts, doubles and digits: what breaks headers and texts. */
static size_t mutate(uint8_t *b, size_t n)
{
    static const char *const words[] = { "-1", "0", "18446744073709551615", "1e309", "{", "[", "\"", "null", "\\u0000", "\xff" };
    const size_t at = n ? next((uint32_t)n) : 0;
    switch (next(6)) {
    case 0:
        if (n)
            b[at] ^= (uint8_t)(1u << next(8));
        return n;
    case 1:
        if (n)
            b[at] = (uint8_t)next(256);
        return n;
    case 2:
        return at;
    case 3: {
        const size_t more = n - at < MAX_BYTES - n ? n - at : MAX_BYTES - n;
        memmove(b + n, b + at, more);
        return n + more;
    }
    case 4: {
        const char *w = words[next(sizeof words / sizeof *words)];
        const size_t len = strlen(w);
        if (at + len > n)
            return n;
        memcpy(b + at, w, len);
        return n;
    }
    default:
        for (size_t i = at; i < n; i++)
            if (b[i] >= '0' && b[i] <= '9') {
                b[i] = (uint8_t)('0' + next(10));
                break;
            }
        return n;
    }
}

int main(void)
{
    static uint8_t buf[MAX_BYTES];
    int seeds = 0;
    for (; fuzz_seeds[seeds].data; seeds++)
        LLVMFuzzerTestOneInput((const uint8_t *)fuzz_seeds[seeds].data, fuzz_seeds[seeds].n);
    LLVMFuzzerTestOneInput(buf, 0);
    for (int i = 0; i < fuzz_rounds; i++) {
        const fuzz_seed *s = &fuzz_seeds[next((uint32_t)seeds)];
        size_t n = s->n < MAX_BYTES ? s->n : MAX_BYTES;
        memcpy(buf, s->data, n);
        for (uint32_t k = 1 + next(4); k > 0; k--)
            n = mutate(buf, n);
        LLVMFuzzerTestOneInput(buf, n);
    }
    printf("%d passed, 0 failed\n", seeds + fuzz_rounds);
    return 0;
}

#endif
