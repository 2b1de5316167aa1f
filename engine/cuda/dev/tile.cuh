/* Tiles of 64 rows of D bf16 in shared memory, and products of 16 rows a warp with 64 of them. */
#ifndef PRXI_CUDA_TILE_CUH
#define PRXI_CUDA_TILE_CUH

#include "prim.cuh"

enum { TILE_ROWS = 64 };

/* Element (r, c) of a tile: 16-byte chunks change places by row, so that ldmatrix meets no bank twice. */
template <int D> PRXI_DEVICE int tile_at(int r, int c)
{
    return r * D + (((c >> 3) ^ (r & 7)) << 3) + (c & 7);
}

/* s[16 rows of the warp x 64 rows of the tile] = scale q k^T: fragments of mma.m16n8k16, eight columns each. */
template <int D> PRXI_DEVICE void tile_scores(float s[TILE_ROWS / 8][4], const uint32_t q[D / 16][4], const bf16 *k, float scale)
{
    const int lane = threadIdx.x % 32;
    PRXI_UNROLL
    for (int n = 0; n < TILE_ROWS / 8; n++)
        for (int j = 0; j < 4; j++)
            s[n][j] = 0;
    PRXI_UNROLL
    for (int d = 0; d < D / 16; d++) {
        PRXI_UNROLL
        for (int n = 0; n < TILE_ROWS / 16; n++) {
            uint32_t b[4];
            ldmatrix(b, k + tile_at<D>(n * 16 + (lane & 7) + (lane >> 4 << 3), d * 16 + (lane >> 3 & 1) * 8));
            mma_bf16(s[2 * n], q[d], b[0], b[1]);
            mma_bf16(s[2 * n + 1], q[d], b[2], b[3]);
        }
    }
    PRXI_UNROLL
    for (int n = 0; n < TILE_ROWS / 8; n++)
        for (int j = 0; j < 4; j++)
            s[n][j] *= scale;
}

#endif
