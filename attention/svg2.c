/* Sparse VideoGen2 (arXiv 2505.18875): k-means of queries and keys per head, size-weighted top-p over centroid scores,
 * attention over variable-size clusters of permuted tokens. Centroids are kept per layer and guidance branch, start warm
 * from the step before, and belong to the job. Setting names are those of the published scripts. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "attention/kmeans.h"
#include "attention/policies.h"
#include "attention/svg2_device.h"
#include "attention/svg2_select.h"

typedef struct svg2 {
    double first_times_fp, first_layers_fp, top_p, min_kc_ratio, tolerance;
    int64_t num_q, num_k, iter_init, iter_step;
    int zero_step, empty, seeding;          /* choice indices */
    int probe;
    prxi_attn_probe probed;

    prxi_attn_env env;
    int dense_steps, dense_layers;
    int cq, ck, nq, nk;                     /* clusters; with the text blocks */
    int64_t tokens, total;                  /* video; with text */
    size_t state_size;                      /* bytes of the centroids of one layer and branch */
    unsigned char *centroids;               /* [sparse layers][branches]: q [heads][cq][d], k [heads][ck][d] */
    int32_t *last_step;                     /* [sparse layers][branches], -1 = nothing yet */

    unsigned char *work;                    /* one block; what follows points into it */
    int32_t *labels;                        /* [heads][tokens] */
    int32_t *q_sizes, *k_sizes;             /* [heads][cq], [heads][ck] */
    int32_t *q_perm, *k_perm;               /* [heads][total] */
    int32_t *q_start, *k_start;             /* [heads][nq + 1], [heads][nk + 1] */
    int64_t *row_ptr;                       /* [heads][nq + 1] */
    double *kept;                           /* [heads] kept share of pairs */
    unsigned char *keep;                    /* [heads][nq][nk] */
    unsigned char *narrow;                  /* [threads][cq][ck] */
    float *logits, *prob;                   /* [threads][cq][ck], [threads][ck] */
    int32_t *order;                         /* [threads][2][ck] */
    int32_t *cols;
    size_t cols_size;
    prxi_block_list list;
    prxi_svg2_device *on_device;            /* not NULL: all of the work is there */
} svg2;

static const prxi_option options[] = {
    { "top_p_kmeans", PRXI_OPT_DOUBLE, offsetof(svg2, top_p), 0, 1, NULL, "0.9",
      "share of the estimated attention to keep, above 0" },
    { "min_kc_ratio", PRXI_OPT_DOUBLE, offsetof(svg2, min_kc_ratio), 0, 1, NULL, "0.1",
      "least share of the key clusters to keep" },
    { "num_q_centroids", PRXI_OPT_INT, offsetof(svg2, num_q), 0, 1 << 20, NULL, "0",
      "query clusters; 0: one per 110 tokens, at most 300" },
    { "num_k_centroids", PRXI_OPT_INT, offsetof(svg2, num_k), 0, 1 << 20, NULL, "0",
      "key clusters; 0: one per 33 tokens, at most 1000" },
    { "kmeans_iter_init", PRXI_OPT_INT, offsetof(svg2, iter_init), 1, 10000, NULL, "50",
      "k-means iterations at the first clustering of a layer" },
    { "kmeans_iter_step", PRXI_OPT_INT, offsetof(svg2, iter_step), 1, 10000, NULL, "2",
      "k-means iterations at every later one" },
    { "first_times_fp", PRXI_OPT_DOUBLE, offsetof(svg2, first_times_fp), 0, 1, NULL, "0.2",
      "share of the steps that are dense, from the first" },
    { "first_layers_fp", PRXI_OPT_DOUBLE, offsetof(svg2, first_layers_fp), 0, 1, NULL, "0.03",
      "share of the layers that are dense, from the first" },
    { "zero_step_kmeans_init", PRXI_OPT_BOOL, offsetof(svg2, zero_step), 0, 0, NULL, "false",
      "cluster in the dense steps too, so that the first sparse step starts warm" },
    { "kmeans_tolerance", PRXI_OPT_DOUBLE, offsetof(svg2, tolerance), 0, 1e30, NULL, "0.0001",
      "stop when no centroid moves this far" },
    { "empty_clusters", PRXI_OPT_CHOICE, offsetof(svg2, empty), 0, 0, "keep|reseed", "keep",
      "an empty cluster keeps its centroid, or takes the worst placed point" },
    { "seeding", PRXI_OPT_CHOICE, offsetof(svg2, seeding), 0, 0, "strided|farthest|random", "strided",
      "where the centroids start; random follows the seed of the run" },
    { "probe", PRXI_OPT_BOOL, offsetof(svg2, probe), 0, 0, NULL, "false",
      "measure the kept softmax mass and the output error of every sparse call" },
    { .name = NULL },
};

