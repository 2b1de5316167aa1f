/* Matrix products by oneDNN (C API, 2.6): one primitive per known row count, all on the same packed weights. */
#include "gemm.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

struct prxi_dnn_linear {
    dnnl_engine_t engine;
    dnnl_primitive_t product[PRXI_DNN_TILES];
    dnnl_memory_desc_t x[PRXI_DNN_TILES], y[PRXI_DNN_TILES], scratchpad[PRXI_DNN_TILES], w, b;
    const char *name;         /* static in oneDNN */
    void *weights;
    float *bias;              /* NULL: none */
    dnnl_memory_t weights_at, bias_at;
    size_t bytes, scratch;
    int threads;
};

int prxi_dnn_amx(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d, lo, hi;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    const unsigned amx = 1u << 22 | 1u << 24, tile_state = 3u << 17;    /* AMX-BF16, AMX-TILE; XTILECFG, XTILEDATA */
    return (d & amx) == amx && (lo & tile_state) == tile_state;
#else
    return 0;
#endif
}

const char *prxi_dnn_name(const prxi_dnn_linear *l)
{
    return l->name;
}

static int status(dnnl_status_t s)
{
    return s == dnnl_success         ? PRX_OK
           : s == dnnl_out_of_memory ? PRX_ENOMEM
           : s == dnnl_unimplemented ? PRX_ENOTSUP
                                     : PRX_EINTERNAL;
}

static dnnl_data_type_t type(prxi_dtype t)
{
    return t == PRXI_BF16 ? dnnl_bf16 : t == PRXI_F16 ? dnnl_f16 : dnnl_f32;
}

static dnnl_status_t matrix(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, prxi_dtype t, int transposed)
{
    const dnnl_dims_t dims = { rows, cols };
    const dnnl_dims_t strides = { transposed ? 1 : cols, transposed ? rows : 1 };
    return dnnl_memory_desc_init_by_strides(md, 2, dims, type(t), strides);
}

static dnnl_status_t make_attr(dnnl_primitive_attr_t *attr, prxi_epilogue e)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(attr);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (s != dnnl_success || e == PRXI_EPI_NONE)
        return s;
    s = dnnl_post_ops_create(&ops);
    if (s == dnnl_success)
        s = dnnl_post_ops_append_eltwise(ops, 1.0f, e == PRXI_EPI_SILU ? dnnl_eltwise_swish : dnnl_eltwise_gelu_tanh, 1.0f,
                                         0.0f);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_post_ops(*attr, ops);
    if (ops)
        dnnl_post_ops_destroy(ops);
    return s;
}

/* The product of tile i. The first one chooses the layout of the weights, the others take it. */
static dnnl_status_t make_product(prxi_dnn_linear *l, const prxi_linear_desc *d, int i, int64_t rows)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_matmul_desc_t md;
    const dnnl_dims_t wd = { d->k, d->n }, bd = { 1, d->n };
    dnnl_status_t s = matrix(&l->x[i], rows, d->k, d->compute, 0);
    if (s == dnnl_success)
        s = matrix(&l->y[i], rows, d->n, d->out, 0);
    if (s == dnnl_success && i == 0)
        s = dnnl_memory_desc_init_by_tag(&l->w, 2, wd, type(d->compute), dnnl_format_tag_any);
    if (s == dnnl_success && i == 0)
        s = dnnl_memory_desc_init_by_tag(&l->b, 2, bd, dnnl_f32, dnnl_ab);
    if (s == dnnl_success)
        s = dnnl_matmul_desc_init(&md, &l->x[i], &l->w, d->bias ? &l->b : NULL, &l->y[i]);
    if (s == dnnl_success)
        s = make_attr(&attr, d->epilogue);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_create(&pd, &md, attr, l->engine, NULL);
    if (s == dnnl_success) {
        l->w = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        l->scratchpad[i] = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        const size_t bytes = dnnl_memory_desc_get_size(&l->scratchpad[i]);
        l->scratch = bytes > l->scratch ? bytes : l->scratch;
        dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&l->name);
        s = dnnl_primitive_create(&l->product[i], pd);
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return s;
}

