/* The Radial mask: published vectors (radial_windows.json: windows; radial_shrink.json: shrink, whose block rule by_tokens shares;
 * radial_masks_small.json, radial_masks_large.json: masks, and unfit for what upstream refuses; radial_sparge_convert.json: tiles), a
 * token-level oracle over random shapes, published densities, build time, settings, the policy. */
#include "tests/random.h"
#include "tests/sha256.h"
#include "tests/test.h"

#include <time.h>

#include "attention/mask.h"
#include "engine/core/json.h"

#define VECTORS "tests/vectors/attention/"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(o, key);
    REQUIRE(cJSON_IsNumber(v), "%s", key);
    return v->valuedouble;
}

static const char *text(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItem(o, key);
    REQUIRE(cJSON_IsString(v), "%s", key);
    return v->valuestring;
}

static prxi_json open_file(const char *path)
{
    prxi_json j;
    REQUIRE(prxi_json_open(&ctx, &j, path, 0) == PRX_OK, "%s", ctx.error.text);
    return j;
}

static prxi_radial rule_of(const cJSON *o)
{
    const int hunyuan = !strcmp(text(o, "model_type"), "hunyuan");
    const cJSON *commit = cJSON_GetObjectItem(o, "source_commit");
    const char *revision = cJSON_IsString(commit) ? commit->valuestring : "72788d4";
    const cJSON *frames = cJSON_GetObjectItem(o, "frames");
    return (prxi_radial) {
        .frames = frames ? frames->valueint : 1,
        .tokens_per_frame = (int64_t)number(o, "tokens_per_frame"),
        .block = (int)number(o, "block"),
        .decay = number(o, "decay"),
        .hunyuan = hunyuan,
        .half = strcmp(revision, "72788d4") != 0,
        .sink = !hunyuan || !strcmp(revision, "3f66894"),
    };
}

static void windows(void)
{
    prxi_json j = open_file(VECTORS "radial_windows.json");
    const cJSON *row, *entry;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(j.root, "rows")) {
        prxi_radial r = rule_of(row);
        cJSON_ArrayForEach(entry, cJSON_GetObjectItem(row, "entries")) {
            const int64_t d = (int64_t)cJSON_GetArrayItem(entry, 0)->valuedouble;
            for (int half = 0; half < 2; half++) {
                int kept;
                r.half = half;
                const double w = prxi_radial_width(&r, d, &kept), want = cJSON_GetArrayItem(entry, 1 + half)->valuedouble;
                CHECK(w == want && kept == cJSON_GetArrayItem(entry, 3)->valueint, "T=%lld d=%lld half=%d: %g, not %g",
                      (long long)r.tokens_per_frame, (long long)d, half, w, want);
            }
        }
    }
    prxi_json_close(&ctx, &j);
}

static void digest(const prxi_block_mask *m, char hex[65])
{
    const size_t bits = (size_t)m->n * (size_t)m->n, bytes = (bits + 7) / 8;
    unsigned char *packed = calloc(bytes, 1);
    REQUIRE(packed, "memory");
    for (size_t i = 0; i < bits; i++)
        if (prxi_mask_get(m, (int)(i / (size_t)m->n), (int)(i % (size_t)m->n)))
            packed[i / 8] = (unsigned char)(packed[i / 8] | 0x80u >> (i % 8));
    sha256_hex(packed, bytes, hex);
    free(packed);
}

static int row_is(const prxi_block_mask *m, int row, const cJSON *runs)
{
    int at = 0;
    const cJSON *run;
    cJSON_ArrayForEach(run, runs) {
        const int first = cJSON_GetArrayItem(run, 0)->valueint, end = cJSON_GetArrayItem(run, 1)->valueint;
        for (; at < first; at++)
            if (prxi_mask_get(m, row, at))
                return 0;
        for (; at < end; at++)
            if (!prxi_mask_get(m, row, at))
                return 0;
    }
    for (; at < m->n; at++)
        if (prxi_mask_get(m, row, at))
            return 0;
    return 1;
}

static int row_count(const prxi_block_mask *m, int row)
{
    int n = 0;
    for (int c = 0; c < m->n; c++)
        n += prxi_mask_get(m, row, c);
    return n;
}

