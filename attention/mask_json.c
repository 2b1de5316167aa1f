/* Masks and cluster maps as JSON (file formats page, section 6), and masks on the tiles of other kernels. */
#include <stdio.h>

#include "attention/mask.h"

static int touches(const prxi_block_mask *m, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    for (int64_t i = row / m->block; i < m->n && i * m->block < row + rows; i++)
        for (int64_t j = col / m->block; j < m->n && j * m->block < col + cols; j++)
            if (prxi_mask_get(m, (int)i, (int)j))
                return 1;
    return 0;
}

int64_t prxi_mask_tile_row(const prxi_block_mask *m, int q_tile, int k_tile, int row, char *text)
{
    const int cols = (int)((m->tokens + k_tile - 1) / k_tile);
    int64_t kept = 0;
    for (int j = 0; j < cols; j++) {
        const int on = touches(m, (int64_t)row * q_tile, q_tile, (int64_t)j * k_tile, k_tile);
        text[j] = on ? '1' : '0';
        kept += on;
    }
    text[cols] = '\0';
    return kept;
}

int prxi_mask_json(prxi_ctx *c, const prxi_block_mask *m, int q_tile, int k_tile, char **text, size_t *text_len)
{
    const size_t rows = (size_t)((m->tokens + q_tile - 1) / q_tile), cols = (size_t)((m->tokens + k_tile - 1) / k_tile);
    const size_t head = 256, bytes = prxi_add(head + 8, prxi_mul(rows, cols + 8));
    char *out = prxi_alloc(c->mem, PRXI_MEM_MISC, bytes);
    if (!out)
        return prxi_fail_nomem(c, "mask as JSON", bytes);
    int64_t kept = 0;
    size_t at = head;       /* the head needs the count: written last, moved together */
    for (size_t i = 0; i < rows; i++) {
        memcpy(out + at, i ? ",\n\"" : "\n\"", i ? 3 : 2);
        at += i ? 3 : 2;
        kept += prxi_mask_tile_row(m, q_tile, k_tile, (int)i, out + at);
        at += cols;
        out[at++] = '"';
    }
    memcpy(out + at, "]}\n", 4);
    at += 3;
    const size_t n = (size_t)snprintf(out, head, "{\"rows\": %zu, \"cols\": %zu, \"density\": %.17g, \"kept\": %lld, \"mask\": [", rows,
                                      cols, (double)kept / ((double)rows * (double)cols), (long long)kept);
    memmove(out + n, out + head, at - head + 1);
    *text = out;
    *text_len = at - head + n;
    return PRX_OK;
}

static size_t put_sizes(char *to, const char *name, const int32_t *start, int n)
{
    size_t at = (size_t)snprintf(to, 32, ", \"%s\": [", name);
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(to + at, 16, i ? ", %d" : "%d", start[i + 1] - start[i]);
    to[at++] = ']';
    return at;
}

int prxi_list_json(prxi_ctx *c, const prxi_block_list *b, int head, char **text, size_t *text_len)
{
    const size_t t = b->per_head ? (size_t)head : 0, nq = (size_t)b->nq, nk = (size_t)b->nk;
    const int64_t *rp = b->row_ptr + t * (nq + 1);
    const size_t bytes = prxi_add(320 + 13 * (nq + nk), prxi_mul(nq, nk + 8));
    char *out = prxi_alloc(c->mem, PRXI_MEM_MISC, bytes);
    if (!out)
        return prxi_fail_nomem(c, "cluster map as JSON", bytes);
    size_t at = (size_t)snprintf(out, 256, "{\"rows\": %d, \"cols\": %d, \"density\": %.17g, \"kept\": %lld", b->nq, b->nk,
                                 prxi_list_density(b, head), (long long)(rp[nq] - rp[0]));
    at += put_sizes(out + at, "q_sizes", b->q_start + t * (nq + 1), b->nq);
    at += put_sizes(out + at, "k_sizes", b->k_start + t * (nk + 1), b->nk);
    at += (size_t)snprintf(out + at, 32, ", \"mask\": [");
    for (size_t i = 0; i < nq; i++) {
        at += (size_t)snprintf(out + at, 8, i ? ",\n\"" : "\n\"");
        memset(out + at, '0', nk);
        for (int64_t x = rp[i]; x < rp[i + 1]; x++)
            out[at + (size_t)b->cols[x]] = '1';
        at += nk;
        out[at++] = '"';
    }
    memcpy(out + at, "]}\n", 4);
    *text = out;
    *text_len = at + 3;
    return PRX_OK;
}
