#include "bench_cuda_int.h"

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "engine/core/device.h"
#include "engine/core/option.h"
#include "engine/core/race.h"
#include "engine/cuda/cuda.h"

enum { NOISE = 1 << 20, CHECKED_TILES = 8 };

typedef prxi_bench_cuda_settings settings;
typedef prxi_bench_cuda bench;

static const prxi_option options[] = {
    { "tokens", PRXI_OPT_INT, offsetof(settings, tokens), 1, 1 << 20, NULL, "32760", "of a clip" },
    { "heads", PRXI_OPT_INT, offsetof(settings, heads), 1, 64, NULL, "12", "attention heads" },
    { "head_dim", PRXI_OPT_INT, offsetof(settings, head_dim), 8, 256, NULL, "128", "of a head" },
    { "ffn", PRXI_OPT_INT, offsetof(settings, ffn), 16, 65536, NULL, "8960", "width of the feed-forward layer" },
    { "repeats", PRXI_OPT_INT, offsetof(settings, repeats), 1, PRXI_RACE_RUNS, NULL, "5", "timed turns" },
    { .name = NULL },
};

static int open_bench(bench *b, prx_engine *e, prxi_stream *s, const char *text, cJSON *rows)
{
    *b = (bench) { .e = e, .c = &e->ctx, .s = s, .u = e->cuda, .t = e->dtype, .rows = rows };
    const int err = prxi_option_parse(b->c, options, &b->set, "", text);
    b->dim = b->set.heads * b->set.head_dim;
    return err;
}

/* Device memory of n elements of about normal noise, repeated; NULL, with an error, when there is none. */
static void *noise(const bench *b, int64_t n)
{
    const size_t size = prxi_dtype_size(b->t), bytes = (size_t)n * size, part = bytes < NOISE * size ? bytes : NOISE * size;
    unsigned char *host = prxi_alloc(b->c->mem, PRXI_MEM_MISC, part), *p = prxi_device_alloc(b->c, &b->u->device, PRXI_MEM_MISC, bytes);
    uint32_t x = 1;
    int err = host && p ? PRX_OK : prxi_fail_nomem(b->c, "bench", bytes);
    for (size_t i = 0; i < part / size && err == PRX_OK; i++) {
        float sum = -2.0f;
        for (int k = 0; k < 4; k++) {
            x = x * 1664525u + 1013904223u;             /* Numerical Recipes */
            sum += (float)(x >> 8) / 16777216.0f;
        }
        prxi_store(host, b->t, i, 1.7f * sum);
    }
    for (size_t at = 0; at < bytes && err == PRX_OK; at += part)
        err = prxi_device_put(b->c, &b->u->device, p + at, host, bytes - at < part ? bytes - at : part);
    prxi_free(b->c->mem, host);
    if (err == PRX_OK)
        return p;
    prxi_device_free(b->c, &b->u->device, p);
    return NULL;
}

static void drop(const bench *b, void **p, int n)
{
    for (int i = 0; i < n; i++)
        prxi_device_free(b->c, &b->u->device, p[i]);
}

cJSON *prxi_bench_cuda_row(const prxi_bench_cuda *b, const char *op, const char *shape, const prxi_contender *c)
{
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "op", op);
    cJSON_AddStringToObject(row, "shape", shape);
    cJSON_AddStringToObject(row, "dtype", prxi_dtype_name(b->t));
    cJSON_AddNumberToObject(row, "seconds_median", c->median);
    cJSON_AddNumberToObject(row, "seconds_best", c->best);
    if (!cJSON_AddItemToArray(b->rows, row)) {
        cJSON_Delete(row);
        return NULL;
    }
    return row;
}

int prxi_bench_cuda_race(const prxi_bench_cuda *b, prxi_contender *c, int n)
{
    prxi_race(c, n, (int)b->set.repeats, 0);
    return prxi_stream_error(b->s);
}

