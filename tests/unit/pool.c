/* The parallel loop: every item once, thread indices in range, nesting, changing thread counts, many short loops. */
#include "tests/test.h"

#include "engine/core/stream.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

typedef struct job {
    prxi_stream *s;
    atomic_int count[1000], bad, nested;
    int threads;
} job;

static void inner(void *cookie, int64_t i, int thread)
{
    job *j = cookie;
    (void)i;
    atomic_fetch_add(&j->nested, 1);
    if (thread != 0)
        atomic_fetch_add(&j->bad, 1);
}

static void item(void *cookie, int64_t i, int thread)
{
    job *j = cookie;
    atomic_fetch_add(&j->count[i], 1);
    if (thread < 0 || thread >= j->threads)
        atomic_fetch_add(&j->bad, 1);
    if (i == 7)
        prxi_parallel_for(j->s, 3, inner, j);
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    prxi_stream s;
    prxi_stream_init(&s, &ctx, 1);
    static job j;
    j.s = &s;
    for (int round = 0; round < 3000; round++) {
        const int n = round % 97;
        s.n_threads = j.threads = 1 + round % 5;
        memset(j.count, 0, sizeof j.count);
        atomic_store(&j.nested, 0);
        prxi_parallel_for(&s, n, item, &j);
        int wrong = 0;
        for (int i = 0; i < 1000; i++)
            wrong += atomic_load(&j.count[i]) != (i < n);
        CHECK(wrong == 0, "round %d: %d items", round, wrong);
        CHECK(atomic_load(&j.nested) == (n > 7 ? 3 : 0), "round %d: nested", round);
    }
    CHECK(atomic_load(&j.bad) == 0, "thread indices");
    prxi_stream_close(&s);
    prxi_stream_close(&s);
    CHECK(atomic_load(&mem.total) == 0, "freed");
    return TEST_END();
}
