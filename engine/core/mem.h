/* Memory: every allocation of the library goes through here, carries a tag, and is counted.
 * Allocations are 64-byte aligned. Thread-safe: counters are atomic. */
#ifndef PRXI_MEM_H
#define PRXI_MEM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <praxino/praxino.h>

typedef enum prxi_mem_tag {
    PRXI_MEM_MISC,
    PRXI_MEM_WEIGHTS,      /* packed or converted copies; mapped files are not counted */
    PRXI_MEM_ACTIVATIONS,
    PRXI_MEM_SCRATCH,
    PRXI_MEM_CACHE,        /* buffers of cache policies */
    PRXI_MEM_FRAMES,
    PRXI_MEM_TAGS
} prxi_mem_tag;

typedef struct prxi_mem {
    prx_allocator allocator;
    atomic_size_t now[PRXI_MEM_TAGS];
    atomic_size_t total, peak;
} prxi_mem;

void prxi_mem_init(prxi_mem *m, const prx_allocator *a);     /* a NULL: libc */
/* 64-byte aligned, uninitialised; NULL when refused or when bytes is 0. */
void *prxi_alloc(prxi_mem *m, prxi_mem_tag tag, size_t bytes);
/* count * size with overflow check, zeroed. */
void *prxi_calloc(prxi_mem *m, prxi_mem_tag tag, size_t count, size_t size);
/* Tags and sizes are remembered; NULL is allowed. */
void prxi_free(prxi_mem *m, void *p);
/* Grows or shrinks; on failure the old block stays valid and NULL is returned. */
void *prxi_realloc(prxi_mem *m, prxi_mem_tag tag, void *p, size_t bytes);
char *prxi_strdup(prxi_mem *m, const char *s);
/* a * b; SIZE_MAX on overflow (which no allocator grants). */
size_t prxi_mul(size_t a, size_t b);
size_t prxi_add(size_t a, size_t b);

/* Stack allocator over one block: sizes are known at plan time, nothing is allocated inside a
 * step. mark/release nest. carve returns NULL when the block is too small. */
typedef struct prxi_arena {
    unsigned char *base;
    size_t size, used, peak;
} prxi_arena;

int prxi_arena_open(prxi_arena *a, prxi_mem *m, prxi_mem_tag tag, size_t bytes);
void prxi_arena_close(prxi_arena *a, prxi_mem *m);
void *prxi_carve(prxi_arena *a, size_t bytes);           /* 64-byte aligned */
static inline size_t prxi_arena_mark(const prxi_arena *a) { return a->used; }
static inline void prxi_arena_release(prxi_arena *a, size_t mark) { a->used = mark; }
/* Bytes that carve takes for a request: for size tables. */
static inline size_t prxi_carve_size(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

#endif