/* ---- linear ---- */

typedef struct linear_case {
    const bench *b;
    prxi_device_linear a;
} linear_case;

static void run_linear(void *cookie)
{
    const linear_case *l = cookie;
    prxi_device *d = &l->b->u->device;
    const int err = d->linear(d, &l->a);
    if (err < 0)
        prxi_stream_fail(l->b->s, err, "bench gemm", d->error(d));
    prxi_stream_wait(l->b->s);
}

/* One row of the table: a layer in the compute type, or with weights in 8 bits, which p[4] and p[5] have room for. */
static int one_linear(const bench *b, void *const p[6], int64_t n, int64_t k, int gelu, int eight_bits)
{
    prxi_device *d = &b->u->device;
    linear_case l = { b, { .m = b->set.tokens, .n = n, .k = k, .compute = (int)b->t, .out = (int)b->t, .epilogue = gelu, .x = p[0],
                           .w = eight_bits ? p[4] : p[1], .bias = p[2], .ldx = k, .ldy = n, .y = p[3],
                           .w_scale = eight_bits ? p[5] : NULL } };
    prxi_contender c = { .fn = run_linear, .cookie = &l };
    char shape[96], name[32];
    int err = eight_bits ? d->quantise(d, (int)b->t, n, k, p[1], k, p[4], p[5]) : PRX_OK;
    if (err < 0)
        return prxi_fail(b->c, err, "bench gemm: %s", d->error(d));
    err = prxi_bench_cuda_race(b, &c, 1);
    snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)l.a.m, (long long)n, (long long)k);
    snprintf(name, sizeof name, "linear%s%s", gelu ? "_gelu" : "", eight_bits ? "_fp8" : "");
    cJSON *row = err == PRX_OK ? prxi_bench_cuda_row(b, name, shape, &c) : NULL;
    cJSON_AddNumberToObject(row, "gflops", 2e-9 * (double)l.a.m * (double)n * (double)k / c.best);
    return err;
}

int prxi_bench_cuda_gemm(prx_engine *e, prxi_stream *s, const char *text, cJSON *rows)
{
    bench b;
    int err = open_bench(&b, e, s, text, rows);
    if (err < 0)
        return err;
    const int64_t widest = b.set.ffn > 3 * b.dim ? b.set.ffn : 3 * b.dim;
    const struct {
        int64_t n, k;
        int gelu;
    } layers[] = { { 3 * b.dim, b.dim, 0 }, { b.dim, b.dim, 0 }, { b.set.ffn, b.dim, 1 }, { b.dim, b.set.ffn, 0 } };
    const int eight = b.u->info.fp8 && b.t == PRXI_BF16 && b.dim % 16 == 0 && b.set.ffn % 16 == 0;
    void *p[6] = { noise(&b, b.set.tokens * widest), noise(&b, widest * widest), noise(&b, widest), noise(&b, b.set.tokens * widest),
                   noise(&b, eight ? widest * widest / 2 : 1), noise(&b, 2 * widest) };
    for (int i = 0; i < 6 && err == PRX_OK; i++)
        err = p[i] ? PRX_OK : prxi_fail_nomem(b.c, "bench gemm", 0);
    for (int i = 0; i < 4 * (1 + eight) && err == PRX_OK; i++)
        err = one_linear(&b, p, layers[i % 4].n, layers[i % 4].k, layers[i % 4].gelu, i / 4);
    drop(&b, p, 6);
    return err;
}

/* ---- rows ---- */

typedef struct row_case {
    const bench *b;
    void *x, *o, *y;
    float *vec;
} row_case;

static void row_layernorm(const row_case *r)
{
    const bench *b = r->b;
    const prxi_ln_args a = { .rows = b->set.tokens, .dim = b->dim, .x = r->x, .gate = r->vec, .o = r->o, .mul = r->vec, .add = r->vec,
                             .eps = 1e-6f, .out = r->y };
    b->e->device_kernels.norm.layernorm[b->t](b->s, &a);
}

