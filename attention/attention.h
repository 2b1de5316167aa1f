/* Attention: the interface between the DiT (who asks), a policy (which blocks) and the kernels (how).
 * Nothing here knows a particular policy. */
#ifndef PRXI_ATTENTION_H
#define PRXI_ATTENTION_H

#include "engine/core/device.h"
#include "engine/core/dtype.h"
#include "engine/core/option.h"
#include "engine/core/stream.h"

/* Softmax attention of one batch item, all heads. q, o: [q_len, heads, head_dim]; k, v: [kv_len, heads, head_dim], with
 * token strides in elements (heads are adjacent: head stride = head_dim). All of one dtype; softmax and sums in f32. */
typedef struct prxi_attn_args {
    int heads, head_dim;
    int64_t q_len, kv_len;
    const void *q, *k, *v;
    void *o;
    int64_t ldq, ldk, ldv, ldo;
    float scale;               /* usually 1/sqrt(head_dim) */
    float tail_bias;           /* added to the logit of the last key: ln(n) makes it count n times; 0 = off */
    float *lse;                /* [heads, q_len] log-sum-exp of the scaled logits, or NULL */
    int64_t room;              /* rows past the last of q, k, v and o that may be touched: read (k and v finite), of o written */
} prxi_attn_args;

/* More room than this serves nothing. */
enum { PRXI_ATTN_ROOM = 128 };

/* Which (query block, key block) pairs are computed. Blocks are runs of tokens, of any length, zero included. Lists may be
 * shared by all heads (per_head 0) or one each; head h uses table offset h * stride with the strides implied by the
 * counts below. Owned by the policy, valid until its next select. */
typedef struct prxi_block_list {
    int per_head;
    int nq, nk;                       /* blocks per head */
    const int32_t *q_start, *k_start; /* [heads or 1][nq + 1], [..][nk + 1]: token ranges, ascending */
    const int64_t *row_ptr;           /* [heads or 1][nq + 1]: absolute offsets into cols */
    const int32_t *cols;              /* kept key blocks of a query block, ascending */
    const int32_t *q_perm, *k_perm;   /* [heads][tokens] or NULL: block position -> token index */
    uint64_t id;                      /* not 0: never changes, and no other list of this process has this number; a device may keep it */
    const struct prxi_device_blocks *device;    /* not NULL: the tables are on a device; of the above only nq and nk count */
} prxi_block_list;

/* A list that was built on a device, one table a head. Row i of a head keeps cols[row_ptr[i] .. row_end[i]). */
typedef struct prxi_device_blocks {
    int32_t *q_start, *k_start, *cols, *q_perm, *k_perm;
    int64_t *row_ptr, *row_end;       /* [heads][nq] */
    void *tiles;                      /* [heads][n_tiles / heads], those with the most work first; the last may be empty */
    int n_tiles;
    /* where prxi_cluster_ops.item_rows says so: */
    int n_items;
    void *items;                      /* larger tiles of all heads in the order of a queue; the last may be empty */
    int32_t *queue;                   /* [1] scratch */
    void *copies;                     /* room for q, k and v of all heads */
} prxi_device_blocks;

typedef void (*prxi_attn_dense_fn)(prxi_stream *s, const prxi_attn_args *a);
typedef void (*prxi_attn_blocks_fn)(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *b);

/* Points against centroids, for clustering policies: heads of x as in prxi_attn_args, all of one dtype. */
typedef struct prxi_nearest_args {
    int heads, head_dim;
    int64_t n;                 /* points per head */
    int k;                     /* centroids per head */
    const void *x;             /* token stride ldx, head stride head_dim */
    int64_t ldx;
    const void *centroids;     /* [heads][k][head_dim] */
    int32_t *labels;           /* [heads][n] */
    float *products;           /* [heads][n][k] or NULL */
    float *sums;               /* [heads][k][head_dim] */
    int32_t *counts;           /* [heads][k] */
} prxi_nearest_args;

