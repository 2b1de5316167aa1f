/* Benchmarks of linear layers against oneDNN's plain matmul, and of the row ops against a copy. */
#include "bench.h"

#include <stdio.h>

#include "engine/core/race.h"
#include "engine/ops/act.h"
#include "engine/ops/gemm.h"
#include "engine/ops/norm.h"
#include "engine/ops/onednn/gemm.h"
#include "engine/ops/rows.h"

enum { MIN_TURNS = 5 };
static const double race_seconds = 0.5;

static cJSON *add_row(cJSON *rows, const char *op, const char *shape, prxi_dtype t, const prxi_contender *c)
{
    cJSON *row = cJSON_CreateObject();
    if (!row || !cJSON_AddStringToObject(row, "op", op) || !cJSON_AddStringToObject(row, "shape", shape) ||
        !cJSON_AddStringToObject(row, "dtype", prxi_dtype_name(t)) ||
        !cJSON_AddNumberToObject(row, "seconds_median", c->median) ||
        !cJSON_AddNumberToObject(row, "seconds_best", c->best) || !cJSON_AddItemToArray(rows, row)) {
        cJSON_Delete(row);
        return NULL;
    }
    return row;
}

/* Small numbers without denormals or overflow, from a 32-bit LCG (Numerical Recipes). */
static void fill(void *p, prxi_dtype t, size_t n)
{
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        prxi_store(p, t, i, (float)(x >> 8) / 8388608.0f - 1.0f);
    }
}

/* ---- gemm ---- */

typedef struct linear_case {
    prxi_stream *s;
    prxi_linear *ours;
    prxi_dnn_linear *theirs;
    int64_t m, n, k;
    void *x, *w, *y, *scratch;
    int failed;
} linear_case;

static void run_ours(void *cookie)
{
    const linear_case *t = cookie;
    prxi_linear_run(t->s, t->ours, t->m, t->x, t->k, t->y, t->n);
}

static void run_theirs(void *cookie)
{
    linear_case *t = cookie;
    t->failed |= prxi_dnn_run(t->theirs, 0, t->x, t->y, t->scratch) < 0;
}

static void close_case(prxi_ctx *c, linear_case *t)
{
    prxi_linear_close(c, &t->ours);
    prxi_dnn_close(c, &t->theirs);
    prxi_free(c->mem, t->x);
    prxi_free(c->mem, t->w);
    prxi_free(c->mem, t->y);
    prxi_free(c->mem, t->scratch);
}

/* theirs stays NULL where oneDNN has no such product. */
static int open_case(prxi_ctx *c, linear_case *t, prxi_dtype type, uint32_t isa)
{
    const size_t size = prxi_dtype_size(type);
    t->x = prxi_alloc(c->mem, PRXI_MEM_MISC, (size_t)(t->m * t->k) * size);
    t->w = prxi_alloc(c->mem, PRXI_MEM_MISC, (size_t)(t->n * t->k) * size);
    t->y = prxi_alloc(c->mem, PRXI_MEM_MISC, (size_t)(t->m * t->n) * size);
    if (!t->x || !t->w || !t->y)
        return prxi_fail_nomem(c, "bench gemm", (size_t)(t->m * (t->n + t->k)) * size);
    fill(t->x, type, (size_t)(t->m * t->k));
    fill(t->w, type, (size_t)(t->n * t->k));
    const prxi_linear_desc d = { .weight = t->w, .weight_dtype = type, .n = t->n, .k = t->k, .compute = type,
                                 .out = type, .isa = isa };
    const prxi_dnn_desc plain = { &d, { t->m }, t->s->n_threads };
    int ret = prxi_linear_open(c, &t->ours, &d);
    if (ret < 0)
        return ret;
    ret = prxi_dnn_open(c, &t->theirs, &plain);
    if (ret == PRX_ENOTSUP)
        return PRX_OK;
    if (ret < 0)
        return ret;
    t->scratch = prxi_alloc(c->mem, PRXI_MEM_MISC, prxi_dnn_scratch(t->theirs) + 64);
    return t->scratch ? PRX_OK : prxi_fail_nomem(c, "bench gemm", prxi_dnn_scratch(t->theirs));
}

