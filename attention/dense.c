/* The dense policy: every pair, always. */
#include "attention/policies.h"

static int make_plan(void *priv, prxi_ctx *c, const prxi_attn_env *env, prxi_attn_plan *out)
{
    (void)priv, (void)c, (void)env;
    *out = (prxi_attn_plan) { .density = 1.0, .sparse_density = 1.0 };
    return PRX_OK;
}

static void pick(void *priv, prxi_stream *s, const prxi_attn_call *call, const prxi_block_list **list,
                   double *density)
{
    (void)priv, (void)s, (void)call;
    *list = NULL;
    *density = 1.0;
}

static void finish(void *priv, prxi_ctx *c)
{
    (void)priv, (void)c;
}

static const prxi_option options[] = { { .name = NULL } };

const prxi_attn_policy prxi_attn_dense = {
    .name = "dense",
    .help = "every query sees every key",
    .options = options,
    .plan = make_plan,
    .select = pick,
    .close = finish,
};