typedef void (*prxi_nearest_fn)(prxi_stream *s, const prxi_nearest_args *a);

/* Kernels: dtype-indexed. Never an S x S matrix; scratch comes from mem and is bounded by threads x tile.
 * Same bytes for any thread count. */
typedef struct prxi_attn_ops {
    prxi_attn_dense_fn dense[PRXI_COMPUTE_DTYPES];
    prxi_attn_blocks_fn blocks[PRXI_COMPUTE_DTYPES];
    /* nearest: labels = argmin |x - c|^2, ties to the lowest index; with products: those instead, x . c.
     * gather: sums and counts of the points of each label. */
    prxi_nearest_fn nearest[PRXI_COMPUTE_DTYPES];
    prxi_nearest_fn gather[PRXI_COMPUTE_DTYPES];
    /* Not NULL on a device: decides who serves such calls (b NULL: dense), by time where that is open. Writes o, and waits. */
    void (*prepare)(prxi_stream *s, prxi_dtype t, const prxi_attn_args *a, const prxi_block_list *b);
} prxi_attn_ops;

/* ---- clustering on a device; everything named lies there, nothing waits ---- */

/* k-means as attention/kmeans.h has it, seeded when fresh, then the tokens of a head in the order of their clusters. */
typedef struct prxi_cluster_args {
    prxi_dtype dtype;
    int heads, head_dim, k, iters, fresh;
    double tolerance;
    int64_t n, ldx;
    const void *x;
    void *centroids, *means;          /* [heads][k][head_dim] of dtype; the second is scratch, like all below but perm and start */
    int32_t *labels;                  /* [heads][n] */
    int32_t *perm, *start;            /* [heads][n], [heads][k + 1] */
    int32_t *counts;                  /* [heads][chunks of n][k] */
    int32_t *stopped;                 /* [1] */
    float *halves;                    /* [heads][k] */
    double *moved;                    /* [heads][k] */
    int seeding, reseed;              /* prxi_seeding */
    uint64_t seed;                    /* of random seeding */
    float *far;                       /* with reseed: [heads][n] */
    double *gaps;                     /* with farthest seeding: [heads][4 k], at most n each */
} prxi_cluster_args;

/* The clusters that each query cluster keeps (prxi_svg2_row), as a list with its tiles, and each head's kept share of pairs. */
typedef struct prxi_select_args {
    prxi_dtype dtype;
    int heads, head_dim, cq, ck, least, tiles_each;
    int64_t n;
    float scale, top_p;
    const void *q_centroids, *k_centroids;
    prxi_device_blocks *blocks;       /* q_start and k_start in, the rest out */
    int32_t *keys;                    /* [heads][cq] */
    double *kept;                     /* [heads] */
} prxi_select_args;

typedef struct prxi_cluster_ops {
    int chunk, most, tile_rows;       /* tokens of a chunk; clusters at most; queries of a tile at most */
    size_t tile_size;
    /* Queries of an item at most; 0: this device has no queue for such heads. */
    int (*item_rows)(const struct prxi_device *d, prxi_dtype t, int head_dim);
    void (*cluster)(prxi_stream *s, const prxi_cluster_args *a);
    void (*select)(prxi_stream *s, const prxi_select_args *a);
} prxi_cluster_ops;

void prxi_attn_init_ref(prxi_attn_ops *t);
void prxi_attn_init_x86(prxi_attn_ops *t, uint32_t isa);

/* Attention over two disjoint sets of keys from the two results: o and lse take in o2 and lse2. Rows as in prxi_attn_args, lse
 * [heads][n]. */
void prxi_attn_merge(prxi_stream *s, prxi_dtype type, int heads, int head_dim, int64_t n, void *o, int64_t ldo, float *lse,
                     const void *o2, int64_t ldo2, const float *lse2);
/* What a block list costs, on sampled queries of one call: the softmax mass that the list keeps, and the distance of the
 * output from dense attention over the length of that. Means over heads and samples; NaN when not measured. */
