/* What is asked of cuDNN, run by a stand-in on the host: the right tensors, in the right places, once per shape; one workspace, accounted;
 * any call may fail, and then a text says so and nothing stays. */
#include "tests/test.h"

#include "engine/core/dtype.h"
#include "engine/cuda/cudnn.h"
#include "fake_cudnn.h"
#include "tests/random.h"

static prxi_mem mem;
static prxi_ctx ctx;
static test_random rng;

static prxi_bf16 *values(size_t n)
{
    prxi_bf16 *p = calloc(n + 1, sizeof *p);
    REQUIRE(p, "memory");
    for (size_t i = 0; i < n; i++)
        p[i] = prxi_f32_to_bf16((float)random_normal(&rng));
    return p;
}

static double at(const prxi_bf16 *p, int64_t i)
{
    return (double)prxi_bf16_to_f32(p[i]);
}

static prxi_cudnn *open_fake(void)
{
    prxi_cudnn *u = NULL;
    const int err = prxi_cudnn_open(&ctx, &u, fake_cudnn(), NULL, NULL, NULL, NULL);
    CHECK((err == PRX_OK) == (u != NULL), "%s", ctx.error.text);
    return u;
}

/* Rows with room after them, different for each operand. */
static void check_attention(prxi_cudnn *u, int heads, int d, int n, int m, int lse)
{
    const int64_t row = (int64_t)heads * d;
    const prxi_cudnn_attn s = { heads, d, lse, n, m, row + 8, row + 16, 3 * row, row + 24, 0, 0, 0 };
    const float scale = 0.3f;
    prxi_bf16 *q = values((size_t)(n * s.ldq)), *k = values((size_t)(m * s.ldk)), *v = values((size_t)(m * s.ldv));
    prxi_bf16 *o = values((size_t)(n * s.ldo));
    float *sums = calloc((size_t)(heads * n), sizeof *sums);
    double worst = 0;
    const prxi_cudnn_operands x = { .q = q, .k = k, .v = v, .o = o, .lse = lse ? sums : NULL, .scale = scale };
    REQUIRE(prxi_cudnn_attention(&ctx, u, &s, 0, &x) == PRX_OK, "%s", ctx.error.text);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < n; i++) {
            double sum = 0, out[128] = { 0 };
            for (int j = 0; j < m; j++) {
                double dot = 0;
                for (int e = 0; e < d; e++)
                    dot += at(q, i * s.ldq + h * d + e) * at(k, j * s.ldk + h * d + e);
                const double w = exp(dot * (double)scale);
                sum += w;
                for (int e = 0; e < d; e++)
                    out[e] += w * at(v, j * s.ldv + h * d + e);
            }
            for (int e = 0; e < d; e++)
                worst = fmax(worst, fabs(at(o, i * s.ldo + h * d + e) - out[e] / sum));
            if (lse)
                worst = fmax(worst, fabs((double)sums[h * n + i] - log(sum)) * 1e3);
        }
    CHECK(worst < 0.02, "attention: off by %g", worst);
    free(q), free(k), free(v), free(o), free(sums);
}

/* An entry of queries, its keys in the pages of the table's row, the last of which may be short. */
static double paged_row(const prxi_cudnn_attn *s, const prxi_cudnn_operands *x, int64_t i, int h, double *lse)
{
    const int64_t entry = i / s->rows;
    double sum = 0, out[128] = { 0 }, worst = 0;
    for (int32_t j = 0; j < x->kv_rows[entry]; j++) {
        const int64_t token = (int64_t)x->table[entry * s->pages + j / s->page] * s->page + j % s->page;
        double dot = 0;
        for (int e = 0; e < s->head_dim; e++)
            dot += at(x->q, i * s->ldq + h * s->head_dim + e) * at(x->k, token * s->ldk + h * s->head_dim + e);
        const double w = exp(dot * (double)x->scale);
        sum += w;
        for (int e = 0; e < s->head_dim; e++)
            out[e] += w * at(x->v, token * s->ldv + h * s->head_dim + e);
    }
    for (int e = 0; e < s->head_dim; e++)
        worst = fmax(worst, fabs(at(x->o, i * s->ldo + h * s->head_dim + e) - out[e] / sum));
    *lse = log(sum);
    return worst;
}

