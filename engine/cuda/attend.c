/* Who serves a call of attention: cuDNN (lists by pages of keys), the kernel for Hopper, or the portable one; measured once per shape,
 * remembered on disk. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cuda.h"
#include "engine/core/sha256.h"

enum { TRIED = 4, RUNS = 3 };               /* cuDNN's configurations that are timed; runs of each after a first */

/* ---- what cuDNN has a form of ---- */

static int aligned(const void *p, int64_t ld)
{
    return (uintptr_t)p % 16 == 0 && ld % 8 == 0;
}

/* It has no bias of the last key. */
static int cudnn_takes(const prxi_cuda *u, const prxi_attn_args *a, prxi_dtype t)
{
    return u->cudnn && t == PRXI_BF16 && (a->head_dim == 64 || a->head_dim == 128) && a->kv_len > 0 && a->tail_bias == 0 &&
           aligned(a->q, a->ldq) && aligned(a->k, a->ldk) && aligned(a->v, a->ldv) && aligned(a->o, a->ldo);
}

static prxi_cudnn_attn cudnn_shape(const prxi_attn_args *a, const prxi_cuda_pages *p)
{
    return (prxi_cudnn_attn) { a->heads, a->head_dim, a->lse != NULL, a->q_len, a->kv_len, a->ldq, a->ldk, a->ldv, a->ldo,
                               p ? p->rows : 0, p ? p->page : 0, p ? p->pages : 0 };
}

/* ---- the ways ---- */

static int by_cudnn(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, int config)
{
    prxi_cudnn_operands x = { a->q, a->k, a->v, a->o, a->lse, a->scale, NULL, NULL, NULL };
    prxi_cuda_pages p;
    const int err = b ? prxi_cuda_put_pages(u, &u->own, a, b, &p, &x) : PRX_OK;
    const prxi_cudnn_attn s = cudnn_shape(a, b && err == PRX_OK ? &p : NULL);
    return err < 0 ? err : prxi_cudnn_attention(&u->own, u->cudnn, &s, config, &x);
}

static int by_hopper(prxi_cuda *u, prxi_cu_attn *x, prxi_dtype t)
{
    const int err = x->copies ? PRX_OK : prxi_cuda_room(&u->own, u, u->module->attention90_copies(x));
    if (!x->copies)
        x->copies = u->room;
    return err < 0 ? err : u->module->attention90(u->dev, t, x);
}

/* For our kernels; the list is put in by prxi_cuda_put_list. */
static prxi_cu_attn own_args(const prxi_attn_args *a)
{
    return (prxi_cu_attn) { .heads = a->heads, .head_dim = a->head_dim, .q_len = a->q_len, .kv_len = a->kv_len, .q = a->q, .k = a->k,
                            .v = a->v, .o = a->o, .ldq = a->ldq, .ldk = a->ldk, .ldv = a->ldv, .ldo = a->ldo, .scale = a->scale,
                            .tail_bias = a->tail_bias, .lse = a->lse };
}

/* One of our kernels: the one for Hopper where that is wanted and it takes the shape; `strict`: or no other. */
static int by_own(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t, int hopper, int strict)
{
    prxi_cu_attn x = own_args(a);
    const int err = prxi_cuda_put_list(u, &u->own, a, b, &x);
    if (err < 0)
        return err;
    if (hopper && u->module->attention90_takes(t, &x))
        return by_hopper(u, &x, t);
    return strict ? prxi_fail(&u->own, PRX_ENOTSUP, "attn90: not for this shape") : u->module->attention(u->dev, t, &x);
}

static int run(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_cuda_server by, int config)
{
    return by == PRXI_BY_CUDNN ? by_cudnn(u, a, b, config) : by_own(u, a, b, PRXI_BF16, by == PRXI_BY_ATTN90, by == PRXI_BY_ATTN90);
}

/* ---- who ---- */

