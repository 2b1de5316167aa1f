/* Allocation: alignment, counters, overflow, arena. */
#include "tests/test.h"

#include "engine/core/mem.h"

static void *refuse(void *cookie, size_t n)
{
    (void)cookie, (void)n;
    return NULL;
}

static void drop(void *cookie, void *p)
{
    (void)cookie, (void)p;
}

int main(void)
{
    prxi_mem m;
    prxi_mem_init(&m, NULL);
    char *a = prxi_alloc(&m, PRXI_MEM_SCRATCH, 100);
    REQUIRE(a, "alloc");
    CHECK(((uintptr_t)a & 63) == 0, "alignment");
    CHECK(atomic_load(&m.now[PRXI_MEM_SCRATCH]) == 100, "count");
    memset(a, 7, 100);
    char *b = prxi_realloc(&m, PRXI_MEM_SCRATCH, a, 1000);
    REQUIRE(b, "realloc");
    CHECK(b[99] == 7, "content kept");
    CHECK(atomic_load(&m.peak) == 1100, "peak %zu", atomic_load(&m.peak));
    prxi_free(&m, b);
    CHECK(atomic_load(&m.total) == 0, "all freed");
    CHECK(!prxi_calloc(&m, PRXI_MEM_MISC, SIZE_MAX / 2, 4), "overflow is refused");
    CHECK(!prxi_alloc(&m, PRXI_MEM_MISC, SIZE_MAX - 8), "huge is refused");

    prxi_arena ar;
    REQUIRE(prxi_arena_open(&ar, &m, PRXI_MEM_SCRATCH, 256) == PRX_OK, "arena");
    CHECK(prxi_carve(&ar, 100) && prxi_carve(&ar, 128) && !prxi_carve(&ar, 1), "arena is exactly full");
    prxi_arena_release(&ar, 0);
    CHECK(prxi_carve(&ar, 256) && ar.peak == 256, "release");
    prxi_arena_close(&ar, &m);

    const prx_allocator none = { refuse, drop, NULL };
    prxi_mem_init(&m, &none);
    CHECK(!prxi_alloc(&m, PRXI_MEM_MISC, 1) && !prxi_strdup(&m, "x"), "refusal passes through");
    CHECK(prxi_arena_open(&ar, &m, PRXI_MEM_MISC, 64) == PRX_ENOMEM, "arena refusal");
    return TEST_END();
}
