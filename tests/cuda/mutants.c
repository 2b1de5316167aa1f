/* Faults that the emulation must find. Every place where a kernel waits is left out in turn (a barrier, a wait for copies): some case has
 * to go wrong within 16 orders of warps. `--cases` only runs the cases: exit code 1 when one goes wrong; mutants.sh does that with kernels
 * whose source was changed. */
#define _XOPEN_SOURCE 700
#include "tests/test.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cuda/under_test.h"
#include "tests/cuda/clusters.h"
#include "tests/cuda/seeds.h"
#include "tests/random.h"

enum { SEEDS = 16 };

static test_random rng;

static const prxi_cuda_module *module(void)
{
    return cuda_under_test()->module;
}

static void *dev(void)
{
    return cuda_under_test()->dev;
}

static void *values(int type, size_t n)
{
    void *p = calloc(n + 1, 4);
    for (size_t i = 0; p && i < n; i++)
        prxi_store(p, (prxi_dtype)type, i, (float)random_normal(&rng));
    return p;
}

static float at(const void *p, int type, int i)
{
    return prxi_load(p, (prxi_dtype)type, (size_t)i);
}

static int near(double got, double want, double tol)
{
    return fabs(got - want) <= tol;         /* false for NaN */
}

/* Rows that are a few warps long and not whole ones, held in registers or in shared memory. */
static int norms_of(int dim)
{
    enum { ROWS = 3 };
    float *x = values(0, (size_t)(ROWS * dim)), *w = values(0, (size_t)dim), *out = values(0, (size_t)(ROWS * dim));
    const prxi_cu_ln ln = { ROWS, dim, x, NULL, NULL, w, NULL, 1e-6f, out, NULL, NULL };
    const prxi_cu_rms rms = { ROWS, dim, x, dim, w, 1e-6f, NULL, 0, 0, out, dim };
    int good = 1;
    for (int kind = 0; kind < 2; kind++) {
        good &= (kind ? module()->rmsnorm(dev(), 0, &rms) : module()->layernorm(dev(), 0, &ln)) == PRX_OK;
        for (int r = 0; r < ROWS; r++) {
            double mean = 0, var = 0;
            for (int i = 0; i < dim; i++)
                mean += kind ? 0 : x[r * dim + i] / (double)dim;
            for (int i = 0; i < dim; i++)
                var += pow(x[r * dim + i] - mean, 2) / dim;
            for (int i = 0; i < dim; i++)
                good &= near(out[r * dim + i], (x[r * dim + i] - mean) / sqrt(var + 1e-6) * w[i], 1e-4);
        }
    }
    free(x), free(w), free(out);
    return good;
}

static int norms(void)
{
    return norms_of(131) && norms_of(1032);
}

static int linear(void)
{
    enum { M = 37, N = 40, K = 75 };
    float *x = values(0, M * K), *w = values(0, N * K), *b = values(0, N), *y = values(0, M * N);
    const prxi_cu_gemm a = { M, N, K, 0, 0, 0, x, w, b, K, N, y, 0, 0, 0, NULL, NULL };
    int good = module()->gemm_simple(dev(), &a) == PRX_OK;
    for (int i = 0; i < M * N; i++) {
        double sum = b[i % N];
        for (int k = 0; k < K; k++)
            sum += (double)x[i / N * K + k] * w[i % N * K + k];
        good &= near(y[i], sum, 1e-3);
    }
    free(x), free(w), free(b), free(y);
    return good;
}

/* Rows to 8 bits: the largest value of a row, wherever it is, has the largest code. */
static int eight_bits(void)
{
    enum { ROWS = 3, K = 700 };
    float *x = values(0, ROWS * K), *scale = values(0, ROWS);
    uint8_t *q = calloc(ROWS * K, 1);
    const prxi_cu_quantise a = { ROWS, K, x, K, q, scale };
    int good = 1;
    for (int r = 0; r < ROWS; r++)
        x[r * K + random_below(&rng, K)] = -9;
    good &= module()->quantise(dev(), 0, &a) == PRX_OK;
    for (int i = 0; i < ROWS * K; i++)
        good &= scale[i / K] == 9.0f / 448.0f && (q[i] == 0xfe) == (x[i] * (448.0f / 9.0f) < -432);
    free(x), free(scale), free(q);
    return good;
}

