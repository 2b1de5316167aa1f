/* Queries, keys and values of one self-attention call, as it gets them, into the dump: what `praxino mask svg2` reads. */
#include "tap.h"

#include <stdio.h>

static const char *const names[] = { "q", "k", "v" };

int prxi_tap_on(const prx_job *j)
{
    return j->set.dump_layer >= 0;
}

static int step_of(const prx_job *j)
{
    return (int)(j->set.dump_step < 0 ? j->set.steps - 1 : j->set.dump_step);
}

int prxi_tap_check(prx_job *j)
{
    const char *dump = j->text[PRXI_TEXT_DUMP];
    if (!prxi_tap_on(j))
        return PRX_OK;
    if (!dump || !*dump)
        return prxi_fail(&j->ctx, PRX_EINVAL, "dump_layer: %lld: only with dump FILE, where q, k and v go",
                         (long long)j->set.dump_layer);
    if (j->set.dump_layer >= j->model->dit_cfg[0].layers)
        return prxi_fail(&j->ctx, PRX_EINVAL, "dump_layer: %lld: 0 to %d expected", (long long)j->set.dump_layer,
                         j->model->dit_cfg[0].layers - 1);
    if (j->set.dump_step >= j->set.steps)
        return prxi_fail(&j->ctx, PRX_EINVAL, "dump_step: %lld: 0 to %lld expected", (long long)j->set.dump_step,
                         (long long)j->set.steps - 1);
    return PRX_OK;
}

int prxi_tap_tensors(const prx_job *j, prxi_tensor_out *list, int n)
{
    const prxi_dit_config *d = &j->model->dit_cfg[0];
    const int64_t tokens = (int64_t)(j->clip.frames / d->patch[0]) * (j->clip.height / d->patch[1]) * (j->clip.width / d->patch[2]);
    for (int i = 0; i < 3; i++, n++) {
        list[n] = (prxi_tensor_out) { "", j->engine->dtype, 3, { tokens, d->heads, d->head_dim }, NULL };
        snprintf(list[n].name, sizeof list[n].name, "%s", names[i]);
    }
    return n;
}

static void copy_rows(prx_job *j, prxi_stream *s, const prxi_attn_args *a)
{
    const void *const all[] = { a->q, a->k, a->v };
    const int64_t ld[] = { a->ldq, a->ldk, a->ldv };
    const size_t es = prxi_dtype_size(j->engine->dtype), row = (size_t)a->heads * (size_t)a->head_dim * es;
    int err = PRX_OK;
    for (int i = 0; i < 3 && err == PRX_OK; i++) {
        const size_t bytes = (size_t)((a->q_len - 1) * ld[i]) * es + row;
        void *room = s->device ? prxi_alloc(j->ctx.mem, PRXI_MEM_SCRATCH, bytes) : NULL;
        if (s->device && !room)
            err = prxi_fail_nomem(&j->ctx, "dump", bytes);
        const unsigned char *from = err == PRX_OK ? prxi_stream_here(s, all[i], bytes, room) : NULL;
        for (int64_t t = 0; t < a->q_len && err == PRX_OK && !prxi_stream_error(s); t++)
            err = prxi_dump_write(&j->ctx, j->dump, names[i], (size_t)t * row, from + (size_t)t * (size_t)ld[i] * es, row);
        prxi_free(j->ctx.mem, room);
    }
    if (err < 0)
        prxi_stream_fail(s, err, "dump", j->ctx.error.text);
    j->tapped = 1;
}

static void pick(void *priv, prxi_stream *s, const prxi_attn_call *call, const prxi_block_list **list, double *density)
{
    prx_job *j = priv;
    if (call->branch == 0 && call->step == step_of(j) && call->layer == j->set.dump_layer)
        copy_rows(j, s, &call->args);
    prxi_plan_attention(j, call->step)->select(j->attn_priv, s, call, list, density);
}

static void settle(void *priv, prxi_stream *s, double *density)
{
    const prx_job *j = priv;
    const prxi_attn_policy *attn = prxi_plan_attention(j, j->step);
    if (attn->settle)
        attn->settle(j->attn_priv, s, density);
}

static void last_probe(const void *priv, prxi_attn_probe *out)
{
    const prx_job *j = priv;
    const prxi_attn_policy *attn = prxi_plan_attention(j, j->step);
    if (attn->probe)
        attn->probe(j->attn_priv, out);
}

int prxi_tap_finish(prx_job *j)
{
    if (!prxi_tap_on(j) || j->tapped)
        return PRX_OK;
    return prxi_fail(&j->ctx, PRX_EINVAL,
                     "dump_layer: layer %lld of step %d was not computed here: a step that the cache computes expected",
                     (long long)j->set.dump_layer, step_of(j));
}

const prxi_attn_policy prxi_attn_tap = { .name = "tap", .help = "copies q, k, v", .select = pick, .settle = settle,
                                        .probe = last_probe };
