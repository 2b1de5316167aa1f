/* Dense attention of the queries, keys and values of a file, timed, its output written: for comparisons with other engines on the same
 * inputs. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>

#include "bench.h"
#include "engine.h"
#include "engine/core/option.h"
#include "engine/core/race.h"
#include "engine/qkv.h"

typedef struct settings {
    char file[PRXI_OPT_STRING_MAX], output[PRXI_OPT_STRING_MAX];
    int64_t repeats;
} settings;

static const prxi_option options[] = {
    { "file", PRXI_OPT_STRING, offsetof(settings, file), 0, 0, NULL, "", "safetensors with q, k and v [tokens, heads, head_dim]" },
    { "output", PRXI_OPT_STRING, offsetof(settings, output), 0, 0, NULL, "", "safetensors for the output, o of that shape" },
    { "repeats", PRXI_OPT_INT, offsetof(settings, repeats), 1, PRXI_RACE_RUNS, NULL, "3", "timed runs" },
    { .name = NULL },
};

typedef struct bench {
    prx_engine *e;
    prxi_stream *s;
    settings set;
    prxi_qkv x;
    prxi_attn_args a;
} bench;

static void run_dense(void *cookie)
{
    bench *b = cookie;
    b->e->kernels.attn.dense[b->x.dtype](b->s, &b->a);
}

static void add_row(const bench *b, const prxi_contender *t, cJSON *rows)
{
    char shape[64];
    cJSON *o = cJSON_CreateObject();
    const double flops = 4.0 * (double)b->x.tokens * (double)b->x.tokens * b->x.head_dim * b->x.heads;
    snprintf(shape, sizeof shape, "%dx%lldx%d", b->x.heads, (long long)b->x.tokens, b->x.head_dim);
    cJSON_AddStringToObject(o, "op", "attention_dense");
    cJSON_AddStringToObject(o, "shape", shape);
    cJSON_AddStringToObject(o, "dtype", prxi_dtype_name(b->x.dtype));
    cJSON_AddNumberToObject(o, "seconds_median", t->median);
    cJSON_AddNumberToObject(o, "seconds_best", t->best);
    cJSON_AddNumberToObject(o, "gflops", flops / t->best * 1e-9);
    cJSON_AddItemToArray(rows, o);
}

static int write_output(bench *b)
{
    const prxi_tensor_out o = { "o", b->x.dtype, 3, { b->x.tokens, b->x.heads, b->x.head_dim }, b->a.o };
    return *b->set.output ? prxi_tensors_write(&b->e->ctx, b->set.output, &o, 1, NULL) : PRX_OK;
}

static int time_rows(bench *b, cJSON *rows)
{
    prxi_ctx *c = &b->e->ctx;
    const int64_t ld = (int64_t)b->x.heads * b->x.head_dim;
    const size_t bytes = prxi_mul((size_t)(b->x.tokens * ld), prxi_dtype_size(b->x.dtype));
    void *o = prxi_alloc(c->mem, PRXI_MEM_MISC, bytes);
    if (!o)
        return prxi_fail_nomem(c, "bench qkv", bytes);
    b->a = (prxi_attn_args) { b->x.heads, b->x.head_dim, b->x.tokens, b->x.tokens, b->x.rows[0], b->x.rows[1], b->x.rows[2], o,
                              ld, ld, ld, ld, 1.0f / sqrtf((float)b->x.head_dim), 0.0f, NULL, 0 };
    prxi_contender t = { .fn = run_dense, .cookie = b };
    prxi_race(&t, 1, (int)b->set.repeats, 0);
    int err = prxi_stream_error(b->s);
    if (err == PRX_OK && (err = write_output(b)) == PRX_OK)
        add_row(b, &t, rows);
    prxi_free(c->mem, o);
    return err;
}

int prxi_bench_qkv(prx_engine *e, prxi_stream *s, const char *text, cJSON *rows)
{
    bench b = { .e = e, .s = s };
    prxi_ctx *c = &e->ctx;
    prxi_tensors *file = NULL;
    int err = prxi_option_parse(c, options, &b.set, "", text);
    if (err == PRX_OK && !*b.set.file)
        err = prxi_fail(c, PRX_EINVAL, "bench qkv: file: --set file=FILE with q, k and v expected");
    if (err == PRX_OK && (err = prxi_tensors_open_file(c, &file, b.set.file)) == PRX_OK)
        err = prxi_qkv_read(c, file, b.set.file, 1, &b.x);
    prxi_tensors_close(c, &file);
    if (err == PRX_OK)
        err = time_rows(&b, rows);
    prxi_qkv_close(c, &b.x);
    return err;
}