/* The square of whole video blocks, which is what upstream's kernel gets: row pointer and density. */
static void video_square(const prxi_block_mask *m, const cJSON *one, int whole)
{
    const cJSON *pointer = cJSON_GetObjectItem(one, "video_csr_indptr");
    int kept = 0, wrong = 0;
    for (int i = 0; i < whole; i++) {
        wrong += pointer && cJSON_GetArrayItem(pointer, i)->valueint != kept;
        for (int c = 0; c < whole; c++)
            kept += prxi_mask_get(m, i, c);
    }
    CHECK(wrong == 0 && (!pointer || (cJSON_GetArraySize(pointer) == whole + 1 && number(one, "video_csr_nnz") == kept)),
          "%d row pointers differ, %d kept", wrong, kept);
    if (cJSON_GetObjectItem(one, "density_video"))
        CHECK(fabs((double)kept / ((double)whole * whole) - number(one, "density_video")) < 1e-12, "density of the video square");
}

/* Shapes that upstream refuses have a mask here: a partial last block that all see. */
static void unfit(void)
{
    prxi_json j = open_file(VECTORS "radial_masks_small.json");
    const cJSON *one;
    int cases = 0;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j.root, "upstream_errors")) {
        const prxi_radial r = rule_of(one);
        prxi_block_mask m;
        REQUIRE(prxi_radial_mask(&ctx, &r, &m) == PRX_OK, "%s", ctx.error.text);
        const int64_t video = r.frames * r.tokens_per_frame;
        CHECK(m.n == (video + r.block - 1) / r.block && m.kept >= m.n, "%s: %d blocks", text(one, "name"), m.n);
        if (video % r.block)
            CHECK(row_count(&m, m.n - 1) == m.n, "%s: the partial block sees all", text(one, "name"));
        prxi_mask_close(&ctx, &m);
        cases++;
    }
    CHECK(cases == 4, "%d cases", cases);
    prxi_json_close(&ctx, &j);
}

/* Masks on the tiles of the int8 kernels upstream may call. */
static void tiles(void)
{
    prxi_json j = open_file(VECTORS "radial_sparge_convert.json");
    const cJSON *one;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j.root, "cases")) {
        const cJSON *in = cJSON_GetObjectItem(one, "mask"), *out = cJSON_GetObjectItem(one, "out");
        const int block = (int)number(one, "block"), sm90 = !strcmp(text(one, "arch"), "sm90"), n = cJSON_GetArraySize(in);
        const int rows = cJSON_GetArraySize(out), cols = cJSON_GetArraySize(cJSON_GetArrayItem(out, 0));
        uint64_t bits[16] = { 0 };
        const prxi_block_mask m = { .n = n, .block = block, .tokens = (int64_t)n * block, .words = 1, .bits = bits };
        char line[64];
        int64_t wrong = 0;
        REQUIRE(n <= 16 && cols < 64, "%d blocks", n);
        for (int i = 0; i < n * n; i++)
            bits[i / n] |= (uint64_t)cJSON_GetArrayItem(cJSON_GetArrayItem(in, i / n), i % n)->valueint << (i % n);
        for (int i = 0; i < rows; i++) {
            int64_t kept = prxi_mask_tile_row(&m, sm90 ? 64 : 128, sm90 ? 128 : 64, i, line);
            for (int c = 0; c < cols; c++) {
                const int want = cJSON_GetArrayItem(cJSON_GetArrayItem(out, i), c)->valueint;
                wrong += line[c] != '0' + want;
                kept -= want;
            }
            wrong += kept != 0 || strlen(line) != (size_t)cols;
        }
        CHECK(wrong == 0 && rows == n * block / (sm90 ? 64 : 128), "block %d on %s: %lld tiles differ", block, text(one, "arch"),
              (long long)wrong);
    }
    prxi_json_close(&ctx, &j);
}

static void masks(const char *path)
{
    prxi_json j = open_file(path);
    const cJSON *one;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j.root, "cases")) {
        const cJSON *runs = cJSON_GetObjectItem(one, "row_runs"), *counts = cJSON_GetObjectItem(one, "row_counts");
        const cJSON *seq = cJSON_GetObjectItem(one, "seq_len");
        prxi_radial r = rule_of(one);
        prxi_block_mask m;
        char hex[65];
        const int64_t video = r.frames * r.tokens_per_frame, rest = seq ? (int64_t)seq->valuedouble - video : 0;
        r.text_tokens = rest >= r.block ? rest : 0;
        CHECK(prxi_radial_mask(&ctx, &r, &m) == PRX_OK, "%s", ctx.error.text);
        CHECK(m.n == (int)number(one, "blocks") && m.kept == (int64_t)number(one, "nnz"), "%d frames of %lld: %d blocks, %lld kept",
              r.frames, (long long)r.tokens_per_frame, m.n, (long long)m.kept);
        CHECK(fabs(m.density - number(one, "density")) < 1e-12, "density %g", m.density);
        digest(&m, hex);
        CHECK(!strcmp(hex, text(one, "sha256_packbits_msb_rowmajor")), "%d frames of %lld: digest", r.frames,
              (long long)r.tokens_per_frame);
        for (int i = 0; runs && i < m.n; i++)
            CHECK(row_is(&m, i, cJSON_GetArrayItem(runs, i)), "row %d", i);
        video_square(&m, one, (int)(video / r.block));
        for (int i = 0; counts && i < cJSON_GetArraySize(counts); i++)
            CHECK(row_count(&m, i) == cJSON_GetArrayItem(counts, i)->valueint, "row %d: %d blocks", i, row_count(&m, i));
        prxi_mask_close(&ctx, &m);
    }
    prxi_json_close(&ctx, &j);
}

