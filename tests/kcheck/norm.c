/* Checks of LayerNorm with gate and modulation, and of RMS norm with rotation. */
#include "kcheck.h"

static const prxi_dtype types[] = { PRXI_F32, PRXI_BF16 };

typedef struct ln_case {
    int64_t rows, dim;
    int has_o, has_gate, has_mul, has_out;
} ln_case;

static double out_round(prxi_dtype t, double want)
{
    return t == PRXI_BF16 ? KC_HALF_BF16 * fabs(want) + 1e-40 : 0;
}

/* out against LayerNorm in double of the x that the kernel left. Three sources: the mean (error c eps max|x|, the sum running in
 * 4 or more parts), the scale (relative), the last multiply-add. */
static void compare_ln(kc_worst *w, const prxi_ln_args *a, prxi_dtype t)
{
    for (int64_t r = 0; r < a->rows; r++) {
        const size_t base = (size_t)(r * a->dim);
        double mean = 0, var = 0, top = 0;
        for (int64_t i = 0; i < a->dim; i++) {
            const double v = prxi_load(a->x, t, base + (size_t)i);
            mean += v / (double)a->dim;
            top = fmax(top, fabs(v));
        }
        for (int64_t i = 0; i < a->dim; i++) {
            const double v = prxi_load(a->x, t, base + (size_t)i) - mean;
            var += v * v / (double)a->dim;
        }
        const double scale = 1 / sqrt(var + a->eps);
        for (int64_t i = 0; i < a->dim; i++) {
            const double mul = a->mul ? a->mul[i] : 1, add = a->add ? a->add[i] : 0;
            const double norm = (prxi_load(a->x, t, base + (size_t)i) - mean) * scale, want = norm * mul + add;
            const double tol = KC_EPS * (8 * top * scale * fabs(mul) + (8 + 0.25 * sqrt((double)a->dim)) * fabs(norm * mul) +
                                         fabs(want)) + out_round(t, want);
            kc_compare(w, base + (size_t)i, prxi_load(a->out, t, base + (size_t)i), want, tol);
        }
    }
}

static void check_ln(kc *k, prxi_dtype t, const ln_case *c, kc_input kind)
{
    const size_t n = (size_t)(c->rows * c->dim), bytes = n * prxi_dtype_size(t), vec = (size_t)c->dim * sizeof(float);
    kc_buf x0 = kc_alloc(bytes), o = kc_alloc(bytes), x = kc_alloc(bytes), out = kc_alloc(bytes), x3 = kc_alloc(bytes),
           out3 = kc_alloc(bytes), gate = kc_alloc(vec), mul = kc_alloc(vec), add = kc_alloc(vec);
    kc_fill(k, x0.p, t, n, (size_t)c->dim, kind);
    kc_fill(k, o.p, t, n, (size_t)c->dim, kind);
    kc_fill(k, gate.p, PRXI_F32, (size_t)c->dim, 1, KC_UNIFORM);
    kc_fill(k, mul.p, PRXI_F32, (size_t)c->dim, 1, KC_UNIFORM);
    kc_fill(k, add.p, PRXI_F32, (size_t)c->dim, 1, KC_UNIFORM);
    memcpy(x.p, x0.p, bytes);
    memcpy(x3.p, x0.p, bytes);
    prxi_ln_args a = { .rows = c->rows, .dim = c->dim, .x = x.p, .o = c->has_o ? o.p : NULL,
                       .gate = c->has_gate ? gate.p : NULL, .mul = c->has_mul ? mul.p : NULL,
                       .add = c->has_mul ? add.p : NULL, .eps = 1e-6f, .out = c->has_out ? out.p : NULL };
    k->norm.layernorm[t](&k->one, &a);
    prxi_ln_args a3 = a;
    a3.x = x3.p;
    a3.out = c->has_out ? out3.p : NULL;
    k->norm.layernorm[t](&k->three, &a3);
    kc_same_bytes(k, x.p, x3.p, bytes, "x, threads");
    kc_same_bytes(k, out.p, out3.p, bytes, "out, threads");
    kc_worst wx = { 0 }, wo = { 0 };
    for (size_t i = 0; i < n; i++) {
        const double x_in = prxi_load(x0.p, t, i), g = c->has_gate ? ((float *)gate.p)[i % (size_t)c->dim] : 1;
        const double d = c->has_o ? prxi_load(o.p, t, i) * g : 0, want = x_in + d;
        const double tol = c->has_o ? KC_EPS * (fabs(want) + fabs(d)) + 1e-44 + out_round(t, want) : 0;
        kc_compare(&wx, i, prxi_load(x.p, t, i), want, tol);
    }
    kc_close(k, &wx, "x");
    if (c->has_out) {
        compare_ln(&wo, &a, t);
        kc_close(k, &wo, "out");
        if (c->has_o) {            /* out may be o itself */
            memcpy(x3.p, x0.p, bytes);
            a3.out = o.p;
            k->norm.layernorm[t](&k->one, &a3);
            kc_same_bytes(k, o.p, out.p, bytes, "out over o");
        }
    }
    kc_buf *const all[] = { &x0, &o, &x, &out, &x3, &out3, &gate, &mul, &add };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kc_guards(k, all[i], "layernorm");
        kc_free(all[i]);
    }
}

