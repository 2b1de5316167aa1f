/* Work for the kernel for Hopper from a list that was made on the device, without the host: item for item what engine/cuda/queue.c makes of
 * one that it has. */
#include "launch.cuh"

enum { THREADS = 256, KEYS = 128 };

/* Of a query cluster: items, and where its length stands among all, longest first. */
struct entry {
    int32_t first, rows, pieces, bin;
};

PRXI_DEVICE entry look(const prxi_cu_select &a, int64_t head, int q, int longest)
{
    const int32_t *start = a.q_start + head * (a.cq + 1) + q;
    const int length = (a.keys[head * a.cq + q] + KEYS - 1) / KEYS;
    entry e;
    e.first = start[0];
    e.rows = start[1] - start[0];
    e.pieces = (e.rows + PRXI_CU_QUEUE_ROWS - 1) / PRXI_CU_QUEUE_ROWS;
    e.bin = longest - (length < longest ? length : longest);
    return e;
}

/* The items of one cluster, from `to` on. */
PRXI_DEVICE void write_items(const entry &e, int head, int q, prxi_cu_tile *to)
{
    for (int i = 0; i < e.pieces; i++) {
        const int32_t left = e.rows - i * PRXI_CU_QUEUE_ROWS;
        to[i] = { head, q, e.first + i * PRXI_CU_QUEUE_ROWS, left < PRXI_CU_QUEUE_ROWS ? left : PRXI_CU_QUEUE_ROWS };
    }
}

/* A block a group of heads. A thread has a run of lengths, counts their items and later places them: in the order of queries, heads beside
 * each other, whatever the order of threads. */
PRXI_KERNEL void queue_kernel(prxi_cu_select a, int longest)
{
    PRXI_SHARED(shared);
    int *part = reinterpret_cast<int *>(shared), *counts = part + THREADS / 32;
    const int head0 = (int)blockIdx.x * a.group, heads = head0 + a.group < a.heads ? a.group : a.heads - head0;
    const int each = (longest + THREADS) / THREADS, bin0 = (int)threadIdx.x * each, bin1 = bin0 + each;
    int at = 0, mine = 0;
    for (int64_t i = threadIdx.x; i < (int64_t)head0 * a.cq; i += THREADS)
        at += look(a, i / a.cq, (int)(i % a.cq), longest).pieces;
    at = block_sum(at, part);
    for (int i = 0; i < heads * a.cq; i++) {
        const entry e = look(a, head0 + i % heads, i / heads, longest);
        mine += e.bin >= bin0 && e.bin < bin1 ? e.pieces : 0;
    }
    counts[threadIdx.x] = mine;
    sync_block();
    int end = at;
    for (int i = 0; i < THREADS; i++) {
        at += i < (int)threadIdx.x ? counts[i] : 0;
        end += counts[i];
    }
    for (int bin = bin0; bin < bin1 && mine > 0; bin++)
        for (int i = 0; i < heads * a.cq; i++) {
            const int head = head0 + i % heads, q = i / heads;
            const entry e = look(a, head, q, longest);
            if (e.bin != bin)
                continue;
            write_items(e, head, q, a.items + at);
            at += e.pieces;
        }
    for (int i = end + (int)threadIdx.x; i < a.n_items && head0 + heads == a.heads; i += THREADS)
        a.items[i] = { 0, 0, 0, 0 };
}

int prxi_cu_queue(device *d, const prxi_cu_select *a)
{
    const unsigned groups = (unsigned)ceil_div(a->heads, a->group);
    return launch(d, "queue", queue_kernel, dim3(groups), THREADS, (THREADS / 32 + THREADS) * sizeof(int), *a,
                  (int)ceil_div(a->n, KEYS));
}