/* The same for a layer in 8 bits; its scales behind the rows. */
static void row_layernorm_eight(const row_case *r)
{
    const bench *b = r->b;
    const prxi_ln_args a = { .rows = b->set.tokens, .dim = b->dim, .x = r->x, .gate = r->vec, .o = r->o, .mul = r->vec, .add = r->vec,
                             .eps = 1e-6f };
    float *scale = (float *)(void *)((unsigned char *)r->y + b->set.tokens * b->dim);
    b->e->device_kernels.norm.layernorm_eight(b->s, &a, r->y, scale);
}

static void row_rmsnorm(const row_case *r)
{
    const bench *b = r->b;
    const prxi_rms_args a = { .rows = b->set.tokens, .dim = b->dim, .x = r->x, .ldx = b->dim, .weight = r->vec, .eps = 1e-6f,
                              .rope = r->vec, .rope_rows = b->set.tokens, .head_dim = (int)b->set.head_dim, .out = r->y, .ldo = b->dim };
    b->e->device_kernels.norm.rmsnorm[b->t](b->s, &a);
}

static void row_gelu(const row_case *r)
{
    r->b->e->device_kernels.act.gelu_mul[r->b->t](r->b->s, r->b->set.tokens * r->b->dim, r->o, NULL, r->y);
}

static void row_add(const row_case *r)
{
    r->b->e->device_kernels.act.add[r->b->t](r->b->s, r->b->set.tokens * r->b->dim, r->x, r->o, r->y);
}

static void row_copy(const row_case *r)
{
    prxi_stream_copy(r->b->s, r->y, r->o, (size_t)(r->b->set.tokens * r->b->dim) * prxi_dtype_size(r->b->t));
}

typedef struct row_run {
    const row_case *r;
    void (*fn)(const row_case *r);
} row_run;

static void run_rows(void *cookie)
{
    const row_run *t = cookie;
    t->fn(t->r);
    prxi_stream_wait(t->r->b->s);
}

static int bench_rows(bench *b, const row_case *r)
{
    static const struct {
        const char *name;
        void (*fn)(const row_case *r);
        double passes;
    } ops[] = { { "layernorm_gate", row_layernorm, 4 }, { "rmsnorm_rope", row_rmsnorm, 2 }, { "gelu", row_gelu, 2 },
                { "add", row_add, 3 }, { "layernorm_gate_e4m3", row_layernorm_eight, 3.5 } };
    const size_t n = sizeof ops / sizeof *ops - (b->u->info.fp8 && b->t == PRXI_BF16 && b->dim % 16 == 0 ? 0 : 1);
    const double array = (double)b->set.tokens * (double)b->dim * (double)prxi_dtype_size(b->t);
    char shape[64];
    int err = PRX_OK;
    snprintf(shape, sizeof shape, "%lldx%lld", (long long)b->set.tokens, (long long)b->dim);
    for (size_t i = 0; i < n && err == PRX_OK; i++) {
        row_run op = { r, ops[i].fn }, copy = { r, row_copy };
        prxi_contender c[2] = { { .fn = run_rows, .cookie = &op }, { .fn = run_rows, .cookie = &copy } };
        err = prxi_bench_cuda_race(b, c, 2);
        const double rate = ops[i].passes * array / c[0].best, whole = 2 * array / c[1].best;
        cJSON *row = err == PRX_OK ? prxi_bench_cuda_row(b, ops[i].name, shape, &c[0]) : NULL;
        cJSON_AddNumberToObject(row, "gbytes", rate * 1e-9);
        cJSON_AddNumberToObject(row, "copy_gbytes", whole * 1e-9);
        cJSON_AddNumberToObject(row, "share", rate / whole);
    }
    return err;
}

