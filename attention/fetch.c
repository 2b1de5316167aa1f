/* A block list that was built on a device, brought to the host: for what looks at lists there, the probe. */
#include "attention/attention.h"

typedef struct tables {
    int32_t *q_start, *k_start, *q_perm, *k_perm, *cols;
    int64_t *row_ptr, *begin, *end;         /* begin, end: rows as they are on the device */
} tables;

static void *take(size_t *at, unsigned char *base, size_t n, size_t size)
{
    const size_t here = *at;
    *at = prxi_add(*at, prxi_add(prxi_mul(n, size), 63) & ~(size_t)63);
    return base ? base + here : NULL;
}

static size_t lay_out(tables *t, unsigned char *base, const prxi_attn_args *a, const prxi_block_list *b)
{
    const size_t heads = (size_t)a->heads, nq = (size_t)b->nq, nk = (size_t)b->nk;
    size_t at = 0;
    t->q_start = take(&at, base, heads * (nq + 1), sizeof(int32_t));
    t->k_start = take(&at, base, heads * (nk + 1), sizeof(int32_t));
    t->q_perm = take(&at, base, heads * (size_t)a->q_len, sizeof(int32_t));
    t->k_perm = take(&at, base, heads * (size_t)a->kv_len, sizeof(int32_t));
    t->row_ptr = take(&at, base, heads * (nq + 1), sizeof(int64_t));
    t->begin = take(&at, base, heads * nq, sizeof(int64_t));
    t->end = take(&at, base, heads * nq, sizeof(int64_t));
    t->cols = take(&at, base, prxi_mul(heads * nq, nk), sizeof(int32_t));
    return at;
}

/* Rows one after the other, as lists of the host have them. Rows of the device ascend, so nothing is overwritten before it is moved. */
static void close_gaps(const tables *t, int heads, int nq)
{
    int64_t at = 0;
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < nq; i++) {
            const size_t row = (size_t)h * (size_t)nq + (size_t)i, out = row + (size_t)h;
            t->row_ptr[out] = at;
            for (int64_t x = t->begin[row]; x < t->end[row]; x++)
                t->cols[at++] = t->cols[x];
            t->row_ptr[out + 1] = at;
        }
}

void prxi_attn_fetch_list(prxi_stream *s, const prxi_attn_args *a, const prxi_block_list *list, prxi_block_list *out, void **memory)
{
    const prxi_device_blocks *b = list->device;
    const size_t heads = (size_t)a->heads, rows = heads * (size_t)list->nq;
    tables t;
    const size_t bytes = lay_out(&t, NULL, a, list);
    *memory = prxi_alloc(s->ctx->mem, PRXI_MEM_SCRATCH, bytes);
    if (!*memory) {
        prxi_stream_fail(s, PRX_ENOMEM, "attention", "no memory for a copy of the block list");
        return;
    }
    lay_out(&t, *memory, a, list);
    prxi_stream_get(s, t.q_start, b->q_start, (rows + heads) * sizeof *t.q_start);
    prxi_stream_get(s, t.k_start, b->k_start, heads * ((size_t)list->nk + 1) * sizeof *t.k_start);
    prxi_stream_get(s, t.q_perm, b->q_perm, heads * (size_t)a->q_len * sizeof *t.q_perm);
    prxi_stream_get(s, t.k_perm, b->k_perm, heads * (size_t)a->kv_len * sizeof *t.k_perm);
    prxi_stream_get(s, t.begin, b->row_ptr, rows * sizeof *t.begin);
    prxi_stream_get(s, t.end, b->row_end, rows * sizeof *t.end);
    prxi_stream_get(s, t.cols, b->cols, rows * (size_t)list->nk * sizeof *t.cols);
    if (prxi_stream_error(s))
        return;
    close_gaps(&t, a->heads, list->nq);
    *out = (prxi_block_list) { 1, list->nq, list->nk, t.q_start, t.k_start, t.row_ptr, t.cols, t.q_perm, t.k_perm, 0, NULL };
}