static void convert(const void *p, prxi_dtype from, int64_t n, void *to, prxi_dtype t)
{
    for (size_t i = 0; i < (size_t)n; i++)
        prxi_store(to, t, i, from == PRXI_F16 ? prxi_f16_to_f32(((const uint16_t *)p)[i]) : prxi_load(p, from, i));
}

static dnnl_status_t reorder(const prxi_dnn_linear *l, const dnnl_memory_desc_t *from_md, const void *from)
{
    dnnl_memory_t in = NULL, out = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_status_t s = dnnl_memory_create(&in, from_md, l->engine, (void *)(uintptr_t)from);
    if (s == dnnl_success)
        s = dnnl_memory_create(&out, &l->w, l->engine, l->weights);
    if (s == dnnl_success)
        s = dnnl_reorder_primitive_desc_create(&pd, from_md, l->engine, &l->w, l->engine, NULL);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&p, pd);
    if (s == dnnl_success)
        s = dnnl_stream_create(&stream, l->engine, dnnl_stream_default_flags);
    if (s == dnnl_success) {
        const dnnl_exec_arg_t args[] = { { DNNL_ARG_FROM, in }, { DNNL_ARG_TO, out } };
        s = dnnl_primitive_execute(p, stream, 2, args);
    }
    if (stream)
        dnnl_stream_destroy(stream);
    if (p)
        dnnl_primitive_destroy(p);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (out)
        dnnl_memory_destroy(out);
    if (in)
        dnnl_memory_destroy(in);
    return s;
}

static int pack(prxi_ctx *c, prxi_dnn_linear *l, const prxi_linear_desc *d)
{
    l->bytes = dnnl_memory_desc_get_size(&l->w);
    l->weights = prxi_alloc(c->mem, PRXI_MEM_WEIGHTS, l->bytes);
    if (!l->weights)
        return prxi_fail_nomem(c, "linear weights", l->bytes);
    if (d->bias) {
        l->bias = prxi_alloc(c->mem, PRXI_MEM_WEIGHTS, (size_t)d->n * sizeof *l->bias);
        if (!l->bias)
            return prxi_fail_nomem(c, "linear bias", (size_t)d->n * sizeof *l->bias);
        convert(d->bias, d->bias_dtype, d->n, l->bias, PRXI_F32);
    }
    const void *from = d->weight;
    void *copy = NULL;
    if (d->weight_dtype != d->compute) {
        const size_t bytes = prxi_mul((size_t)(d->n * d->k), prxi_dtype_size(d->compute));
        from = copy = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, bytes);
        if (!copy)
            return prxi_fail_nomem(c, "linear weights, converted", bytes);
        convert(d->weight, d->weight_dtype, d->n * d->k, copy, d->compute);
    }
    dnnl_memory_desc_t md;
    dnnl_status_t s = matrix(&md, d->k, d->n, d->compute, 1);
    if (s == dnnl_success)
        s = reorder(l, &md, from);
    prxi_free(c->mem, copy);
    if (s == dnnl_success)
        s = dnnl_memory_create(&l->weights_at, &l->w, l->engine, l->weights);
    if (s == dnnl_success && l->bias)
        s = dnnl_memory_create(&l->bias_at, &l->b, l->engine, l->bias);
    return s == dnnl_success ? PRX_OK : prxi_fail(c, status(s), "linear: oneDNN cannot pack the weights");
}

static int build(prxi_ctx *c, prxi_dnn_linear *l, const prxi_dnn_desc *d)
{
    dnnl_status_t s = dnnl_engine_create(&l->engine, dnnl_cpu, 0);
    for (int i = 0; s == dnnl_success && i < PRXI_DNN_TILES && d->tiles[i]; i++)
        s = make_product(l, d->linear, i, d->tiles[i]);
    if (s == dnnl_unimplemented)
        return PRX_ENOTSUP;
    if (s != dnnl_success)
        return prxi_fail(c, status(s), "linear: oneDNN refuses the product [%lld, %lld]", (long long)d->linear->n,
                         (long long)d->linear->k);
    return pack(c, l, d->linear);
}

int prxi_dnn_open(prxi_ctx *c, prxi_dnn_linear **out, const prxi_dnn_desc *d)
{
    *out = NULL;
    prxi_dnn_linear *l = prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, 1, sizeof *l);
    if (!l)
        return prxi_fail_nomem(c, "linear", sizeof *l);
    l->threads = d->threads;
    /* oneDNN splits a product for the thread count that it sees now. */
    const int before = omp_get_max_threads();
    omp_set_num_threads(d->threads);
    const int ret = build(c, l, d);
    omp_set_num_threads(before);
    if (ret < 0)
        prxi_dnn_close(c, &l);
    *out = l;
    return ret;
}

