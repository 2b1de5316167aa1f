/* Attention policies by name: a new policy is one file and one line here. */
#include "attention/policies.h"

static const prxi_attn_policy *const policies[] = { &prxi_attn_dense, &prxi_attn_radial, &prxi_attn_svg2, NULL };

const prxi_attn_policy *prxi_attn_policy_at(int i)
{
    const int n = (int)(sizeof policies / sizeof *policies) - 1;
    return i >= 0 && i < n ? policies[i] : NULL;
}

const prxi_attn_policy *prxi_attn_policy_find(const char *name)
{
    for (int i = 0; policies[i]; i++)
        if (!strcmp(policies[i]->name, name))
            return policies[i];
    return NULL;
}