int prxi_bench_cuda_norm(prx_engine *e, prxi_stream *s, const char *text, cJSON *rows)
{
    bench b;
    int err = open_bench(&b, e, s, text, rows);
    if (err < 0)
        return err;
    const int64_t n = b.set.tokens * b.dim, vec = b.set.tokens * b.set.head_dim > b.dim ? b.set.tokens * b.set.head_dim : b.dim;
    void *p[4] = { noise(&b, n), noise(&b, n), noise(&b, n), noise(&b, 2 * vec) };    /* the last: f32, whatever its values */
    const row_case r = { &b, p[0], p[1], p[2], p[3] };
    err = p[0] && p[1] && p[2] && p[3] ? bench_rows(&b, &r) : prxi_fail_nomem(b.c, "bench norm", 0);
    drop(&b, p, 4);
    return err;
}

/* ---- attention ---- */

/* Who may run here. */
typedef struct kernel {
    const char *name;
    prxi_cuda_attention as;
} kernel;

typedef struct attn_case {
    const bench *b;
    const kernel *k;
    const prxi_attn_args *a;
    const prxi_block_list *list;
} attn_case;

static void run_attention(void *cookie)
{
    const attn_case *x = cookie;
    prxi_cuda *u = x->b->u;
    const prxi_cuda_attention want = u->want;
    u->want = x->k->as;
    if (x->list)
        x->b->e->device_kernels.attn.blocks[x->b->t](x->b->s, x->a, x->list);
    else
        x->b->e->device_kernels.attn.dense[x->b->t](x->b->s, x->a);
    prxi_stream_wait(x->b->s);
    u->want = want;
}

/* Distance of the first rows of o from what the plain kernel makes of them. */
static int distance(const bench *b, const attn_case *x, void *scratch, double *error)
{
    prxi_cu_attn y = { .heads = (int)b->set.heads, .head_dim = (int)b->set.head_dim, .q_len = x->a->q_len, .kv_len = x->a->kv_len,
                       .q = x->a->q, .k = x->a->k, .v = x->a->v, .o = scratch, .ldq = b->dim, .ldk = b->dim, .ldv = b->dim,
                       .ldo = b->dim, .scale = x->a->scale };
    int err = prxi_cuda_put_list(b->u, b->c, x->a, x->list, &y);
    const int64_t per_tile = PRXI_CU_TILE_ROWS;
    y.n_tiles = y.n_tiles < CHECKED_TILES ? y.n_tiles : CHECKED_TILES;
    const int64_t rows = x->a->q_len < per_tile * y.n_tiles ? x->a->q_len : per_tile * y.n_tiles;
    const size_t n = (size_t)(rows * b->dim), bytes = n * prxi_dtype_size(b->t);
    unsigned char *host = prxi_alloc(b->c->mem, PRXI_MEM_MISC, 2 * bytes);
    double off = 0, all = 0;
    if (!host)
        err = prxi_fail_nomem(b->c, "bench attention", 2 * bytes);
    if (err == PRX_OK && (err = b->u->module->attention_simple(b->u->dev, (int)b->t, &y)) < 0)
        prxi_fail(b->c, err, "%s", b->u->module->last_error(b->u->dev));
    prxi_stream_get(b->s, host, scratch, bytes);
    prxi_stream_get(b->s, host + bytes, x->a->o, bytes);
    for (size_t i = 0; i < n && err == PRX_OK; i++) {
        const double want = (double)prxi_load(host, b->t, i), got = (double)prxi_load(host + bytes, b->t, i);
        off += (got - want) * (got - want);
        all += want * want;
    }
    *error = sqrt(off / all);
    prxi_free(b->c->mem, host);
    return err == PRX_OK ? prxi_stream_error(b->s) : err;
}

typedef struct dense_rate {
    double best;
} dense_rate;