/* The same of a norm, whose threads turn values of each other into codes. */
static int norm_to_eight_bits(void)
{
    enum { ROWS = 3, DIM = 700 };
    prxi_bf16 *x = values(1, ROWS * DIM), *out = values(1, ROWS * DIM);
    float *scale = values(0, ROWS);
    uint8_t *q = calloc(ROWS * DIM, 1);
    const prxi_cu_ln a = { ROWS, DIM, x, NULL, NULL, NULL, NULL, 1e-6f, out, NULL, NULL };
    prxi_cu_ln eight = a;
    eight.q = q, eight.scale = scale;
    int good = module()->layernorm(dev(), 1, &a) == PRX_OK && module()->layernorm(dev(), 1, &eight) == PRX_OK;
    for (int r = 0; r < ROWS; r++) {
        float top = 0;
        for (int i = 0; i < DIM; i++)
            top = fmaxf(top, fabsf(at(out, 1, r * DIM + i)));
        good &= scale[r] == top / 448.0f;
        for (int i = 0; i < DIM; i++) {
            const float v = at(out, 1, r * DIM + i) * (448.0f / top);
            const int code = q[r * DIM + i] & 127;
            const double got = code < 8 ? ldexp(code, -9) : ldexp(8 + code % 8, code / 8 - 10);
            good &= (q[r * DIM + i] > 127) == (v < 0 || (v == 0 && signbit(v))) && near(got, fabsf(v), fmax(fabs(v) / 16, 0x1p-10));
        }
    }
    free(x), free(out), free(scale), free(q);
    return good;
}

static int drift(void)
{
    enum { ROWS = 5, DIM = 300 };
    float *x = values(0, ROWS * DIM), *probe = values(0, ROWS * DIM);
    double *moved = calloc(2 * ROWS, sizeof *moved), *total = calloc(2, sizeof *total), sums[2] = { 0, 0 };
    const prxi_cu_drift a = { 0, 0, 1, 0, ROWS, DIM, x, NULL, probe, 0, moved, total };
    int good = module()->drift(dev(), &a) == PRX_OK;
    for (int i = 0; i < ROWS * DIM; i++) {
        sums[0] += fabs((double)probe[i] - x[i]);
        sums[1] += fabs((double)probe[i]);
    }
    good &= near(total[0], sums[0], 1e-9) && near(total[1], sums[1], 1e-9);
    free(x), free(probe), free(moved), free(total);
    return good;
}

/* Three pictures of 5 x 29 in rings that begin in the middle, a shortcut of more channels than they have, an odd number of outputs: three
 * depths of a stage and more. */
static int convolution(int type)
{
    enum { H = 5, W = 29, C = 24, S = 40, O = 35, K = 27 * C + S };
    void *ring[4], *w = values(type, (size_t)O * K), *out = values(type, (size_t)H * W * (O + 1));
    float *bias = values(0, O);
    const int64_t px = C * (type ? 2 : 4);
    prxi_cu_conv a = { type, type, 3, 3, 3, -1, -1, 1, 0, 0, 0, O, C, S, O + 1, H, W, 0, H, w, bias, { { NULL, 0, 0, 0 } },
                       { NULL, W * px * S / C, H, 0 }, { out, W * (O + 1) * (type ? 2 : 4), H, 0 } };
    for (int t = 0; t < 4; t++) {
        ring[t] = values(type, (size_t)(H + 1) * W * S);
        *(t < 3 ? &a.src[t] : &a.shortcut) = (prxi_cu_plane) { ring[t], t < 3 ? W * px : W * px * S / C, H + 1, t < 3 ? 2 : 0 };
    }
    int good = module()->conv(dev(), &a) == PRX_OK;
    for (int y = 0; y < H && good; y++)
        for (int x = 0; x < W; x++)
            for (int o = 0; o <= O; o++) {
                double sum = o < O ? bias[o] : 0, mass = fabs(sum);
                for (int k = 0; k < K && o < O; k++) {
                    const int tap = k / C, sy = y + tap % 9 / 3 - 1, sx = x + tap % 3 - 1;
                    double v = at(w, type, o * K + k);
                    if (tap >= 27)
                        v *= at(ring[3], type, (y * W + x) * S + k - 27 * C);
                    else
                        v *= sy < 0 || sy >= H || sx < 0 || sx >= W
                                 ? 0 : at(ring[tap / 9], type, ((2 + sy) % (H + 1) * W + sx) * C + k % C);
                    sum += v;
                    mass += fabs(v);
                }
                good &= near(at(out, type, (y * W + x) * (O + 1) + o), sum, mass * 1e-5 + (type ? fabs(sum) / 128 : 0));
            }
    for (int t = 0; t < 4; t++)
        free(ring[t]);
    free(w), free(out), free(bias);
    return good;
}

