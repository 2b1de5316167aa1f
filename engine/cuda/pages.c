/* Static block lists as pages for cuDNN: entries of equally many queries, each with the pages of its keys in a table. The table has room
 * for all pages in each row: cuDNN's plan is then that of any list of such blocks. */
#include "cuda.h"

enum { LARGEST = 128, LEAST_ROWS = 16, LEAST_PAGE = 8, MOST_BYTES = 1 << 28 };

/* The largest power of two from 128 down that divides all boundaries but the end; 0: none from `least` up does. */
static int divides(const int32_t *start, int n, int64_t end, int least)
{
    int unit = LARGEST;
    for (int i = 0; i < n; i++)
        while (unit >= least && start[i] % unit && start[i] != end)
            unit /= 2;
    return unit >= least ? unit : 0;
}

/* Pages that block j of the keys lies in, from *first on. */
static int pages_of(const prxi_block_list *b, int32_t j, int page, int *first)
{
    const int32_t from = b->k_start[j], to = b->k_start[j + 1];
    *first = from / page;
    return to > from ? (to + page - 1) / page - *first : 0;
}

/* True: some queries have no keys. */
static int has_empty_row(const prxi_block_list *b)
{
    for (int q = 0; q < b->nq; q++) {
        int64_t keys = 0;
        for (int64_t i = b->row_ptr[q]; i < b->row_ptr[q + 1]; i++)
            keys += b->k_start[b->cols[i] + 1] - b->k_start[b->cols[i]];
        if (keys == 0 && b->q_start[q + 1] > b->q_start[q])
            return 1;
    }
    return 0;
}

static int64_t whole(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

const char *prxi_cuda_page_shape(const prxi_attn_args *a, const prxi_block_list *b, prxi_cuda_pages *p)
{
    *p = (prxi_cuda_pages) { 0, 0, 0, 0 };
    if (b->device)
        return "lists that are made on the device have none";
    if (b->q_perm || b->k_perm || b->per_head)
        return "a list of each head, or one that permutes, has none";
    if (!b->id)
        return "a list that may change has none";
    const int rows = divides(b->q_start, b->nq, a->q_len, LEAST_ROWS), page = divides(b->k_start, b->nk, a->kv_len, LEAST_PAGE);
    if (!rows || !page)
        return "blocks are no multiples of 16 queries and 8 keys";
    const int64_t entries = whole(a->q_len, rows) / rows, pages = whole(a->kv_len, page) / page;
    if (has_empty_row(b))
        return "some queries have no keys";
    if (entries * pages > MOST_BYTES / (int64_t)sizeof(int32_t))
        return "the table would be larger than 256 MiB";
    *p = (prxi_cuda_pages) { rows, page, (int)pages, (int)entries };
    return prxi_cuda_page_room(a, p);
}

const char *prxi_cuda_page_room(const prxi_attn_args *a, const prxi_cuda_pages *p)
{
    if (whole(a->q_len, p->rows) - a->q_len > a->room || whole(a->kv_len, p->page) - a->kv_len > a->room)
        return "there is no room past the last token";
    return a->lse && a->q_len % p->rows ? "log-sum-exp of a partial block" : NULL;
}

size_t prxi_cuda_page_words(const prxi_cuda_pages *p, size_t at[3])
{
    const size_t n = (size_t)p->entries, each = (n + 3) / 4 * 4;        /* multiples of 16 bytes */
    at[0] = 0;
    at[1] = (n * (size_t)p->pages + 3) / 4 * 4;
    at[2] = at[1] + each;
    return at[2] + each;
}

/* One entry: its pages, the rest of the row being page 0, which is never read; and its keys. */
static void fill_entry(const prxi_block_list *b, int q, const prxi_cuda_pages *p, int32_t *table, int32_t *keys)
{
    int at = 0, first;
    *keys = 0;
    for (int64_t i = b->row_ptr[q]; i < b->row_ptr[q + 1]; i++) {
        const int n = pages_of(b, b->cols[i], p->page, &first);
        for (int k = 0; k < n; k++)
            table[at++] = first + k;
        *keys += b->k_start[b->cols[i] + 1] - b->k_start[b->cols[i]];
    }
    while (at < p->pages)
        table[at++] = 0;
}

void prxi_cuda_page_tables(const prxi_block_list *b, const prxi_cuda_pages *p, int32_t *words)
{
    size_t part[3];
    prxi_cuda_page_words(p, part);
    for (int q = 0; q < b->nq; q++)
        for (int32_t row = b->q_start[q]; row < b->q_start[q + 1]; row += p->rows) {
            const size_t e = (size_t)(row / p->rows);
            const int32_t left = b->q_start[q + 1] - row;
            words[part[1] + e] = left < p->rows ? left : p->rows;
            fill_entry(b, q, p, words + e * (size_t)p->pages, &words[part[2] + e]);
        }
}
