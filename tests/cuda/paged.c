/* Block lists by cuDNN's pages, from list to output, against sums in f64: PRAXINO_CUDA_ATTENTION=paged, with the stand-in for cuDNN in
 * emulation, or the real one on a GPU. What has no pages is refused, never served otherwise. */
#include "tests/test.h"

#include "engine/core/dtype.h"
#include "tests/cuda/under_test.h"
#include "tests/random.h"

enum { HEADS = 2, MOST = 512 };

static prxi_mem mem;
static prxi_ctx ctx;
static test_random rng;
static prxi_attn_ops ops;
static char said[1024];

typedef struct list {
    prxi_block_list b;
    int32_t q_start[MOST], k_start[MOST], cols[MOST * 64];
    int64_t row_ptr[MOST];
} list;

static int cut(int32_t *start, int n, int block)
{
    int blocks = 0;
    for (int at = 0; at < n; at += block)
        start[blocks++] = at;
    start[blocks] = n;
    return blocks;
}

/* Blocks of qb queries and kb keys, each pair kept with probability p; at least one of a row; a number of its own. */
static void draw(list *l, int n, int m, int qb, int kb, double p)
{
    static uint64_t lists;
    const int nq = cut(l->q_start, n, qb), nk = cut(l->k_start, m, kb);
    int64_t at = 0;
    REQUIRE(nq < MOST && nk <= 64, "%d x %d blocks", nq, nk);
    for (int q = 0; q < nq; q++) {
        l->row_ptr[q] = at;
        for (int k = 0; k < nk; k++)
            if (random_uniform(&rng) < p || (k == nk - 1 && (at == l->row_ptr[q] || q % 2)))
                l->cols[at++] = k;
    }
    l->row_ptr[nq] = at;
    l->b = (prxi_block_list) { .nq = nq, .nk = nk, .q_start = l->q_start, .k_start = l->k_start, .row_ptr = l->row_ptr, .cols = l->cols,
                               .id = ++lists };
}

typedef struct tensors {
    prxi_bf16 *q, *k, *v, *o;
    float *lse;
    prxi_attn_args a;
} tensors;

static prxi_bf16 *rows_of(int64_t n, int64_t ld)
{
    prxi_bf16 *p = malloc((size_t)((n + PRXI_ATTN_ROOM) * ld) * sizeof *p);
    REQUIRE(p, "memory");
    for (int64_t i = 0; i < (n + PRXI_ATTN_ROOM) * ld; i++)
        p[i] = i < n * ld ? prxi_f32_to_bf16((float)random_normal(&rng)) : 0x7080;     /* 2^98: finite, and far too large to count */
    return p;
}

static void open_tensors(tensors *t, int d, int n, int m, int lse)
{
    const int64_t ld = (int64_t)HEADS * d;
    *t = (tensors) { rows_of(n, ld), rows_of(m, ld + 8), rows_of(m, ld + 16), rows_of(n, ld + 24), NULL, { 0 } };
    t->lse = malloc((size_t)(HEADS * n) * sizeof(float));
    REQUIRE(t->lse, "memory");
    t->a = (prxi_attn_args) { HEADS, d, n, m, t->q, t->k, t->v, t->o, ld, ld + 8, ld + 16, ld + 24, 1 / sqrtf((float)d), 0,
                              lse ? t->lse : NULL, PRXI_ATTN_ROOM };
}

static void close_tensors(tensors *t)
{
    free(t->q), free(t->k), free(t->v), free(t->o), free(t->lse);
}

static int call(const prxi_attn_args *a, const prxi_block_list *b)
{
    prxi_stream s;
    prxi_ctx own = { .mem = &mem };
    prxi_stream_init(&s, &own, 1);
    s.device = cuda_device();
    ops.blocks[PRXI_BF16](&s, a, b);
    const int err = prxi_stream_error(&s);
    snprintf(said, sizeof said, "%s", own.error.text);
    prxi_stream_close(&s);
    return err;
}

static double at(const prxi_bf16 *p, int64_t i)
{
    return (double)prxi_bf16_to_f32(p[i]);
}

/* Distance of a row over what the roundings of weights and output to bf16 allow; the sum's logarithm. */
static double row_error(const tensors *t, const list *l, int block, int64_t i, int h, double *lse)
{
    const prxi_attn_args *a = &t->a;
    const int d = a->head_dim;
    double sum = 0, out[128] = { 0 }, size[128] = { 0 }, worst = 0;
    for (int64_t c = l->row_ptr[block]; c < l->row_ptr[block + 1]; c++)
        for (int32_t j = l->k_start[l->cols[c]]; j < l->k_start[l->cols[c] + 1]; j++) {
            double dot = 0;
            for (int e = 0; e < d; e++)
                dot += at(t->q, i * a->ldq + h * d + e) * at(t->k, j * a->ldk + h * d + e);
            const double w = exp(dot * (double)a->scale);
            sum += w;
            for (int e = 0; e < d; e++) {
                out[e] += w * at(t->v, j * a->ldv + h * d + e);
                size[e] += w * fabs(at(t->v, j * a->ldv + h * d + e));
            }
        }
    for (int e = 0; e < d; e++) {
        const double off = fabs(at(t->o, i * a->ldo + h * d + e) - out[e] / sum) / (0x1p-8 * size[e] / sum);
        worst = off <= worst ? worst : off;         /* NaN stays */
    }
    *lse = log(sum);
    return worst;
}

