/* An allocator that gives `countdown` blocks and then refuses: what happens when memory ends here? */
#ifndef PRXI_TESTS_REFUSE_H
#define PRXI_TESTS_REFUSE_H

#include <stdlib.h>

static int countdown;

static void *count_alloc(void *cookie, size_t n)
{
    (void)cookie;
    return countdown-- > 0 ? malloc(n) : NULL;
}

static void count_free(void *cookie, void *p)
{
    (void)cookie;
    free(p);
}

#endif
