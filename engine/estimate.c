/* Calibration: every kind of operation of a block is timed on a part of its work, the part chosen by doubling until it takes a few
 * hundredths of a second, so that a slow machine or instruction set costs no more than a fast one. */
#include "engine/estimate.h"

#include <math.h>
#include <string.h>

#include "engine/job.h"

enum { MOST_ROWS = 2048, MOST_OUT = 2048, TEXT_ROWS = 32 };
static const double target = 0.03;             /* seconds of a timed part */
/* Content decides what SVG2 keeps. Its published densities at p = 0.9 are 0.25 to 0.31. */
static const double assumed_density = 0.3;

typedef struct rig {
    prxi_ctx *c;
    prxi_stream *s;
    const prxi_estimate_env *env;
    unsigned char *x, *y;           /* operands; what they hold does not change the time */
    size_t bytes;                   /* of each */
    prxi_linear *linear;
    int64_t in, out;
    prxi_attn_args attn;
} rig;

typedef void (*part_fn)(rig *r, int64_t n);

static double timed(rig *r, part_fn fn, int64_t n)
{
    double best = INFINITY;
    for (int i = 0; i < 2; i++) {
        const double begin = prxi_now();
        fn(r, n);
        const double t = prxi_now() - begin;
        best = t < best ? t : best;
    }
    return best;
}

/* Doubles n until a run takes long enough; *seconds of the last. */
static int64_t grow(rig *r, part_fn fn, int64_t n, int64_t most, double *seconds)
{
    n = n < most ? n : most;
    *seconds = timed(r, fn, n);
    while (n < most && *seconds < target / 2 && !prxi_stream_error(r->s)) {
        n = 2 * n < most ? 2 * n : most;
        *seconds = timed(r, fn, n);
    }
    return n;
}

/* ---- parts ---- */

static void linear_part(rig *r, int64_t rows)
{
    prxi_linear_run(r->s, r->linear, rows, r->x, r->in, r->y, r->out);
}

/* Seconds per row of a layer of these sizes: of at most MOST_OUT of its outputs. */
static int linear_time(rig *r, int64_t out, int64_t in, int64_t rows, double *per_row)
{
    const prxi_dtype t = r->env->dtype;
    double seconds;
    r->in = in;
    r->out = out < MOST_OUT ? out : MOST_OUT;
    const size_t bytes = prxi_mul((size_t)(r->out * in), prxi_dtype_size(t));
    void *weight = prxi_alloc(r->c->mem, PRXI_MEM_MISC, bytes);
    if (!weight)
        return prxi_fail_nomem(r->c, "calibration", bytes);
    memset(weight, 0x3f, bytes);
    const prxi_linear_desc d = { .weight = weight, .weight_dtype = t, .n = r->out, .k = in, .compute = t, .out = t,
                                 .isa = r->env->kernels->isa };
    const int err = prxi_linear_open(r->c, &r->linear, &d);
    prxi_free(r->c->mem, weight);
    if (err < 0)
        return err;
    const int64_t n = grow(r, linear_part, 4, rows < MOST_ROWS ? rows : MOST_ROWS, &seconds);
    *per_row = seconds / (double)n * (double)out / (double)r->out;
    prxi_linear_close(r->c, &r->linear);
    return PRX_OK;
}

static void norm_part(rig *r, int64_t rows)
{
    const int64_t dim = (int64_t)r->env->dit->heads * r->env->dit->head_dim;
    const prxi_ln_args a = { .rows = rows, .dim = dim, .x = r->x, .o = r->y, .eps = 1e-6f, .out = r->y };
    r->env->kernels->norm.layernorm[r->env->dtype](r->s, &a);
}

static void attention_part(rig *r, int64_t queries)
{
    r->attn.q_len = queries;
    r->env->kernels->attn.dense[r->env->dtype](r->s, &r->attn);
}

/* Seconds of one head: a part that is the same for any number of queries (packing the keys) and one that grows with them. */
static double attention_time(rig *r, int64_t keys)
{
    const int d = r->env->dit->head_dim;
    const int64_t all = r->env->tokens;
    double t, half;
    r->attn = (prxi_attn_args) { 1, d, 0, keys, r->x, r->x, r->x, r->y, d, d, d, d, 1.0f / sqrtf((float)d), 0.0f, NULL };
    const int64_t n = grow(r, attention_part, 16, all, &t);
    if (n == all || n < 32)
        return t * (double)all / (double)n;
    half = timed(r, attention_part, n / 2);
    const double slope = (t - half) / (double)(n - n / 2);
    return slope > 0 ? t + slope * (double)(all - n) : t * (double)all / (double)n;
}

/* ---- the step ---- */

