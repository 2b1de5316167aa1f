/* Block lists for the device: tiles of queries, and copies of the tables. Static lists (prxi_block_list.id) are copied once. */
#include <limits.h>
#include <string.h>

#include "cuda.h"

enum { KEPT = 8 };
/* of a list on the device, in one block of memory; items and queue for the Hopper kernel alone */
enum { K_START, COLS, ROW_PTR, Q_PERM, K_PERM, TILES, ITEMS, QUEUE, PARTS };

typedef struct entry {
    uint64_t id;                            /* 0: free */
    const prxi_block_list *list;
    int64_t q_len, kv_len;
    int heads, n_tiles, n_items;
    void *memory;
    size_t at[PARTS];
    int32_t *tables;                        /* for cuDNN */
    prxi_cuda_pages pages;
} entry;

struct prxi_cuda_lists {
    entry kept[KEPT], dense[KEPT], passing; /* of static lists; of dense calls, by size; of the last list that was neither */
    int next, next_dense;
};

int prxi_cuda_tiles(const prxi_block_list *b, int heads, prxi_cu_tile *tiles)
{
    int n = 0;
    for (int h = 0; h < (b->per_head ? heads : 1); h++) {
        const int32_t *start = b->q_start + (b->per_head ? (size_t)h * (size_t)(b->nq + 1) : 0);
        for (int q = 0; q < b->nq; q++)
            for (int32_t first = start[q]; first < start[q + 1]; first += PRXI_CU_TILE_ROWS, n++)
                if (tiles) {
                    const int32_t left = start[q + 1] - first;
                    tiles[n] = (prxi_cu_tile) { b->per_head ? h : -1, q, first, left < PRXI_CU_TILE_ROWS ? left : PRXI_CU_TILE_ROWS };
                }
    }
    return n;
}

typedef struct part {
    const void *from;
    size_t bytes;
} part;

/* Tiles of both kernels, in one block of host memory: the items after the tiles. */
static int make_tiles(prxi_cuda *cuda, prxi_ctx *c, entry *e, const prxi_attn_args *args, const prxi_block_list *b, prxi_cu_tile **out)
{
    e->n_tiles = prxi_cuda_tiles(b, args->heads, NULL);
    e->n_items = cuda->info.hopper ? prxi_cuda_queue_count(b, args->heads) : 0;
    const size_t n = (size_t)e->n_tiles + (size_t)e->n_items, bytes = (n ? n : 1) * sizeof(prxi_cu_tile);
    *out = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, bytes);
    if (!*out)
        return prxi_fail_nomem(c, "block list", bytes);
    prxi_cuda_tiles(b, args->heads, *out);
    const int group = prxi_cuda_head_group(args->heads, args->head_dim, args->kv_len);
    return e->n_items ? prxi_cuda_queue(c, b, args->heads, group, args->kv_len, *out + e->n_tiles) : PRX_OK;
}

static int put_parts(prxi_cuda *cuda, prxi_ctx *c, entry *e, const part parts[PARTS])
{
    size_t total = 0;
    for (int i = 0; i < PARTS; i++) {
        e->at[i] = total;
        total += prxi_carve_size(parts[i].bytes);
    }
    e->memory = prxi_device_alloc(c, &cuda->device, PRXI_MEM_CACHE, total ? total : 1);
    int err = e->memory ? PRX_OK : prxi_fail_nomem(c, "block list on the device", total);
    for (int i = 0; i < PARTS && err == PRX_OK; i++)
        if (parts[i].bytes && parts[i].from)
            err = prxi_device_put(c, &cuda->device, (unsigned char *)e->memory + e->at[i], parts[i].from, parts[i].bytes);
    return err;
}