/* ---- plan ---- */

static int check(svg2 *p, prxi_ctx *c, const prxi_attn_env *env)
{
    if (!(p->top_p > 0.0))
        return prxi_fail(c, PRX_EINVAL, "attention.top_p_kmeans: %g is not in (0, 1]", p->top_p);
    if (p->tokens < 1 || env->tokens > INT32_MAX / 8 || env->text_tokens < 0)
        return prxi_fail(c, PRX_EINVAL, "svg2: %lld video and %d text tokens are not supported", (long long)env->tokens,
                         env->text_tokens);
    if (p->num_q > p->tokens)
        return prxi_fail(c, PRX_EINVAL, "attention.num_q_centroids: %lld clusters for %lld tokens",
                         (long long)p->num_q, (long long)p->tokens);
    if (p->num_k > p->tokens)
        return prxi_fail(c, PRX_EINVAL, "attention.num_k_centroids: %lld clusters for %lld tokens",
                         (long long)p->num_k, (long long)p->tokens);
    return PRX_OK;
}

static int keeps_all(const svg2 *p)
{
    return p->top_p >= 1.0 || p->min_kc_ratio >= 1.0;
}

/* What can only be dense is told. p = 1, the oracle of tests and of doubt, is asked for in so many words: a warning. */
static int check_sparse(const svg2 *p, prxi_ctx *c)
{
    if (p->dense_steps >= p->env.steps || p->dense_layers >= p->env.layers)
        return prxi_fail(c, PRX_EINVAL, "attention: svg2: %d of %d steps and %d of %d layers are dense: nothing is left for it; smaller "
                         "attention.first_times_fp and first_layers_fp, or --attention dense, expected", p->dense_steps, p->env.steps,
                         p->dense_layers, p->env.layers);
    if (p->ck < 2)
        return prxi_fail(c, PRX_EINVAL, "attention: svg2: one key cluster for %lld tokens keeps everything: a longer or larger clip, more "
                         "attention.num_k_centroids or --attention dense expected", (long long)p->tokens);
    if (keeps_all(p))
        prxi_logf(c, PRX_LOG_WARN, "attention: svg2: top_p_kmeans %g and min_kc_ratio %g keep every cluster: as dense, but slower",
                  p->top_p, p->min_kc_ratio);
    return PRX_OK;
}

static int by_size(int64_t wanted, int64_t tokens, int64_t each, int64_t most)
{
    const int64_t fit = tokens / each;
    return (int)(wanted ? wanted : fit < 1 ? 1 : fit < most ? fit : most);
}

static void *carve(size_t *at, unsigned char *base, size_t n, size_t size)
{
    const size_t here = *at;
    *at = prxi_add(*at, prxi_add(prxi_mul(n, size), 64) & ~(size_t)63);
    return base ? base + here : NULL;
}