static prxi_cuda_attn_shape shape_of(const prxi_attn_args *a, const prxi_block_list *b)
{
    const int64_t most = PRXI_ATTN_ROOM;
    return (prxi_cuda_attn_shape) { a->heads, a->head_dim, a->lse != NULL, a->tail_bias != 0, a->q_len, a->kv_len, a->ldq, a->ldk,
                                    a->ldv, a->ldo, a->room < most ? a->room : most, b ? b->id : 0 };
}

/* Lists that change, or are made on the device, have no times. */
static int is_fixed(const prxi_block_list *b)
{
    return !b || (b->id && !b->device && !b->per_head && !b->q_perm && !b->k_perm);
}

static prxi_cuda_attn_choice *find(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t)
{
    const prxi_cuda_attn_shape s = shape_of(a, b);
    for (int i = 0; i < u->n_attns && t == PRXI_BF16 && is_fixed(b); i++)
        if (memcmp(&u->attns[i].shape, &s, sizeof s) == 0)
            return &u->attns[i];
    return NULL;
}

/* Only cuDNN may serve these calls. */
static int must_cudnn(const prxi_cuda *u, int list)
{
    return u->want == (list ? PRXI_CUDA_PAGED : PRXI_CUDA_CUDNN);
}

/* Whether times count here. */
static int is_open(const prxi_cuda *u, int list)
{
    return u->want == PRXI_CUDA_AUTO || u->want == PRXI_CUDA_PAGED || (u->want == PRXI_CUDA_CUDNN && !list);
}

static prxi_cuda_server best(const prxi_cuda *u, const prxi_cuda_attn_choice *k)
{
    prxi_cuda_server by = PRXI_BY_ATTN;
    if (must_cudnn(u, k->shape.list != 0))
        return PRXI_BY_CUDNN;
    for (int i = 1; i < PRXI_CUDA_SERVERS; i++)
        if (k->us[i] >= 0 && (k->us[by] < 0 || k->us[i] < k->us[by]))
            by = (prxi_cuda_server)i;
    return by;
}

const char *prxi_cuda_attn_by(const prxi_cuda *u, const prxi_cuda_attn_choice *k)
{
    static const char *const names[] = { "attn", "attn90", "cudnn" };
    const prxi_cuda_server by = best(u, k);
    return by == PRXI_BY_CUDNN && k->shape.list ? "cudnn pages" : names[by];
}

/* Without times: cuDNN what is dense, if it has a plan. */
static int first_of_cudnn(prxi_cuda *u, const prxi_attn_args *a)
{
    const prxi_cudnn_attn s = cudnn_shape(a, NULL);
    if (must_cudnn(u, 0) || prxi_cudnn_plan_attn(&u->own, u->cudnn, &s, 0, NULL) == PRX_OK)
        return 1;
    prxi_logf(&u->own, PRX_LOG_WARN, "attention of %lld x %lld tokens: own kernel, as %s", (long long)a->q_len, (long long)a->kv_len,
              u->own.error.text);
    prxi_clear(&u->own);
    return 0;
}

int prxi_cuda_attend(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t)
{
    const int takes = is_open(u, b != NULL) && cudnn_takes(u, a, t);
    const int hopper = u->want == PRXI_CUDA_HOPPER ? u->info.hopper : u->hopper && u->want != PRXI_CUDA_PORTABLE;
    prxi_clear(&u->own);
    const prxi_cuda_attn_choice *k = is_open(u, b != NULL) ? find(u, a, b, t) : NULL;
    if (b && must_cudnn(u, 1) && !takes)
        return prxi_fail(&u->own, PRX_ENOTSUP, "PRAXINO_CUDA_ATTENTION: paged: cuDNN has no form of this list's call");
    if (k && (takes || best(u, k) != PRXI_BY_CUDNN))
        return run(u, a, b, best(u, k), k->config);
    if (takes && (b ? must_cudnn(u, 1) : first_of_cudnn(u, a)))
        return by_cudnn(u, a, b, 0);
    return by_own(u, a, b, t, hopper, 0);
}

/* ---- right or wrong: rows of the first, the middle and the last tile beside the plain kernel's ---- */

