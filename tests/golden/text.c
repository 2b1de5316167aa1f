/* Tokens and text embeddings of the golden prompts: ids exactly, fp32 and bf16 embeddings, the same bytes for any number of
 * threads. */
#include "common.h"

#include "engine/model/text.h"
#ifdef PRXI_KCHECK_CUDA
#define PRXI_CUDA_PLAIN_BUFFERS
#include "tests/cuda/under_test.h"
#endif

#define TOLERANCE 1e-5
#define MAX_IDS 512

typedef struct prompt {
    const char *what, *text, *embeds, *ids;
    int branch;
} prompt;

static int check_tokens(const golden_case *g, const prxi_tokenizer *t, const prompt *p, int32_t *ids)
{
    int32_t want[MAX_IDS];
    int n = 0;
    const int count = golden_ids(g, p->ids, want, MAX_IDS);
    CHECK(prxi_tokenizer_encode(&golden_ctx, t, p->text, (int)g->max_text, ids, &n) == PRX_OK, "%s: %s", g->name,
          golden_ctx.error.text);
    CHECK(n == count && !memcmp(ids, want, (size_t)n * sizeof *ids), "%s: tokens of the %s prompt differ (%d, %d expected)",
          g->name, p->what, n, count);
    memcpy(ids, want, sizeof want);
    return count;
}

static void check_embeds(const golden_case *g, const prxi_text *t, const prompt *p, const int32_t *ids, int n, const char *isa,
                         prxi_dtype dtype)
{
    size_t stored;
    const size_t count = (size_t)n * (size_t)prxi_text_dim(t);
    float *truth = golden_floats(g, p->embeds, &stored), *out = malloc(count * sizeof *out);
    REQUIRE(out && count <= stored, "%s: %s", g->name, p->embeds);
    uint64_t first = 0;
    for (int threads = 1; threads <= 3; threads++) {
        prxi_stream s;
        double d[2], allowed[2] = { TOLERANCE, TOLERANCE };
        prxi_clear(&golden_ctx);
        prxi_stream_init(&s, &golden_ctx, threads);
#ifdef PRXI_KCHECK_CUDA
        s.device = cuda_device();
        cuda_seed((uint64_t)threads);
#endif
        REQUIRE(prxi_text_encode(&golden_ctx, &s, t, ids, n, out) == PRX_OK, "%s: %s", g->name, golden_ctx.error.text);
        prxi_stream_close(&s);
        const uint64_t digest = golden_digest(out, count * sizeof *out);
        if (threads == 1) {
            first = digest;
            golden_distance(out, truth, count, d);
            if (dtype == PRXI_BF16) {
                golden_bf16(g, "text", p->branch, allowed);
                allowed[0] *= GOLDEN_BF16_FACTOR;
                allowed[1] = INFINITY;
            }
            CHECK(d[0] <= allowed[0] && d[1] <= allowed[1], "%s %s %s %s: rms %.3g (%.3g allowed), max %.3g", g->name, isa,
                  prxi_dtype_name(dtype), p->embeds, d[0], allowed[0], d[1]);
            if (getenv("GOLDEN_VERBOSE"))
                printf("%s %s %s %s: rms %.3g of %.3g, max %.3g\n", g->name, isa, prxi_dtype_name(dtype), p->embeds, d[0],
                       allowed[0], d[1]);
        }
        CHECK(digest == first, "%s %s %s: %d threads give other bytes than 1", g->name, isa, prxi_dtype_name(dtype), threads);
    }
    free(truth);
    free(out);
}

static void check_case(const golden_case *g)
{
    const prompt prompts[2] = { { "positive", g->prompt, "prompt_embeds", "ids", 0 },
                                { "negative", g->negative, "negative_prompt_embeds", "negative_ids", 1 } };
    char dir[600];
    int32_t ids[2][MAX_IDS];
    int n[2] = { 0, 0 };
    prxi_tokenizer *tok;
    snprintf(dir, sizeof dir, "%s/tokenizer", g->model);
    REQUIRE(prxi_tokenizer_open(&golden_ctx, &tok, dir) == PRX_OK, "%s", golden_ctx.error.text);
    for (int b = 0; b < g->branches; b++)
        n[b] = check_tokens(g, tok, &prompts[b], ids[b]);
    prxi_tokenizer_close(&golden_ctx, &tok);
#ifdef PRXI_KCHECK_CUDA
    static const char *const isas[] = { "ref", NULL };          /* replaced by the tables of the device */
#else
    const char *const *isas = golden_isas();
#endif
    for (const char *const *isa = isas; *isa; isa++)
        for (int dtype = PRXI_F32; dtype <= PRXI_BF16; dtype++) {
            prxi_kernels k;
            prxi_text *t;
            prxi_kernels_init(&k, (uint32_t)prxi_cpu_mask(*isa));
#ifdef PRXI_KCHECK_CUDA
            prxi_cuda_kernels(&k, cuda_under_test());
#endif
            snprintf(dir, sizeof dir, "%s/text_encoder", g->model);
            REQUIRE(prxi_text_open(&golden_ctx, &t, dir, &k, (prxi_dtype)dtype) == PRX_OK, "%s", golden_ctx.error.text);
            for (int b = 0; b < g->branches; b++)
                check_embeds(g, t, &prompts[b], ids[b], n[b], *isa, (prxi_dtype)dtype);
            prxi_text_close(&golden_ctx, &t);
        }
}

int main(int argc, char **argv)
{
    return golden_main(argc, argv, check_case);
}
