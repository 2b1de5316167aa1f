/* Calibration: every kind of operation of a block is timed on a part of its work. A part that is too short to tell grows, so a slow
 * machine or instruction set costs no more than a fast one. Parts take turns and the fastest turn counts: a busy moment of the machine
 * spoils one turn of each part, and not all that is known of one. */
#include "engine/estimate.h"

#include <math.h>
#include <string.h>

#include "engine/job.h"

enum { MOST_ROWS = 2048, MOST_OUT = 2048, TEXT_ROWS = 32 };
enum { TURNS = 8, GROWING = 5, LEAST = 3 };     /* in all; in which parts may grow; that are taken whatever they cost */
static const int64_t sizes[] = { 4, 48, 240, 720, INT64_MAX };      /* rows or queries of a part: 240 queries are a task */
/* Seconds of a part that does not grow. Of attention the packing is taken off, which must be small beside the rest. */
static const double enough = 0.01, enough_self = 0.03;
static const double budget = 0.2;               /* seconds of all turns, each taken as the fastest */
/* Content decides what SVG2 keeps. Its published densities at p = 0.9 are 0.25 to 0.31. */
static const double assumed_density = 0.3;

enum { SQUARE, UP, DOWN, NORM, PACK, SELF, TEXT, PARTS };

typedef struct rig rig;

typedef struct part {
    void (*run)(const rig *r, const struct part *p);
    int size;                       /* index of sizes */
    int64_t n, most, times;         /* rows or queries, now and at most; of each size */
    double enough;
    double seconds;                 /* of the fastest turn of n */
    prxi_linear *linear;
    int64_t in, out;
    int heads;                      /* of attention */
    int64_t keys, ld;
} part;