enum { PARTS = 3 };
static const double most_wrong = 0.02;      /* root mean square, of that of the output; roundings to bf16 give 0.005 at most */

typedef struct sample {
    const prxi_attn_args *a;
    prxi_cu_tile tile[PARTS];
    size_t values;                          /* of a part, at most */
    prxi_bf16 *want, *got;
} sample;

/* The rows of every part as o holds them now. */
static int look(prxi_cuda *u, const sample *s, prxi_bf16 *to)
{
    const prxi_attn_args *a = s->a;
    int err = PRX_OK;
    for (int i = 0; i < PARTS && err == PRX_OK; i++)
        for (int r = 0; r < s->tile[i].rows && err == PRX_OK; r++)
            err = u->module->get(u->dev, to + (size_t)i * s->values + (size_t)r * (size_t)(a->heads * a->head_dim),
                                 (const prxi_bf16 *)a->o + (s->tile[i].first + r) * a->ldo,
                                 (size_t)(a->heads * a->head_dim) * sizeof *to);
    return err;
}

static void close_sample(prxi_cuda *u, sample *s)
{
    prxi_free(u->own.mem, s->want);
    prxi_free(u->own.mem, s->got);
}

static int open_sample(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, sample *s)
{
    prxi_cu_attn x = own_args(a);
    x.lse = NULL;
    *s = (sample) { .a = a, .values = (size_t)PRXI_CU_TILE_ROWS * (size_t)(a->heads * a->head_dim) };
    s->want = prxi_calloc(u->own.mem, PRXI_MEM_SCRATCH, PARTS * s->values, sizeof *s->want);
    s->got = prxi_calloc(u->own.mem, PRXI_MEM_SCRATCH, PARTS * s->values, sizeof *s->got);
    int err = s->want && s->got ? prxi_cuda_put_list(u, &u->own, a, b, &x)
                                : prxi_fail_nomem(&u->own, "attention", 2 * PARTS * s->values * sizeof *s->want);
    const prxi_cu_tile *all = x.tiles;
    const int at[PARTS] = { 0, x.n_tiles / 2, x.n_tiles - 1 };
    x.n_tiles = 1;
    for (int i = 0; i < PARTS && err == PRX_OK; i++) {
        x.tiles = all + at[i];
        err = u->module->attention_simple(u->dev, PRXI_BF16, &x);
        if (err == PRX_OK)
            err = u->module->get(u->dev, &s->tile[i], all + at[i], sizeof s->tile[i]);
    }
    return err == PRX_OK ? look(u, s, s->want) : err;
}

/* What somebody has just left in o: -1 in *us, and a line in the log, when it is wrong. */
static int judge(prxi_cuda *u, const sample *s, const char *who, double *us)
{
    double off = 0, all = 0;
    const int err = look(u, s, s->got);
    for (size_t i = 0; i < PARTS * s->values && err == PRX_OK; i++) {
        const double want = (double)prxi_bf16_to_f32(s->want[i]), got = (double)prxi_bf16_to_f32(s->got[i]);
        off += (got - want) * (got - want);
        all += want * want;
    }
    if (err == PRX_OK && !(off <= most_wrong * most_wrong * all)) {
        prxi_logf(&u->own, PRX_LOG_WARN, "attention of %lld x %lld tokens: %s is off by %.3g of the output on this device: not used",
                  (long long)s->a->q_len, (long long)s->a->kv_len, who, sqrt(off / all));
        *us = -1;
    }
    return err;
}

/* ---- measuring ---- */

/* Microseconds of a run, or the error of it. */
static int measure(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_cuda_server by, int config, double *us)
{
    float ms = 0;
    int err = run(u, a, b, by, config);
    if (err == PRX_OK)
        err = u->module->mark(u->dev, 0);
    for (int i = 0; i < RUNS && err == PRX_OK; i++)
        err = run(u, a, b, by, config);
    if (err == PRX_OK)
        err = u->module->mark(u->dev, 1);
    if (err == PRX_OK)
        err = u->module->between(u->dev, &ms);
    *us = (double)ms * 1000 / RUNS;
    return err;
}

