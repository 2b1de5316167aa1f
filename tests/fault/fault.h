/* An allocator of which the N-th call fails, once or from then on, and that counts what is not given back. */
#ifndef PRXI_TESTS_FAULT_H
#define PRXI_TESTS_FAULT_H

#include <stdatomic.h>
#include <stdlib.h>

typedef struct faults {
    atomic_long calls, outstanding;
    long at;               /* 1, 2, ...: this one fails; 0: none */
    int stay;              /* and all later ones too */
} faults;

static void *fault_alloc(void *cookie, size_t bytes)
{
    faults *f = cookie;
    const long n = atomic_fetch_add(&f->calls, 1) + 1;
    if (f->at && (n == f->at || (f->stay && n > f->at)))
        return NULL;
    void *p = malloc(bytes);
    if (p)
        atomic_fetch_add(&f->outstanding, 1);
    return p;
}

static void fault_free(void *cookie, void *p)
{
    faults *f = cookie;
    if (p)
        atomic_fetch_sub(&f->outstanding, 1);
    free(p);
}

#endif