/* ---- the rule by counting tokens ---- */

/* A block of `block` square tokens at `grid` (row stride given) is kept when more than 0.6 of its columns with any row
 * have more than a third of the rows. */
static int keeps(const unsigned char *grid, int stride, int block)
{
    int nonzero = 0, dense = 0;
    for (int c = 0; c < block; c++) {
        int rows = 0;
        for (int r = 0; r < block; r++)
            rows += grid[r * stride + c];
        nonzero += rows > 0;
        dense += 3 * rows > block;
    }
    return 5 * dense > 3 * nonzero;
}

static void shrink(void)
{
    prxi_json j = open_file(VECTORS "radial_shrink.json");
    const cJSON *one;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j.root, "cases")) {
        const int b = (int)number(one, "block"), rows = (int)number(one, "rows"), cols = (int)number(one, "cols");
        unsigned char *grid = calloc((size_t)rows * (size_t)cols, 1);
        const cJSON *runs = cJSON_GetObjectItem(one, "row_runs"), *out = cJSON_GetObjectItem(one, "out"), *run;
        REQUIRE(grid, "memory");
        for (int r = 0; r < rows; r++)
            cJSON_ArrayForEach(run, cJSON_GetArrayItem(runs, r))
                for (int c = cJSON_GetArrayItem(run, 0)->valueint; c < cJSON_GetArrayItem(run, 1)->valueint; c++)
                    grid[r * cols + c] = 1;
        for (int r = 0; r < rows / b; r++)
            for (int c = 0; c < cols / b; c++)
                CHECK(keeps(grid + r * b * cols + c * b, cols, b)
                          == cJSON_GetArrayItem(cJSON_GetArrayItem(out, r), c)->valueint,
                      "%s: block %d %d", text(one, "name"), r, c);
        free(grid);
    }
    prxi_json_close(&ctx, &j);
}

/* The mask as upstream builds it: a token mask per frame pair on a canvas, shrunk, or-ed. */
static void by_tokens(const prxi_radial *r, int n, unsigned char *out)
{
    const int t = (int)r->tokens_per_frame, b = r->block, canvas = (t + b - 1) / b, side = canvas * b;
    const int whole = r->frames * t / b;
    unsigned char *grid = malloc((size_t)(side + b) * (size_t)(side + b));
    REQUIRE(grid, "memory");
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            out[i * n + j] = i >= whole || j >= whole;
    for (int fi = 0; fi < r->frames; fi++)
        for (int fj = 0; fj < r->frames; fj++) {
            int kept;
            const double w = prxi_radial_width(r, abs(fi - fj), &kept);
            const int full = r->sink && fj == 0, y = fi * t % b, x = fj * t % b;
            if (!kept && !full)
                continue;
            memset(grid, 0, (size_t)side * (size_t)side);
            for (int k = 0; k < t && k + y < side; k++)
                for (int l = 0; l < t && l + x < side; l++)
                    grid[(k + y) * side + l + x] = full || abs(k - l) <= w;
            for (int a = 0; a < canvas && fi * t / b + a < n; a++)
                for (int c = 0; c < canvas && fj * t / b + c < n; c++)
                    out[(fi * t / b + a) * n + fj * t / b + c] |=
                        (unsigned char)keeps(grid + a * b * side + c * b, side, b);
        }
    for (int i = 0; i < n; i++)
        if (!memchr(out + i * n, 1, (size_t)n))
            memset(out + i * n, 1, (size_t)n);
    free(grid);
}

