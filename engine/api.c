/* Public functions that stand on no object of their own: comparisons and benchmarks. */
#include <string.h>

#include "bench.h"
#include "engine.h"

PRX_API int prx_compare(prx_engine *e, const char *a, const char *b, char **json)
{
    prxi_clear(&e->ctx);
    *json = NULL;
    return prxi_fail(&e->ctx, PRX_ENOTSUP, "compare: %s, %s", a, b);
}

typedef struct bench_call {
    const char *name;
    int (*run)(prx_engine *e, prxi_stream *s, const char *options, cJSON *rows);
} bench_call;

static int bench_gemm(prx_engine *e, prxi_stream *s, const char *options, cJSON *rows)
{
    (void)options;
    return prxi_bench_gemm(&e->ctx, s, e->kernels.isa, rows);
}

static int bench_norm(prx_engine *e, prxi_stream *s, const char *options, cJSON *rows)
{
    (void)options;
    return prxi_bench_norm(&e->ctx, s, e->kernels.isa, rows);
}

static int bench_step(prx_engine *e, prxi_stream *s, const char *options, cJSON *rows)
{
    return prxi_bench_step(e, s, options, 0, rows);
}

static int bench_decode(prx_engine *e, prxi_stream *s, const char *options, cJSON *rows)
{
    return prxi_bench_step(e, s, options, 1, rows);
}

static const bench_call benches[] = {
    { "gemm", bench_gemm }, { "norm", bench_norm }, { "step", bench_step }, { "decode", bench_decode },
};

PRX_API int prx_bench(prx_engine *e, const char *what, const char *options, char **json)
{
    const int all = strcmp(what, "all") == 0;
    int err = PRX_OK, found = 0;
    prxi_stream s;
    prxi_clear(&e->ctx);
    *json = NULL;
    cJSON *rows = cJSON_CreateArray();
    prxi_stream_init(&s, &e->ctx, e->threads);
    for (size_t i = 0; i < sizeof benches / sizeof *benches && err == PRX_OK; i++)
        if (all || strcmp(what, benches[i].name) == 0) {
            found = 1;
            err = benches[i].run(e, &s, options, rows);
        }
    prxi_stream_close(&s);
    if (!found)
        err = prxi_fail(&e->ctx, PRX_EINVAL, "bench: '%s': all, gemm, norm, step or decode expected", what);
    if (err < 0) {
        cJSON_Delete(rows);
        return err;
    }
    return prxi_json_text(&e->ctx, rows, json);
}
