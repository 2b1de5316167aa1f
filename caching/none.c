/* No cache: every block of every step is computed. */
#include "registry.h"

static int plan(void *priv, prxi_ctx *c, const prxi_cache_env *env, prxi_cache_plan *out)
{
    (void)priv, (void)c;
    out->computed_steps = env->steps;
    return PRX_OK;
}

const prxi_cache_policy prxi_cache_none = {
    .name = "none",
    .help = "compute every block of every step",
    .plan = plan,
};