static void check(int d, int n, int m, int qb, int kb, double p, int lse)
{
    static list l;
    tensors t;
    double worst = 0, sums = 0, want;
    draw(&l, n, m, qb, kb, p);
    open_tensors(&t, d, n, m, lse);
    REQUIRE(call(&t.a, &l.b) == PRX_OK, "%d, %d x %d, blocks %d x %d: %s", d, n, m, qb, kb, said);
    REQUIRE(cuda_device()->check(cuda_device()) == PRX_OK, "%s", cuda_device()->error(cuda_device()));
    for (int block = 0; block < l.b.nq; block++)
        for (int64_t i = l.q_start[block]; i < l.q_start[block + 1]; i++)
            for (int h = 0; h < HEADS; h++) {
                const double off = row_error(&t, &l, block, i, h, &want);
                worst = off <= worst ? worst : off;
                sums = lse ? fmax(sums, fabs((double)t.lse[h * n + i] - want)) : 0;
            }
    CHECK(worst <= 1, "%d, %d x %d, blocks %d x %d: %g of what roundings allow", d, n, m, qb, kb, worst);
    CHECK(sums < 1e-3, "%d, %d x %d: log-sum-exp off by %g", d, n, m, sums);
    close_tensors(&t);
}

/* Every page, blocks of several entries, short ends. */
static void check_numbers(void)
{
    check(64, 300, 300, 128, 128, 0.5, 0);
    check(128, 257, 391, 128, 128, 0.5, 0);
    check(64, 200, 260, 64, 64, 0.4, 0);
    check(64, 130, 200, 32, 32, 0.4, 0);
    check(128, 77, 100, 16, 16, 0.4, 0);
    check(64, 100, 99, 48, 24, 0.5, 0);
    check(64, 384, 120, 384, 40, 0.5, 0);
    check(64, 128, 128, 64, 32, 1, 0);
    check(64, 192, 150, 64, 64, 0.5, 1);
}

static void refused(const char *why, const prxi_attn_args *a, const prxi_block_list *b)
{
    const int err = call(a, b);
    CHECK(err == PRX_ENOTSUP && strstr(said, "paged") && strstr(said, why), "'%s' expected: %d, '%s'", why, err, said);
}

static void check_refused(void)
{
    static list l, odd;
    static int32_t order[HEADS * 96];
    const struct prxi_device_blocks made = { .n_tiles = 1 };
    tensors t;
    open_tensors(&t, 64, 96, 96, 0);
    draw(&l, 96, 96, 32, 32, 0.5);
    prxi_attn_args a = t.a;
    prxi_block_list b = l.b;
    b.device = &made;
    refused("made on the device", &a, &b);
    b = l.b, b.id = 0;
    refused("may change", &a, &b);
    b = l.b, b.k_perm = order;
    refused("permutes", &a, &b);
    b = l.b, b.per_head = 1;
    refused("each head", &a, &b);
    draw(&odd, 96, 96, 32, 12, 0.5);
    refused("multiples of 16 queries and 8 keys", &a, &odd.b);
    draw(&odd, 96, 96, 12, 32, 0.5);
    refused("multiples of 16 queries and 8 keys", &a, &odd.b);
    draw(&odd, 96, 96, 32, 32, 0.5);
    odd.row_ptr[1] = 0;
    odd.row_ptr[2] = odd.row_ptr[2] > 0 ? odd.row_ptr[2] : 1;
    refused("no keys", &a, &odd.b);
    a.tail_bias = 1;
    refused("no form", &a, &l.b);
    a = t.a, a.q_len = 90, a.kv_len = 90, a.room = 5;
    draw(&odd, 90, 90, 32, 32, 0.5);
    refused("no room", &a, &odd.b);
    a.room = 6, a.lse = t.lse;
    refused("log-sum-exp", &a, &odd.b);
    a.lse = NULL;
    CHECK(call(&a, &odd.b) == PRX_OK, "room for six: %s", said);
    a.room = 5;
    refused("no room", &a, &odd.b);                 /* the table is there already */
    draw(&odd, 96, 90, 32, 32, 0.5);
    a.q_len = 96;
    refused("no room", &a, &odd.b);
    a.q_len = 90, a.kv_len = 96;
    draw(&odd, 90, 96, 32, 32, 0.5);
    refused("no room", &a, &odd.b);
    close_tensors(&t);
}

int main(void)
{
    rng.state = 11;
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    setenv("PRAXINO_CUDA_ATTENTION", "paged", 1);
    printf("%s\n", cuda_tables(NULL, NULL, &ops));
    printf("%s\n", cuda_under_test()->attention);
    check_numbers();
    check_refused();
    return TEST_END();
}