typedef struct prxi_attn_probe {
    double recall, error;
} prxi_attn_probe;

/* The tables of a list that is on a device, for the host; *memory is theirs. Waits; errors go to the stream. */
void prxi_attn_fetch_list(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *list, prxi_block_list *out, void **memory);

/* Measures list on `samples` queries, evenly strided. */
void prxi_attn_probe_list(prxi_stream *s, const prxi_attn_ops *ops, prxi_dtype type, const prxi_attn_args *a,
                          const prxi_block_list *list, int samples, prxi_attn_probe *out);

/* ---- policies ---- */

typedef struct prxi_attn_env {
    int layers, heads, head_dim, branches, steps;
    int frames, grid_h, grid_w;        /* latent grid after patching; tokens = frames * grid_h * grid_w */
    int64_t tokens;
    int text_tokens;                   /* text inside self-attention, at the tail (0 for Wan) */
    const char *family;                /* "wan" or "hunyuan" */
    prxi_dtype dtype;
    uint32_t isa;
    int n_threads;
    uint64_t seed;
    const float *timesteps;            /* [steps] */
    const prxi_attn_ops *ops;
    struct prxi_device *device;        /* not NULL: q, k and v lie there, out of reach of code of the host */
} prxi_attn_env;

/* For plan: PRX_ENOTSUP when what was asked for reads q, k or v on the host and they are on a device. */
static inline int prxi_attn_needs_host(prxi_ctx *c, const prxi_attn_env *env, const char *what)
{
    return env->device ? prxi_fail(c, PRX_ENOTSUP, "device %s: attention %s: not on this device in this version; --device cpu does it",
                                   env->device->name, what)
                       : PRX_OK;
}

typedef struct prxi_attn_plan {
    double density;                    /* expected mean over the run, 1 = dense; NaN when content decides */
    double sparse_density;             /* of a call past the warm-up; the same */
    int dense_steps, dense_layers;     /* the warm-up: first ones that are dense */
    double select_flop;                /* what `select` computes for a sparse call, roughly */
    double pair_cost;                  /* time of a kept pair over one of dense attention, above 1 for ragged blocks; 0: 1 */
    size_t bytes;                      /* what the policy will hold */
    char note[256];                    /* one line for the plan, may be empty */
} prxi_attn_plan;

typedef struct prxi_attn_call {
    int step, layer, branch;
    prxi_attn_args args;               /* self-attention of this layer, after qk norm and RoPE */
} prxi_attn_call;

typedef struct prxi_attn_policy {
    const char *name, *help;
    size_t priv_size;                  /* the framework allocates it zeroed and sets option defaults */
    const prxi_option *options;
    int stateful;                      /* remembers something from step to step: such a run cannot be resumed from a file */
    /* Checks the settings against the model and the clip, builds static lists, fills plan. */
    int (*plan)(void *priv, prxi_ctx *c, const prxi_attn_env *env, prxi_attn_plan *plan);
    /* Which blocks this call computes: *list = NULL for dense. *density = kept share of query-key pairs. Errors go to the stream. */
    void (*select)(void *priv, prxi_stream *s, const prxi_attn_call *call, const prxi_block_list **list,
                   double *density);
    /* Optional. The one list of all sparse calls, where it never changes. */
    const prxi_block_list *(*fixed)(const void *priv);
    /* Optional. After a forward on a device: fills in the densities [branches][layers] that select left NaN. Waits. */
    void (*settle)(void *priv, prxi_stream *s, double *density);
    void (*close)(void *priv, prxi_ctx *c);          /* tolerates a failed plan */
    /* Of the last select, when the option `probe` is on; may be NULL. */
    void (*probe)(const void *priv, prxi_attn_probe *out);
} prxi_attn_policy;

const prxi_attn_policy *prxi_attn_policy_at(int i);            /* NULL after the last */
const prxi_attn_policy *prxi_attn_policy_find(const char *name);

#endif
