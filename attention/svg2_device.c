/* One block of device memory; centroids of every layer and branch, the scratch of one call. */
#include "attention/svg2_device.h"

#include "attention/kmeans.h"

struct prxi_svg2_device {
    prxi_attn_env env;
    prxi_svg2_settings set;
    const prxi_cluster_ops *ops;
    int chunks, most;                       /* chunks of the tokens; clusters of the larger side */
    unsigned char *memory;
    size_t state_bytes;
    unsigned char *centroids;               /* [states]: q [heads][cq][d], k [heads][ck][d] */
    void *means;
    int32_t *labels, *counts, *stopped, *keys;
    float *halves, *far;
    double *moved, *gaps, *kept;            /* kept: [branches][layers][heads] */
    prxi_device_blocks blocks;
    prxi_block_list list;
    double *host;                           /* a copy of kept */
    unsigned char *called;                  /* [branches][layers] */
};

static size_t calls(const prxi_svg2_device *d)
{
    return (size_t)d->env.branches * (size_t)d->env.layers;
}

static void *take(size_t *at, unsigned char *base, size_t n, size_t size)
{
    const size_t here = *at;
    *at = prxi_add(*at, prxi_add(prxi_mul(n, size), 255) & ~(size_t)255);
    return base ? base + here : NULL;
}

static size_t lay_out(prxi_svg2_device *d, unsigned char *base)
{
    const size_t heads = (size_t)d->env.heads, n = heads * (size_t)d->env.tokens, el = prxi_dtype_size(d->env.dtype);
    const size_t cq = heads * (size_t)d->set.cq, ck = heads * (size_t)d->set.ck, most = heads * (size_t)d->most;
    prxi_device_blocks *b = &d->blocks;
    size_t at = 0;
    d->centroids = take(&at, base, prxi_mul((size_t)d->set.states, d->state_bytes), 1);
    d->means = take(&at, base, most * (size_t)d->env.head_dim, el);
    d->labels = take(&at, base, n, sizeof(int32_t));
    d->counts = take(&at, base, most * (size_t)d->chunks, sizeof(int32_t));
    d->stopped = take(&at, base, 1, sizeof(int32_t));
    d->keys = take(&at, base, cq, sizeof(int32_t));
    d->halves = take(&at, base, most, sizeof(float));
    d->moved = take(&at, base, most, sizeof(double));
    d->kept = take(&at, base, calls(d) * heads, sizeof(double));
    if (d->set.reseed)
        d->far = take(&at, base, n, sizeof(float));
    if (d->set.seeding == PRXI_SEED_FARTHEST)
        d->gaps = take(&at, base, 4 * most < n ? 4 * most : n, sizeof(double));
    b->q_start = take(&at, base, cq + heads, sizeof(int32_t));
    b->k_start = take(&at, base, ck + heads, sizeof(int32_t));
    b->q_perm = take(&at, base, n, sizeof(int32_t));
    b->k_perm = take(&at, base, n, sizeof(int32_t));
    b->cols = take(&at, base, prxi_mul(cq, (size_t)d->set.ck), sizeof(int32_t));
    b->row_ptr = take(&at, base, cq, sizeof(int64_t));
    b->row_end = take(&at, base, cq, sizeof(int64_t));
    b->tiles = take(&at, base, (size_t)b->n_tiles, d->ops->tile_size);
    if (b->n_items) {
        b->items = take(&at, base, (size_t)b->n_items, d->ops->tile_size);
        b->queue = take(&at, base, 1, sizeof(int32_t));
        b->copies = take(&at, base, prxi_mul(3 * n, (size_t)d->env.head_dim), el);
    }
    return at;
}

