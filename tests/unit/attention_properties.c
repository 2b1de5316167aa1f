/* Properties of block attention over random cases: a full map is dense attention, the order of tokens inside a cluster does not
 * matter, the density of a list is the share of pairs that it lets through, every query with keys gets a mean of values. Sizes are no
 * multiple of anything; clusters may be empty. */
#include "tests/random.h"
#include "tests/test.h"

#include "attention/mask.h"
#include "engine/core/cpu.h"

enum { MOST = 220, BLOCKS = 24, HEADS = 2, DIM = 72 };

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };
static prxi_attn_ops ops;
static prxi_stream stream;
static test_random rng = { 41 };

static struct {
    prxi_dtype type;
    int n, m, d, nq, nk;
    float v_max;
    float q[MOST * HEADS * DIM], k[MOST * HEADS * DIM], v[MOST * HEADS * DIM], o[2][MOST * HEADS * DIM];    /* or bf16 in the same room */
    int32_t cols[HEADS * BLOCKS * BLOCKS];
    int64_t rows[HEADS * (BLOCKS + 1)];
    int32_t q_starts[HEADS * (BLOCKS + 1)], k_starts[HEADS * (BLOCKS + 1)], q_perm[HEADS * MOST], k_perm[HEADS * MOST];
} t;

static int below(int n)
{
    return random_below(&rng, n);
}

static void shuffle(int32_t *x, int n)
{
    for (int i = n - 1; i > 0; i--) {
        const int j = below(i + 1);
        const int32_t y = x[i];
        x[i] = x[j];
        x[j] = y;
    }
}

/* n tokens in `blocks` clusters of random sizes. */
static void partition(int32_t *start, int blocks, int n)
{
    start[0] = 0;
    for (int i = 1; i < blocks; i++)
        start[i] = below(n + 1);
    start[blocks] = n;
    for (int i = 2; i < blocks; i++)
        for (int j = i; j > 1 && start[j] < start[j - 1]; j--) {
            const int32_t y = start[j];
            start[j] = start[j - 1];
            start[j - 1] = y;
        }
}

static void fill(void *x, int n, float *top)
{
    for (int i = 0; i < n * HEADS * t.d; i++) {
        const float y = (float)random_normal(&rng);
        prxi_store(x, t.type, (size_t)i, y);
        if (top && fabsf(y) > *top)
            *top = fabsf(y);
    }
}

static void make(int full)
{
    t.type = below(2) ? PRXI_BF16 : PRXI_F32;
    t.n = 1 + below(MOST), t.m = 1 + below(MOST), t.d = 1 + below(DIM);
    t.nq = 1 + below(BLOCKS), t.nk = 1 + below(BLOCKS);
    t.v_max = 0;
    fill(t.q, t.n, NULL);
    fill(t.k, t.m, NULL);
    fill(t.v, t.m, &t.v_max);
    int64_t at = 0;
    for (int h = 0; h < HEADS; h++) {
        partition(t.q_starts + h * (t.nq + 1), t.nq, t.n);
        partition(t.k_starts + h * (t.nk + 1), t.nk, t.m);
        for (int i = 0; i < t.n; i++)
            t.q_perm[h * t.n + i] = i;
        for (int i = 0; i < t.m; i++)
            t.k_perm[h * t.m + i] = i;
        shuffle(t.q_perm + h * t.n, t.n);
        shuffle(t.k_perm + h * t.m, t.m);
        for (int i = 0; i < t.nq; i++) {
            t.rows[h * (t.nq + 1) + i] = at;
            for (int32_t c = 0; c < t.nk; c++)
                if (full || below(3) == 0)
                    t.cols[at++] = c;
        }
        t.rows[h * (t.nq + 1) + t.nq] = at;
    }
}

static prxi_block_list list_of(void)
{
    return (prxi_block_list) { 1, t.nq, t.nk, t.q_starts, t.k_starts, t.rows, t.cols, t.q_perm, t.k_perm, 0, NULL };
}

static prxi_attn_args args_of(int out)
{
    const int64_t ld = HEADS * t.d;
    return (prxi_attn_args) { HEADS, t.d, t.n, t.m, t.q, t.k, t.v, t.o[out], ld, ld, ld, ld, 1 / sqrtf((float)t.d), 0, NULL, 0 };
}

