/* Walking the keys of a query block: position p of its concatenated key blocks -> token. Positions are asked for in ascending
 * order, so a cursor moves on. */
#ifndef PRXI_CUDA_KEYS_CUH
#define PRXI_CUDA_KEYS_CUH

#include "launch.cuh"

struct key_cursor {
    const int32_t *start, *cols, *perm;
    int64_t at, end;                /* in cols */
    int32_t base;                   /* position of the first key of cols[at] */
};

PRXI_DEVICE key_cursor open_keys(const prxi_cu_attn &a, int head, int block)
{
    const int64_t h = a.per_head ? head : 0;
    const int64_t *rows = a.row_ptr + h * (a.row_end ? a.nq : a.nq + 1);
    key_cursor c;
    c.start = a.k_start + h * (a.nk + 1);
    c.cols = a.cols;
    c.perm = a.k_perm ? a.k_perm + (int64_t)head * a.kv_len : nullptr;
    c.at = rows[block];
    c.end = a.row_end ? a.row_end[h * a.nq + block] : rows[block + 1];
    c.base = 0;
    return c;
}

/* Number of keys of the block. */
PRXI_DEVICE int32_t count_keys(const key_cursor &c)
{
    int32_t n = 0;
    for (int64_t i = c.at; i < c.end; i++)
        n += c.start[c.cols[i] + 1] - c.start[c.cols[i]];
    return n;
}

/* Token of position p, -1 beyond the last. */
PRXI_DEVICE int32_t key_at(key_cursor *c, int32_t p)
{
    while (c->at < c->end) {
        const int32_t first = c->start[c->cols[c->at]], length = c->start[c->cols[c->at] + 1] - first;
        if (p - c->base < length) {
            const int32_t t = first + p - c->base;
            return c->perm ? c->perm[t] : t;
        }
        c->base += length;
        c->at++;
    }
    return -1;
}

/* The query token of row r of a tile. */
PRXI_DEVICE int32_t query_at(const prxi_cu_attn &a, const prxi_cu_tile &tile, int head, int r)
{
    const int32_t p = tile.first + r;
    return a.q_perm ? a.q_perm[(int64_t)head * a.q_len + p] : p;
}

#endif