/* Ascending pages, about half of them, at least one; the last page of all in every second entry. */
static void draw_table(const prxi_cudnn_attn *s, int32_t *table, int32_t *q_rows, int32_t *kv_rows)
{
    const int all = (int)((s->kv_len + s->page - 1) / s->page), entries = (int)((s->q_len + s->rows - 1) / s->rows);
    for (int e = 0; e < entries; e++) {
        int n = 0;
        for (int p = 0; p < all; p++)
            if (p == all - 1 ? e % 2 || !n : random_normal(&rng) > 0)
                table[e * s->pages + n++] = p;
        const int last = table[e * s->pages + n - 1] == all - 1 ? (int)(all * s->page - s->kv_len) : 0;
        kv_rows[e] = n * s->page - last;
        q_rows[e] = (int32_t)(e == entries - 1 ? s->q_len - (int64_t)e * s->rows : s->rows);
    }
}

/* What lies past the last token is huge, and counts nothing; past the last entry nothing is touched. */
static void check_pages(prxi_cudnn *u, int heads, int d, int n, int m, int rows, int page, int lse)
{
    enum { ROOM = 128 };
    const int64_t ld = (int64_t)heads * d;
    const int all = (m + page - 1) / page, entries = (n + rows - 1) / rows;
    const prxi_cudnn_attn s = { heads, d, lse, n, m, ld + 8, ld, 2 * ld, ld + 16, rows, page, all };
    prxi_bf16 *q = values((size_t)((n + ROOM) * s.ldq)), *k = values((size_t)((m + ROOM) * s.ldk));
    prxi_bf16 *v = values((size_t)((m + ROOM) * s.ldv)), *o = values((size_t)((n + ROOM) * s.ldo));
    float *sums = calloc((size_t)(heads * n), sizeof *sums);
    int32_t *tables = calloc((size_t)(entries * all + 2 * entries), sizeof *tables);
    double worst = 0, want;
    REQUIRE(sums && tables, "memory");
    for (int64_t i = m * s.ldk; i < (m + ROOM) * s.ldk; i++)
        k[i] = 0x7d80;                          /* 2^124 */
    for (int64_t i = m * s.ldv; i < (m + ROOM) * s.ldv; i++)
        v[i] = 0x7d80;
    const int64_t end = (int64_t)entries * rows;
    for (int64_t i = end * s.ldo; i < (n + ROOM) * s.ldo; i++)
        o[i] = 0x1234;
    const prxi_cudnn_operands x = { q, k, v, o, lse ? sums : NULL, 0.2f, tables, tables + entries * all, tables + entries * (all + 1) };
    draw_table(&s, tables, tables + entries * all, tables + entries * (all + 1));
    REQUIRE(prxi_cudnn_attention(&ctx, u, &s, 0, &x) == PRX_OK, "%s", ctx.error.text);
    for (int h = 0; h < heads; h++)
        for (int64_t i = 0; i < n; i++) {
            const double off = paged_row(&s, &x, i, h, &want);
            worst = off <= worst ? worst : off;
            if (lse)
                worst = fmax(worst, fabs((double)sums[h * n + i] - want) * 1e3);
        }
    CHECK(worst < 0.02, "%d x %d tokens, entries of %d, pages of %d: off by %g", n, m, rows, page, worst);
    for (int64_t i = end * s.ldo; i < (n + ROOM) * s.ldo; i++)
        if (o[i] != 0x1234) {
            CHECK(0, "element %lld past the last entry changed", (long long)(i - end * s.ldo));
            break;
        }
    free(q), free(k), free(v), free(o), free(sums), free(tables);
}