static size_t lay_out(svg2 *p, unsigned char *base)
{
    const size_t heads = (size_t)p->env.heads, threads = (size_t)p->env.n_threads;
    const size_t cq = (size_t)p->cq, ck = (size_t)p->ck, nq = (size_t)p->nq, nk = (size_t)p->nk;
    size_t at = 0;
    p->labels = carve(&at, base, heads * (size_t)p->tokens, sizeof(int32_t));
    p->q_sizes = carve(&at, base, heads * cq, sizeof(int32_t));
    p->k_sizes = carve(&at, base, heads * ck, sizeof(int32_t));
    p->q_perm = carve(&at, base, heads * (size_t)p->total, sizeof(int32_t));
    p->k_perm = carve(&at, base, heads * (size_t)p->total, sizeof(int32_t));
    p->q_start = carve(&at, base, heads * (nq + 1), sizeof(int32_t));
    p->k_start = carve(&at, base, heads * (nk + 1), sizeof(int32_t));
    p->row_ptr = carve(&at, base, heads * (nq + 1), sizeof(int64_t));
    p->kept = carve(&at, base, heads, sizeof(double));
    p->keep = carve(&at, base, prxi_mul(heads * nq, nk), 1);
    p->narrow = carve(&at, base, prxi_mul(threads * cq, ck), 1);
    p->logits = carve(&at, base, prxi_mul(threads * cq, ck), sizeof(float));
    p->prob = carve(&at, base, threads * ck, sizeof(float));
    p->order = carve(&at, base, threads * 2 * ck, sizeof(int32_t));
    return at;
}

static void release(svg2 *p, prxi_ctx *c)
{
    prxi_free(c->mem, p->cols);
    prxi_free(c->mem, p->work);
    prxi_free(c->mem, p->last_step);
    prxi_free(c->mem, p->centroids);
    prxi_svg2_device_close(c, &p->on_device);
    p->cols = NULL;
    p->cols_size = 0;
    p->work = NULL;
    p->last_step = NULL;
    p->centroids = NULL;
}

static int forget(svg2 *p, prxi_ctx *c)
{
    const size_t states = (size_t)(p->env.layers - p->dense_layers) * (size_t)p->env.branches;
    p->last_step = prxi_alloc(c->mem, PRXI_MEM_CACHE, prxi_mul(states, sizeof *p->last_step));
    for (size_t i = 0; p->last_step && i < states; i++)
        p->last_step[i] = -1;
    return p->last_step ? PRX_OK : prxi_fail_nomem(c, "svg2", prxi_mul(states, sizeof *p->last_step));
}

static int allocate_there(svg2 *p, prxi_ctx *c, size_t *bytes)
{
    const prxi_svg2_settings set = { p->cq, p->ck, (p->env.layers - p->dense_layers) * p->env.branches, (int)(p->min_kc_ratio * p->ck),
                                     (int)p->iter_init, (int)p->iter_step, p->top_p, p->tolerance, p->seeding, p->empty };
    const int err = forget(p, c);
    return err < 0 ? err : prxi_svg2_device_open(c, &p->on_device, &p->env, &set, bytes);
}

static int allocate(svg2 *p, prxi_ctx *c, size_t *bytes)
{
    const size_t states = (size_t)(p->env.layers - p->dense_layers) * (size_t)p->env.branches;
    const size_t state_bytes = prxi_mul(states, p->state_size), work_bytes = lay_out(p, NULL);
    *bytes = prxi_add(state_bytes, work_bytes);
    release(p, c);
    if (states == 0)
        return PRX_OK;
    if (p->env.device)
        return allocate_there(p, c, bytes);
    p->centroids = prxi_alloc(c->mem, PRXI_MEM_CACHE, state_bytes);
    p->work = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, work_bytes);
    if (!p->centroids || !p->work)
        return prxi_fail_nomem(c, "svg2 centroids and cluster lists", *bytes);
    if (forget(p, c) < 0)
        return PRX_ENOMEM;
    lay_out(p, p->work);
    return PRX_OK;
}

