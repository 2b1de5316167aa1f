/* Graphs and plans of cuDNN's backend interface. */
#include <stdbool.h>
#include <stdio.h>

#include "cudnn.h"

enum { CONFIGS = 24 };

static int failed(prxi_cudnn_build *b, const char *what, int kind, int status)
{
    char text[240] = "";
    b->failed = 1;
    b->api->last_error(text, sizeof text);
    snprintf(b->why, sizeof b->why, "%s %d: %s%s%.200s", what, kind, b->api->error_string(status), *text ? ": " : "", text);
    return 0;
}

void *prxi_cudnn_make(prxi_cudnn_build *b, int kind)
{
    void *d = NULL;
    if (b->failed)
        return NULL;
    const int status = b->n < PRXI_CUDNN_PARTS ? b->api->make(kind, &d) : 1;
    if (status) {
        failed(b, "descriptor", kind, status);
        return NULL;
    }
    return b->part[b->n++] = d;
}

void prxi_cudnn_set(prxi_cudnn_build *b, void *d, int name, int type, int64_t n, const void *values)
{
    const int status = b->failed ? 0 : b->api->set(d, name, type, n, values);
    if (status)
        failed(b, "attribute", name, status);
}

void prxi_cudnn_finish(prxi_cudnn_build *b, void *d)
{
    const int status = b->failed ? 0 : b->api->finalize(d);
    if (status)
        failed(b, "part", b->n - 1, status);
}

void prxi_cudnn_drop(prxi_cudnn_build *b)
{
    while (b->n > 0)
        b->api->drop(b->part[--b->n]);
    b->plan = NULL;
}

static void set_one(prxi_cudnn_build *b, void *d, int name, void *other)
{
    prxi_cudnn_set(b, d, name, DNN_IS_DESCRIPTOR, 1, &other);
}

/* ---- tensors ---- */

typedef enum place { IN_MEMORY, INNER, BY_VALUE } place;

static void *tensor(prxi_cudnn_build *b, int64_t id, int type, int n, const int64_t *dims, const int64_t *strides, place where)
{
    const bool inner = where == INNER, by_value = where == BY_VALUE;
    const int64_t alignment = by_value ? 4 : 16;
    void *t = prxi_cudnn_make(b, DNN_TENSOR);
    prxi_cudnn_set(b, t, DNN_TENSOR_ID, DNN_IS_INT64, 1, &id);
    prxi_cudnn_set(b, t, DNN_TENSOR_TYPE, DNN_IS_DATA_TYPE, 1, &type);
    prxi_cudnn_set(b, t, DNN_TENSOR_DIMENSIONS, DNN_IS_INT64, n, dims);
    prxi_cudnn_set(b, t, DNN_TENSOR_STRIDES, DNN_IS_INT64, n, strides);
    prxi_cudnn_set(b, t, DNN_TENSOR_ALIGNMENT, DNN_IS_INT64, 1, &alignment);
    prxi_cudnn_set(b, t, DNN_TENSOR_VIRTUAL, DNN_IS_BOOL, 1, &inner);
    prxi_cudnn_set(b, t, DNN_TENSOR_BY_VALUE, DNN_IS_BOOL, 1, &by_value);
    prxi_cudnn_finish(b, t);
    return t;
}

/* [count, heads, n, d] over [count * n, heads, d] with ld elements a token. */
static void *heads_of(prxi_cudnn_build *b, int64_t id, int64_t count, int heads, int64_t n, int d, int64_t ld)
{
    const int64_t dims[4] = { count, heads, n, d }, strides[4] = { n * ld, d, ld, 1 };
    return tensor(b, id, DNN_BF16, 4, dims, strides, IN_MEMORY);
}

/* [n, channels, t, h, w], channels last, with `row` elements from a row to the next. */
static void *volume(prxi_cudnn_build *b, int64_t id, int type, const int64_t dims[5], int64_t row, place where)
{
    const int64_t c = dims[1], h = dims[3], t = dims[2];
    const int64_t strides[5] = { t * h * row, 1, h * row, row, c };
    return tensor(b, id, type, 5, dims, strides, where);
}

static void *graph(prxi_cudnn_build *b, int n, void *const *ops)
{
    void *g = prxi_cudnn_make(b, DNN_GRAPH);
    prxi_cudnn_set(b, g, DNN_GRAPH_OPS, DNN_IS_DESCRIPTOR, n, ops);
    prxi_cudnn_finish(b, g);
    return g;
}

/* ---- attention ---- */

/* Keys and values from the pages of a table, and how many of its queries and keys each entry has. */
static void set_pages(prxi_cudnn_build *b, void *op, int64_t entries, int64_t pages)
{
    const int64_t dims[4] = { entries, 1, pages, 1 }, strides[4] = { pages, pages, 1, 1 };
    const int64_t each[4] = { entries, 1, 1, 1 }, one[4] = { 1, 1, 1, 1 };
    void *table = tensor(b, DNN_TABLE, DNN_INT32, 4, dims, strides, IN_MEMORY);
    set_one(b, op, DNN_SDPA_TABLE_K, table);
    set_one(b, op, DNN_SDPA_TABLE_V, table);
    set_one(b, op, DNN_SDPA_ROWS_Q, tensor(b, DNN_ROWS_Q, DNN_INT32, 4, each, one, IN_MEMORY));
    set_one(b, op, DNN_SDPA_ROWS_KV, tensor(b, DNN_ROWS_KV, DNN_INT32, 4, each, one, IN_MEMORY));
}