static void check_convolution(prxi_cudnn *u, const prxi_cudnn_conv *s)
{
    const int64_t plane = (int64_t)s->height * s->width, taps = (int64_t)s->kt * s->kh * s->kw;
    const size_t ys = (size_t)(s->frames * s->height * s->y_row);
    prxi_bf16 *x = values((size_t)((s->frames + s->kt - 1) * s->height * s->x_row)), *w = values((size_t)(s->out * taps * s->in));
    prxi_bf16 *bias = values((size_t)s->out), *y = values(ys), *was = calloc(ys, sizeof *was);
    double worst = 0;
    REQUIRE(was, "memory");
    memcpy(was, y, ys * sizeof *was);
    REQUIRE(prxi_cudnn_convolution(&ctx, u, s, 0, x, w, bias, y) == PRX_OK, "%s", ctx.error.text);
    for (int64_t i = 0; i < s->frames * plane * s->out; i++) {
        const int64_t k = i % s->out, c = i / s->out % s->width, r = i / s->out / s->width % s->height, t = i / s->out / plane;
        double sum = at(bias, k);
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t row = r + tap / s->kw % s->kh - s->kh / 2, col = c + tap % s->kw - s->kw / 2;
            for (int e = 0; e < s->in && row >= 0 && row < s->height && col >= 0 && col < s->width; e++)
                sum += at(x, ((t + tap / s->kw / s->kh) * s->height + row) * s->x_row + col * s->in + e) *
                       at(w, (k * taps + tap) * s->in + e);
        }
        const int64_t to = (t * s->height + r) * s->y_row + c * s->out + k;
        worst = fmax(worst, fabs(at(y, to) - sum) / (1 + fabs(sum)));
        was[to] = y[to];
    }
    CHECK(worst < 0.005, "convolution %dx%dx%d: off by %g", s->kt, s->kh, s->kw, worst);
    CHECK(memcmp(was, y, ys * sizeof *was) == 0, "what lies between rows changed");
    free(x), free(w), free(bias), free(y), free(was);
}

static void check_numbers(void)
{
    static const prxi_cudnn_conv convs[] = { { 8, 16, 2, 5, 7, 3, 3, 3, 8 * 8, 7 * 16 }, { 16, 8, 1, 4, 3, 3, 1, 1, 4 * 16, 4 * 8 },
                                             { 8, 8, 3, 4, 4, 1, 3, 3, 4 * 8, 5 * 8 } };
    prxi_cudnn *u = open_fake();
    fake_cudnn_planned();
    for (int turn = 0; turn < 2; turn++) {
        check_attention(u, 3, 64, 33, 21, 0);
        check_attention(u, 2, 128, 5, 40, 1);
        for (int page = 8; page <= 128; page *= 2)
            check_pages(u, 2, 64, 150, 270, 64, page, 0);
        check_pages(u, 1, 128, 300, 140, 128, 128, 0);
        check_pages(u, 3, 64, 96, 64, 32, 16, 1);
        for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
            check_convolution(u, &convs[i]);
        CHECK(fake_cudnn_planned() == (turn ? 0 : 12), "a plan per shape, made once");
    }
    CHECK(atomic_load(&mem.now[PRXI_MEM_SCRATCH]) == 256, "the workspace is accounted: %zu", atomic_load(&mem.now[PRXI_MEM_SCRATCH]));
    prxi_cudnn_close(&ctx, &u);
}

