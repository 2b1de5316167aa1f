/* Matrix products by oneDNN: for processors whose bf16 products run at full rate, in AMX tiles or AMD's dot products, where it is two
 * to several times faster than our tiles, and as the yardstick of the benchmark. Nothing of oneDNN shows outside this folder. */
#ifndef PRXI_ONEDNN_GEMM_H
#define PRXI_ONEDNN_GEMM_H

#include "engine/ops/gemm.h"

enum { PRXI_DNN_TILES = 4 };

typedef struct prxi_dnn_linear prxi_dnn_linear;

typedef struct prxi_dnn_desc {
    const prxi_linear_desc *linear;
    int64_t tiles[PRXI_DNN_TILES];   /* row counts that run knows, descending; 0 ends */
    int threads;                     /* that one product uses inside oneDNN */
} prxi_dnn_desc;

/* Packs the weights in oneDNN's layout for tiles[0]. PRX_ENOTSUP: oneDNN has no product for these types here. */
int prxi_dnn_open(prxi_ctx *c, prxi_dnn_linear **out, const prxi_dnn_desc *d);
void prxi_dnn_close(prxi_ctx *c, prxi_dnn_linear **l);
size_t prxi_dnn_bytes(const prxi_dnn_linear *l);
/* Scratch that one run needs. */
size_t prxi_dnn_scratch(const prxi_dnn_linear *l);
/* y[tiles[tile], n] = layer(x[tiles[tile], k]), both dense. Status code. Thread-safe with a scratch of one's own. */
int prxi_dnn_run(const prxi_dnn_linear *l, int tile, const void *x, void *y, void *scratch);
/* What a run needs besides, kept from run to run of one thread on one layer: making it costs as much as a small product's store.
 * Starts zeroed; leave frees it. */
typedef struct prxi_dnn_seat {
    void *stream, *memory[PRXI_DNN_TILES][3];
} prxi_dnn_seat;
int prxi_dnn_run_seated(const prxi_dnn_linear *l, prxi_dnn_seat *seat, int tile, const void *x, void *y, void *scratch);
void prxi_dnn_leave(prxi_dnn_seat *seat);
/* Does this processor multiply bf16 in AMX tiles, and is the system willing? */
int prxi_dnn_amx(void);
/* Name of the implementation that oneDNN chose ("brg:avx512_core_amx_bf16"). */
const char *prxi_dnn_name(const prxi_dnn_linear *l);

#endif
