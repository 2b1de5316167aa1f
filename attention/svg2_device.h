/* SVG2 with queries and keys on a device: what the policy does there instead of on the host. */
#ifndef PRXI_SVG2_DEVICE_H
#define PRXI_SVG2_DEVICE_H

#include "attention/attention.h"

typedef struct prxi_svg2_settings {
    int cq, ck, states, least, iter_init, iter_step;   /* clusters; layers and branches that cluster; key clusters kept at least */
    double top_p, tolerance;
    int seeding, reseed;                                /* as k-means has them */
} prxi_svg2_settings;

typedef struct prxi_svg2_device prxi_svg2_device;

/* Of random start centroids: of each layer, branch and side another. */
static inline uint64_t prxi_svg2_seed(const prxi_attn_env *env, const prxi_attn_call *call, int keys)
{
    return env->seed ^ (uint64_t)(2 * (call->layer * env->branches + call->branch) + keys);
}

/* *bytes: what it holds on the device. PRX_ENOTSUP: too many clusters. */
int  prxi_svg2_device_open(prxi_ctx *c, prxi_svg2_device **out, const prxi_attn_env *env, const prxi_svg2_settings *set, size_t *bytes);
void prxi_svg2_device_close(prxi_ctx *c, prxi_svg2_device **d);
/* Clusters queries and keys of a call with the centroids of `state`; with list, what they keep. */
void prxi_svg2_device_call(prxi_svg2_device *d, prxi_stream *s, const prxi_attn_call *call, int state, int fresh,
                           const prxi_block_list **list);
/* Mean kept share of every call with a list since the last time, into [branches][layers]. */
void prxi_svg2_device_settle(prxi_svg2_device *d, prxi_stream *s, double *density);

#endif
