/* Work for the kernel for Hopper from a list that was made on the device, without the host: item for item what engine/cuda/queue.c makes of
 * one that it has. */
#include "launch.cuh"

enum { THREADS = 256, WARPS = THREADS / 32, KEYS = 128 };

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

/* Entry i of a group of heads: in the order of queries, heads beside each other. */
PRXI_DEVICE entry look_at(const prxi_cu_select &a, int head0, int heads, int i, int longest)
{
    return look(a, head0 + i % heads, i / heads, longest);
}

/* Counts become places: of each bin and warp the first item, bins in order and within them warps. A thread has a run of bins. Returns where
 * the last one ends. */
PRXI_DEVICE int place_bins(int *counts, int *sums, int bins, int at)
{
    const int each = (bins + THREADS - 1) / THREADS, first = (int)threadIdx.x * each;
    int mine = 0, end = at;
    for (int b = first; b < first + each && b < bins; b++)
        for (int w = 0; w < WARPS; w++)
            mine += counts[w * bins + b];
    sums[threadIdx.x] = mine;
    sync_block();
    for (int i = 0; i < THREADS; i++) {
        at += i < (int)threadIdx.x ? sums[i] : 0;
        end += sums[i];
    }
    for (int b = first; b < first + each && b < bins; b++)
        for (int w = 0; w < WARPS; w++) {
            const int n = counts[w * bins + b];
            counts[w * bins + b] = at;
            at += n;
        }
    sync_block();
    return end;
}

/* A warp's entries [first, last) of a group to their places, in rounds of 32. pieces: 32 of the warp; places: of its bins, they move
 * on. */
PRXI_DEVICE void place_entries(const prxi_cu_select &a, int head0, int heads, int longest, int first, int last, int *pieces, int *places)
{
    const int lane = threadIdx.x % 32;
    for (int i = first + lane; i - lane < last; i += 32) {
        entry e = look_at(a, head0, heads, i < last ? i : last - 1, longest);
        e.bin = i < last ? e.bin : -1;
        const uint32_t same = match_any(e.bin), below = same & ((1u << lane) - 1u);
        int before = 0, round = 0;
        pieces[lane] = e.pieces;
        sync_warp();
        for (int l = 0; l < 32; l++) {
            before += below >> l & 1u ? pieces[l] : 0;
            round += same >> l & 1u ? pieces[l] : 0;
        }
        if (e.bin >= 0)
            write_items(e, head0 + i % heads, i / heads, a.items + places[e.bin] + before);
        sync_warp();                    /* all have read the place, and the pieces */
        if (e.bin >= 0 && below == 0)
            places[e.bin] += round;     /* before the next round's barrier */
    }
}

/* A block a group of heads: a counting sort by length. A warp has a run of entries, whose items it counts and later places: in their order,
 * whatever the order of warps. */
PRXI_KERNEL void queue_kernel(prxi_cu_select a, int longest)
{
    PRXI_SHARED(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, bins = longest + 1;
    int *sums = reinterpret_cast<int *>(shared), *pieces = sums + THREADS, *counts = pieces + THREADS, at = 0;
    const int head0 = (int)blockIdx.x * a.group, heads = head0 + a.group < a.heads ? a.group : a.heads - head0;
    const int all = heads * a.cq, each = (all + THREADS - 1) / THREADS * 32, first = warp * each;
    const int last = first + each < all ? first + each : all;
    for (int i = threadIdx.x; i < head0 * a.cq; i += THREADS)
        at += look(a, i / a.cq, i % a.cq, longest).pieces;
    at = block_sum(at, sums);
    for (int i = threadIdx.x; i < WARPS * bins; i += THREADS)
        counts[i] = 0;
    sync_block();
    for (int i = first + lane; i < last; i += 32) {
        const entry e = look_at(a, head0, heads, i, longest);
        add_shared(&counts[warp * bins + e.bin], e.pieces);
    }
    sync_block();
    const int end = place_bins(counts, sums, bins, at);
    place_entries(a, head0, heads, longest, first, last, pieces + warp * 32, counts + warp * bins);
    for (int i = end + (int)threadIdx.x; i < a.n_items && head0 + heads == a.heads; i += THREADS)
        a.items[i] = { 0, 0, 0, 0 };
}

int prxi_cu_queue(device *d, const prxi_cu_select *a)
{
    const unsigned groups = (unsigned)ceil_div(a->heads, a->group);
    const int longest = (int)ceil_div(a->n, KEYS);
    return launch(d, "queue", queue_kernel, dim3(groups), THREADS, (2 * THREADS + (size_t)WARPS * (size_t)(longest + 1)) * sizeof(int),
                  *a, longest);
}
