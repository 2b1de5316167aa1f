/* Lloyd's k-means on the heads of a token tensor, as SVG2 runs it (attention.md 1.3): Euclidean, f32 sums, ties to the
 * lowest index, centroids of the type of the points. */
#ifndef PRXI_ATTENTION_KMEANS_H
#define PRXI_ATTENTION_KMEANS_H

#include "attention/attention.h"

typedef enum prxi_seeding { PRXI_SEED_STRIDED, PRXI_SEED_FARTHEST, PRXI_SEED_RANDOM } prxi_seeding;

typedef struct prxi_kmeans {
    const prxi_attn_ops *ops;
    prxi_dtype dtype;
    int heads, head_dim, k;
    int64_t n;
    const void *x;          /* token stride ldx, head stride head_dim */
    int64_t ldx;
    int max_iters;          /* at least 1 */
    double tolerance;       /* stop, and keep the old centroids, when no centroid of any head moved this far */
    int reseed;             /* an empty cluster takes the point that lies farthest from its centroid; else it stays */
    void *centroids;        /* [heads][k][head_dim]: start in, result out */
    int32_t *labels;        /* [heads][n] out: of the last assignment */
    int32_t *sizes;         /* [heads][k] out: members of the last assignment */
    int iters;              /* out */
    double shift;           /* out: largest move of the last iteration */
} prxi_kmeans;

/* Fills the start centroids from the points: evenly strided, farthest-point over a strided sample, or distinct random
 * ones by seed. The same for any thread count. */
void prxi_kmeans_seed(prxi_stream *s, const prxi_kmeans *km, prxi_seeding how, uint64_t seed);
void prxi_kmeans_run(prxi_stream *s, prxi_kmeans *km);

#endif
