/* Attention kernels of every rung against a double-precision oracle: dense and block lists, permuted or not, odd sizes,
 * empty blocks, strides; poison in everything that must not be read, canaries in what must not be written; the same
 * bytes for any thread count. */
#include "tests/test.h"

#include <float.h>

#include "attention/tile.h"
#include "engine/core/cpu.h"
#include "tests/random.h"
#ifdef PRXI_KCHECK_CUDA
#include "tests/cuda/under_test.h"
#endif

typedef struct problem {
    prxi_dtype type;
    int heads, d, pad;          /* pad: elements after each token row */
    int n, m;                   /* queries, keys */
    int sparse, per_head, permute;
    float scale, tail;
    double spread;              /* standard deviation of the inputs */
    void *q, *k, *v, *o;
    float *lse;
    size_t row, q_size, k_size; /* elements */
    prxi_block_list list;
    int32_t *q_start, *k_start, *cols, *q_perm, *k_perm;
    int64_t *row_ptr;
} problem;

static test_random rng;

static int below(int n)
{
    return random_below(&rng, n);
}

static void *must(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    REQUIRE(p, "memory");
    return p;
}

static void *tokens(const problem *p, int n)
{
    const size_t es = prxi_dtype_size(p->type), size = (size_t)n * p->row + 1;
    void *x = must(size, es);
    for (size_t i = 0; i < size; i++)
        prxi_store(x, p->type, i, NAN);
    for (int t = 0; t < n; t++)
        for (int i = 0; i < p->heads * p->d; i++)
            prxi_store(x, p->type, (size_t)t * p->row + (size_t)i, (float)(random_normal(&rng) * p->spread));
    return x;
}

/* Ascending starts that cover n tokens, with runs of every length, zero included. */
static void cut(int32_t *start, int blocks, int n)
{
    start[0] = 0;
    for (int i = 1; i < blocks; i++)
        start[i] = below(n + 1);
    start[blocks] = n;
    for (int i = 1; i < blocks; i++)
        for (int j = i; j > 1 && start[j - 1] > start[j]; j--) {
            const int32_t x = start[j];
            start[j] = start[j - 1];
            start[j - 1] = x;
        }
}

static int32_t *shuffled(int heads, int n)
{
    int32_t *perm = must((size_t)heads * (size_t)n, sizeof *perm);
    for (int h = 0; h < heads; h++) {
        int32_t *x = perm + (size_t)h * (size_t)n;
        for (int i = 0; i < n; i++)
            x[i] = i;
        for (int i = n - 1; i > 0; i--) {
            const int j = below(i + 1);
            const int32_t y = x[i];
            x[i] = x[j];
            x[j] = y;
        }
    }
    return perm;
}

static void make_list(problem *p)
{
    const int tables = p->per_head ? p->heads : 1;
    const int nq = p->sparse ? 1 + below(9) : 1, nk = p->sparse ? 1 + below(40) : 1;
    const int keep = 1 + below(4);
    int64_t at = 0;
    p->q_start = must((size_t)tables * (size_t)(nq + 1), sizeof *p->q_start);
    p->k_start = must((size_t)tables * (size_t)(nk + 1), sizeof *p->k_start);
    p->row_ptr = must((size_t)tables * (size_t)(nq + 1), sizeof *p->row_ptr);
    p->cols = must((size_t)tables * (size_t)nq * (size_t)nk, sizeof *p->cols);
    for (int t = 0; t < tables; t++) {
        cut(p->q_start + t * (nq + 1), nq, p->n);
        cut(p->k_start + t * (nk + 1), nk, p->m);
        for (int i = 0; i < nq; i++) {
            p->row_ptr[t * (nq + 1) + i] = at;
            for (int32_t j = 0; j < nk; j++)
                if (!p->sparse || below(4) < keep)
                    p->cols[at++] = j;
        }
        p->row_ptr[t * (nq + 1) + nq] = at;
    }
    p->q_perm = p->permute ? shuffled(p->heads, p->n) : NULL;
    p->k_perm = p->permute ? shuffled(p->heads, p->m) : NULL;
    p->list = (prxi_block_list) { p->per_head, nq, nk, p->q_start, p->k_start, p->row_ptr, p->cols, p->q_perm,
                                  p->k_perm, 0, NULL };
}