static int make_plan(void *priv, prxi_ctx *c, const prxi_attn_env *env, prxi_attn_plan *plan)
{
    svg2 *p = priv;
    p->env = *env;
    p->env.n_threads = env->n_threads > 0 ? env->n_threads : 1;
    p->tokens = env->tokens;
    p->total = env->tokens + env->text_tokens;
    int err = PRX_OK;
    if (env->text_tokens > 0)
        err = prxi_attn_needs_host(c, env, "svg2: text tokens");
    if (err != PRX_OK || (err = check(p, c, env)) != PRX_OK)
        return err;
    p->dense_steps = (int)floor(p->first_times_fp * env->steps);
    p->dense_layers = (int)floor(p->first_layers_fp * env->layers);
    p->cq = by_size(p->num_q, p->tokens, 110, 300);
    p->ck = by_size(p->num_k, p->tokens, 33, 1000);
    p->nq = p->cq + (env->text_tokens ? 2 : 0);
    p->nk = p->ck + (env->text_tokens ? 2 : 0);
    p->state_size = (size_t)env->heads * (size_t)(p->cq + p->ck) * (size_t)env->head_dim * prxi_dtype_size(env->dtype);
    if ((err = check_sparse(p, c)) != PRX_OK)
        return err;
    /* Points against centroids in every iteration; the search for the best, the sums and the selection take half as much again. */
    const double clustering = 1.5 * (double)p->iter_step * (double)p->tokens * (p->cq + p->ck) * env->head_dim * 2 * env->heads;
    /* Of a cluster the last vector of 16 queries is half empty on the average, and the last pair of keys a quarter. */
    const double ragged = (1 + 8.0 * p->cq / (double)p->tokens) * (1 + 0.5 * p->ck / (double)p->tokens);
    *plan = (prxi_attn_plan) { .density = NAN, .sparse_density = keeps_all(p) ? 1.0 : NAN, .dense_steps = p->dense_steps,
                               .dense_layers = p->dense_layers, .select_flop = clustering, .pair_cost = ragged };
    if ((err = allocate(p, c, &plan->bytes)) != PRX_OK)
        return err;
    snprintf(plan->note, sizeof plan->note,
             "svg2: %d query and %d key clusters a head, p %g, least %g; dense: %d steps, %d layers%s", p->cq, p->ck,
             p->top_p, p->min_kc_ratio, p->dense_steps, p->dense_layers, keeps_all(p) ? "; these settings keep every cluster" : "");
    return PRX_OK;
}

/* ---- one call ---- */

/* Clusters one side; returns the sizes through km, the labels in p->labels. */
static void cluster(svg2 *p, prxi_stream *s, const prxi_attn_call *call, int keys, unsigned char *centroids, int fresh)
{
    const prxi_attn_args *a = &call->args;
    prxi_kmeans km = { .ops = p->env.ops, .dtype = p->env.dtype, .heads = a->heads, .head_dim = a->head_dim,
                       .k = keys ? p->ck : p->cq, .n = p->tokens, .x = keys ? a->k : a->q, .ldx = keys ? a->ldk : a->ldq,
                       .max_iters = (int)(fresh ? p->iter_init : p->iter_step), .tolerance = p->tolerance,
                       .reseed = p->empty, .centroids = centroids, .labels = p->labels,
                       .sizes = keys ? p->k_sizes : p->q_sizes };
    if (fresh)
        prxi_kmeans_seed(s, &km, (prxi_seeding)p->seeding, prxi_svg2_seed(&p->env, call, keys));
    prxi_kmeans_run(s, &km);
}

typedef struct sort_job {
    svg2 *p;
    int keys;
} sort_job;

static void sort_head(void *cookie, int64_t head, int thread)
{
    (void)thread;
    const sort_job *j = cookie;
    svg2 *p = j->p;
    const size_t h = (size_t)head;
    const int k = j->keys ? p->ck : p->cq, blocks = j->keys ? p->nk : p->nq;
    int32_t *perm = (j->keys ? p->k_perm : p->q_perm) + h * (size_t)p->total;
    int32_t *start = (j->keys ? p->k_start : p->q_start) + h * (size_t)(blocks + 1);
    prxi_svg2_sort(p->labels + h * (size_t)p->tokens, p->tokens, k, perm, start);
    for (int64_t i = p->tokens; i < p->total; i++)
        perm[i] = (int32_t)i;
    for (int i = k + 1; i <= blocks; i++)       /* prompt, then padding, of which there is none here */
        start[i] = (int32_t)p->total;
}

static void cluster_both(svg2 *p, prxi_stream *s, const prxi_attn_call *call, unsigned char *state, int fresh)
{
    const size_t q_bytes =
        (size_t)p->env.heads * (size_t)p->cq * (size_t)p->env.head_dim * prxi_dtype_size(p->env.dtype);
    for (int keys = 0; keys < 2; keys++) {
        sort_job j = { p, keys };
        cluster(p, s, call, keys, keys ? state + q_bytes : state, fresh);
        if (!prxi_stream_error(s) && !(s->cancel && atomic_load(s->cancel)))
            prxi_parallel_for(s, p->env.heads, sort_head, &j);
    }
}