/* The fastest of cuDNN's configurations; one that cannot be planned or does not run is passed over. No memory is an error. */
static int best_of_cudnn(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, const prxi_cudnn_attn *s, const sample *right,
                         prxi_cuda_attn_choice *k)
{
    prxi_cudnn_plan_info info;
    double *best_us = &k->us[PRXI_BY_CUDNN];
    for (int i = 0, from = 0; i < TRIED; i++, from = info.config + 1) {
        double us;
        int err = prxi_cudnn_plan_attn(&u->own, u->cudnn, s, from, &info);
        if (err < 0) {                      /* no further one */
            prxi_clear(&u->own);
            return err == PRX_ENOMEM ? err : PRX_OK;
        }
        err = measure(u, a, b, PRXI_BY_CUDNN, from, &us);
        if (err == PRX_OK)
            err = judge(u, right, "cuDNN", &us);
        if (err == PRX_ENOMEM)
            return err;
        const int better = err == PRX_OK && us >= 0 && (*best_us < 0 || us < *best_us);
        if (better && *best_us >= 0)
            prxi_cudnn_drop_attn(u->cudnn, s, k->config);
        if (!better || from != info.config)
            prxi_cudnn_drop_attn(u->cudnn, s, from);
        if (better) {
            k->config = info.config;
            k->engine = info.engine;
            *best_us = us;
        }
        prxi_clear(&u->own);
    }
    return PRX_OK;
}

/* ---- on disk: "microseconds of attn:of attn90:of cuDNN:its configuration:its engine" ---- */

/* 16 digits that stand for a list. */
static void digest_of(const prxi_block_list *b, char out[65])
{
    const size_t nq = (size_t)b->nq, nk = (size_t)b->nk;
    prxi_sha256 h;
    prxi_sha256_init(&h);
    prxi_sha256_add(&h, b->q_start, (nq + 1) * sizeof *b->q_start);
    prxi_sha256_add(&h, b->k_start, (nk + 1) * sizeof *b->k_start);
    prxi_sha256_add(&h, b->row_ptr, (nq + 1) * sizeof *b->row_ptr);
    prxi_sha256_add(&h, b->cols, (size_t)b->row_ptr[nq] * sizeof *b->cols);
    prxi_sha256_hex(&h, out);
    out[16] = '\0';
}

static void key_of(const prxi_cuda *u, const prxi_cuda_attn_choice *k, const prxi_block_list *b, char key[PRXI_CHOICE_KEY])
{
    const prxi_cuda_attn_shape *s = &k->shape;
    char device[96], list[65] = "dense";
    prxi_cuda_device_word(u, device, sizeof device);
    if (b)
        digest_of(b, list);
    snprintf(key, PRXI_CHOICE_KEY, "attention/%s/cudnn-%zu/%s/%s/%d:%dx%d:%lldx%lld:%lld:%lld:%lld:%lld:%d:%d:%d/%s", device,
             u->cudnn ? prxi_cudnn_version(u->cudnn) : 0, prxi_cuda_source_hash(u, "attn"), prxi_cuda_source_hash(u, "attn90"),
             u->hopper, s->heads, s->head_dim, (long long)s->q_len, (long long)s->kv_len, (long long)s->ldq, (long long)s->ldk,
             (long long)s->ldv, (long long)s->ldo, s->lse, s->tail, k->page, list);
}

static int parse(const char *text, prxi_cuda_attn_choice *k)
{
    double *us = k->us;
    long long engine;
    int used = 0;
    if (sscanf(text, "%lf:%lf:%lf:%d:%lld%n", &us[0], &us[1], &us[2], &k->config, &engine, &used) != 5 || text[used])
        return 0;
    k->engine = engine;
    for (int i = 0; i < PRXI_CUDA_SERVERS; i++)
        if (!(us[i] >= 0) && !(us[i] <= -1 && us[i] >= -1))
            return 0;
    return k->config >= 0 && (us[0] >= 0 || us[1] >= 0 || us[2] >= 0);
}