typedef struct rms_case {
    int64_t rows, dim, pad, rope_rows;
    int head_dim, in_place;
} rms_case;

/* Error of the scale (relative, sum in parts), and of two roundings per product. */
static void compare_rms(kc_worst *w, const prxi_rms_args *a, prxi_dtype t, const void *x)
{
    for (int64_t r = 0; r < a->rows; r++) {
        double sum = 0;
        for (int64_t i = 0; i < a->dim; i++) {
            const double v = prxi_load(x, t, (size_t)(r * a->ldx + i));
            sum += v * v;
        }
        const double scale = 1 / sqrt(sum / (double)a->dim + a->eps);
        for (int64_t i = 0; i < a->dim; i++) {
            const double v = prxi_load(x, t, (size_t)(r * a->ldx + i)) * scale * a->weight[i];
            double want = v, mag = fabs(v);
            if (a->rope) {
                const int64_t j = i ^ 1, p = (r % a->rope_rows) * a->head_dim + i % a->head_dim / 2 * 2;
                const double other = prxi_load(x, t, (size_t)(r * a->ldx + j)) * scale * a->weight[j];
                want = v * a->rope[p] + (i & 1 ? 1 : -1) * other * a->rope[p + 1];
                mag = fabs(v) + fabs(other);
            }
            const double tol = KC_EPS * (6 + 0.25 * sqrt((double)a->dim)) * mag + 1e-44 + out_round(t, want);
            kc_compare(w, (size_t)(r * a->dim + i), prxi_load(a->out, t, (size_t)(r * a->ldo + i)), want, tol);
        }
    }
}

static void check_rms(kc *k, prxi_dtype t, const rms_case *c, kc_input kind)
{
    const int64_t ld = c->dim + c->pad;
    const size_t n = (size_t)(c->rows * ld), bytes = n * prxi_dtype_size(t);
    const size_t rope_n = (size_t)(c->rope_rows * c->head_dim);
    kc_buf x = kc_alloc(bytes), copy = kc_alloc(bytes), out = kc_alloc(bytes), out3 = kc_alloc(bytes),
           weight = kc_alloc((size_t)c->dim * 4), rope = kc_alloc(rope_n * 4 + 4);
    kc_fill(k, x.p, t, n, (size_t)ld, kind);
    memcpy(copy.p, x.p, bytes);
    kc_fill(k, weight.p, PRXI_F32, (size_t)c->dim, 1, KC_UNIFORM);
    for (size_t i = 0; i + 1 < rope_n; i += 2) {
        const float angle = 3.0f * kc_uniform(k);
        ((float *)rope.p)[i] = cosf(angle);
        ((float *)rope.p)[i + 1] = sinf(angle);
    }
    if (c->in_place) {
        memcpy(out.p, x.p, bytes);
        memcpy(out3.p, x.p, bytes);
    }
    prxi_rms_args a = { .rows = c->rows, .dim = c->dim, .x = c->in_place ? out.p : x.p, .ldx = ld, .weight = weight.p,
                        .eps = 1e-6f, .rope = rope_n ? rope.p : NULL, .rope_rows = c->rope_rows,
                        .head_dim = c->head_dim, .out = out.p, .ldo = ld };
    k->norm.rmsnorm[t](&k->one, &a);
    prxi_rms_args a3 = a;
    a3.x = c->in_place ? out3.p : x.p;
    a3.out = out3.p;
    k->norm.rmsnorm[t](&k->three, &a3);
    kc_same_bytes(k, out.p, out3.p, bytes, "threads");
    kc_same_bytes(k, x.p, copy.p, bytes, "input kept");
    kc_worst w = { 0 };
    compare_rms(&w, &a, t, x.p);
    kc_close(k, &w, "out");
    kc_buf *const all[] = { &x, &copy, &out, &out3, &weight, &rope };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kc_guards(k, all[i], "rmsnorm");
        kc_free(all[i]);
    }
}