void *prxi_cudnn_graph_attn(prxi_cudnn_build *b, const prxi_cudnn_attn *s)
{
    const int64_t n = s->page ? s->rows : s->q_len, m = s->page ? s->page : s->kv_len, one[4] = { 1, 1, 1, 1 };
    const int64_t entries = (s->q_len + n - 1) / n, pages = (s->kv_len + m - 1) / m;
    const int64_t rows[4] = { entries, s->heads, n, 1 }, row_strides[4] = { s->page ? n : s->heads * n, s->q_len, 1, 1 };
    void *q = heads_of(b, DNN_Q, entries, s->heads, n, s->head_dim, s->ldq);
    void *k = heads_of(b, DNN_K, pages, s->heads, m, s->head_dim, s->ldk);
    void *v = heads_of(b, DNN_V, pages, s->heads, m, s->head_dim, s->ldv);
    void *o = heads_of(b, DNN_O, entries, s->heads, n, s->head_dim, s->ldo);
    void *scale = tensor(b, DNN_SCALE, DNN_F32, 4, one, one, BY_VALUE);
    void *stats = s->lse ? tensor(b, DNN_STATS, DNN_F32, 4, rows, row_strides, IN_MEMORY) : NULL;
    void *op = prxi_cudnn_make(b, DNN_OP_SDPA);
    set_one(b, op, DNN_SDPA_Q, q);
    set_one(b, op, DNN_SDPA_K, k);
    set_one(b, op, DNN_SDPA_V, v);
    set_one(b, op, DNN_SDPA_O, o);
    set_one(b, op, DNN_SDPA_SCALE, scale);
    if (s->lse)
        set_one(b, op, DNN_SDPA_STATS, stats);
    if (s->page)
        set_pages(b, op, entries, s->pages);
    prxi_cudnn_finish(b, op);
    return graph(b, 1, &op);
}

/* ---- convolution ---- */

static void *filter(prxi_cudnn_build *b, const prxi_cudnn_conv *s)
{
    const int mode = DNN_CROSS_CORRELATION, f32 = DNN_F32;
    const int64_t dims = 3, pad[3] = { 0, (s->kh - 1) / 2, (s->kw - 1) / 2 }, one[3] = { 1, 1, 1 };
    void *d = prxi_cudnn_make(b, DNN_CONVOLUTION);
    prxi_cudnn_set(b, d, DNN_CONV_PRECISION, DNN_IS_DATA_TYPE, 1, &f32);
    prxi_cudnn_set(b, d, DNN_CONV_MODE, DNN_IS_CONV_MODE, 1, &mode);
    prxi_cudnn_set(b, d, DNN_CONV_DIMENSIONS, DNN_IS_INT64, 1, &dims);
    prxi_cudnn_set(b, d, DNN_CONV_PAD_BEFORE, DNN_IS_INT64, 3, pad);
    prxi_cudnn_set(b, d, DNN_CONV_PAD_AFTER, DNN_IS_INT64, 3, pad);
    prxi_cudnn_set(b, d, DNN_CONV_STRIDES, DNN_IS_INT64, 3, one);
    prxi_cudnn_set(b, d, DNN_CONV_DILATIONS, DNN_IS_INT64, 3, one);
    prxi_cudnn_finish(b, d);
    return d;
}

static void *add_bias(prxi_cudnn_build *b, void *x, void *bias, void *y)
{
    const int mode = DNN_POINTWISE_ADD, f32 = DNN_F32;
    void *d = prxi_cudnn_make(b, DNN_POINTWISE);
    prxi_cudnn_set(b, d, DNN_POINTWISE_MODE, DNN_IS_POINTWISE_MODE, 1, &mode);
    prxi_cudnn_set(b, d, DNN_POINTWISE_PRECISION, DNN_IS_DATA_TYPE, 1, &f32);
    prxi_cudnn_finish(b, d);
    void *op = prxi_cudnn_make(b, DNN_OP_POINTWISE);
    set_one(b, op, DNN_OP_POINTWISE_DESC, d);
    set_one(b, op, DNN_OP_POINTWISE_X, x);
    set_one(b, op, DNN_OP_POINTWISE_B, bias);
    set_one(b, op, DNN_OP_POINTWISE_Y, y);
    prxi_cudnn_finish(b, op);
    return op;
}