/* What was remembered, if cuDNN still means the same by it. */
static int recall(prxi_cuda *u, const prxi_cudnn_attn *s, const char *key, prxi_cuda_attn_choice *k)
{
    const char *text = prxi_choices_get(u->choices, key);
    prxi_cudnn_plan_info info;
    if (!text)
        return 0;
    if (!parse(text, k)) {
        prxi_logf(&u->own, PRX_LOG_WARN, "what is remembered of attention, '%s', has no meaning; it is measured again", text);
        return 0;
    }
    if (k->us[PRXI_BY_CUDNN] < 0)
        return 1;
    const int same = s && prxi_cudnn_plan_attn(&u->own, u->cudnn, s, k->config, &info) == PRX_OK && info.config == k->config &&
                     info.engine == k->engine;
    if (!same)
        prxi_logf(&u->own, PRX_LOG_INFO, "cuDNN's configuration %d is another one than before; attention is measured again", k->config);
    prxi_clear(&u->own);
    return same;
}

/* One of our kernels; where it does not take the shape it has no time. */
static int time_own(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_cuda_server by, const sample *right,
                    prxi_cuda_attn_choice *k)
{
    int err = measure(u, a, b, by, 0, &k->us[by]);
    if (err == PRX_OK)
        return judge(u, right, by == PRXI_BY_ATTN ? "attn" : "attn90", &k->us[by]);
    if (err == PRX_ENOTSUP && by == PRXI_BY_ATTN90) {
        k->us[by] = -1;
        prxi_clear(&u->own);
        err = PRX_OK;
    }
    return err;
}

/* s NULL: cuDNN has no form of it. */
static int time_all(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, const prxi_cudnn_attn *s, prxi_cuda_attn_choice *k)
{
    sample right;
    int err = open_sample(u, a, b, &right);
    if (err == PRX_OK)
        err = time_own(u, a, b, PRXI_BY_ATTN, &right, k);
    if (err == PRX_OK && u->hopper)
        err = time_own(u, a, b, PRXI_BY_ATTN90, &right, k);
    if (err == PRX_OK && s)
        err = best_of_cudnn(u, a, b, s, &right, k);
    close_sample(u, &right);
    if (err == PRX_OK && k->us[0] < 0 && k->us[1] < 0 && k->us[2] < 0)
        err = prxi_fail(&u->own, PRX_ENUMERIC, "attention of %lld x %lld tokens: no kernel gives right numbers on this device",
                        (long long)a->q_len, (long long)a->kv_len);
    return err;
}

/* The share of pairs that a list keeps. */
static double density_of(const prxi_attn_args *a, const prxi_block_list *b)
{
    double kept = 0;
    for (int q = 0; b && q < b->nq; q++)
        for (int64_t i = b->row_ptr[q]; i < b->row_ptr[q + 1]; i++)
            kept += (double)(b->q_start[q + 1] - b->q_start[q]) * (double)(b->k_start[b->cols[i] + 1] - b->k_start[b->cols[i]]);
    return b ? kept / ((double)a->q_len * (double)a->kv_len) : 1;
}

static int decide(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_cuda_attn_choice *k)
{
    char key[PRXI_CHOICE_KEY], value[PRXI_CHOICE_VALUE];
    prxi_cuda_pages p = { 0, 0, 0, 0 };
    const int cudnn = cudnn_takes(u, a, PRXI_BF16) && (!b || !prxi_cuda_page_shape(a, b, &p));
    const prxi_cudnn_attn s = cudnn_shape(a, b ? &p : NULL);
    const prxi_cuda_attn_choice fresh = { .shape = shape_of(a, b), .us = { -1, -1, -1 }, .density = density_of(a, b),
                                          .page = cudnn ? p.page : 0 };
    *k = fresh;
    key_of(u, k, b, key);
    if (recall(u, cudnn ? &s : NULL, key, k)) {
        k->recalled = 1;
        return PRX_OK;
    }
    *k = fresh;
    int err = time_all(u, a, b, cudnn ? &s : NULL, k);
    if (err == PRX_OK && b && best(u, k) != PRXI_BY_CUDNN)
        prxi_cuda_drop_pages(u, &u->own, a, b);
    if (err < 0)
        return err;
    snprintf(value, sizeof value, "%.1f:%.1f:%.1f:%d:%lld", k->us[0], k->us[1], k->us[2], k->config, (long long)k->engine);
    err = prxi_choices_put(&u->own, u->choices, key, value);
    if (err == PRX_OK)
        prxi_choices_save(&u->own, u->choices);
    return err;
}

