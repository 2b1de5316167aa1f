/* The kernel for Hopper in emulation, on lists that fill many tiles: runs of any length, pieces of 16 to 128 rows, empty blocks, permuted
 * or not, a list a head or one for all; and the order of its queue. The oracle sums in double precision. */
#define _POSIX_C_SOURCE 200809L
#include "tests/test.h"

#include "attention/policies.h"
#include "tests/cuda/under_test.h"
#include "tests/random.h"

static test_random rng;
static prxi_mem mem;
static prxi_ctx ctx;

enum { HEADS = 3, LEFT = 41 };              /* LEFT: rows after q, k, v that nobody may count */

typedef struct problem {
    int d, n, m, per_head, permuted, nq, nk;
    float scale, tail;
    int64_t ld;
    prxi_bf16 *q, *k, *v, *o;
    float *lse;
    int32_t *q_start, *k_start, *cols, *q_perm, *k_perm;
    int64_t *row_ptr;
    prxi_block_list list;
    prxi_device_blocks there;               /* the same list as one that was made on the device */
} problem;

static void *must(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    REQUIRE(p, "memory");
    return p;
}

static prxi_bf16 *rows(const problem *p, int n)
{
    prxi_bf16 *x = must((size_t)((n + LEFT) * p->ld), sizeof *x);
    for (int64_t i = 0; i < (n + LEFT) * p->ld; i++)
        x[i] = prxi_f32_to_bf16(i < n * p->ld ? (float)random_normal(&rng) : NAN);
    return x;
}

/* Runs of 0 to 150, most of them multiples of 16 when `even`. */
static int cut(int32_t *start, int n, int even)
{
    int blocks = 0;
    while (start[blocks] < n) {
        int length = random_below(&rng, 9) == 0 ? 0 : 1 + random_below(&rng, 150);
        if (even)
            length = (length + 15) / 16 * 16;
        start[blocks + 1] = start[blocks] + length < n ? start[blocks] + length : n;
        blocks++;
    }
    return blocks;
}

static int32_t *shuffled(int n)
{
    int32_t *perm = must((size_t)(HEADS * n), sizeof *perm);
    for (int i = 0; i < HEADS * n; i++)
        perm[i] = i % n;
    for (int i = HEADS * n - 1; i > 0; i--) {
        const int j = i / n * n + random_below(&rng, i % n + 1), x = perm[i];
        perm[i] = perm[j];
        perm[j] = x;
    }
    return perm;
}

static void make(problem *p, int seed)
{
    const int tables = p->per_head ? HEADS : 1, even = seed % 3 == 0;
    p->ld = HEADS * p->d + 8 * (seed % 2);
    p->q = rows(p, p->n), p->k = rows(p, p->m), p->v = rows(p, p->m), p->o = rows(p, p->n);
    p->lse = must((size_t)(HEADS * p->n), sizeof *p->lse);
    int32_t *qs = must((size_t)p->n * 3, sizeof *qs), *ks = must((size_t)p->m * 3, sizeof *ks);
    p->nq = cut(qs, p->n, even);
    p->nk = cut(ks, p->m, even);
    p->q_start = must((size_t)(tables * (p->nq + 1)), sizeof *qs), p->k_start = must((size_t)(tables * (p->nk + 1)), sizeof *ks);
    p->cols = must((size_t)(tables * p->nq * p->nk), sizeof *p->cols);
    p->row_ptr = must((size_t)(tables * (p->nq + 1)), sizeof *p->row_ptr);
    int64_t at = 0;
    for (int t = 0; t < tables; t++) {
        memcpy(p->q_start + t * (p->nq + 1), qs, (size_t)(p->nq + 1) * sizeof *qs);
        memcpy(p->k_start + t * (p->nk + 1), ks, (size_t)(p->nk + 1) * sizeof *ks);
        for (int i = 0; i < p->nq; i++) {
            const int keep = random_below(&rng, 5);             /* of 4; 0: no keys at all */
            p->row_ptr[t * (p->nq + 1) + i] = at;
            for (int32_t j = 0; j < p->nk; j++)
                if (random_below(&rng, 4) < keep)
                    p->cols[at++] = j;
        }
        p->row_ptr[t * (p->nq + 1) + p->nq] = at;
    }
    free(qs), free(ks);
    p->q_perm = p->permuted ? shuffled(p->n) : NULL;
    p->k_perm = p->permuted ? shuffled(p->m) : NULL;
    p->list = (prxi_block_list) { p->per_head, p->nq, p->nk, p->q_start, p->k_start, p->row_ptr, p->cols, p->q_perm, p->k_perm, 0,
                                  NULL };
}

