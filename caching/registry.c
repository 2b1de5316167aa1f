/* Which cache policies there are. */
#include "registry.h"

#include <string.h>

static const prxi_cache_policy *const policies[] = {
    &prxi_cache_none,
    &prxi_cache_dbcache,
    &prxi_cache_lemica,
    &prxi_cache_teacache,
    &prxi_cache_magcache,
    &prxi_cache_easycache,
    &prxi_cache_dbprune,
};

const prxi_cache_policy *prxi_cache_policy_at(int i)
{
    return i >= 0 && i < (int)(sizeof policies / sizeof *policies) ? policies[i] : NULL;
}

const prxi_cache_policy *prxi_cache_policy_find(const char *name)
{
    const prxi_cache_policy *p;
    for (int i = 0; (p = prxi_cache_policy_at(i)); i++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}