struct rig {
    prxi_ctx *c;
    prxi_stream *s;
    const prxi_estimate_env *env;
    unsigned char *x, *y;           /* operands; what they hold does not change the time */
    part part[PARTS];
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- turns ---- */

static void resize(part *p, int size)
{
    p->size = size;
    p->n = sizes[size] < p->most / p->times ? sizes[size] * p->times : p->most;
    p->seconds = INFINITY;
}

/* Seconds of the fastest turn so far. */
static double take_turn(const rig *r, part *p)
{
    const double begin = prxi_now();
    p->run(r, p);
    const double t = prxi_now() - begin;
    p->seconds = t < p->seconds ? t : p->seconds;
    return p->seconds;
}

static int take_turns(rig *r)
{
    double spent = 0;
    int grew = 0;
    for (int t = 0; t < TURNS && (grew || t < LEAST || spent < budget) && !prxi_stream_error(r->s); t++) {
        grew = 0;
        for (int i = 0; i < PARTS; i++) {
            part *p = &r->part[i];
            const double seconds = take_turn(r, p);
            spent += seconds;
            if (t < GROWING && seconds < p->enough && p->n < p->most) {
                resize(p, p->size + 1);
                grew = 1;
            }
        }
    }
    return prxi_stream_error(r->s);
}

/* ---- parts ---- */

static void run_linear(const rig *r, const part *p)
{
    prxi_linear_run(r->s, p->linear, p->n, r->x, p->in, r->y, p->out);
}

static void run_norm(const rig *r, const part *p)
{
    const prxi_ln_args a = { .rows = p->n, .dim = p->in, .x = r->x, .o = r->y, .eps = 1e-6f, .out = r->y };
    r->env->kernels->norm.layernorm[r->env->dtype](r->s, &a);
}

static void run_attention(const rig *r, const part *p)
{
    const int d = r->env->dit->head_dim;
    const prxi_attn_args a = { p->heads, d, p->n, p->keys, r->x, r->x, r->x, r->y, p->ld, p->ld, p->ld, (int64_t)p->heads * d,
                               1.0f / sqrtf((float)d), 0.0f, NULL, 0 };
    r->env->kernels->attn.dense[r->env->dtype](r->s, &a);
}

/* A layer of these sizes, at most MOST_OUT of its outputs. */
static int open_linear(rig *r, part *p, int64_t out, int64_t in)
{
    const prxi_dtype t = r->env->dtype;
    *p = (part) { .run = run_linear, .in = in, .out = min64(out, MOST_OUT),
                  .most = min64(r->env->tokens * r->env->branches, MOST_ROWS), .times = 1, .enough = enough };
    const size_t bytes = prxi_mul((size_t)(p->out * in), prxi_dtype_size(t));
    void *weight = prxi_alloc(r->c->mem, PRXI_MEM_MISC, bytes);
    if (!weight)
        return prxi_fail_nomem(r->c, "calibration", bytes);
    memset(weight, 0x3f, bytes);
    const prxi_linear_desc d = { .weight = weight, .weight_dtype = t, .n = p->out, .k = in, .compute = t, .out = t,
                                 .isa = r->env->kernels->isa };
    const int err = prxi_linear_open(r->c, &p->linear, &d);
    prxi_free(r->c->mem, weight);
    return err;
}

/* Self-attention of one head, with queries for every thread: threads share the keys of a head in a cache, as they do in a step. PACK is
 * what does not depend on the number of queries. */
static void open_attention(rig *r)
{
    const prxi_dit_config *d = r->env->dit;
    const int64_t tokens = r->env->tokens, rows = min64(tokens, MOST_ROWS);
    r->part[SELF] = (part) { .run = run_attention, .heads = 1, .keys = tokens, .ld = d->head_dim, .most = tokens,
                             .times = r->s->n_threads, .enough = enough_self };
    r->part[PACK] = r->part[SELF];
    r->part[PACK].most = 1;
    r->part[TEXT] = (part) { .run = run_attention, .heads = d->heads, .keys = min64(TEXT_ROWS, tokens),
                             .ld = (int64_t)d->heads * d->head_dim, .most = rows, .times = 1, .enough = enough };
}

static int open_parts(rig *r)
{
    const prxi_dit_config *d = r->env->dit;
    const int64_t dim = (int64_t)d->heads * d->head_dim;
    int err;
    if ((err = open_linear(r, &r->part[SQUARE], dim, dim)) < 0 || (err = open_linear(r, &r->part[UP], d->ffn_dim, dim)) < 0 ||
        (err = open_linear(r, &r->part[DOWN], dim, d->ffn_dim)) < 0)
        return err;
    r->part[NORM] = (part) { .run = run_norm, .in = dim, .most = r->part[SQUARE].most, .times = 1,
                             .enough = enough };
    open_attention(r);
    for (int i = 0; i < PARTS; i++)
        resize(&r->part[i], 0);
    return PRX_OK;
}

/* ---- the step ---- */

static int allocate(rig *r)
{
    const prxi_dit_config *d = r->env->dit;
    const int64_t dim = (int64_t)d->heads * d->head_dim, wide = d->ffn_dim > dim ? d->ffn_dim : dim;
    const int64_t all = r->env->tokens * r->env->branches;
    const size_t rows = prxi_mul((size_t)min64(all, MOST_ROWS), (size_t)wide);
    const size_t keys = prxi_mul((size_t)r->env->tokens, (size_t)d->head_dim);
    const size_t bytes = prxi_mul(rows > keys ? rows : keys, prxi_dtype_size(r->env->dtype));
    r->x = prxi_alloc(r->c->mem, PRXI_MEM_MISC, bytes);
    r->y = prxi_alloc(r->c->mem, PRXI_MEM_MISC, bytes);
    if (!r->x || !r->y)
        return prxi_fail_nomem(r->c, "calibration", prxi_mul(2, bytes));
    memset(r->x, 0x3f, bytes);
    memset(r->y, 0x3f, bytes);
    return PRX_OK;
}

static double each(const part *p)
{
    return p->seconds / (double)p->n;
}

/* Seconds of one layer: what goes row by row, and dense self-attention. */
static double row_time(const rig *r)
{
    const prxi_dit_config *d = r->env->dit;
    const part *p = r->part;
    const double dim = (double)d->heads * d->head_dim, ffn = (double)d->ffn_dim;
    const double linear = (6 * each(&p[SQUARE]) + each(&p[DOWN])) * dim / (double)p[SQUARE].out + each(&p[UP]) * ffn / (double)p[UP].out;
    return (double)r->env->tokens * r->env->branches * (linear + 7 * each(&p[NORM]) + each(&p[TEXT]));
}

static double self_time(const rig *r)
{
    const part *p = &r->part[SELF];
    const double pack = r->part[PACK].seconds, more = (double)r->env->tokens / (double)p->n;
    const double seconds = pack < p->seconds ? pack + (p->seconds - pack) * more : p->seconds * more;
    return seconds * r->env->branches * r->env->dit->heads / p->heads;
}

static void add_up(const rig *r, prxi_estimate *e)
{
    const prxi_estimate_env *v = r->env;
    const prxi_dit_config *d = v->dit;
    const double rest = row_time(r), self = self_time(r);
    const double flop = 4 * (double)v->tokens * (double)v->tokens * d->head_dim * v->branches * d->heads;
    const double chosen = v->attn->select_flop * v->branches * self / flop;
    const double cost = v->attn->pair_cost > 0 ? v->attn->pair_cost : 1;
    const int dense = v->attn->dense_layers;
    e->density = isnan(v->attn->sparse_density) ? assumed_density : v->attn->sparse_density;
    e->density_slope = cost * self;
    e->dense_step = d->layers * (rest + self);
    e->sparse_step = d->layers * rest + dense * self + (d->layers - dense) * (e->density * e->density_slope + chosen);
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
    if (err == PRX_OK && (err = open_parts(&r)) == PRX_OK && (err = take_turns(&r)) == PRX_OK)
        add_up(&r, out);
    for (int i = 0; i < PARTS; i++)
        prxi_linear_close(c, &r.part[i].linear);
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
