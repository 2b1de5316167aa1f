/* Aligned, tagged, counted allocation over the caller's allocator; the arena. */
#include "mem.h"

#include <stdlib.h>
#include <string.h>

/* Sits right before each block. */
typedef struct header {
    void *raw;
    size_t bytes;
    int tag;
} header;

enum { ALIGN = 64 };

static void *libc_alloc(void *cookie, size_t bytes)
{
    (void)cookie;
    return malloc(bytes);
}

static void libc_free(void *cookie, void *p)
{
    (void)cookie;
    free(p);
}

void prxi_mem_init(prxi_mem *m, const prx_allocator *a)
{
    memset(m, 0, sizeof *m);
    if (a)
        m->allocator = *a;
    else
        m->allocator = (prx_allocator) { libc_alloc, libc_free, NULL };
}

static void count_up(prxi_mem *m, int tag, size_t bytes)
{
    atomic_fetch_add(&m->now[tag], bytes);
    const size_t total = atomic_fetch_add(&m->total, bytes) + bytes;
    size_t peak = atomic_load(&m->peak);
    while (total > peak && !atomic_compare_exchange_weak(&m->peak, &peak, total)) {
    }
}

void *prxi_alloc(prxi_mem *m, prxi_mem_tag tag, size_t bytes)
{
    const size_t extra = sizeof(header) + ALIGN;
    if (bytes == 0 || bytes > SIZE_MAX / 2 - extra)
        return NULL;
    unsigned char *raw = m->allocator.alloc(m->allocator.cookie, bytes + extra);
    if (!raw)
        return NULL;
    unsigned char *p = (unsigned char *)(((uintptr_t)raw + extra) & ~(uintptr_t)(ALIGN - 1));
    const header h = { raw, bytes, (int)tag };
    memcpy(p - sizeof h, &h, sizeof h);
    count_up(m, tag, bytes);
    return p;
}

void *prxi_calloc(prxi_mem *m, prxi_mem_tag tag, size_t count, size_t size)
{
    const size_t bytes = prxi_mul(count, size);
    void *p = prxi_alloc(m, tag, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void prxi_free(prxi_mem *m, void *p)
{
    if (!p)
        return;
    header h;
    memcpy(&h, (unsigned char *)p - sizeof h, sizeof h);
    atomic_fetch_sub(&m->now[h.tag], h.bytes);
    atomic_fetch_sub(&m->total, h.bytes);
    m->allocator.free(m->allocator.cookie, h.raw);
}

void *prxi_realloc(prxi_mem *m, prxi_mem_tag tag, void *p, size_t bytes)
{
    void *q = prxi_alloc(m, tag, bytes);
    if (!q || !p)
        return q;
    header h;
    memcpy(&h, (unsigned char *)p - sizeof h, sizeof h);
    memcpy(q, p, h.bytes < bytes ? h.bytes : bytes);
    prxi_free(m, p);
    return q;
}

char *prxi_strdup(prxi_mem *m, const char *s)
{
    const size_t n = strlen(s) + 1;
    char *p = prxi_alloc(m, PRXI_MEM_MISC, n);
    if (p)
        memcpy(p, s, n);
    return p;
}

size_t prxi_mul(size_t a, size_t b)
{
    return a != 0 && b > SIZE_MAX / a ? SIZE_MAX : a * b;
}

size_t prxi_add(size_t a, size_t b)
{
    return b > SIZE_MAX - a ? SIZE_MAX : a + b;
}

int prxi_arena_open(prxi_arena *a, prxi_mem *m, prxi_mem_tag tag, size_t bytes)
{
    memset(a, 0, sizeof *a);
    if (bytes == 0)
        return PRX_OK;
    a->base = prxi_alloc(m, tag, bytes);
    if (!a->base)
        return PRX_ENOMEM;
    a->size = bytes;
    return PRX_OK;
}

void prxi_arena_close(prxi_arena *a, prxi_mem *m)
{
    prxi_free(m, a->base);
    memset(a, 0, sizeof *a);
}

void *prxi_carve(prxi_arena *a, size_t bytes)
{
    const size_t want = prxi_carve_size(bytes);
    if (want < bytes || want > a->size - a->used)
        return NULL;
    void *p = a->base + a->used;
    a->used += want;
    if (a->used > a->peak)
        a->peak = a->used;
    return p;
}