typedef struct select_job {
    svg2 *p;
    prxi_stream *s;
    const unsigned char *q, *k;     /* centroids */
    float scale;
} select_job;

static double count_head(svg2 *p, size_t h)
{
    const int32_t *qs = p->q_start + h * (size_t)(p->nq + 1), *ks = p->k_start + h * (size_t)(p->nk + 1);
    int64_t *rows = p->row_ptr + h * (size_t)(p->nq + 1);
    double pairs = 0;
    for (int i = 0; i < p->nq; i++) {
        const unsigned char *keep = p->keep + (h * (size_t)p->nq + (size_t)i) * (size_t)p->nk;
        int64_t keys = 0;
        rows[i] = 0;
        for (int c = 0; c < p->nk; c++)
            if (keep[c]) {
                rows[i]++;
                keys += ks[c + 1] - ks[c];
            }
        pairs += (double)keys * (double)(qs[i + 1] - qs[i]);
    }
    return pairs / ((double)p->total * (double)p->total);
}

static void select_head(void *cookie, int64_t head, int thread)
{
    const select_job *j = cookie;
    svg2 *p = j->p;
    const size_t h = (size_t)head, cq = (size_t)p->cq, ck = (size_t)p->ck, t = (size_t)thread;
    const size_t row = (size_t)p->env.head_dim * prxi_dtype_size(p->env.dtype);
    float *logits = p->logits + t * cq * ck;
    int32_t *order = p->order + t * 2 * ck;
    unsigned char *keep = p->keep + h * (size_t)p->nq * (size_t)p->nk;
    unsigned char *map = p->env.text_tokens ? p->narrow + t * cq * ck : keep;
    const int least = (int)(p->min_kc_ratio * p->ck);
    const prxi_nearest_args a = { .heads = 1, .head_dim = p->env.head_dim, .n = p->cq, .k = p->ck, .x = j->q + h * cq * row,
                                  .ldx = p->env.head_dim, .centroids = j->k + h * ck * row, .products = logits };
    p->env.ops->nearest[p->env.dtype](j->s, &a);
    if (prxi_stream_error(j->s) || (j->s->cancel && atomic_load(j->s->cancel)))
        return;
    for (size_t i = 0; i < cq; i++) {
        for (size_t c = 0; c < ck; c++)
            logits[i * ck + c] *= j->scale;
        prxi_svg2_row(logits + i * ck, p->k_sizes + h * ck, p->ck, p->top_p, least, p->prob + t * ck, order, order + ck,
                      map + i * ck);
    }
    if (p->env.text_tokens)
        prxi_svg2_add_text(map, p->cq, p->ck, keep);
    p->kept[head] = count_head(p, h);
}

static void list_head(void *cookie, int64_t head, int thread)
{
    (void)thread;
    const svg2 *p = cookie;
    const size_t h = (size_t)head;
    for (int i = 0; i < p->nq; i++) {
        const unsigned char *keep = p->keep + (h * (size_t)p->nq + (size_t)i) * (size_t)p->nk;
        int32_t *to = p->cols + p->row_ptr[h * (size_t)(p->nq + 1) + (size_t)i];
        for (int32_t c = 0; c < p->nk; c++)
            if (keep[c])
                *to++ = c;
    }
}

/* Row pointers from counts, then the columns. */
static void make_list(svg2 *p, prxi_stream *s)
{
    int64_t at = 0;
    for (int h = 0; h < p->env.heads; h++) {
        int64_t *rows = p->row_ptr + (size_t)h * (size_t)(p->nq + 1);
        for (int i = 0; i < p->nq; i++) {
            const int64_t n = rows[i];
            rows[i] = at;
            at += n;
        }
        rows[p->nq] = at;
    }
    if ((size_t)at > p->cols_size) {
        const size_t want = (size_t)at + (size_t)at / 4 + 64;
        prxi_free(s->ctx->mem, p->cols);
        p->cols = prxi_alloc(s->ctx->mem, PRXI_MEM_SCRATCH, prxi_mul(want, sizeof *p->cols));
        p->cols_size = p->cols ? want : 0;
        if (!p->cols) {
            prxi_stream_fail(s, PRX_ENOMEM, "svg2", "no memory for the cluster list");
            return;
        }
    }
    prxi_parallel_for(s, p->env.heads, list_head, p);
    p->list = (prxi_block_list) { .per_head = 1, .nq = p->nq, .nk = p->nk, .q_start = p->q_start, .k_start = p->k_start,
                                  .row_ptr = p->row_ptr, .cols = p->cols, .q_perm = p->q_perm, .k_perm = p->k_perm };
}