void prxi_dnn_close(prxi_ctx *c, prxi_dnn_linear **l)
{
    if (!l || !*l)
        return;
    for (int i = 0; i < PRXI_DNN_TILES; i++)
        if ((*l)->product[i])
            dnnl_primitive_destroy((*l)->product[i]);
    if ((*l)->weights_at)
        dnnl_memory_destroy((*l)->weights_at);
    if ((*l)->bias_at)
        dnnl_memory_destroy((*l)->bias_at);
    if ((*l)->engine)
        dnnl_engine_destroy((*l)->engine);
    prxi_free(c->mem, (*l)->weights);
    prxi_free(c->mem, (*l)->bias);
    prxi_free(c->mem, *l);
    *l = NULL;
}

size_t prxi_dnn_bytes(const prxi_dnn_linear *l)
{
    return sizeof *l + l->bytes;
}

size_t prxi_dnn_scratch(const prxi_dnn_linear *l)
{
    return l->scratch;
}

enum { X, Y, SCRATCH };

/* One of a seat's memories, at `at`. NULL where the product has none: no bytes, and not an error. */
static dnnl_status_t place(const prxi_dnn_linear *l, const dnnl_memory_desc_t *md, void *at, void **seat)
{
    dnnl_memory_t m = *seat;
    if (m)
        return dnnl_memory_set_data_handle(m, at);
    if (dnnl_memory_desc_get_size(md) == 0)
        return dnnl_success;
    const dnnl_status_t s = dnnl_memory_create(&m, md, l->engine, at);
    *seat = s == dnnl_success ? m : NULL;
    return s;
}

int prxi_dnn_run_seated(const prxi_dnn_linear *l, prxi_dnn_seat *seat, int tile, const void *x, void *y, void *scratch)
{
    dnnl_stream_t stream = seat->stream;
    void **m = seat->memory[tile];
    dnnl_status_t s = stream ? dnnl_success : dnnl_stream_create(&stream, l->engine, dnnl_stream_default_flags);
    seat->stream = s == dnnl_success ? stream : NULL;
    if (s == dnnl_success)
        s = place(l, &l->x[tile], (void *)(uintptr_t)x, &m[X]);
    if (s == dnnl_success)
        s = place(l, &l->y[tile], y, &m[Y]);
    if (s == dnnl_success)
        s = place(l, &l->scratchpad[tile], scratch, &m[SCRATCH]);
    if (s != dnnl_success)
        return status(s);
    dnnl_exec_arg_t args[5] = { { DNNL_ARG_SRC, m[X] }, { DNNL_ARG_DST, m[Y] }, { DNNL_ARG_WEIGHTS, l->weights_at } };
    int n = 3;
    if (l->bias_at)
        args[n++] = (dnnl_exec_arg_t) { DNNL_ARG_BIAS, l->bias_at };
    if (m[SCRATCH])
        args[n++] = (dnnl_exec_arg_t) { DNNL_ARG_SCRATCHPAD, m[SCRATCH] };
    const int before = omp_get_max_threads();
    omp_set_num_threads(l->threads);
    s = dnnl_primitive_execute(l->product[tile], stream, n, args);
    omp_set_num_threads(before);
    return status(s);
}

void prxi_dnn_leave(prxi_dnn_seat *seat)
{
    for (int t = 0; t < PRXI_DNN_TILES; t++)
        for (int i = X; i <= SCRATCH; i++)
            if (seat->memory[t][i])
                dnnl_memory_destroy(seat->memory[t][i]);
    if (seat->stream)
        dnnl_stream_destroy(seat->stream);
    *seat = (prxi_dnn_seat) { 0 };
}

int prxi_dnn_run(const prxi_dnn_linear *l, int tile, const void *x, void *y, void *scratch)
{
    prxi_dnn_seat seat = { 0 };
    const int err = prxi_dnn_run_seated(l, &seat, tile, x, y, scratch);
    prxi_dnn_leave(&seat);
    return err;
}