static void say(prxi_cuda *u, const prxi_cuda_attn_choice *k)
{
    const prxi_cuda_attn_shape *s = &k->shape;
    prxi_logf(&u->own, PRX_LOG_INFO, "attention, %d heads of %d, %lld x %lld tokens, density %.2f: %s (microseconds of attn %.0f, attn90 "
              "%.0f, cuDNN %.0f by engine %lld; -1: not for it)%s", s->heads, s->head_dim, (long long)s->q_len, (long long)s->kv_len,
              k->density, prxi_cuda_attn_by(u, k), k->us[PRXI_BY_ATTN], k->us[PRXI_BY_ATTN90], k->us[PRXI_BY_CUDNN],
              (long long)k->engine, k->recalled ? ", as remembered" : "");
}

int prxi_cuda_attend_prepare(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t)
{
    const double work = 2 * (double)a->q_len * (double)a->kv_len * a->heads * a->head_dim;
    prxi_clear(&u->own);
    if (!u->tune || t != PRXI_BF16 || !is_open(u, b != NULL) || !is_fixed(b) || !(work * density_of(a, b) >= u->least_timed))
        return PRX_OK;
    prxi_cuda_attn_choice *k = find(u, a, b, t);
    if (!k && u->n_attns == PRXI_CUDA_ATTNS)
        u->n_attns = 0;                     /* shapes of other clips: begin anew */
    if (!k) {
        k = &u->attns[u->n_attns];
        const int err = decide(u, a, b, k);
        if (err < 0)
            return err;
        u->n_attns++;
        say(u, k);
    }
    if (must_cudnn(u, b != NULL) && k->us[PRXI_BY_CUDNN] < 0 && (b || cudnn_takes(u, a, t)))
        return prxi_fail(&u->own, PRX_ENOTSUP, "PRAXINO_CUDA_ATTENTION: %s: it has no plan for %lld x %lld tokens that runs",
                         b ? "paged" : "cudnn", (long long)a->q_len, (long long)a->kv_len);
    return PRX_OK;
}

int prxi_cuda_attend_try(prxi_cuda *u, prxi_cuda_attention by, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t)
{
    const prxi_cuda_attention want = u->want;
    u->want = by;
    const int err = prxi_cuda_attend(u, a, b, t);
    u->want = want;
    u->own_failed = u->own.error.code < 0;
    return err == PRX_OK ? u->module->sync(u->dev) : err;
}

int prxi_cuda_plan_list(prxi_ctx *c, const prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t, size_t *bytes)
{
    prxi_cuda_pages p;
    size_t part[3];
    const char *why = !cudnn_takes(u, a, t) ? "it has bf16 and heads of 64 and 128 alone"
                      : b ? prxi_cuda_page_shape(a, b, &p) : "lists that change from call to call have none";
    *bytes = 0;
    if (why && must_cudnn(u, 1))
        return prxi_fail(c, PRX_ENOTSUP, "PRAXINO_CUDA_ATTENTION: paged: %s", why);
    if (!why && (u->want == PRXI_CUDA_PAGED || (u->want == PRXI_CUDA_AUTO && u->tune)))
        *bytes = prxi_cuda_page_words(&p, part) * sizeof(int32_t);
    return PRX_OK;
}