static int bench_linear(prxi_ctx *c, prxi_stream *s, uint32_t isa, const int64_t *mnk, prxi_dtype type, cJSON *rows)
{
    linear_case t = { .s = s, .m = mnk[0], .n = mnk[1], .k = mnk[2] };
    int ret = open_case(c, &t, type, isa);
    if (ret == PRX_OK) {
        prxi_contender race_of[2] = { { .fn = run_ours, .cookie = &t }, { .fn = run_theirs, .cookie = &t } };
        prxi_race(race_of, t.theirs ? 2 : 1, MIN_TURNS, race_seconds);
        char shape[64];
        snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)t.m, (long long)t.n, (long long)t.k);
        const double flops = 2.0 * (double)t.m * (double)t.n * (double)t.k;
        cJSON *row = add_row(rows, "linear", shape, type, &race_of[0]);
        if (!row || !cJSON_AddNumberToObject(row, "gflops", flops / race_of[0].best * 1e-9))
            ret = prxi_fail_nomem(c, "bench gemm", sizeof t);
        else if (t.theirs && !t.failed && (!cJSON_AddNumberToObject(row, "onednn_gflops", flops / race_of[1].best * 1e-9) ||
                 !cJSON_AddNumberToObject(row, "share", race_of[1].best / race_of[0].best)))
            ret = prxi_fail_nomem(c, "bench gemm", sizeof t);
    }
    close_case(c, &t);
    return ret;
}

int prxi_bench_gemm(prxi_ctx *c, prxi_stream *s, uint32_t isa, cJSON *rows)
{
    static const int64_t shapes[][3] = { { 2560, 1536, 1536 }, { 2560, 8960, 1536 }, { 2560, 1536, 8960 },
                                         { 512, 1536, 4096 },  { 1152, 256, 256 },   { 1152, 1024, 256 } };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = PRXI_F32; t < PRXI_COMPUTE_DTYPES; t++) {
            if (s->cancel && atomic_load(s->cancel))
                return PRX_ECANCELED;
            /* The C reference would take minutes on the large ones. */
            if (isa == 0 && i != 4)
                continue;
            const int ret = bench_linear(c, s, isa, shapes[i], (prxi_dtype)t, rows);
            if (ret < 0)
                return ret;
        }
    return prxi_stream_error(s);
}

/* ---- row ops ---- */

enum { ROWS = 2560, DIM = 1536, HEAD_DIM = 128, ELEMENTS = ROWS * DIM };

typedef struct row_bench {
    prxi_stream *s;
    prxi_norm_ops norm;
    prxi_act_ops act;
    prxi_dtype t;
    void *a, *b, *y;
    float *vec;      /* HEAD_DIM * ROWS: gate, scale, rope alike */
} row_bench;

static void row_layernorm(void *cookie)
{
    row_bench *r = cookie;
    const prxi_ln_args a = { .rows = ROWS, .dim = DIM, .x = r->a, .gate = r->vec, .o = r->b, .mul = r->vec, .add = r->vec,
                             .eps = 1e-6f, .out = r->y };
    r->norm.layernorm[r->t](r->s, &a);
}

static void row_rmsnorm(void *cookie)
{
    row_bench *r = cookie;
    const prxi_rms_args a = { .rows = ROWS, .dim = DIM, .x = r->a, .ldx = DIM, .weight = r->vec, .eps = 1e-6f,
                              .rope = r->vec, .rope_rows = ROWS, .head_dim = HEAD_DIM, .out = r->y, .ldo = DIM };
    r->norm.rmsnorm[r->t](r->s, &a);
}