static int allocate(rig *r)
{
    const prxi_dit_config *d = r->env->dit;
    const int64_t dim = (int64_t)d->heads * d->head_dim, wide = d->ffn_dim > dim ? d->ffn_dim : dim;
    const size_t rows = prxi_mul(MOST_ROWS, (size_t)wide), head = prxi_mul((size_t)r->env->tokens, (size_t)d->head_dim);
    r->bytes = prxi_mul(rows > head ? rows : head, prxi_dtype_size(r->env->dtype));
    r->x = prxi_alloc(r->c->mem, PRXI_MEM_MISC, r->bytes);
    r->y = prxi_alloc(r->c->mem, PRXI_MEM_MISC, r->bytes);
    if (!r->x || !r->y)
        return prxi_fail_nomem(r->c, "calibration", 2 * r->bytes);
    memset(r->x, 0x3f, r->bytes);
    memset(r->y, 0x3f, r->bytes);
    return PRX_OK;
}

static int measure(rig *r, prxi_estimate *e)
{
    const prxi_estimate_env *v = r->env;
    const prxi_dit_config *d = v->dit;
    const int64_t dim = (int64_t)d->heads * d->head_dim, rows = v->tokens * v->branches;
    double square, up, down, norm;
    int err;
    if ((err = linear_time(r, dim, dim, rows, &square)) < 0 || (err = linear_time(r, d->ffn_dim, dim, rows, &up)) < 0 ||
        (err = linear_time(r, dim, d->ffn_dim, rows, &down)) < 0)
        return err;
    const int64_t n = grow(r, norm_part, 4, rows < MOST_ROWS ? rows : MOST_ROWS, &norm);
    const double calls = (double)v->branches * d->heads, self = attention_time(r, v->tokens) * calls;
    const double text = attention_time(r, TEXT_ROWS < v->tokens ? TEXT_ROWS : v->tokens) * calls;
    const double rest = (double)rows * (6 * square + up + down + 7 * norm / (double)n) + text;
    const double head = (double)v->tokens * v->tokens * d->head_dim * 4;
    const double chosen = v->attn->select_flop * v->branches * self / (head * calls);
    const int dense = v->attn->dense_layers;
    e->density = isnan(v->attn->sparse_density) ? assumed_density : v->attn->sparse_density;
    e->dense_step = d->layers * (rest + self);
    e->sparse_step = d->layers * rest + dense * self + (d->layers - dense) * (e->density * self + chosen);
    return prxi_stream_error(r->s);
}

int prxi_estimate_run(prxi_ctx *c, prxi_stream *s, const prxi_estimate_env *env, prxi_estimate *out)
{
    const prxi_dit_config *d = env->dit;
    const double dim = (double)d->heads * d->head_dim, tokens = (double)env->tokens, calls = (double)env->branches * d->layers;
    rig r = { .c = c, .s = s, .env = env };
    const double begin = prxi_now();
    *out = (prxi_estimate) { .linear_flop = 2 * calls * tokens * (6 * dim * dim + 2 * dim * (double)d->ffn_dim),
                             .attention_flop = 4 * calls * tokens * tokens * dim };
    int err = allocate(&r);
    if (err == PRX_OK)
        err = measure(&r, out);
    prxi_free(c->mem, r.x);
    prxi_free(c->mem, r.y);
    out->spent = prxi_now() - begin;
    return err;
}

cJSON *prxi_estimate_json(const prxi_estimate *e, const prxi_attn_plan *attn, int layers, int steps, int computed)
{
    const int sparse = !(attn->sparse_density >= 1.0), n = computed < 0 ? steps : computed;
    const int warm = !sparse || attn->dense_steps > n ? n : attn->dense_steps;
    const double share = sparse ? (1 - (double)warm / (n > 0 ? n : 1)) * (1 - (double)attn->dense_layers / layers) : 0;
    const double dense = e->linear_flop + e->attention_flop, saved = share * (1 - e->density) * e->attention_flop;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "dense_step_gflop", dense * 1e-9);
    cJSON_AddNumberToObject(o, "attention_share", e->attention_flop / dense);
    if (sparse) {
        cJSON_AddNumberToObject(o, "sparse_density", e->density);
        if (isnan(attn->sparse_density))
            cJSON_AddBoolToObject(o, "sparse_density_is_assumed", 1);
        cJSON_AddNumberToObject(o, "attention_density", 1 - share * (1 - e->density));
        cJSON_AddNumberToObject(o, "flops_saved", saved / dense);
    }
    cJSON_AddNumberToObject(o, "dense_step_seconds", e->dense_step);
    if (sparse)
        cJSON_AddNumberToObject(o, "sparse_step_seconds", e->sparse_step);
    cJSON_AddNumberToObject(o, computed < 0 ? "denoise_seconds_at_most" : "denoise_seconds",
                            warm * e->dense_step + (n - warm) * e->sparse_step);
    cJSON_AddNumberToObject(o, "calibration_seconds", e->spent);
    return o;
}