/* Rows with an end each, and a queue that ends before its room does. */
static void move_there(problem *p)
{
    const int n = prxi_cuda_queue_count(&p->list, HEADS);
    prxi_device_blocks *b = &p->there;
    *b = (prxi_device_blocks) { .k_start = p->k_start, .cols = p->cols, .q_perm = p->q_perm, .k_perm = p->k_perm, .n_items = n + 3 };
    b->row_ptr = must((size_t)(HEADS * p->nq), sizeof *b->row_ptr), b->row_end = must((size_t)(HEADS * p->nq), sizeof *b->row_end);
    b->queue = must(1, sizeof *b->queue), b->copies = must((size_t)(3 * HEADS * (p->n + p->m) * p->d), sizeof(prxi_bf16));
    b->items = must((size_t)n + 3, sizeof(prxi_cu_tile));
    REQUIRE(prxi_cuda_queue(&ctx, &p->list, HEADS, 2, p->m, b->items) == PRX_OK, "queue");
    for (int i = 0; i < HEADS * p->nq; i++) {
        b->row_ptr[i] = p->row_ptr[i / p->nq + i];
        b->row_end[i] = p->row_ptr[i / p->nq + i + 1];
    }
    p->list.device = b;
}

static void drop(problem *p)
{
    free(p->there.row_ptr), free(p->there.row_end), free(p->there.queue), free(p->there.copies), free(p->there.items);
    void *all[] = { p->q, p->k, p->v, p->o, p->lse, p->q_start, p->k_start, p->row_ptr, p->cols, p->q_perm, p->k_perm };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static double at(const prxi_bf16 *x, int64_t i)
{
    return (double)prxi_bf16_to_f32(x[i]);
}

/* Worst error of a query: of the output over the largest value, of the log-sum-exp in units of a thousandth. */
static double judge(const problem *p, int h, int block, int query)
{
    const int t = p->per_head ? h : 0;
    const int32_t *start = p->k_start + t * (p->nk + 1);
    const int64_t *row = p->row_ptr + t * (p->nq + 1);
    const int64_t column = (int64_t)h * p->d;
    double out[128] = { 0 }, sum = 0, worst = 0;
    for (int64_t c = row[block]; c < row[block + 1]; c++)
        for (int32_t x = start[p->cols[c]]; x < start[p->cols[c] + 1]; x++) {
            const int key = p->k_perm ? p->k_perm[h * p->m + x] : x;
            double dot = 0;
            for (int e = 0; e < p->d; e++)
                dot += at(p->q, query * p->ld + column + e) * at(p->k, key * p->ld + column + e);
            const double w = exp(dot * (double)p->scale + (key == p->m - 1 ? (double)p->tail : 0));
            sum += w;
            for (int e = 0; e < p->d; e++)
                out[e] += w * at(p->v, key * p->ld + column + e);
        }
    for (int e = 0; e < p->d; e++) {
        const double off = fabs(at(p->o, query * p->ld + column + e) - (sum > 0 ? out[e] / sum : 0));
        worst = off <= worst ? worst : off;                     /* NaN counts */
    }
    const float lse = p->lse[h * p->n + query];
    const double off = sum > 0 ? 1e3 * fabs((double)lse - log(sum)) : lse == -INFINITY ? 0 : INFINITY;
    return off <= worst ? worst : off;
}

static double compare(const problem *p)
{
    double worst = 0;
    for (int h = 0; h < HEADS; h++)
        for (int b = 0; b < p->nq; b++)
            for (int32_t x = p->q_start[b]; x < p->q_start[b + 1]; x++) {
                const double off = judge(p, h, b, p->q_perm ? p->q_perm[h * p->n + x] : x);
                worst = off <= worst ? worst : off;
            }
    return worst;
}

static void check(int seed)
{
    problem p = { .d = seed % 2 ? 128 : 64, .n = 100 + random_below(&rng, 120), .m = 300 + random_below(&rng, 500),
                  .per_head = seed / 2 % 2, .permuted = seed % 4 == 3, .scale = 0.11f };
    prxi_attn_ops ops;
    prxi_stream s;
    p.tail = !p.permuted && seed % 5 < 2 ? logf(5) : 0;
    make(&p, seed);
    if (seed % 8 == 7)
        move_there(&p);
    cuda_tables(NULL, NULL, &ops);
    prxi_stream_init(&s, &ctx, 1);
    s.device = cuda_device();
    const prxi_attn_args a = { HEADS, p.d, p.n, p.m, p.q, p.k, p.v, p.o, p.ld, p.ld, p.ld, p.ld, p.scale, p.tail, p.lse, 0 };
    emu_fail_launch(0);
    ops.blocks[PRXI_BF16](&s, &a, &p.list);
    CHECK(prxi_stream_error(&s) == PRX_OK, "seed %d: %s", seed, ctx.error.text);
    CHECK(emu_launched("attention90") == (p.permuted ? 4 : 1), "seed %d: the kernel for Hopper did it", seed);
    const double worst = compare(&p);
    CHECK(worst < 0.02, "seed %d: d %d, %d x %d, off by %g", seed, p.d, p.n, p.m, worst);
    prxi_stream_close(&s);
    drop(&p);
}

/* SVG2 on the device, from clustering to the output: the kernel for Hopper and the portable one agree on its lists. */
static void check_svg2(int seed)
{
    enum { FRAMES = 3, SIDE = 10, N = FRAMES * SIDE * SIDE };
    const int d = seed % 2 ? 128 : 64, ld = HEADS * d;
    const prxi_attn_policy *policy = &prxi_attn_svg2;
    const size_t elements = (size_t)(N * ld);
    prxi_bf16 *x[5];                        /* q, k, v, two outputs */
    prxi_attn_ops ops;
    prxi_attn_plan plan;
    prxi_stream s;
    const prxi_block_list *list = NULL;
    double density = 0, worst = 0;
    cuda_tables(NULL, NULL, &ops);
    prxi_stream_init(&s, &ctx, 1);
    s.device = cuda_device();
    for (int i = 0; i < 5; i++) {
        x[i] = must(elements, sizeof **x);
        for (size_t e = 0; e < elements; e++)
            x[i][e] = prxi_f32_to_bf16((float)random_normal(&rng));
    }
    const prxi_attn_env env = { .layers = 1, .heads = HEADS, .head_dim = d, .branches = 1, .steps = 1, .frames = FRAMES, .grid_h = SIDE,
                                .grid_w = SIDE, .tokens = N, .family = "wan", .dtype = PRXI_BF16, .n_threads = 1, .ops = &ops,
                                .device = cuda_device() };
    prxi_attn_call call = { 0, 0, 0, { HEADS, d, N, N, x[0], x[1], x[2], x[3], ld, ld, ld, ld, 0.1f, 0, NULL, 0 } };
    void *priv = must(1, policy->priv_size);
    REQUIRE(prxi_option_defaults(&ctx, policy->options, priv) == PRX_OK &&
            prxi_option_set(&ctx, policy->options, priv, "", "first_times_fp", "0") == PRX_OK &&
            prxi_option_set(&ctx, policy->options, priv, "", "first_layers_fp", "0") == PRX_OK &&
            prxi_option_set(&ctx, policy->options, priv, "", "top_p_kmeans", "0.5") == PRX_OK &&
            prxi_option_set(&ctx, policy->options, priv, "", "kmeans_iter_init", "3") == PRX_OK &&
            policy->plan(priv, &ctx, &env, &plan) == PRX_OK, "%s", ctx.error.text);
    emu_fail_launch(0);
    policy->select(priv, &s, &call, &list, &density);
    REQUIRE(list && list->device, "%s", ctx.error.text);
    ops.blocks[PRXI_BF16](&s, &call.args, list);
    CHECK(emu_launched("queue") == 1 && emu_launched("attention90") == 4 && emu_launched("attention") == 0, "seed %d: who ran", seed);
    call.args.o = x[4];
    cuda_under_test()->hopper = 0;
    ops.blocks[PRXI_BF16](&s, &call.args, list);
    cuda_under_test()->hopper = 1;
    for (size_t e = 0; e < elements; e++) {
        const double off = fabs(at(x[3], (int64_t)e) - at(x[4], (int64_t)e));
        worst = off <= worst ? worst : off;
    }
    policy->settle(priv, &s, &density);
    CHECK(prxi_stream_error(&s) == PRX_OK && worst < 0.02 && density > 0.05 && density < 0.95, "seed %d: off by %g, density %g: %s", seed,
          worst, density, ctx.error.text);
    policy->close(priv, &ctx);
    for (int i = 0; i < 5; i++)
        free(x[i]);
    free(priv);
    prxi_stream_close(&s);
}

/* Every query of every head once, heads in groups, longest first inside a group. */
static void check_queue(void)
{
    const int32_t q_start[5] = { 0, 128, 130, 130, 600 }, k_start[4] = { 0, 1000, 1100, 1300 }, cols[6] = { 0, 1, 2, 1, 0, 1 };
    const int64_t row_ptr[5] = { 0, 1, 3, 4, 6 };
    const prxi_block_list b = { .nq = 4, .nk = 3, .q_start = q_start, .k_start = k_start, .row_ptr = row_ptr, .cols = cols };
    const int lengths[4] = { 8, 3, 1, 9 };                      /* ceil(keys / 128) */
    prxi_cu_tile items[64];
    int seen[5] = { 0 };
    const int n = prxi_cuda_queue_count(&b, 5);
    REQUIRE(n == 5 * 6 && prxi_cuda_queue(&ctx, &b, 5, 2, 1300, items) == PRX_OK, "%d items", n);
    for (int i = 0; i < n; i++) {
        const prxi_cu_tile *t = &items[i];
        CHECK(t->rows > 0 && t->rows <= 128 && t->first >= q_start[t->block] && t->first + t->rows <= q_start[t->block + 1], "item %d", i);
        CHECK(i == 0 || t->head / 2 >= t[-1].head / 2, "item %d: groups in order", i);
        CHECK(i == 0 || t->head / 2 != t[-1].head / 2 || lengths[t->block] <= lengths[t[-1].block], "item %d: longest first", i);
        seen[t->head] += t->rows;
    }
    for (int h = 0; h < 5; h++)
        CHECK(seen[h] == 600, "head %d: %d queries", h, seen[h]);
    CHECK(prxi_cuda_head_group(40, 128, 75600) == 1 && prxi_cuda_head_group(12, 128, 32760) == 2 && prxi_cuda_head_group(4, 64, 10) == 4,
          "heads that share the cache");
}

/* What it does not take goes to the portable kernel; what it was asked for and cannot do is refused. */
static void check_choice(void)
{
    const prxi_cuda *u = cuda_under_test();
    const prxi_cu_tile one = { 0, 0, 0, 1 };
    prxi_cu_attn a = { .heads = 1, .head_dim = 64, .q_len = 1, .kv_len = 8, .ldq = 64, .ldk = 64, .ldv = 64, .ldo = 64, .scale = 1,
                       .n_items = 1, .items = &one };
    CHECK(u->hopper && strstr(u->attention, "attn90"), "%s", u->attention);
    CHECK(u->module->attention90_takes(PRXI_BF16, &a), "bf16, 64");
    CHECK(!u->module->attention90_takes(PRXI_F32, &a), "f32");
    a.scale = -1;
    CHECK(!u->module->attention90_takes(PRXI_BF16, &a), "a negative scale");
    a.scale = 1, a.head_dim = 96;
    CHECK(!u->module->attention90_takes(PRXI_BF16, &a), "heads of 96");
    CHECK(u->module->attention90(u->dev, PRXI_BF16, &a) == PRX_ENOTSUP, "heads of 96");
    static const char *const wrong[][2] = { { "hoper", "hoper" }, { "hopper", "sm_90" }, { "cudnn", "cuDNN" } };
    setenv("PRAXINO_EMU_CHIP", "80", 1);
    setenv("PRAXINO_CUDNN", "/nowhere", 1);
    for (int i = 0; i < 3; i++) {
        prxi_cuda *other = NULL;
        setenv("PRAXINO_CUDA_ATTENTION", wrong[i][0], 1);
        CHECK(prxi_cuda_open_module(&ctx, &other, prxi_cuda_module_table(), NULL) < 0 && strstr(ctx.error.text, wrong[i][1]), "%s",
              ctx.error.text);
        prxi_clear(&ctx);
    }
}

int main(void)
{
    setenv("PRAXINO_EMU_CHIP", "90", 1);
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    check_queue();
    for (int seed = 0; seed < 16; seed++) {
        cuda_seed((uint64_t)seed);
        rng.state = (uint64_t)seed + 100;
        check(seed);
        if (seed < 4)
            check_svg2(seed);
    }
    check_choice();
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leak", atomic_load(&mem.total));
    return TEST_END();
}