static void row_gelu(void *cookie)
{
    row_bench *r = cookie;
    r->act.gelu_mul[r->t](r->s, ELEMENTS, r->b, NULL, r->y);
}

static void row_silu(void *cookie)
{
    row_bench *r = cookie;
    r->act.silu[r->t](r->s, ELEMENTS, r->b, r->y);
}

static void row_add(void *cookie)
{
    row_bench *r = cookie;
    r->act.add[r->t](r->s, ELEMENTS, r->a, r->b, r->y);
}

static void copy_range(const void *args, int64_t begin, int64_t end)
{
    const row_bench *r = args;
    const size_t row = (size_t)DIM * prxi_dtype_size(r->t);
    memcpy((unsigned char *)r->y + (size_t)begin * row, (const unsigned char *)r->b + (size_t)begin * row,
           (size_t)(end - begin) * row);
}

static void row_copy(void *cookie)
{
    row_bench *r = cookie;
    prxi_rows_run(r->s, ROWS, DIM, copy_range, r);
}

static const struct row_op {
    const char *name;
    void (*fn)(void *cookie);
    int passes;          /* over an array of ELEMENTS */
} row_ops[] = { { "layernorm_gate", row_layernorm, 4 }, { "rmsnorm_rope", row_rmsnorm, 2 }, { "gelu", row_gelu, 2 },
                { "silu", row_silu, 2 },                { "add", row_add, 3 } };

static int bench_rows(prxi_ctx *c, row_bench *r, cJSON *rows)
{
    char shape[64];
    snprintf(shape, sizeof shape, "%dx%d", ROWS, DIM);
    const double array = (double)ELEMENTS * (double)prxi_dtype_size(r->t);
    for (size_t i = 0; i < sizeof row_ops / sizeof *row_ops; i++) {
        prxi_contender race_of[2] = { { .fn = row_ops[i].fn, .cookie = r }, { .fn = row_copy, .cookie = r } };
        prxi_race(race_of, 2, MIN_TURNS, race_seconds);
        const double rate = row_ops[i].passes * array / race_of[0].best, copy = 2 * array / race_of[1].best;
        cJSON *row = add_row(rows, row_ops[i].name, shape, r->t, &race_of[0]);
        if (!row || !cJSON_AddNumberToObject(row, "gbytes", rate * 1e-9) ||
            !cJSON_AddNumberToObject(row, "copy_gbytes", copy * 1e-9) ||
            !cJSON_AddNumberToObject(row, "share", rate / copy))
            return prxi_fail_nomem(c, "bench norm", sizeof *r);
    }
    return prxi_stream_error(r->s);
}

int prxi_bench_norm(prxi_ctx *c, prxi_stream *s, uint32_t isa, cJSON *rows)
{
    row_bench r = { .s = s };
    prxi_norm_init_ref(&r.norm);
    prxi_norm_init_x86(&r.norm, isa);
    prxi_act_init_ref(&r.act);
    prxi_act_init_x86(&r.act, isa);
    int ret = PRX_OK;
    for (int t = PRXI_F32; t < PRXI_COMPUTE_DTYPES && ret == PRX_OK; t++) {
        const size_t bytes = (size_t)ELEMENTS * prxi_dtype_size((prxi_dtype)t);
        r.t = (prxi_dtype)t;
        r.a = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, bytes);
        r.b = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, bytes);
        r.y = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, bytes);
        r.vec = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)ROWS * HEAD_DIM, sizeof *r.vec);
        if (r.a && r.b && r.y && r.vec) {
            fill(r.b, r.t, ELEMENTS);
            ret = bench_rows(c, &r, rows);
        } else {
            ret = prxi_fail_nomem(c, "bench norm", bytes);
        }
        prxi_free(c->mem, r.a);
        prxi_free(c->mem, r.b);
        prxi_free(c->mem, r.y);
        prxi_free(c->mem, r.vec);
    }
    return ret;
}