/* One row a kernel, all of them by turns. */
static int race_kernels(const bench *b, const kernel *k, int n, const char *op, const prxi_attn_args *a, const prxi_block_list *list,
                        double density, void *scratch, dense_rate *dense)
{
    enum { MOST = 3 };
    b->e->device_kernels.attn.prepare(b->s, b->t, a, list);
    if (list && k[n - 1].as == PRXI_CUDA_PAGED && prxi_cuda_attend_try(b->u, PRXI_CUDA_PAGED, a, list, b->t) < 0) {
        prxi_logf(b->c, PRX_LOG_WARN, "bench attention: %s: without cuDNN's pages: %s", op, b->u->device.error(&b->u->device));
        n--;
    }
    attn_case cases[MOST];
    prxi_contender c[MOST];
    memset(c, 0, sizeof c);
    for (int i = 0; i < n; i++) {
        cases[i] = (attn_case) { b, &k[i], a, list };
        c[i] = (prxi_contender) { .fn = run_attention, .cookie = &cases[i] };
    }
    int err = prxi_bench_cuda_race(b, c, n);
    const double flop = 4 * density * (double)a->q_len * (double)a->kv_len * (double)b->dim;
    char shape[96];
    snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)b->set.heads, (long long)a->q_len, (long long)b->set.head_dim);
    for (int i = 0; i < n && err == PRX_OK && !list; i++)
        dense->best = fmax(dense->best, flop / c[i].best);
    for (int i = 0; i < n && err == PRX_OK; i++) {
        double error = NAN;
        run_attention(&cases[i]);
        if ((err = distance(b, &cases[i], scratch, &error)) < 0)
            break;
        cJSON *row = prxi_bench_cuda_row(b, op, shape, &c[i]);
        cJSON_AddStringToObject(row, "kernel", k[i].name);
        cJSON_AddNumberToObject(row, "density", density);
        cJSON_AddNumberToObject(row, "gflops", 1e-9 * flop / c[i].best);
        cJSON_AddNumberToObject(row, "share", flop / c[i].best / dense->best);
        cJSON_AddNumberToObject(row, "error", error);
    }
    return err;
}

/* A list of n tokens: blocks of `q` queries and about `k` keys (ragged: a half to one and a half of that), each pair kept with
 * probability p. One block of memory, behind q_start. */
static int make_list(const bench *b, int32_t n, int q, int k, int ragged, double p, prxi_block_list *list, double *density)
{
    const size_t nq = (size_t)((n + q - 1) / q), most = (size_t)(2 * n / k + 2);
    const size_t bytes = (nq + 1) * (sizeof(int32_t) + sizeof(int64_t)) + (most + 1 + nq * most) * sizeof(int32_t) + 64;
    int64_t *row_ptr = prxi_calloc(b->c->mem, PRXI_MEM_MISC, 1, bytes);
    if (!row_ptr)
        return prxi_fail_nomem(b->c, "bench attention", bytes);
    int32_t *q_start = (int32_t *)(row_ptr + nq + 1), *k_start = q_start + nq + 1, *cols = k_start + most + 1;
    uint32_t x = 7;
    int nk = 0;
    int64_t at = 0;
    double kept = 0;
    for (size_t i = 0; i <= nq; i++)
        q_start[i] = (int32_t)i * q < n ? (int32_t)i * q : n;
    for (int32_t end = 0; end < n; k_start[++nk] = end) {
        x = x * 1664525u + 1013904223u;
        end += ragged ? k / 2 + (int32_t)((x >> 8) % (uint32_t)k) : k;
        end = end < n ? end : n;
    }
    for (size_t i = 0; i < nq; i++) {
        for (int32_t j = 0; j < nk; j++) {
            x = x * 1664525u + 1013904223u;
            if (x / 4294967296.0 < p || (j == nk - 1 && at == row_ptr[i])) {
                cols[at++] = j;
                kept += (double)(k_start[j + 1] - k_start[j]) * (double)(q_start[i + 1] - q_start[i]);
            }
        }
        row_ptr[i + 1] = at;
    }
    *density = kept / ((double)n * (double)n);
    *list = (prxi_block_list) { 0, (int)nq, nk, q_start, k_start, row_ptr, cols, NULL, NULL, 0, NULL };
    return PRX_OK;
}