int prxi_svg2_device_open(prxi_ctx *c, prxi_svg2_device **out, const prxi_attn_env *env, const prxi_svg2_settings *set, size_t *bytes)
{
    const prxi_cluster_ops *ops = env->device->cluster;
    *out = NULL;
    if (set->cq > ops->most || set->ck > ops->most)
        return prxi_fail(c, PRX_ENOTSUP, "attention: svg2: %d query and %d key clusters a head: at most %d on device %s", set->cq, set->ck,
                         ops->most, env->device->name);
    prxi_svg2_device *d = prxi_calloc(c->mem, PRXI_MEM_CACHE, 1, sizeof *d);
    if (!d)
        return prxi_fail_nomem(c, "svg2", sizeof *d);
    d->env = *env;
    d->set = *set;
    d->ops = ops;
    d->chunks = (int)((env->tokens + ops->chunk - 1) / ops->chunk);
    d->most = set->cq > set->ck ? set->cq : set->ck;
    d->state_bytes = (size_t)env->heads * (size_t)(set->cq + set->ck) * (size_t)env->head_dim * prxi_dtype_size(env->dtype);
    const int rows = ops->item_rows(env->device, env->dtype, env->head_dim);
    d->blocks.n_tiles = env->heads * ((int)(env->tokens / ops->tile_rows) + set->cq);     /* each cluster has one short tile at most */
    d->blocks.n_items = rows ? env->heads * ((int)(env->tokens / rows) + set->cq) : 0;
    *bytes = lay_out(d, NULL);
    d->host = prxi_alloc(c->mem, PRXI_MEM_CACHE, calls(d) * (size_t)env->heads * sizeof *d->host);
    d->called = prxi_calloc(c->mem, PRXI_MEM_CACHE, calls(d), 1);
    d->memory = d->host && d->called ? prxi_device_alloc(c, env->device, PRXI_MEM_CACHE, *bytes) : NULL;
    if (!d->memory) {
        prxi_svg2_device_close(c, &d);
        return prxi_fail_nomem(c, "svg2 centroids and cluster lists", *bytes);
    }
    lay_out(d, d->memory);
    d->list = (prxi_block_list) { .per_head = 1, .nq = set->cq, .nk = set->ck, .device = &d->blocks };
    *out = d;
    return PRX_OK;
}

void prxi_svg2_device_close(prxi_ctx *c, prxi_svg2_device **dp)
{
    prxi_svg2_device *d = *dp;
    *dp = NULL;
    if (!d)
        return;
    prxi_device_free(c, d->env.device, d->memory);
    prxi_free(c->mem, d->host);
    prxi_free(c->mem, d->called);
    prxi_free(c->mem, d);
}

static void cluster(prxi_svg2_device *d, prxi_stream *s, const prxi_attn_call *call, int keys, unsigned char *centroids, int fresh)
{
    const prxi_attn_args *a = &call->args;
    const prxi_cluster_args x = {
        d->env.dtype, a->heads, a->head_dim, keys ? d->set.ck : d->set.cq, fresh ? d->set.iter_init : d->set.iter_step, fresh,
        d->set.tolerance, d->env.tokens, keys ? a->ldk : a->ldq, keys ? a->k : a->q, centroids, d->means, d->labels,
        keys ? d->blocks.k_perm : d->blocks.q_perm, keys ? d->blocks.k_start : d->blocks.q_start, d->counts,
        d->stopped, d->halves, d->moved, d->set.seeding, d->set.reseed,
        prxi_svg2_seed(&d->env, call, keys), d->far, d->gaps,
    };
    d->ops->cluster(s, &x);
}

void prxi_svg2_device_call(prxi_svg2_device *d, prxi_stream *s, const prxi_attn_call *call, int state, int fresh,
                           const prxi_block_list **list)
{
    const prxi_attn_args *a = &call->args;
    const size_t q_bytes = d->state_bytes / (size_t)(d->set.cq + d->set.ck) * (size_t)d->set.cq;
    const size_t at = (size_t)call->branch * (size_t)d->env.layers + (size_t)call->layer;
    unsigned char *q = d->centroids + (size_t)state * d->state_bytes, *k = q + q_bytes;
    cluster(d, s, call, 0, q, fresh);
    cluster(d, s, call, 1, k, fresh);
    if (!list)
        return;
    const prxi_select_args x = { d->env.dtype, a->heads, a->head_dim, d->set.cq, d->set.ck, d->set.least, d->blocks.n_tiles / a->heads,
                                 d->env.tokens, a->scale, (float)d->set.top_p, q, k, &d->blocks, d->keys,
                                 d->kept + at * (size_t)a->heads };
    d->ops->select(s, &x);
    d->called[at] = 1;
    *list = &d->list;
}

void prxi_svg2_device_settle(prxi_svg2_device *d, prxi_stream *s, double *density)
{
    const size_t heads = (size_t)d->env.heads;
    int any = 0;
    for (size_t i = 0; i < calls(d); i++)
        any |= d->called[i];
    if (!any)
        return;
    prxi_stream_get(s, d->host, d->kept, calls(d) * heads * sizeof *d->host);
    for (size_t i = 0; i < calls(d) && !prxi_stream_error(s); i++) {
        double sum = 0;
        for (size_t h = 0; h < heads; h++)
            sum += d->host[i * heads + h];
        if (d->called[i])
            density[i] = sum / (double)heads;
        d->called[i] = 0;
    }
}