/* 37 tokens, two heads of 20. */
static int text(void)
{
    enum { N = 37, HEADS = 2, D = 20, LD = HEADS * D };
    float *q = values(0, N * LD), *k = values(0, N * LD), *v = values(0, N * LD), *out = values(0, N * LD), *table = values(0, 4 * HEADS);
    int32_t *bucket = calloc(2 * N, sizeof *bucket);
    for (int i = 0; i < 2 * N - 1; i++)
        bucket[i] = i % 4;
    const prxi_cu_text_attn a = { N, LD, LD, HEADS, D, q, k, v, out, table, bucket };
    int good = module()->text_attention(dev(), &a) == PRX_OK;
    for (int i = 0; i < N * HEADS; i++) {
        const int query = i / HEADS, h = i % HEADS;
        double sum = 0, want[D] = { 0 };
        for (int j = 0; j < N; j++) {
            double dot = table[bucket[j - query + N - 1] * HEADS + h];
            for (int e = 0; e < D; e++)
                dot += (double)q[query * LD + h * D + e] * k[j * LD + h * D + e];
            const double w = exp(dot);
            sum += w;
            for (int e = 0; e < D; e++)
                want[e] += w * v[j * LD + h * D + e];
        }
        for (int e = 0; e < D; e++)
            good &= near(out[query * LD + h * D + e], want[e] / sum, 1e-4);
    }
    free(q), free(k), free(v), free(out), free(table), free(bucket);
    return good;
}

static int reduction(void)
{
    enum { N = 20000, BAD = 17777 };
    float *a = values(0, N), *b = values(0, N);
    double *parts = calloc(2 * (PRXI_CU_PARTS + 1), sizeof *parts), sum = 0;
    int good = module()->reduce(dev(), N, a, b, parts) == PRX_OK;
    for (int i = 0; i < N; i++)
        sum += fabs((double)a[i] - b[i]);
    good &= near(parts[2 * PRXI_CU_PARTS], sum, 1e-9 * sum) && parts[2 * PRXI_CU_PARTS + 1] == -1;
    a[BAD] = INFINITY;
    a[BAD + 300] = NAN;
    good &= module()->reduce(dev(), N, a, NULL, parts) == PRX_OK && parts[2 * PRXI_CU_PARTS + 1] == BAD;
    free(a), free(b), free(parts);
    return good;
}