static void list_matches(const prxi_block_mask *m)
{
    prxi_block_list list;
    int64_t wrong = 0;
    REQUIRE(prxi_mask_list(&ctx, m, &list) == PRX_OK, "%s", ctx.error.text);
    for (int i = 0; i < m->n; i++) {
        int64_t at = list.row_ptr[i];
        for (int32_t c = 0; c < m->n; c++)
            if (prxi_mask_get(m, i, c))
                wrong += at >= list.row_ptr[i + 1] || list.cols[at++] != c;
        wrong += at != list.row_ptr[i + 1] || at == list.row_ptr[i];
    }
    CHECK(wrong == 0, "list differs from the mask in %lld places, or a row is empty", (long long)wrong);
    CHECK(list.q_start[m->n] == m->tokens && fabs(prxi_list_density(&list, 0) - m->pair_density) < 1e-12,
          "counted pairs %g, density %g", prxi_list_density(&list, 0), m->pair_density);
    prxi_free(&mem, (void *)(uintptr_t)list.q_start);
}

static void random_shapes(int cases)
{
    test_random rng = { 7 };
    for (int i = 0; i < cases; i++) {
        prxi_radial r = { .frames = 1 + random_below(&rng, i % 8 ? 6 : 40),
                          .tokens_per_frame = 1 + random_below(&rng, i % 4 ? 150 : 400),
                          .text_tokens = random_below(&rng, 3) ? 0 : random_below(&rng, 300),
                          .block = random_below(&rng, 2) ? 64 : 128,
                          .decay = 0.05 + 3.0 * random_uniform(&rng),
                          .hunyuan = random_below(&rng, 2),
                          .half = random_below(&rng, 2),
                          .sink = random_below(&rng, 2) };
        if (r.frames > 8 && r.tokens_per_frame > 150)
            r.tokens_per_frame = 97;
        prxi_block_mask m;
        int wrong = 0;
        REQUIRE(prxi_radial_mask(&ctx, &r, &m) == PRX_OK, "%s", ctx.error.text);
        unsigned char *want = malloc((size_t)m.n * (size_t)m.n);
        REQUIRE(want, "memory");
        by_tokens(&r, m.n, want);
        for (int y = 0; y < m.n; y++)
            for (int x = 0; x < m.n; x++)
                wrong += prxi_mask_get(&m, y, x) != want[y * m.n + x];
        CHECK(wrong == 0, "F=%d T=%lld B=%d decay=%g hunyuan=%d half=%d sink=%d text=%lld: %d blocks differ", r.frames,
              (long long)r.tokens_per_frame, r.block, r.decay, r.hunyuan, r.half, r.sink, (long long)r.text_tokens, wrong);
        free(want);
        prxi_mask_close(&ctx, &m);
    }
}

/* Lists of many random shapes: no row without a key, density as counted. */
static void random_lists(int cases)
{
    test_random rng = { 8 };
    for (int i = 0; i < cases; i++) {
        const prxi_radial r = { .frames = 1 + random_below(&rng, 30), .tokens_per_frame = 1 + random_below(&rng, 700),
                                .text_tokens = random_below(&rng, 2) * random_below(&rng, 300),
                                .block = random_below(&rng, 2) ? 64 : 128, .decay = 0.1 + 2.0 * random_uniform(&rng),
                                .hunyuan = random_below(&rng, 2), .half = random_below(&rng, 2), .sink = 1 };
        prxi_block_mask m;
        REQUIRE(prxi_radial_mask(&ctx, &r, &m) == PRX_OK, "%s", ctx.error.text);
        list_matches(&m);
        prxi_mask_close(&ctx, &m);
    }
}