/* One block of device memory with all the tables. */
static int upload(prxi_cuda *cuda, prxi_ctx *c, entry *e, const prxi_attn_args *args, const prxi_block_list *b)
{
    const size_t tables = b->per_head ? (size_t)args->heads : 1, heads = (size_t)args->heads;
    const int64_t last = b->row_ptr[tables * (size_t)(b->nq + 1) - 1];
    prxi_cu_tile *tiles = NULL;
    int err = make_tiles(cuda, c, e, args, b, &tiles);
    if (err == PRX_OK) {
        const part parts[PARTS] = {
            [K_START] = { b->k_start, tables * (size_t)(b->nk + 1) * sizeof(int32_t) },
            [COLS] = { b->cols, (size_t)last * sizeof(int32_t) },
            [ROW_PTR] = { b->row_ptr, tables * (size_t)(b->nq + 1) * sizeof(int64_t) },
            [Q_PERM] = { b->q_perm, b->q_perm ? heads * (size_t)args->q_len * sizeof(int32_t) : 0 },
            [K_PERM] = { b->k_perm, b->k_perm ? heads * (size_t)args->kv_len * sizeof(int32_t) : 0 },
            [TILES] = { tiles, (size_t)e->n_tiles * sizeof *tiles },
            [ITEMS] = { tiles + e->n_tiles, (size_t)e->n_items * sizeof *tiles },
            [QUEUE] = { NULL, sizeof(int32_t) },
        };
        err = put_parts(cuda, c, e, parts);
    }
    prxi_free(c->mem, tiles);
    return err;
}

static void drop(prxi_cuda *cuda, prxi_ctx *c, entry *e)
{
    prxi_device_free(c, &cuda->device, e->memory);
    prxi_device_free(c, &cuda->device, e->tables);
    *e = (entry) { .id = 0 };
}

static int fits(const entry *e, uint64_t id, const prxi_attn_args *args, const prxi_block_list *b)
{
    return (e->memory || e->tables) && e->id == id && e->list == b && e->heads == args->heads && e->q_len == args->q_len &&
           e->kv_len == args->kv_len;
}

/* The entry to use; one that has no memory yet must be filled. */
static entry *choose(prxi_cuda *cuda, prxi_ctx *c, const prxi_attn_args *args, const prxi_block_list *b, uint64_t id, int dense)
{
    struct prxi_cuda_lists *l = cuda->lists;
    entry *set = dense ? l->dense : l->kept;
    for (int i = 0; i < KEPT && id; i++)
        if (fits(&set[i], id, args, dense ? NULL : b))
            return &set[i];
    int *next = dense ? &l->next_dense : &l->next;
    entry *e = id ? &set[*next] : &l->passing;
    if (id)
        *next = (*next + 1) % KEPT;
    drop(cuda, c, e);                       /* waits for kernels that still read it */
    *e = (entry) { .id = id, .list = dense ? NULL : b, .q_len = args->q_len, .kv_len = args->kv_len, .heads = args->heads };
    return e;
}

int prxi_cuda_put_list(prxi_cuda *cuda, prxi_ctx *c, const prxi_attn_args *args, const prxi_block_list *b, prxi_cu_attn *a)
{
    if (args->q_len > INT32_MAX - PRXI_CU_TILE_ROWS || args->kv_len > INT32_MAX - 3 * PRXI_CU_TILE_ROWS)
        return prxi_fail(c, PRX_ENOTSUP, "attention: more tokens than 32 bits count");
    if (b && b->device) {
        const prxi_device_blocks *d = b->device;
        a->per_head = 1;
        a->nq = b->nq;
        a->nk = b->nk;
        a->n_tiles = d->n_tiles;
        a->k_start = d->k_start;
        a->cols = d->cols;
        a->row_ptr = d->row_ptr;
        a->row_end = d->row_end;
        a->q_perm = d->q_perm;
        a->k_perm = d->k_perm;
        a->tiles = d->tiles;
        a->n_items = d->n_items;
        a->items = d->items;
        a->queue = d->queue;
        a->copies = d->copies;
        return PRX_OK;
    }
    const int32_t q_start[2] = { 0, (int32_t)args->q_len }, k_start[2] = { 0, (int32_t)args->kv_len }, cols[1] = { 0 };
    const int64_t row_ptr[2] = { 0, 1 };
    const prxi_block_list all = { .nq = 1, .nk = 1, .q_start = q_start, .k_start = k_start, .row_ptr = row_ptr, .cols = cols };
    const prxi_block_list *list = b ? b : &all;
    entry *e = choose(cuda, c, args, list, b ? b->id : 1, !b);
    const int err = e->memory ? PRX_OK : upload(cuda, c, e, args, list);
    if (err < 0) {
        drop(cuda, c, e);
        return err;
    }
    const unsigned char *base = e->memory;
    a->per_head = list->per_head;
    a->nq = list->nq;
    a->nk = list->nk;
    a->n_tiles = e->n_tiles;
    a->k_start = (const int32_t *)(const void *)(base + e->at[K_START]);
    a->cols = (const int32_t *)(const void *)(base + e->at[COLS]);
    a->row_ptr = (const int64_t *)(const void *)(base + e->at[ROW_PTR]);
    a->q_perm = list->q_perm ? (const int32_t *)(const void *)(base + e->at[Q_PERM]) : NULL;
    a->k_perm = list->k_perm ? (const int32_t *)(const void *)(base + e->at[K_PERM]) : NULL;
    a->tiles = (const prxi_cu_tile *)(const void *)(base + e->at[TILES]);
    a->n_items = e->n_items;
    a->items = (const prxi_cu_tile *)(const void *)(base + e->at[ITEMS]);
    a->queue = (int32_t *)(void *)((unsigned char *)e->memory + e->at[QUEUE]);
    return PRX_OK;
}