/* Two query blocks over ragged, permuted key blocks: four tiles of keys, the last one partial; the last key counts thrice. */
static int attention(int type, int d)
{
    enum { Q = 70, KEYS = 230 };
    const int32_t q_start[3] = { 0, 50, Q }, k_start[4] = { 0, 90, 91, KEYS }, cols[5] = { 0, 1, 2, 0, 2 };
    const int64_t row_ptr[3] = { 0, 3, 5 };
    int32_t *perm = calloc(KEYS, sizeof *perm);
    for (int i = 0; i < KEYS; i++)
        perm[i] = (i * 37 + 11) % KEYS;
    const prxi_block_list list = { 0, 2, 3, q_start, k_start, row_ptr, cols, NULL, perm, 0, NULL };
    void *q = values(type, (size_t)(Q * d)), *k = values(type, (size_t)(KEYS * d)), *v = values(type, (size_t)(KEYS * d));
    void *o = values(type, (size_t)(Q * d));
    prxi_mem mem;
    prxi_ctx ctx = { .mem = &mem };
    prxi_stream s;
    prxi_mem_init(&mem, NULL);
    prxi_stream_init(&s, &ctx, 1);
    s.device = cuda_device();
    const float scale = 1 / sqrtf((float)d), tail = logf(3);
    const prxi_attn_args a = { 1, d, Q, KEYS, q, k, v, o, d, d, d, d, scale, tail, NULL, 0 };
    prxi_attn_ops ops;
    cuda_tables(NULL, NULL, &ops);
    ops.blocks[type](&s, &a, &list);
    int good = prxi_stream_error(&s) == PRX_OK;
    for (int i = 0; i < Q && good; i++) {
        double sum = 0, out[128] = { 0 };
        for (int64_t c = row_ptr[i >= 50]; c < row_ptr[(i >= 50) + 1]; c++)
            for (int p = k_start[cols[c]]; p < k_start[cols[c] + 1]; p++) {
                double dot = 0;
                for (int e = 0; e < d; e++)
                    dot += (double)at(q, type, i * d + e) * at(k, type, perm[p] * d + e);
                const double w = exp(dot * scale + (perm[p] == KEYS - 1 ? tail : 0));
                sum += w;
                for (int e = 0; e < d; e++)
                    out[e] += w * at(v, type, perm[p] * d + e);
            }
        for (int e = 0; e < d; e++)
            good &= near(at(o, type, i * d + e), out[e] / sum, type ? 0.02 : 1e-4);
    }
    prxi_stream_close(&s);
    free(q), free(k), free(v), free(o), free(perm);
    return good;
}

static int plain_attention(void)
{
    return attention(0, 40);
}

static int tiled_attention(void)
{
    return attention(1, 64);
}

/* Where shared memory is short: one stage of keys and values. */
static int narrow_attention(void)
{
    cuda_shared_room(99);
    const int good = attention(1, 128);
    cuda_shared_room(227);
    return good;
}

static int plain_convolution(void)
{
    return convolution(0);
}

static int tiled_convolution(void)
{
    return convolution(1);
}

/* More clusters than two tiles hold; more tokens than a chunk. Where every token comes twice, equal start centroids k / 2 apart meet in one
 * thread, or in two; and of the empty ones, whose shares are all 0, some are kept. */
static int tiled_clusters(void)
{
    return clusters_right(module(), dev(), &rng, PRXI_BF16, 1, 64, 150, 10, 144, 0.6f, 90, 0);
}

static int plain_clusters(void)
{
    return clusters_right(module(), dev(), &rng, PRXI_F32, 1, 19, 1060, 64, 10, 0.7f, 1, 0);
}

/* The queue of two heads of 150 clusters in one group: two rounds of a warp. */
static int queue(void)
{
    return clusters_queue_of(module(), dev(), &rng, 2, 150, 2);
}

/* More candidates than a block has threads, of more channels than come at a time; clusters that are empty by the dozen. */
static int seeds(void)
{
    return seeds_right(module(), dev(), &rng, PRXI_F32, 1, 19, 300, 68);
}

/* Two heads of 64 on the kernel for Hopper: fourteen pieces of work for five blocks, of five tiles, four or one, full and partial, the last
 * key thrice. */
