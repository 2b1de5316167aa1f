/* The guard's second look: a forward that has made something not finite runs again, and each op's result is read. */
#include "dit_int.h"

#include <stdio.h>

#include "engine/core/device.h"

enum { PIECE = 1 << 18 };                   /* values that are widened at a time */

void prxi_dit_look(prxi_stream *s, prxi_dit_run *r, int layer, const char *op, prxi_dtype t, const void *p, int64_t n)
{
    const prxi_kernels *k = r->d->k;
    for (int64_t i = 0; r->look && !*r->found && i < n && !prxi_stream_error(s); i += PIECE) {
        const int64_t m = n - i < PIECE ? n - i : PIECE;
        const void *from = (const unsigned char *)p + (size_t)i * prxi_dtype_size(t);
        if (t != PRXI_F32)
            k->act.bf16_to_f32(s, m, from, r->look);
        const int64_t at = k->latent.bad(s, m, t == PRXI_F32 ? from : r->look);
        if (at < 0)
            continue;
        char block[32] = "";
        if (layer >= 0)
            snprintf(block, sizeof block, "block %d, ", layer);
        snprintf(r->found, sizeof r->found, "%s%s (value %lld of %lld)", block, op, (long long)(i + at), (long long)n);
    }
}

const char *prxi_dit_find_bad(prxi_stream *s, prxi_dit_run *r, const prxi_step *step, const float *latents, const prxi_dit_hooks *h,
                              float *const v[PRXI_BRANCHES])
{
    *r->found = '\0';
    r->look = prxi_device_alloc(s->ctx, r->d->k->device, PRXI_MEM_SCRATCH, PIECE * sizeof *r->look);
    if (!r->look)
        return NULL;
    prxi_dit_look(s, r, -1, "the latents before it", PRXI_F32, latents,
                  (int64_t)r->d->cfg.in_channels * r->clip.frames * r->clip.height * r->clip.width);
    prxi_dit_forward(s, r, step, latents, h, v);
    prxi_device_free(s->ctx, r->d->k->device, r->look);
    r->look = NULL;
    return *r->found ? r->found : NULL;
}