typedef struct norm_bench {
    kc *k;
    prxi_dtype t;
    prxi_ln_args ln;
    prxi_rms_args rms;
} norm_bench;

static void bench_ln(void *cookie)
{
    norm_bench *b = cookie;
    b->k->norm.layernorm[b->t](&b->k->one, &b->ln);
}

static void bench_rms(void *cookie)
{
    norm_bench *b = cookie;
    b->k->norm.rmsnorm[b->t](&b->k->one, &b->rms);
}

/* The sizes of a 1.3 B Wan at 256 x 256 x 17: 1280 tokens, twice with guidance. */
static void bench(kc *k, prxi_dtype t)
{
    enum { ROWS = 2560, DIM = 1536, HEAD = 128 };
    const size_t n = (size_t)ROWS * DIM, bytes = n * prxi_dtype_size(t);
    kc_buf x = kc_alloc(bytes), o = kc_alloc(bytes), out = kc_alloc(bytes), w = kc_alloc(DIM * 4),
           rope = kc_alloc((size_t)ROWS / 2 * HEAD * 4);
    kc_fill(k, x.p, t, n, DIM, KC_UNIFORM);
    kc_fill(k, o.p, t, n, DIM, KC_ZERO);
    kc_fill(k, w.p, PRXI_F32, DIM, 1, KC_UNIFORM);
    kc_fill(k, rope.p, PRXI_F32, (size_t)ROWS / 2 * HEAD, 1, KC_UNIFORM);
    norm_bench b = { .k = k, .t = t,
        .ln = { .rows = ROWS, .dim = DIM, .x = x.p, .o = o.p, .gate = w.p, .mul = w.p, .add = w.p, .eps = 1e-6f,
                .out = out.p },
        .rms = { .rows = ROWS, .dim = DIM, .x = x.p, .ldx = DIM, .weight = w.p, .eps = 1e-6f, .rope = rope.p,
                 .rope_rows = ROWS / 2, .head_dim = HEAD, .out = out.p, .ldo = DIM } };
    if (kc_begin(k, "layernorm_gate %s %dx%d", prxi_dtype_name(t), ROWS, DIM))
        kc_time(k, bench_ln, &b, 4.0 * (double)bytes, 0);
    if (kc_begin(k, "rmsnorm_rope %s %dx%d", prxi_dtype_name(t), ROWS, DIM))
        kc_time(k, bench_rms, &b, 2.0 * (double)bytes + (double)ROWS * HEAD * 4, 0);
    kc_buf *const all[] = { &x, &o, &out, &w, &rope };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        kc_free(all[i]);
}

static void check(kc *k)
{
    static const ln_case ln[] = { { 1, 1, 1, 1, 1, 1 }, { 3, 7, 1, 0, 1, 1 }, { 2, 100, 0, 0, 1, 1 }, { 5, 256, 1, 1, 0, 1 },
                                  { 61, 1536, 1, 1, 1, 1 }, { 9, 67, 1, 1, 1, 0 }, { 40, 1000, 0, 0, 0, 1 } };
    static const rms_case rms[] = { { 1, 2, 0, 1, 2, 0 }, { 5, 7, 0, 0, 0, 0 }, { 6, 48, 5, 4, 24, 0 }, { 7, 30, 1, 7, 10, 1 },
                                    { 33, 1536, 3072, 11, 128, 1 }, { 30, 1536, 0, 0, 0, 0 }, { 5, 256, 0, 5, 64, 0 } };
    for (size_t d = 0; d < 2; d++) {
        if (k->bench) {
            bench(k, types[d]);
            continue;
        }
        for (int kind = 0; kind < KC_INPUTS; kind++) {
            for (size_t i = 0; i < sizeof ln / sizeof *ln; i++)
                if (kc_begin(k, "layernorm %s case %zu %s", prxi_dtype_name(types[d]), i, kc_input_name[kind]))
                    check_ln(k, types[d], &ln[i], (kc_input)kind);
            for (size_t i = 0; i < sizeof rms / sizeof *rms; i++)
                if (kc_begin(k, "rmsnorm %s case %zu %s", prxi_dtype_name(types[d]), i, kc_input_name[kind]))
                    check_rms(k, types[d], &rms[i], (kc_input)kind);
        }
    }
}

int main(int argc, char **argv)
{
    return kc_main(argc, argv, check);
}
