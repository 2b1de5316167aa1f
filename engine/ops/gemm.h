/* Linear layers and matrix products. Weights are packed once, when a layer is opened. */
#ifndef PRXI_GEMM_H
#define PRXI_GEMM_H

#include "engine/core/dtype.h"
#include "engine/core/stream.h"

typedef enum prxi_epilogue { PRXI_EPI_NONE, PRXI_EPI_GELU_TANH, PRXI_EPI_SILU } prxi_epilogue;

typedef struct prxi_linear_desc {
    const void *weight;        /* [n, k] row-major, as stored in the file */
    prxi_dtype weight_dtype;   /* f32, f16 or bf16 */
    const void *bias;          /* [n] or NULL */
    prxi_dtype bias_dtype;
    int64_t n, k;
    prxi_dtype compute;        /* f32: x, weights f32. bf16: x, weights bf16, sums and bias f32 */
    prxi_dtype out;            /* dtype of y; f32 or bf16 */
    prxi_epilogue epilogue;    /* applied in f32 before the store */
    uint32_t isa;              /* PRXI_ISA_*; 0 is the C reference */
    struct prxi_device *device;    /* where the weights go and the product runs; NULL: here */
    int eight_bits;            /* prxi_eight_bits, on a device that can */
} prxi_linear_desc;

/* ONLY: weights and input in e4m3 with a scale a row, sums f32. BESIDE: the weights in the compute type too, for prxi_linear_run_wide. */
typedef enum prxi_eight_bits { PRXI_EIGHT_NONE, PRXI_EIGHT_ONLY, PRXI_EIGHT_BESIDE } prxi_eight_bits;

/* Weights that are brought to the device as they are needed: made ready in host memory, each part at its offset from `host`, used from
 * wherever prxi_linear_move says that a copy of some of this memory is. */
typedef struct prxi_linear_parts {
    size_t eight, bias, weight;      /* codes and scales of weights in 8 bits; bias; weights in the compute type */
} prxi_linear_parts;

typedef struct prxi_linear_place {
    unsigned char *host;
    prxi_linear_parts at;
} prxi_linear_place;

typedef struct prxi_linear prxi_linear;   /* immutable after open: shared by threads and jobs */

/* Packs the weights; desc pointers may be dropped afterwards. On failure *out is NULL. */
int  prxi_linear_open(prxi_ctx *c, prxi_linear **out, const prxi_linear_desc *d);
/* Who multiplies. AUTO: oneDNN for bf16 where the processor multiplies bf16 at its full rate (AMX, AMD), else our tiles; fixed per
 * machine, so that the same settings give the same bytes. The mask 0 always means the C reference. */
typedef enum prxi_gemm_with { PRXI_GEMM_AUTO, PRXI_GEMM_TILES, PRXI_GEMM_ONEDNN } prxi_gemm_with;
/* prxi_linear_open is this with AUTO. PRX_ENOTSUP: oneDNN asked for, and it cannot. */
int  prxi_linear_open_with(prxi_ctx *c, prxi_linear **out, const prxi_linear_desc *d, prxi_gemm_with with);
int  prxi_linear_open_placed(prxi_ctx *c, prxi_linear **out, const prxi_linear_desc *d, const prxi_linear_place *place);
/* `base` has a copy of what lies from `begin` to `end` behind host; parts elsewhere are out of use until the next move. */
void prxi_linear_move(prxi_linear *l, unsigned char *base, size_t begin, size_t end);
/* Bytes of each part, multiples of 256. */
prxi_linear_parts prxi_linear_part_bytes(int64_t n, int64_t k, prxi_dtype compute, prxi_dtype out);
void prxi_linear_close(prxi_ctx *c, prxi_linear **l);
/* Bytes that the packed layer holds. */
size_t prxi_linear_bytes(const prxi_linear *l);
/* y[m, n] = epilogue(x[m, k] W^T + bias); row strides ldx >= k, ldy >= n in elements. x and y must not overlap.
 * Rows are cut into fixed tiles, each summed by one thread in a fixed order: the same bytes for any thread
 * count, and a row's result does not depend on the rows beside it within the same m. */
void prxi_linear_run(prxi_stream *s, const prxi_linear *l, int64_t m, const void *x, int64_t ldx, void *y,
                     int64_t ldy);

/* The same in the compute type, whatever 8 bits the layer has: not with PRXI_EIGHT_ONLY. */
void prxi_linear_run_wide(prxi_stream *s, const prxi_linear *l, int64_t m, const void *x, int64_t ldx, void *y, int64_t ldy);
/* The same with x [m, k] in 8 bits and scale [m] as the device's quantise makes them, for a layer that has them: the bytes
 * that prxi_linear_run gives for the x that they were made of. */
void prxi_linear_run_eight(prxi_stream *s, const prxi_linear *l, int64_t m, const void *x, const float *scale, void *y, int64_t ldy);

/* c[m, n] = alpha * a[m, k] op(b): f32, row-major, op(b) = b[n, k]^T when trans_b, else b[k, n]. Single-threaded:
 * called from inside tasks (text encoder heads, VAE attention tiles). */
void prxi_sgemm(int trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                const float *b, int64_t ldb, float *c, int64_t ldc, uint32_t isa);

#endif
