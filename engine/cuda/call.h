/* How an op of a table calls the module. */
#ifndef PRXI_CUDA_CALL_H
#define PRXI_CUDA_CALL_H

#include "cuda.h"

/* The device behind a stream, taken until done(); NULL after an error. */
static inline prxi_cuda *ready(prxi_stream *s)
{
    prxi_cuda *u = (prxi_cuda *)s->device;
    if (prxi_stream_error(s))
        return NULL;
    pthread_mutex_lock(&u->lock);
    return u;
}

static inline void done(prxi_stream *s, int err)
{
    prxi_cuda *u = (prxi_cuda *)s->device;
    if (err == PRX_OK && u->wait)
        err = u->module->sync(u->dev);
    if (err < 0)
        prxi_stream_fail(s, err, s->device->name, s->device->error(s->device));
    pthread_mutex_unlock(&u->lock);
}

#endif