static int hopper(void)
{
    enum { D = 64, HEADS = 2, ROW = HEADS * D, Q = 300, KEYS = 576 };
    const int32_t q_start[6] = { 0, 140, 150, 160, 170, Q }, k_start[5] = { 0, 128, 250, 256, KEYS };
    const int32_t cols[10] = { 0, 1, 2, 3, 1, 2, 1, 2, 0, 3 };
    const int64_t row_ptr[6] = { 0, 4, 5, 6, 8, 10 };
    const prxi_block_list list = { 0, 5, 4, q_start, k_start, row_ptr, cols, NULL, NULL, 0, NULL };
    void *q = values(1, Q * ROW), *k = values(1, KEYS * ROW), *v = values(1, KEYS * ROW), *o = values(1, Q * ROW);
    prxi_mem mem;
    prxi_ctx ctx = { .mem = &mem };
    prxi_stream s;
    prxi_attn_ops ops;
    prxi_mem_init(&mem, NULL);
    prxi_stream_init(&s, &ctx, 1);
    s.device = cuda_device();
    cuda_tables(NULL, NULL, &ops);
    cuda_under_test()->hopper = 1;
    const prxi_attn_args a = { HEADS, D, Q, KEYS, q, k, v, o, ROW, ROW, ROW, ROW, 0.2f, logf(3), NULL, 0 };
    ops.blocks[1](&s, &a, &list);
    cuda_under_test()->hopper = 0;
    int good = prxi_stream_error(&s) == PRX_OK;
    for (int i = 0; i < HEADS * Q && good; i += 1 + i % 3) {
        const int query = i / HEADS, column = i % HEADS * D, block = query < 140 ? 0 : query < 170 ? query / 10 - 13 : 4;
        double sum = 0, out[D] = { 0 };
        for (int64_t c = row_ptr[block]; c < row_ptr[block + 1]; c++)
            for (int p = k_start[cols[c]]; p < k_start[cols[c] + 1]; p++) {
                double dot = 0;
                for (int e = 0; e < D; e++)
                    dot += (double)at(q, 1, query * ROW + column + e) * at(k, 1, p * ROW + column + e);
                const double w = exp(dot * 0.2 + (p == KEYS - 1 ? (double)logf(3) : 0));
                sum += w;
                for (int e = 0; e < D; e++)
                    out[e] += w * at(v, 1, p * ROW + column + e);
            }
        for (int e = 0; e < D; e++)
            good &= near(at(o, 1, query * ROW + column + e), out[e] / sum, 0.02);
    }
    prxi_stream_close(&s);
    free(q), free(k), free(v), free(o);
    return good;
}

static int (*const cases[])(void) = { norms, linear, norm_to_eight_bits, eight_bits, drift, plain_attention, tiled_attention,
                                      narrow_attention, plain_convolution, tiled_convolution, text, reduction, tiled_clusters,
                                      plain_clusters, queue, seeds, hopper };
enum { CASES = sizeof cases / sizeof *cases };
static int sites_of[CASES];             /* waits that had been reached when a case was through for the first time */

static int right(int which, int seed)
{
    cuda_seed((uint64_t)seed);
    rng.state = (uint64_t)seed;
    return cases[which]();
}

/* All cases with one order of warps. */
static int all_right(int seed)
{
    for (int i = 0; i < CASES; i++) {
        if (!right(i, seed))
            return 0;
        if (seed == 0)
            sites_of[i] = emu_sites();
    }
    return 1;
}

/* The first seed that finds the fault, SEEDS when none does; a crash or a hang of the process finds it too. The case that first came to the
 * place has to show it. */
static int found_by(int site)
{
    int which = 0;
    while (which < CASES - 1 && sites_of[which] <= site)
        which++;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit cpu = { 60, 60 };
        int seed = 0;
        setrlimit(RLIMIT_CPU, &cpu);
        emu_leave_out(site);
        while (seed < SEEDS && right(which, seed))
            seed++;
        _exit(seed);
    }
    int status = 0;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child, "fork");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

int main(int argc, char **argv)
{
    int wrong = 0;
    setenv("PRAXINO_EMU_CHIP", "90", 1);
    cuda_under_test()->hopper = 0;
    for (int seed = 0; seed < SEEDS && !wrong; seed++)
        wrong = !all_right(seed);
    if (argc > 1 && strcmp(argv[1], "--cases") == 0)
        return wrong;
    CHECK(!wrong, "the kernels as they are");
    CHECK(emu_sites() >= 41, "only %d waits were reached", emu_sites());
    CHECK(found_by(-1) == SEEDS, "a fault is found where there is none");
    for (int site = 0; site < emu_sites(); site++) {
        int line;
        const char *file = strrchr(emu_site_name(site, &line), '/');
        const int seed = found_by(site);
        printf("%s:%d left out: seed %d\n", file ? file + 1 : emu_site_name(site, &line), line, seed);
        CHECK(seed < SEEDS, "%s:%d: nothing shows when this wait is left out", emu_site_name(site, &line), line);
    }
    return TEST_END();
}