/* attention.md 2.6, video square; the four digits are the published ones. Frames, tokens, block, decay, hunyuan, sink. */
static void densities(void)
{
    static const struct { prxi_radial rule; double density; } rows[] = {
        { { 18, 3840, 0, 128, 0.2, 0, 0, 1 }, 0.2871 }, { { 18, 3840, 0, 128, 0.2, 0, 1, 1 }, 0.2634 },
        { { 21, 3600, 0, 128, 1.0, 0, 0, 1 }, 0.3965 }, { { 21, 3600, 0, 128, 1.0, 0, 1, 1 }, 0.3769 },
        { { 21, 3600, 0, 128, 0.2, 0, 0, 1 }, 0.2622 }, { { 21, 1560, 0, 128, 0.2, 0, 0, 1 }, 0.3387 },
        { { 21, 2700, 0, 128, 0.2, 0, 0, 1 }, 0.2833 }, { { 20, 3840, 0, 64, 0.8, 0, 0, 1 }, 0.3491 },
        { { 20, 3840, 0, 64, 0.8, 0, 1, 1 }, 0.3268 },  { { 30, 3840, 0, 128, 0.95, 1, 0, 0 }, 0.2746 },
        { { 30, 3840, 0, 128, 0.95, 1, 0, 1 }, 0.3008 }, { { 33, 3600, 0, 128, 0.95, 1, 0, 0 }, 0.2702 },
        { { 64, 3600, 0, 128, 1.0, 1, 0, 0 }, 0.1776 }, { { 128, 3600, 0, 128, 1.0, 1, 0, 0 }, 0.1088 },
        { { 18, 3840, 0, 128, 2.0, 0, 0, 1 }, 0.586 },  { { 30, 3840, 0, 128, 0.2, 1, 0, 0 }, 0.186 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        prxi_block_mask m;
        REQUIRE(prxi_radial_mask(&ctx, &rows[i].rule, &m) == PRX_OK, "%s", ctx.error.text);
        const int whole = (int)(rows[i].rule.frames * rows[i].rule.tokens_per_frame / m.block);
        int64_t kept = 0;
        for (int y = 0; y < whole; y++)
            for (int x = 0; x < whole; x++)
                kept += prxi_mask_get(&m, y, x);
        const double got = (double)kept / ((double)whole * whole);
        CHECK(fabs(got - rows[i].density) <= 0.5e-4 * (rows[i].rule.decay == 2.0 || i == 15 ? 10 : 1) + 1e-9,
              "row %zu: density %.5f, published %.4f", i, got, rows[i].density);
        prxi_mask_close(&ctx, &m);
    }
}

static double build_ms(const prxi_radial *r)
{
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        struct timespec a, b;
        prxi_block_mask m;
        prxi_block_list list;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
        REQUIRE(prxi_radial_mask(&ctx, r, &m) == PRX_OK && prxi_mask_list(&ctx, &m, &list) == PRX_OK, "mask");
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
        const double ms = 1e3 * (double)(b.tv_sec - a.tv_sec) + 1e-6 * (double)(b.tv_nsec - a.tv_nsec);
        best = ms < best ? ms : best;
        prxi_free(&mem, (void *)(uintptr_t)list.q_start);
        prxi_mask_close(&ctx, &m);
    }
    return best;
}

static void build_time(void)
{
    const prxi_radial small = { 21, 3600, 0, 128, 0.2, 0, 0, 1 }, large = { 128, 3600, 0, 128, 1.0, 1, 0, 0 };
    const double a = build_ms(&small), b = build_ms(&large);
    printf("21x3600: %.2f ms, 128x3600: %.1f ms\n", a, b);
#if !defined(__SANITIZE_ADDRESS__)
    CHECK(a < 20 && b < 300, "%.1f ms, %.1f ms", a, b);
#endif
}