static int fits(const svg2 *p, const prxi_attn_call *call)
{
    const prxi_attn_args *a = &call->args;
    return a->q_len == p->total && a->kv_len == p->total && a->heads == p->env.heads && a->head_dim == p->env.head_dim
           && call->layer >= 0 && call->layer < p->env.layers && call->branch >= 0 && call->branch < p->env.branches;
}

static void pick(void *priv, prxi_stream *s, const prxi_attn_call *call, const prxi_block_list **list,
                 double *density)
{
    svg2 *p = priv;
    const int dense = call->step < p->dense_steps;
    *list = NULL;
    *density = 1.0;
    p->probed = (prxi_attn_probe) { NAN, NAN };
    if (call->layer < p->dense_layers || (dense && !p->zero_step) || prxi_stream_error(s))
        return;
    if (!fits(p, call)) {
        prxi_stream_fail(s, PRX_EINVAL, "svg2", "planned for another number of tokens, heads, layers or branches");
        return;
    }
    const size_t at = (size_t)(call->layer - p->dense_layers) * (size_t)p->env.branches + (size_t)call->branch;
    unsigned char *state = p->on_device ? NULL : p->centroids + at * p->state_size;
    const int fresh = p->last_step[at] < 0 || call->step < p->last_step[at];    /* an earlier step: a new video */
    p->last_step[at] = call->step;
    if (p->on_device) {
        prxi_svg2_device_call(p->on_device, s, call, (int)at, fresh, dense ? NULL : list);
        if (!dense)
            *density = NAN;                 /* known when the forward is over */
        if (p->probe && *list)
            prxi_attn_probe_list(s, p->env.ops, p->env.dtype, &call->args, *list, PRXI_PROBE_SAMPLES, &p->probed);
        return;
    }
    cluster_both(p, s, call, state, fresh);
    if (dense)
        return;
    const size_t q_bytes =
        (size_t)p->env.heads * (size_t)p->cq * (size_t)p->env.head_dim * prxi_dtype_size(p->env.dtype);
    select_job j = { p, s, state, state + q_bytes, call->args.scale };
    if (!prxi_stream_error(s))
        prxi_parallel_for(s, p->env.heads, select_head, &j);
    if (prxi_stream_error(s) || (s->cancel && atomic_load(s->cancel)))
        return;
    make_list(p, s);
    if (prxi_stream_error(s))
        return;
    double sum = 0;
    for (int h = 0; h < p->env.heads; h++)
        sum += p->kept[h];
    *density = sum / p->env.heads;
    *list = &p->list;
    if (p->probe)
        prxi_attn_probe_list(s, p->env.ops, p->env.dtype, &call->args, *list, PRXI_PROBE_SAMPLES, &p->probed);
}

static void settle(void *priv, prxi_stream *s, double *density)
{
    svg2 *p = priv;
    if (p->on_device)
        prxi_svg2_device_settle(p->on_device, s, density);
}

static void finish(void *priv, prxi_ctx *c)
{
    release(priv, c);
}

static void last_probe(const void *priv, prxi_attn_probe *out)
{
    *out = ((const svg2 *)priv)->probed;
}

const prxi_attn_policy prxi_attn_svg2 = {
    .name = "svg2",
    .help = "tokens clustered by content, the clusters that matter kept (Sparse VideoGen2)",
    .priv_size = sizeof(svg2),
    .stateful = 1,
    .options = options,
    .plan = make_plan,
    .select = pick,
    .settle = settle,
    .close = finish,
    .probe = last_probe,
};
