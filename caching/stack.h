/* What the whole block stack adds to a branch's hidden states, kept from the last computed step: one tensor a branch, which holds
 * the states before the blocks while they run. */
#ifndef PRXI_STACK_H
#define PRXI_STACK_H

#include "cache.h"

typedef struct prxi_stack {
    prxi_dtype elem;
    int blocks;
    int64_t n;
    struct prxi_device *device;
    void *residual[PRXI_BRANCHES];
} prxi_stack;

size_t prxi_stack_bytes(const prxi_cache_env *env);
int  prxi_stack_open(prxi_ctx *c, prxi_stack *k, const prxi_cache_env *env);
void prxi_stack_close(prxi_ctx *c, prxi_stack *k);
/* The at_block of a policy that has decided (report->cached): a cached step adds the residual and goes on after the last block, a
 * computed one notes it. */
int  prxi_stack_pass(prxi_stream *s, prxi_stack *k, const prxi_cache_call *call, int block, void *x);

/* out = after - before, elements of type t; out may be before. */
void prxi_residual_take(prxi_stream *s, prxi_dtype t, int64_t n, const void *after, const void *before, void *out);
/* x += residual. */
void prxi_residual_add(prxi_stream *s, prxi_dtype t, int64_t n, const void *residual, void *x);

#endif