static void settings(void)
{
    static const prxi_radial bad[] = {
        { 4, 64, 0, 32, 0.2, 0, 0, 1 },  { 4, 64, 0, 128, 0.0, 0, 0, 1 },  { 4, 64, 0, 128, -1.0, 0, 0, 1 },
        { 4, 64, 0, 128, NAN, 0, 0, 1 }, { 0, 64, 0, 128, 0.2, 0, 0, 1 },  { 4, 0, 0, 128, 0.2, 0, 0, 1 },
        { 4, 64, -1, 64, 0.2, 0, 0, 1 }, { 1 << 20, 1 << 20, 0, 128, 0.2, 0, 0, 1 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        prxi_block_mask m;
        prxi_clear(&ctx);
        CHECK(prxi_radial_mask(&ctx, &bad[i], &m) == PRX_EINVAL && strstr(ctx.error.text, "radial"), "bad %zu", i);
        prxi_mask_close(&ctx, &m);
    }
    prxi_clear(&ctx);
}

static void json(void)
{
    const prxi_radial r = { 4, 384, 0, 128, 0.2, 0, 0, 1 };
    prxi_block_mask m;
    prxi_json j;
    char *out;
    size_t n;
    REQUIRE(prxi_radial_mask(&ctx, &r, &m) == PRX_OK && prxi_mask_json(&ctx, &m, 128, 128, &out, &n) == PRX_OK, "json");
    REQUIRE(strlen(out) == n && prxi_json_parse(&ctx, &j, "mask", out, n) == PRX_OK, "%s", ctx.error.text);
    CHECK(number(j.root, "rows") == 12 && number(j.root, "cols") == 12 && number(j.root, "kept") == 136, "numbers");
    const cJSON *rows = cJSON_GetObjectItem(j.root, "mask");
    CHECK(cJSON_GetArraySize(rows) == 12 && !strcmp(cJSON_GetArrayItem(rows, 0)->valuestring, "111111110110"), "%s",
          cJSON_GetArrayItem(rows, 0)->valuestring);
    prxi_json_close(&ctx, &j);
    prxi_free(&mem, out);
    prxi_mask_close(&ctx, &m);
}

static void policy(void)
{
    const prxi_attn_policy *p = prxi_attn_policy_find("radial");
    prxi_attn_env env = { .layers = 4, .heads = 2, .head_dim = 64, .branches = 2, .steps = 50, .frames = 18, .grid_h = 48,
                          .grid_w = 80, .tokens = 18 * 3840, .family = "wan" };
    prxi_attn_plan plan;
    prxi_stream s;
    REQUIRE(p, "registered");
    void *priv = prxi_calloc(&mem, PRXI_MEM_MISC, 1, p->priv_size);
    REQUIRE(priv && prxi_option_defaults(&ctx, p->options, priv) == PRX_OK, "%s", ctx.error.text);
    REQUIRE(p->plan(priv, &ctx, &env, &plan) == PRX_OK, "%s", ctx.error.text);
    const double sparse = 38.0 / 50 * 3.0 / 4, d = 83728.0 / (540.0 * 540.0);
    CHECK(fabs(plan.density - (1 - sparse * (1 - d))) < 1e-12 && strstr(plan.note, "0.2871"), "%g %s", plan.density, plan.note);
    prxi_stream_init(&s, &ctx, 1);
    prxi_attn_call call = { .step = 12, .layer = 1, .args = { .q_len = env.tokens, .kv_len = env.tokens } };
    const prxi_block_list *list = NULL;
    double density = 0;
    p->select(priv, &s, &call, &list, &density);
    CHECK(list && list->nq == 540 && fabs(density - d) < 1e-12, "sparse call");
    call.layer = 0;
    p->select(priv, &s, &call, &list, &density);
    CHECK(!list && density == 1, "dense layer");
    call.layer = 1;
    call.step = 11;
    p->select(priv, &s, &call, &list, &density);
    CHECK(!list && density == 1 && prxi_stream_error(&s) == PRX_OK, "dense step");
    call.step = 12;
    call.args.q_len = 7;
    p->select(priv, &s, &call, &list, &density);
    CHECK(prxi_stream_error(&s) == PRX_EINVAL, "another size is refused");
    prxi_clear(&ctx);
    CHECK(prxi_option_set(&ctx, p->options, priv, "attention.", "dense_timesteps", "51") == PRX_OK
              && p->plan(priv, &ctx, &env, &plan) == PRX_EINVAL, "warm-up longer than the run");
    static const char *const dense[][2] = { { "dense_timesteps", "50" }, { "dense_layers", "4" }, { "decay", "1000" } };
    for (size_t i = 0; i < 3; i++) {    /* nothing sparse is left: refused, never run as dense */
        prxi_clear(&ctx);
        REQUIRE(prxi_option_defaults(&ctx, p->options, priv) == PRX_OK, "%s", ctx.error.text);
        CHECK(prxi_option_set(&ctx, p->options, priv, "attention.", dense[i][0], dense[i][1]) == PRX_OK
                  && p->plan(priv, &ctx, &env, &plan) == PRX_EINVAL && strstr(ctx.error.text, "--attention dense"), "%s %s: %s",
              dense[i][0], dense[i][1], ctx.error.text);
    }
    prxi_clear(&ctx);
    CHECK(prxi_option_set(&ctx, p->options, priv, "attention.", "decay", "0") != PRX_OK, "decay 0");
    prxi_clear(&ctx);
    CHECK(prxi_option_set(&ctx, p->options, priv, "attention.", "block", "96") != PRX_OK, "block 96");
    prxi_clear(&ctx);
    prxi_stream_close(&s);
    p->close(priv, &ctx);
    prxi_free(&mem, priv);
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    windows();
    shrink();
    masks(VECTORS "radial_masks_small.json");
    masks(VECTORS "radial_masks_large.json");
    unfit();
    tiles();
    random_shapes(400);
    random_lists(2000);
    densities();
    build_time();
    settings();
    json();
    policy();
    CHECK(atomic_load(&mem.total) == 0, "nothing leaks");
    return TEST_END();
}