/* Both outputs are means of values with weights that are off by a rounding to the type, the exponential's polynomial and f32 sums. */
static double distance(int a, int b, double *bound)
{
    double worst = 0;
    for (int i = 0; i < t.n * HEADS * t.d; i++) {
        const double x = (double)prxi_load(t.o[a], t.type, (size_t)i), y = (double)prxi_load(t.o[b], t.type, (size_t)i);
        worst = fabs(x - y) <= worst ? worst : fabs(x - y);
    }
    *bound = (double)t.v_max * (t.type == PRXI_F32 ? 4e-5 : 4 * ldexp(1, -8));
    return worst;
}

static void full_is_dense(void)
{
    make(1);
    const prxi_block_list list = list_of();
    const prxi_attn_args blocks = args_of(0), dense = args_of(1);
    double bound;
    ops.blocks[t.type](&stream, &blocks, &list);
    ops.dense[t.type](&stream, &dense);
    const double off = distance(0, 1, &bound);
    CHECK(off <= bound, "full map, q=%d k=%d d=%d %s: off by %g, bound %g", t.n, t.m, t.d, prxi_dtype_name(t.type), off, bound);
    CHECK(prxi_list_density(&list, 0) == 1 && prxi_list_density(&list, 1) == 1, "density of a full map");
}

/* Pairs by walking tokens, not blocks. */
static double count_pairs(int head)
{
    static unsigned char kept[BLOCKS];
    int64_t pairs = 0;
    for (int b = 0; b < t.nq; b++) {
        memset(kept, 0, sizeof kept);
        for (int64_t c = t.rows[head * (t.nq + 1) + b]; c < t.rows[head * (t.nq + 1) + b + 1]; c++)
            kept[t.cols[c]] = 1;
        for (int q = t.q_starts[head * (t.nq + 1) + b]; q < t.q_starts[head * (t.nq + 1) + b + 1]; q++)
            for (int k = 0, at = 0; k < t.m; k++) {
                while (k >= t.k_starts[head * (t.nk + 1) + at + 1])
                    at++;
                pairs += kept[at];
            }
    }
    return (double)pairs / ((double)t.n * t.m);
}

static void order_is_free(void)
{
    make(0);
    const prxi_block_list list = list_of();
    const prxi_attn_args first = args_of(0), second = args_of(1);
    double bound;
    ops.blocks[t.type](&stream, &first, &list);
    for (int h = 0; h < HEADS; h++) {
        const double density = prxi_list_density(&list, h), counted = count_pairs(h);
        CHECK(fabs(density - counted) < 1e-12, "density %g, counted %g", density, counted);
        const int32_t *qs = t.q_starts + h * (t.nq + 1), *ks = t.k_starts + h * (t.nk + 1);
        for (int b = 0; b < t.nq; b++)
            shuffle(t.q_perm + h * t.n + qs[b], qs[b + 1] - qs[b]);
        for (int b = 0; b < t.nk; b++)
            shuffle(t.k_perm + h * t.m + ks[b], ks[b + 1] - ks[b]);
    }
    ops.blocks[t.type](&stream, &second, &list);
    const double off = distance(0, 1, &bound);
    CHECK(off <= bound, "other order, q=%d k=%d d=%d %s: off by %g, bound %g", t.n, t.m, t.d, prxi_dtype_name(t.type), off, bound);
    for (int i = 0; i < t.n * HEADS * t.d; i++)
        if (!(fabs((double)prxi_load(t.o[1], t.type, (size_t)i)) <= (double)t.v_max * (1 + ldexp(1, -7)))) {
            CHECK(0, "value %d is no mean of values", i);
            break;
        }
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    prxi_attn_init_ref(&ops);
    prxi_attn_init_x86(&ops, prxi_cpu_detect());
    prxi_stream_init(&stream, &ctx, 2);
    for (int i = 0; i < 2000; i++) {
        full_is_dense();
        order_is_free();
    }
    CHECK(prxi_stream_error(&stream) == PRX_OK, "%s", ctx.error.text);
    prxi_stream_close(&stream);
    CHECK(atomic_load(&mem.total) == 0, "nothing leaks");
    return TEST_END();
}