/* Lists must not move between calls: ids of their own, so that the device keeps them. */
static int race_list(const bench *b, const kernel *k, int n, const char *op, const prxi_attn_args *a, int q, int keys, int ragged, double p,
                     uint64_t id, void *scratch, dense_rate *dense)
{
    prxi_block_list list;
    double density;
    int err = make_list(b, (int32_t)b->set.tokens, q, keys, ragged, p, &list, &density);
    if (err < 0)
        return err;
    list.id = UINT64_MAX - id;
    err = race_kernels(b, k, n, op, a, &list, density, scratch, dense);
    prxi_free(b->c->mem, (void *)(uintptr_t)list.row_ptr);
    return err;
}

int prxi_bench_cuda_attention(prx_engine *e, prxi_stream *s, const char *text, cJSON *rows)
{
    static const double densities[] = { 0.1, 0.25, 0.5 };
    static const struct {
        int keys;
        double density;
    } blocks[] = { { 128, 0.1 }, { 128, 0.25 }, { 128, 0.5 }, { 128, 1 }, { 64, 0.25 }, { 64, 0.5 }, { 16, 0.25 }, { 16, 0.5 } };
    static atomic_ullong lists;             /* numbers from the top: others count from 1 */
    bench b;
    int err = open_bench(&b, e, s, text, rows), own = 0, n = 0;
    if (err < 0)
        return err;
    kernel k[4];
    k[n++] = (kernel) { "portable", PRXI_CUDA_PORTABLE };
    if (b.u->info.hopper && b.t == PRXI_BF16 && (b.set.head_dim == 64 || b.set.head_dim == 128))
        k[n++] = (kernel) { "attn90", PRXI_CUDA_HOPPER };
    own = n;
    if (b.u->cudnn && b.t == PRXI_BF16 && (b.set.head_dim == 64 || b.set.head_dim == 128))
        k[n++] = (kernel) { "cudnn", PRXI_CUDA_CUDNN };
    void *p[5];
    for (int i = 0; i < 5; i++)
        p[i] = noise(&b, (b.set.tokens + PRXI_ATTN_ROOM) * b.dim);
    const prxi_attn_args a = { (int)b.set.heads, (int)b.set.head_dim, b.set.tokens, b.set.tokens, p[0], p[1], p[2], p[3],
                               b.dim, b.dim, b.dim, b.dim, 1.0f / sqrtf((float)b.set.head_dim), 0, NULL,
                               PRXI_ATTN_ROOM };
    dense_rate dense = { 0 };
    err = p[0] && p[1] && p[2] && p[3] && p[4] ? PRX_OK : prxi_fail_nomem(b.c, "bench attention", 0);
    if (err == PRX_OK)
        err = race_kernels(&b, k, n, "attention_dense", &a, NULL, 1, p[4], &dense);
    k[own] = (kernel) { "cudnn_paged", PRXI_CUDA_PAGED };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks && err == PRX_OK; i++) {
        char op[32];
        snprintf(op, sizeof op, "attention_blocks_%d", blocks[i].keys);
        err = race_list(&b, k, n, op, &a, 128, blocks[i].keys, 0, blocks[i].density, atomic_fetch_add(&lists, 1), p[4], &dense);
    }
    for (size_t i = 0; i < sizeof densities / sizeof *densities && err == PRX_OK; i++)
        err = race_list(&b, k, own, "attention_clusters", &a, 256, 120, 1, densities[i], atomic_fetch_add(&lists, 1), p[4], &dense);
    drop(&b, p, 5);
    return err < 0 ? err : prxi_bench_cuda_svg2(&b);
}