static void drop(problem *p)
{
    void *all[] = { p->q, p->k, p->v, p->o, p->lse, p->q_start, p->k_start, p->row_ptr, p->cols, p->q_perm, p->k_perm };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void make(problem *p)
{
    p->row = (size_t)(p->heads * p->d + p->pad);
    p->q = tokens(p, p->n);
    p->k = tokens(p, p->m);
    p->v = tokens(p, p->m);
    p->q_size = (size_t)p->n * p->row + 1;
    p->o = must(p->q_size, prxi_dtype_size(p->type));
    p->lse = must((size_t)p->heads * (size_t)p->n + 1, sizeof *p->lse);
    make_list(p);
}

static void run(const problem *p, const prxi_attn_ops *ops, int threads, int with_lse)
{
    prxi_mem mem;
    prxi_ctx ctx = { .mem = &mem };
    prxi_stream s;
    prxi_mem_init(&mem, NULL);
    prxi_stream_init(&s, &ctx, threads);
#ifdef PRXI_KCHECK_CUDA
    s.device = cuda_device();
#endif
    memset(p->o, 0x5a, p->q_size * prxi_dtype_size(p->type));
    memset(p->lse, 0x5a, ((size_t)p->heads * (size_t)p->n + 1) * sizeof *p->lse);
    const int64_t ld = (int64_t)p->row;
    const prxi_attn_args a = { p->heads, p->d, p->n, p->m, p->q, p->k, p->v, p->o, ld, ld, ld, ld, p->scale, p->tail,
                               with_lse ? p->lse : NULL, 0 };
    if (p->sparse || p->permute)
        ops->blocks[p->type](&s, &a, &p->list);
    else
        ops->dense[p->type](&s, &a);
    CHECK(prxi_stream_error(&s) == PRX_OK, "%s", ctx.error.text);
    prxi_stream_close(&s);
    CHECK(atomic_load(&mem.total) == 0, "scratch is given back");
}

typedef struct oracle {
    double *out, *sum_abs;      /* [d]: sum p v, sum p |v| */
    double lse, slack;          /* slack: bound on the error of a logit */
    int keys;
} oracle;

static double unit(prxi_dtype t)
{
    return t == PRXI_F32 ? ldexp(1, -24) : ldexp(1, -8);
}

static void one_key(const problem *p, int head, int query, int key, int pass, oracle *r, double top)
{
    const size_t q_at = (size_t)query * p->row + (size_t)(head * p->d);
    const size_t k_at = (size_t)key * p->row + (size_t)(head * p->d);
    double dot = 0, mass = 0;
    for (size_t i = 0; i < (size_t)p->d; i++) {
        const double x = (double)prxi_load(p->q, p->type, q_at + i) * (double)prxi_load(p->k, p->type, k_at + i);
        dot += x;
        mass += fabs(x);
    }
    dot = dot * (double)p->scale + (key == p->m - 1 ? (double)p->tail : 0.0);
    if (pass == 0) {
        /* f32 sums of d products, then a few roundings of the scaled logit and of the running maximum. */
        const double slack = (mass * fabs((double)p->scale) * (p->d + 2) + 8 * (fabs(dot) + fabs((double)p->tail)))
                             * ldexp(1, -24);
        r->slack = slack > r->slack ? slack : r->slack;
        r->lse = dot > r->lse ? dot : r->lse;
        r->keys++;
        return;
    }
    const double e = exp(dot - top);
    r->out[p->d] += e;
    for (size_t i = 0; i < (size_t)p->d; i++) {
        const double v = (double)prxi_load(p->v, p->type, k_at + i);
        r->out[i] += e * v;
        r->sum_abs[i] += e * fabs(v);
    }
}

static void exact(const problem *p, int head, int block, int query, oracle *r)
{
    const prxi_block_list *b = &p->list;
    const int t = b->per_head ? head : 0;
    const int32_t *ks = b->k_start + t * (b->nk + 1);
    const int64_t *rp = b->row_ptr + t * (b->nq + 1);
    r->lse = -INFINITY;
    r->slack = r->keys = 0;
    memset(r->out, 0, (size_t)(p->d + 1) * sizeof *r->out);
    memset(r->sum_abs, 0, (size_t)p->d * sizeof *r->sum_abs);
    for (int pass = 0; pass < 2; pass++) {
        const double top = r->lse;
        for (int64_t c = rp[block]; c < rp[block + 1]; c++)
            for (int32_t x = ks[b->cols[c]]; x < ks[b->cols[c] + 1]; x++)
                one_key(p, head, query, b->k_perm ? b->k_perm[head * p->m + x] : x, pass, r, top);
    }
    const double l = r->out[p->d];
    for (int i = 0; i < p->d && r->keys; i++) {
        r->out[i] /= l;
        r->sum_abs[i] /= l;
    }
    if (r->keys)
        r->lse += log(l);
}

/* Worst error over its bound, for one query of one head. */
static double judge(const problem *p, int head, int query, const oracle *r, int with_lse)
{
    const size_t at = (size_t)query * p->row + (size_t)(head * p->d);
    const float lse = p->lse[(size_t)head * (size_t)p->n + (size_t)query];
    /* Of a weight: its logit twice (it and the sum), rounding to the type of the product, exp polynomial, f32 sums. */
    const double weight = 2 * r->slack + unit(p->type) + 4e-6 + 2 * (r->keys + 8) * ldexp(1, -24);
    double worst = 0;
    for (int i = 0; i < p->d; i++) {
        const double got = (double)prxi_load(p->o, p->type, at + (size_t)i);
        const double bound = weight * r->sum_abs[i] + unit(p->type) * fabs(r->out[i]) + 1e-30;
        const double share = r->keys ? fabs(got - r->out[i]) / bound : (got == 0.0 ? 0.0 : INFINITY);
        worst = share <= worst ? worst : share;     /* NaN counts */
    }
    if (with_lse && r->keys) {
        const double share = fabs((double)lse - r->lse)
                             / (r->slack + 8e-6 + (r->keys + 8 + fabs(r->lse)) * ldexp(1, -23));
        worst = share <= worst ? worst : share;
    } else if (with_lse && !(lse == -INFINITY)) {
        worst = INFINITY;
    }
    return worst;
}

static double compare(const problem *p, int with_lse)
{
    oracle r = { .out = must((size_t)p->d + 1, sizeof(double)), .sum_abs = must((size_t)p->d, sizeof(double)) };
    double worst = 0;
    for (int h = 0; h < p->heads; h++) {
        const int32_t *qs = p->list.q_start + (p->list.per_head ? h * (p->list.nq + 1) : 0);
        for (int b = 0; b < p->list.nq; b++)
            for (int32_t x = qs[b]; x < qs[b + 1]; x++) {
                const int query = p->q_perm ? p->q_perm[h * p->n + x] : x;
                exact(p, h, b, query, &r);
                const double share = judge(p, h, query, &r, with_lse);
                worst = share <= worst ? worst : share;
            }
    }
    free(r.out);
    free(r.sum_abs);
    return worst;
}

static int canaries_hold(const problem *p)
{
    const size_t es = prxi_dtype_size(p->type);
    const unsigned char *o = p->o;
    for (int t = 0; t < p->n; t++)
        for (size_t i = (size_t)(p->heads * p->d) * es; i < p->row * es; i++)
            if (o[(size_t)t * p->row * es + i] != 0x5a)
                return 0;
    for (size_t i = 0; i < es; i++)
        if (o[(p->q_size - 1) * es + i] != 0x5a)
            return 0;
    uint32_t last;
    memcpy(&last, p->lse + (size_t)p->heads * (size_t)p->n, 4);
    return last == 0x5a5a5a5au;
}

static void check(const problem *p, const prxi_attn_ops *ops, const char *rung)
{
    const size_t bytes = p->q_size * prxi_dtype_size(p->type);
    void *first = must(bytes, 1);
    const int with_lse = below(2);
    run(p, ops, 1, with_lse);
    const double worst = compare(p, with_lse);
    CHECK(worst <= 1.0, "%s %s d=%d heads=%d q=%d k=%d sparse=%d permute=%d scale=%g tail=%g: %.3g of the bound", rung,
          prxi_dtype_name(p->type), p->d, p->heads, p->n, p->m, p->sparse, p->permute, (double)p->scale,
          (double)p->tail, worst);
    CHECK(canaries_hold(p), "%s writes outside", rung);
    memcpy(first, p->o, bytes);
    run(p, ops, 3, with_lse);
    CHECK(!memcmp(first, p->o, bytes), "%s d=%d: bytes depend on the threads", rung, p->d);
    free(first);
}

/* The bf16 rung by hand: the ladder takes it only where it pays. */
static void init(prxi_attn_ops *ops, uint32_t isa)
{
#ifdef PRXI_KCHECK_CUDA
    (void)isa;
    cuda_tables(NULL, NULL, ops);
    return;
#endif
    prxi_attn_init_ref(ops);
    prxi_attn_init_x86(ops, isa);
    if (isa & PRXI_ISA_AVX512_BF16)
        prxi_attn_init_avx512bf16(ops);
}

static void rung(uint32_t isa, const char *name, int cases)
{
    static const int dims[] = { 64, 128, 8, 96, 12, 256, 33, 40, 5, 80 };
    prxi_attn_ops ops;
    if ((prxi_cpu_detect() & isa) != isa)
        return;
    init(&ops, isa);
#ifdef PRXI_KCHECK_CUDA
    static int part;                                /* other problems each time */
    rng.state = (uint64_t)part++;
#else
    rng.state = 20 + isa;
#endif
    for (int i = 0; i < cases; i++) {
        problem p = { .type = i & 1 ? PRXI_BF16 : PRXI_F32, .heads = 1 + below(3), .d = dims[(i / 2) % 10],
                      .pad = below(9), .n = 1 + below(i % 7 ? 70 : 500), .m = 1 + below(i % 5 ? 90 : 400) };
        if (strcmp(name, "cuda") == 0) {            /* mostly what the tiled kernel takes */
            p.pad = below(4) ? 8 * below(3) : p.pad;
            p.d = below(3) ? 64 << below(2) : p.d;
        }
        p.sparse = below(3) > 0;
        p.per_head = p.sparse && below(2);
        p.permute = below(2);
        p.scale = i % 11 == 3 ? -0.3f : i % 13 == 7 ? 0.0f : 1.0f / sqrtf((float)p.d);
        p.tail = i % 3 == 1 ? logf(7.0f) : 0.0f;
        p.spread = i % 4 ? 1.0 : 4.0;
        make(&p);
        check(&p, &ops, name);
        drop(&p);
    }
}

static void no_keys(uint32_t isa)
{
    prxi_attn_ops ops;
    problem p = { .type = PRXI_BF16, .heads = 2, .d = 64, .n = 40, .m = 0, .scale = 0.125f };
    if ((prxi_cpu_detect() & isa) != isa)
        return;
    init(&ops, isa);
    make(&p);
    check(&p, &ops, "no keys");
    drop(&p);
}

int main(void)
{
#ifdef PRXI_KCHECK_CUDA
    for (int seed = 0; seed < 16; seed++) {
        cuda_seed((uint64_t)seed);
        rung(0, "cuda", 12);
    }
    no_keys(0);
    return TEST_END();
#endif
    const uint32_t avx512 = PRXI_ISA_AVX2 | PRXI_ISA_AVX512;
    rung(0, "ref", 60);
    rung(PRXI_ISA_AVX2, "avx2", 120);
    rung(avx512, "avx512", 120);
    rung(avx512 | PRXI_ISA_AVX512_BF16, "avx512_bf16", 240);
    no_keys(0);
    no_keys(avx512 | PRXI_ISA_AVX512_BF16);
    return TEST_END();
}
