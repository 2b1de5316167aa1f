/* The inner kernels of the matrix product: what an instruction set must provide. The loops around them are in gemm.c.
 * Every output element is one chain of additions over k in ascending order, started from zero: its bits do not depend on how
 * rows, columns and k are cut, nor on threads, and AVX2 and AVX-512 (which both fuse) agree. */
#ifndef PRXI_GEMM_KERNEL_H
#define PRXI_GEMM_KERNEL_H

#include "gemm.h"

/* Depth of a block of k, and the row stride of the f32 copy of x: not a power of two, so that rows fall into different cache
 * sets. */
enum { PRXI_GEMM_KC = 512, PRXI_GEMM_LDA = 528 };
enum { PRXI_GEMM_MAX_MR = 16, PRXI_GEMM_MAX_NR = 32 };

/* How a finished tile leaves: y[r][j] = epilogue(c[r][j] * alpha + bias[j]) for r < rows, j < cols. */
typedef struct prxi_gemm_store {
    int rows, cols;
    const float *c;           /* nr floats a row */
    const float *bias;        /* NULL: 0 */
    float alpha;
    prxi_epilogue epilogue;
    void *y;
    int64_t ldy;
} prxi_gemm_store;

/* What a tile fetches into the second cache while it computes, a line of each stream every four steps of k: more at a time
 * would fill the processor's fetch buffers and stall it. */
enum { PRXI_GEMM_FETCH_STEPS = 4 };
typedef struct prxi_gemm_fetch {
    const unsigned char *at[2];
    int64_t step[2];          /* bytes; 0 with any valid address: nothing to fetch */
} prxi_gemm_fetch;

/* c[r][j] = (first ? 0 : c[r][j]) + sum over i of a[r][i] b[i][j], r < rows <= mr, j < nr. Rows of a are lda apart, rows of b and c
 * nr, 64-byte aligned. With y set, what would be c goes straight to y[r][j] = c[r][j] + bias[j], rows ldy apart, and c is not written. */
typedef struct prxi_gemm_tile {
    int rows, first;
    int64_t k, lda;
    const float *a, *b;
    float *c;
    prxi_gemm_fetch fetch;
    float *y;                 /* NULL: the tile is not finished, or it leaves in another way */
    const float *bias;        /* of y; NULL: 0 */
    int64_t ldy;
} prxi_gemm_tile;

typedef struct prxi_gemm_kernel {
    int mr, nr;
    void (*tile)(const prxi_gemm_tile *t);
    void (*store[PRXI_COMPUTE_DTYPES])(const prxi_gemm_store *s);
    /* panel[i][r] = w[r][i] for r < rows <= nr, i < k, converted; 0 for r from rows to nr. ldw in elements. */
    void (*pack)(const void *w, prxi_dtype from, int64_t ldw, int rows, int64_t k, void *panel, prxi_dtype to);
    /* n elements of x as f32 */
    void (*load[PRXI_COMPUTE_DTYPES])(int64_t n, const void *x, float *y);
} prxi_gemm_kernel;

const prxi_gemm_kernel *prxi_gemm_kernel_ref(void);
/* NULL when the mask has nothing for it. */
const prxi_gemm_kernel *prxi_gemm_kernel_x86(uint32_t isa);

#endif