/* Every configuration in turn, the one that cannot be planned passed over, an end; what was tried is forgotten. */
static void check_configs(void)
{
    static const prxi_cudnn_conv s = { 8, 8, 1, 2, 2, 3, 3, 3, 16, 16 };
    prxi_cudnn *u = open_fake();
    prxi_cudnn_plan_info info = { .config = -1 };
    int n = 0, engines = 0;
    while (prxi_cudnn_plan_conv(&ctx, u, &s, info.config + 1, &info) == PRX_OK && n < 100) {
        engines = engines * 10 + (int)info.engine;
        n++;
    }
    CHECK(n == FAKE_CUDNN_CONFIGS && engines == 7897, "%d configurations, engines %d", n, engines);
    prxi_clear(&ctx);
    prxi_cudnn_drop_conv(u, &s, 1);
    fake_cudnn_workspace(8, (int64_t)PRXI_CUDNN_WORKSPACE + 1);
    CHECK(prxi_cudnn_plan_conv(&ctx, u, &s, 1, &info) == PRX_OK && info.config == 3, "too large a workspace: config %d", info.config);
    prxi_cudnn_drop_conv(u, &s, 1);
    fake_cudnn_workspace(8, PRXI_CUDNN_WORKSPACE);
    CHECK(prxi_cudnn_plan_conv(&ctx, u, &s, 1, &info) == PRX_OK && info.config == 1 && info.workspace == PRXI_CUDNN_WORKSPACE,
          "the largest workspace: config %d", info.config);
    prxi_cudnn_drop_conv(u, &s, 1);
    fake_cudnn_workspace(-1, 0);
    const int before = fake_cudnn_alive();
    CHECK(prxi_cudnn_plan_conv(&ctx, u, &s, 2, &info) == PRX_OK && info.config == 3 && info.engine == 9, "config %d", info.config);
    prxi_cudnn_drop_conv(u, &s, 2);
    CHECK(fake_cudnn_alive() < before, "a dropped plan is gone");
    static const prxi_cudnn_attn pages = { 1, 64, 0, 64, 64, 64, 64, 64, 64, 32, 16, 4 };
    for (int i = 0; i < 4; i++)
        CHECK(prxi_cudnn_plan_attn(&ctx, u, &pages, i % 2, &info) == PRX_OK && info.engine == 7 + i % 2, "from %d: engine %d", i % 2,
              (int)info.engine);
    const int both = fake_cudnn_alive();
    prxi_cudnn_drop_attn(u, &pages, 1);
    CHECK(fake_cudnn_alive() < both && prxi_cudnn_plan_attn(&ctx, u, &pages, 0, &info) == PRX_OK && info.engine == 7, "the other stays");
    prxi_cudnn_close(&ctx, &u);
}

/* More shapes than are kept: old plans make room. */
static void check_eviction(void)
{
    prxi_cudnn *u = open_fake();
    for (int i = 1; i <= 300; i++) {
        const prxi_cudnn_attn s = { 1, 64, 0, i, 8, 64, 64, 64, 64, 0, 0, 0 };
        CHECK(prxi_cudnn_plan_attn(&ctx, u, &s, 0, NULL) == PRX_OK, "%s", ctx.error.text);
    }
    CHECK(fake_cudnn_alive() < 128 * 64, "%d descriptors", fake_cudnn_alive());
    prxi_cudnn_close(&ctx, &u);
    CHECK(fake_cudnn_alive() == 0, "%d descriptors stay", fake_cudnn_alive());
}

static int everything(void)
{
    static const prxi_cudnn_attn s = { 1, 64, 1, 2, 2, 64, 64, 64, 64, 0, 0, 0 };
    static const prxi_cudnn_conv conv = { 8, 8, 1, 2, 2, 3, 3, 3, 16, 16 };
    static prxi_bf16 x[4096];
    static const prxi_cudnn_attn pages = { 1, 64, 1, 2, 9, 64, 64, 64, 64, 2, 8, 2 };
    static const int32_t words[4] = { 0, 1, 2, 9 };
    float lse[2];
    const prxi_cudnn_operands operands = { .q = x, .k = x, .v = x, .o = x + 1024, .lse = lse, .scale = 1 };
    const prxi_cudnn_operands paged = { x, x, x, x + 1024, lse, 1, words, words + 2, words + 3 };
    prxi_cudnn *u = NULL;
    int err = prxi_cudnn_open(&ctx, &u, fake_cudnn(), NULL, NULL, NULL, NULL);
    if (err == PRX_OK)
        err = prxi_cudnn_attention(&ctx, u, &s, 0, &operands);
    if (err == PRX_OK)
        err = prxi_cudnn_attention(&ctx, u, &pages, 0, &paged);
    if (err == PRX_OK)
        err = prxi_cudnn_convolution(&ctx, u, &conv, 0, x, x, x, x + 2048);
    prxi_cudnn_close(&ctx, &u);
    return err;
}

