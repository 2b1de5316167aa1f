/* Work for the queue of the Hopper kernel: pieces of 128 queries, longest first. */
#include <string.h>

#include "cuda.h"

enum { KEYS = 128, CACHE = 32 << 20 };      /* keys of a tile; what of the second-level cache keys and values may take */

int prxi_cuda_head_group(int heads, int head_dim, int64_t kv_len)
{
    const int64_t one = kv_len * head_dim * 4, n = one > 0 ? CACHE / one : heads;
    return n < 1 ? 1 : n < heads ? (int)n : heads;
}

/* Tiles of keys that the queries of a block meet. */
static int32_t length_of(const prxi_block_list *b, int head, int q, int32_t longest)
{
    const size_t t = b->per_head ? (size_t)head : 0;
    const int32_t *start = b->k_start + t * (size_t)(b->nk + 1);
    const int64_t *rows = b->row_ptr + t * (size_t)(b->nq + 1);
    int64_t keys = 0;
    for (int64_t i = rows[q]; i < rows[q + 1]; i++)
        keys += start[b->cols[i] + 1] - start[b->cols[i]];
    keys = (keys + KEYS - 1) / KEYS;
    return keys < longest ? (int32_t)keys : longest;
}

static const int32_t *starts_of(const prxi_block_list *b, int head)
{
    return b->q_start + (b->per_head ? (size_t)head * (size_t)(b->nq + 1) : 0);
}

static int pieces_of(const int32_t *start, int q)
{
    return (start[q + 1] - start[q] + PRXI_CU_QUEUE_ROWS - 1) / PRXI_CU_QUEUE_ROWS;
}

int prxi_cuda_queue_count(const prxi_block_list *b, int heads)
{
    int n = 0;
    for (int h = 0; h < heads; h++)
        for (int q = 0; q < b->nq; q++)
            n += pieces_of(starts_of(b, h), q);
    return n;
}

/* A counting sort by length over the heads [first, end), from items[at] on: equal lengths stay in order of queries, heads beside each
 * other. */
static int one_group(const prxi_block_list *b, int first, int end, prxi_cu_tile *items, int at, int32_t *bins, int32_t longest)
{
    memset(bins, 0, (size_t)(longest + 1) * sizeof *bins);
    for (int q = 0; q < b->nq; q++)
        for (int h = first; h < end; h++)
            bins[longest - length_of(b, h, q, longest)] += pieces_of(starts_of(b, h), q);
    int32_t sum = at;
    for (int32_t i = 0; i <= longest; i++) {
        const int32_t n = bins[i];
        bins[i] = sum;
        sum += n;
    }
    for (int q = 0; q < b->nq; q++)
        for (int h = first; h < end; h++) {
            const int32_t *start = starts_of(b, h), bin = longest - length_of(b, h, q, longest);
            for (int32_t row = start[q]; row < start[q + 1]; row += PRXI_CU_QUEUE_ROWS) {
                const int32_t left = start[q + 1] - row;
                items[bins[bin]++] = (prxi_cu_tile) { h, q, row, left < PRXI_CU_QUEUE_ROWS ? left : PRXI_CU_QUEUE_ROWS };
            }
        }
    return sum;
}

int prxi_cuda_queue(prxi_ctx *c, const prxi_block_list *b, int heads, int group, int64_t kv_len, prxi_cu_tile *items)
{
    const int32_t longest = (int32_t)((kv_len + KEYS - 1) / KEYS);
    int32_t *bins = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, (size_t)longest + 1, sizeof *bins);
    if (!bins)
        return prxi_fail_nomem(c, "order of attention", ((size_t)longest + 1) * sizeof *bins);
    int at = 0;
    for (int h = 0; h < heads; h += group)
        at = one_group(b, h, h + group < heads ? h + group : heads, items, at, bins, longest);
    prxi_free(c->mem, bins);
    return PRX_OK;
}