/* Bias only: with an activation or a sum behind it, precompiled engines fall away. */
void *prxi_cudnn_graph_conv(prxi_cudnn_build *b, const prxi_cudnn_conv *s)
{
    const int64_t x_dims[5] = { 1, s->in, s->frames + s->kt - 1, s->height, s->width }, w_dims[5] = { s->out, s->in, s->kt, s->kh, s->kw };
    const int64_t y_dims[5] = { 1, s->out, s->frames, s->height, s->width }, b_dims[5] = { 1, s->out, 1, 1, 1 };
    const float one = 1, zero = 0;
    void *x = volume(b, DNN_X, DNN_BF16, x_dims, s->x_row, IN_MEMORY);
    void *w = volume(b, DNN_W, DNN_BF16, w_dims, (int64_t)s->kw * s->in, IN_MEMORY);
    void *inner = volume(b, DNN_INNER, DNN_F32, y_dims, s->y_row, INNER);
    void *bias = volume(b, DNN_BIAS, DNN_BF16, b_dims, s->out, IN_MEMORY);
    void *y = volume(b, DNN_Y, DNN_BF16, y_dims, s->y_row, IN_MEMORY), *f = filter(b, s);
    void *ops[2] = { prxi_cudnn_make(b, DNN_OP_CONVOLUTION), NULL };
    set_one(b, ops[0], DNN_OP_CONV_X, x);
    set_one(b, ops[0], DNN_OP_CONV_W, w);
    set_one(b, ops[0], DNN_OP_CONV_Y, inner);
    set_one(b, ops[0], DNN_OP_CONV_DESC, f);
    prxi_cudnn_set(b, ops[0], DNN_OP_CONV_ALPHA, DNN_IS_FLOAT, 1, &one);
    prxi_cudnn_set(b, ops[0], DNN_OP_CONV_BETA, DNN_IS_FLOAT, 1, &zero);
    prxi_cudnn_finish(b, ops[0]);
    ops[1] = add_bias(b, inner, bias, y);
    return graph(b, 2, ops);
}

/* ---- plans ---- */

/* True: planned. A configuration that cannot be is no failure of the build, but its reason is kept. */
static int try_config(prxi_cudnn_build *b, void *config, void *device)
{
    const int mark = b->n;
    int64_t n = 0;
    void *plan = prxi_cudnn_make(b, DNN_PLAN), *engine = prxi_cudnn_make(b, DNN_ENGINE);
    set_one(b, plan, DNN_PLAN_CONFIG, config);
    set_one(b, plan, DNN_PLAN_DEVICE, device);
    if (b->failed)
        return 0;
    prxi_cudnn_finish(b, plan);
    const int unknown = b->failed || b->api->get(plan, DNN_PLAN_WORKSPACE, DNN_IS_INT64, 1, &n, &b->info.workspace);
    if (!unknown && b->info.workspace > PRXI_CUDNN_WORKSPACE)
        snprintf(b->why, sizeof b->why, "a workspace of %lld MiB", (long long)(b->info.workspace >> 20));
    if (unknown || b->info.workspace > PRXI_CUDNN_WORKSPACE) {
        while (b->n > mark)
            b->api->drop(b->part[--b->n]);
        b->failed = 0;
        return 0;
    }
    b->info.engine = -1;
    if (b->api->get(config, DNN_CONFIG_ENGINE, DNN_IS_DESCRIPTOR, 1, &n, &engine) == 0)
        b->api->get(engine, DNN_ENGINE_INDEX, DNN_IS_INT64, 1, &n, &b->info.engine);
    b->plan = plan;
    return 1;
}

/* Configurations are counted over the modes; those before `from` are passed over. */
static void try_mode(prxi_cudnn_build *b, void *graph_desc, void *device, int mode, int from)
{
    void *configs[CONFIGS], *h = prxi_cudnn_make(b, DNN_HEURISTIC);
    int64_t found = 0;
    set_one(b, h, DNN_HEURISTIC_GRAPH, graph_desc);
    prxi_cudnn_set(b, h, DNN_HEURISTIC_MODE, DNN_IS_HEURISTIC_MODE, 1, &mode);
    set_one(b, h, DNN_HEURISTIC_DEVICE, device);
    prxi_cudnn_finish(b, h);
    for (int i = 0; i < CONFIGS; i++)
        configs[i] = prxi_cudnn_make(b, DNN_ENGINE_CONFIG);
    const int status = b->failed ? 0 : b->api->get(h, DNN_HEURISTIC_RESULTS, DNN_IS_DESCRIPTOR, CONFIGS, &found, configs);
    if (status)
        failed(b, "heuristic", mode, status);
    if (found > CONFIGS)
        found = CONFIGS;
    const int first = b->info.configs;
    b->info.configs += b->failed ? 0 : (int)found;
    for (int i = from > first ? from - first : 0; i < found && !b->failed && !b->plan; i++)
        if (try_config(b, configs[i], device))
            b->info.config = first + i;
}

void prxi_cudnn_plan(prxi_cudnn_build *b, void *graph_desc, void *device, int from)
{
    const int before = b->failed;
    try_mode(b, graph_desc, device, DNN_HEURISTIC_A, from);
    if (b->plan || before)
        return;
    b->failed = 0;
    try_mode(b, graph_desc, device, DNN_HEURISTIC_FALLBACK, from);
    if (!b->plan && !b->failed) {
        if (!*b->why)
            snprintf(b->why, sizeof b->why, "no engine offers this graph");
        b->failed = 1;
    }
}
