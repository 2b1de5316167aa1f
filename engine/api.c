/* Public functions that stand on no object of their own: comparisons and benchmarks. */
#include <stddef.h>
#include <string.h>

#include "attention/bench.h"
#include "bench.h"
#include "bench_cuda.h"
#include "bench_vae.h"
#include "engine.h"
#include "engine/core/option.h"
#include "engine/weights/safetensors.h"
#include "video_io/compare.h"

/* A clip to compare: any video, or a dump, whose frames stay mapped while the reader borrows them. */
typedef struct clip {
    prxi_reader *reader;
    prxi_tensors *dump;
} clip;

static int is_dump(const char *path)
{
    static const char ending[] = ".safetensors";
    const size_t n = strlen(path), m = sizeof ending - 1;
    return n > m && strcmp(path + n - m, ending) == 0;
}

static int open_clip(prxi_ctx *c, clip *out, const char *path)
{
    if (!is_dump(path))
        return prxi_reader_open(c, &out->reader, path);
    const int err = prxi_tensors_open_file(c, &out->dump, path);
    if (err < 0)
        return err;
    const prxi_tensor *t = prxi_tensors_find(out->dump, "frames");
    if (!t || t->dtype != PRXI_U8 || t->ndim != 4 || t->shape[3] != 3)
        return prxi_fail(c, PRX_EFORMAT, "%s: frames: a u8 tensor [F, H, W, 3] expected: not a dump with frames", path);
    return prxi_reader_open_frames(c, &out->reader, t->data, t->shape[0], t->shape[1], t->shape[2]);
}

static void close_clip(prxi_ctx *c, clip *k)
{
    prxi_reader_close(c, &k->reader);
    prxi_tensors_close(c, &k->dump);
}

static const prxi_option align_options[] = {
    { "align", PRXI_OPT_CHOICE, offsetof(prxi_alignment, trim), 0, 0, "none|trim", "none", "trim: as many frames as both have" },
    { "offset", PRXI_OPT_INT, offsetof(prxi_alignment, offset), -1e9, 1e9, NULL, "0", "frames of b to skip; negative: of a" },
    { "resize", PRXI_OPT_CHOICE, offsetof(prxi_alignment, resize), 0, 0, "none|a|b", "none", "whose size both are compared at" },
    { NULL, PRXI_OPT_INT, 0, 0, 0, NULL, NULL, NULL },
};

PRX_API int prx_compare(prx_engine *e, const char *a, const char *b, const char *settings, char **json)
{
    prxi_alignment how = { 0, 0, 0 };
    clip one = { NULL, NULL }, two = { NULL, NULL };
    cJSON *result = NULL;
    prxi_clear(&e->ctx);
    *json = NULL;
    int err = prxi_option_parse(&e->ctx, align_options, &how, "", settings);
    if (err == PRX_OK)
        err = open_clip(&e->ctx, &one, a);
    if (err == PRX_OK)
        err = open_clip(&e->ctx, &two, b);
    if (err == PRX_OK)
        err = prxi_compare(&e->ctx, one.reader, two.reader, &how, &result);
    close_clip(&e->ctx, &one);
    close_clip(&e->ctx, &two);
    return err < 0 ? err : prxi_json_text(&e->ctx, result, json);
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

static int bench_attention(prx_engine *e, prxi_stream *s, const char *options, cJSON *rows)
{
    return prxi_bench_attention(&e->ctx, s, e->kernels.isa, options, rows);
}

static int bench_conv(prx_engine *e, prxi_stream *s, const char *options, cJSON *rows)
{
    (void)options;
    return prxi_bench_conv(&e->ctx, s, e->kernels.isa, rows);
}

static const bench_call benches[] = {
    { "cache", prxi_bench_cache },
    { "gemm", bench_gemm }, { "norm", bench_norm }, { "attention", bench_attention },
    { "conv", bench_conv }, { "step", prxi_bench_step }, { "decode", prxi_bench_decode }, { "qkv", prxi_bench_qkv },
};

/* With --device cuda. */
static const bench_call device_benches[] = {
    { "gemm", prxi_bench_cuda_gemm }, { "norm", prxi_bench_cuda_norm }, { "attention", prxi_bench_cuda_attention },
    { "step", prxi_bench_step }, { "decode", prxi_bench_decode },
};

PRX_API int prx_bench(prx_engine *e, const char *what, const char *options, char **json)
{
    const int all = strcmp(what, "all") == 0;
    const bench_call *table = e->cuda ? device_benches : benches;
    const size_t n = e->cuda ? sizeof device_benches / sizeof *device_benches : sizeof benches / sizeof *benches;
    int err = PRX_OK, found = 0, known = all;
    prxi_stream s;
    prxi_clear(&e->ctx);
    *json = NULL;
    cJSON *rows = cJSON_CreateArray();
    prxi_stream_init(&s, &e->ctx, e->threads);
    s.device = prxi_engine_model_kernels(e)->device;
    for (size_t i = 0; i < n && err == PRX_OK; i++)
        if (all ? strcmp(table[i].name, "qkv") != 0 : strcmp(what, table[i].name) == 0) {     /* that one needs a file */
            found = 1;
            err = table[i].run(e, &s, options, rows);
        }
    prxi_stream_close(&s);
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++)
        known |= strcmp(what, benches[i].name) == 0;
    if (!found && known)
        err = prxi_fail(&e->ctx, PRX_ENOTSUP, "device cuda: bench %s: gemm, norm, attention, step and decode are there; --device "
                        "cpu has the others", what);
    else if (!found)
        err = prxi_fail(&e->ctx, PRX_EINVAL, "bench: '%s': all, cache, gemm, norm, attention, conv, step, decode or qkv expected",
                        what);
    if (err < 0) {
        cJSON_Delete(rows);
        return err;
    }
    return prxi_json_text(&e->ctx, rows, json);
}