static int upload_pages(prxi_cuda *cuda, prxi_ctx *c, entry *e, const prxi_block_list *b)
{
    size_t at[3];
    const size_t n = prxi_cuda_page_words(&e->pages, at), bytes = n * sizeof(int32_t);
    int32_t *host = prxi_calloc(c->mem, PRXI_MEM_SCRATCH, n, sizeof *host);
    e->tables = host ? prxi_device_alloc(c, &cuda->device, PRXI_MEM_CACHE, bytes) : NULL;
    int err = e->tables ? PRX_OK : prxi_fail_nomem(c, "pages of a block list", bytes);
    if (err == PRX_OK) {
        prxi_cuda_page_tables(b, &e->pages, host);
        err = prxi_device_put(c, &cuda->device, e->tables, host, bytes);
    }
    prxi_free(c->mem, host);
    return err;
}

int prxi_cuda_put_pages(prxi_cuda *cuda, prxi_ctx *c, const prxi_attn_args *args, const prxi_block_list *b, prxi_cuda_pages *p,
                        prxi_cudnn_operands *x)
{
    size_t at[3];
    entry *e = b->id && !b->device ? choose(cuda, c, args, b, b->id, 0) : NULL;
    const char *why = e && e->tables ? prxi_cuda_page_room(args, &e->pages) : prxi_cuda_page_shape(args, b, p);
    if (why)
        return prxi_fail(c, PRX_ENOTSUP, "attention by cuDNN's paged form: %s", why);
    if (!e->tables) {
        e->pages = *p;
        const int err = upload_pages(cuda, c, e, b);
        if (err < 0) {
            drop(cuda, c, e);
            return err;
        }
    }
    *p = e->pages;
    prxi_cuda_page_words(p, at);
    x->table = e->tables + at[0];
    x->q_rows = e->tables + at[1];
    x->kv_rows = e->tables + at[2];
    return PRX_OK;
}

void prxi_cuda_drop_pages(prxi_cuda *cuda, prxi_ctx *c, const prxi_attn_args *args, const prxi_block_list *b)
{
    for (int i = 0; i < KEPT; i++) {
        entry *e = &cuda->lists->kept[i];
        if (b->id && fits(e, b->id, args, b)) {
            prxi_device_free(c, &cuda->device, e->tables);
            e->tables = NULL;
        }
    }
}

int prxi_cuda_open_lists(prxi_cuda *cuda, prxi_ctx *c)
{
    cuda->lists = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *cuda->lists);
    return cuda->lists ? PRX_OK : PRX_ENOMEM;
}

void prxi_cuda_drop_lists(prxi_cuda *cuda, prxi_ctx *c)
{
    struct prxi_cuda_lists *l = cuda->lists;
    if (!l)
        return;
    for (int i = 0; i < KEPT; i++) {
        drop(cuda, c, &l->kept[i]);
        drop(cuda, c, &l->dense[i]);
    }
    drop(cuda, c, &l->passing);
    prxi_free(c->mem, l);
    cuda->lists = NULL;
}