/* Where a configuration fails, another may do: such a failure may end well. */
static void check_faults(void)
{
    fake_cudnn_fail(0);
    REQUIRE(everything() == PRX_OK, "%s", ctx.error.text);
    const int calls = fake_cudnn_fail(0);
    int refused = 0;
    CHECK(calls > 100, "%d calls", calls);
    for (int n = 1; n <= calls; n++) {
        prxi_clear(&ctx);
        fake_cudnn_fail(n);
        const int err = everything();
        CHECK(err == PRX_OK || (strncmp(ctx.error.text, "cuDNN: ", 7) == 0 && strlen(ctx.error.text) > 12), "call %d: %d, '%s'", n, err,
              ctx.error.text);
        refused += err < 0;
        CHECK(fake_cudnn_alive() == 0 && atomic_load(&mem.total) == 0, "call %d: %d descriptors, %zu bytes stay", n, fake_cudnn_alive(),
              atomic_load(&mem.total));
    }
    CHECK(refused > calls / 2, "%d of %d", refused, calls);
    fake_cudnn_fail(0);
    prxi_clear(&ctx);
}

static void check_missing(void)
{
    prxi_cudnn_api api;
    void *library;
    prxi_cudnn *u = NULL;
    setenv("PRAXINO_CUDNN", "/nowhere/libcudnn.so.9", 1);
    CHECK(prxi_cudnn_load(&ctx, &api, &library) == PRX_ENOTSUP && strstr(ctx.error.text, "/nowhere/libcudnn.so.9"), "%s", ctx.error.text);
    prxi_clear(&ctx);
    setenv("PRAXINO_CUDNN", "libm.so.6", 1);
    CHECK(prxi_cudnn_load(&ctx, &api, &library) == PRX_ENOTSUP && strstr(ctx.error.text, "libm.so.6 has no cudnn"), "%s", ctx.error.text);
    prxi_clear(&ctx);
    unsetenv("PRAXINO_CUDNN");
    fake_cudnn_version(90100);
    CHECK(prxi_cudnn_open(&ctx, &u, fake_cudnn(), NULL, NULL, NULL, NULL) == PRX_ENOTSUP && strstr(ctx.error.text, "9.14"), "%s",
          ctx.error.text);
    fake_cudnn_version(91900);
    prxi_clear(&ctx);
    REQUIRE(prxi_cudnn_open(&ctx, &u, fake_cudnn(), NULL, "{}", NULL, NULL) == PRX_OK, "%s", ctx.error.text);
    static const prxi_cudnn_attn s = { 1, 64, 0, 2, 2, 64, 64, 64, 64, 0, 0, 0 };
    const prxi_cudnn_operands x = { .q = &s, .k = &s, .v = &s, .o = &u, .scale = 1 };
    CHECK(prxi_cudnn_attention(&ctx, u, &s, 0, &x) == PRX_ENOTSUP, "a profile runs nothing");
    prxi_clear(&ctx);
    prxi_cudnn_close(&ctx, &u);
}

int main(void)
{
    rng.state = 5;
    prxi_mem_init(&mem, NULL);
    ctx.mem = &mem;
    check_numbers();
    check_configs();
    check_eviction();
    check_faults();
    check_missing();
    CHECK(fake_cudnn_alive() == 0 && atomic_load(&mem.total) == 0, "leaks");
    return TEST_END();
}
