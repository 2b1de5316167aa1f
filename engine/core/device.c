/* Device memory, or the host's when there is no device. */
#include "device.h"

#include <string.h>

void *prxi_device_alloc(prxi_ctx *c, prxi_device *d, prxi_mem_tag tag, size_t bytes)
{
    if (!d)
        return prxi_alloc(c->mem, tag, bytes);
    void *p = d->alloc(d, bytes);
    const int err = p ? PRX_OK : d->check(d);
    if (err < 0)                            /* it is not the memory that is missing */
        prxi_fail(c, err, "device %s: %s", d->name, d->error(d));
    return p;
}

void prxi_device_free(prxi_ctx *c, prxi_device *d, void *p)
{
    if (!d)
        prxi_free(c->mem, p);
    else if (p)
        d->release(d, p);
}

int prxi_device_put(prxi_ctx *c, prxi_device *d, void *to, const void *host, size_t bytes)
{
    if (!d) {
        memcpy(to, host, bytes);
        return PRX_OK;
    }
    const int err = d->put(d, to, host, bytes);
    return err < 0 ? prxi_fail(c, err, "device %s: %s", d->name, d->error(d)) : PRX_OK;
}

int prxi_device_zero(prxi_ctx *c, prxi_device *d, void *p, size_t bytes)
{
    if (!d) {
        memset(p, 0, bytes);
        return PRX_OK;
    }
    const int err = d->zero(d, p, bytes);
    return err < 0 ? prxi_fail(c, err, "device %s: %s", d->name, d->error(d)) : PRX_OK;
}

float *prxi_device_floats(prxi_ctx *c, prxi_device *d, float *p, size_t n, int *err)
{
    if (!p || !d)
        return p;
    float *out = *err < 0 ? NULL : prxi_device_alloc(c, d, PRXI_MEM_WEIGHTS, n * sizeof *p);
    if (*err == PRX_OK)
        *err = out ? prxi_device_put(c, d, out, p, n * sizeof *p) : prxi_fail_nomem(c, "weights", n * sizeof *p);
    prxi_free(c->mem, p);
    return out;
}

static void report(prxi_stream *s, int err)
{
    if (err < 0)
        prxi_stream_fail(s, err, s->device->name, s->device->error(s->device));
}

void prxi_stream_wait(prxi_stream *s)
{
    if (s->device && !prxi_stream_error(s))
        report(s, s->device->check(s->device));
}

void prxi_stream_put(prxi_stream *s, void *to, const void *host, size_t bytes)
{
    if (prxi_stream_error(s))
        return;
    if (s->device)
        report(s, s->device->put(s->device, to, host, bytes));
    else
        memcpy(to, host, bytes);
}

void prxi_stream_get(prxi_stream *s, void *host, const void *from, size_t bytes)
{
    if (prxi_stream_error(s))
        return;
    if (s->device)
        report(s, s->device->get(s->device, host, from, bytes));
    else
        memcpy(host, from, bytes);
}

void prxi_stream_copy(prxi_stream *s, void *to, const void *from, size_t bytes)
{
    if (prxi_stream_error(s))
        return;
    if (s->device)
        report(s, s->device->copy(s->device, to, from, bytes));
    else
        memcpy(to, from, bytes);
}

const void *prxi_stream_here(prxi_stream *s, const void *p, size_t bytes, void *room)
{
    if (!s->device)
        return p;
    prxi_stream_get(s, room, p, bytes);
    return room;
}
