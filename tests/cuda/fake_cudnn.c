#include "fake_cudnn.h"

#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core/dtype.h"

enum { ATTRIBUTES = 12, BYTES = 512, FAILED = 3000, WRONG = 2000, WORKSPACE = 256, BAD = 2 };

typedef struct attribute {
    int name, used;
    int64_t n;
    unsigned char bytes[BYTES];
} attribute;

typedef struct descriptor {
    int kind, whole;
    attribute a[ATTRIBUTES];
} descriptor;

static int calls, failing, alive, planned, one_config;
static size_t version_now = 91900;
static int (*watcher)(int engine);
static int large_engine = -1;
static int64_t large;

static int fails(void)
{
    return ++calls == failing;
}

static int size_of(int type)
{
    switch (type) {
    case DNN_IS_BOOL: return sizeof(bool);
    case DNN_IS_INT64: return 8;
    case DNN_IS_POINTER: case DNN_IS_DESCRIPTOR: return sizeof(void *);
    case DNN_IS_CHAR: return 1;
    default: return 4;
    }
}

static size_t version(void)
{
    return version_now;
}

static const char *error_string(int status)
{
    return status == FAILED ? "planned to fail" : "wrong use";
}

static void last_error(char *text, size_t n)
{
    if (n)
        *text = '\0';
}

static int create(void **handle)
{
    *handle = &calls;
    return fails() ? FAILED : 0;
}

static int destroy(void *handle)
{
    return handle == &calls ? 0 : WRONG;
}

static int set_stream(void *handle, void *stream)
{
    (void)stream;
    return handle == &calls && !fails() ? 0 : FAILED;
}

static int make(int kind, void **out)
{
    descriptor *d = fails() ? NULL : calloc(1, sizeof *d);
    *out = d;
    if (!d)
        return FAILED;
    d->kind = kind;
    alive++;
    return 0;
}

static int drop(void *d)
{
    alive -= d != NULL;
    free(d);
    return 0;
}

static const attribute *find(const descriptor *d, int name)
{
    for (int i = 0; i < ATTRIBUTES; i++)
        if (d->a[i].used && d->a[i].name == name)
            return &d->a[i];
    return NULL;
}

static int set(void *p, int name, int type, int64_t n, const void *values)
{
    descriptor *d = p;
    const size_t bytes = (size_t)n * (size_t)size_of(type);
    if (fails())
        return FAILED;
    if (d->whole || find(d, name))
        return WRONG;
    for (int i = 0; i < ATTRIBUTES; i++)
        if (!d->a[i].used) {
            d->a[i].used = 1;
            d->a[i].name = name;
            d->a[i].n = n;
            memcpy(d->a[i].bytes, values, bytes < BYTES ? bytes : BYTES);
            return 0;
        }
    return WRONG;
}

static void value(const descriptor *d, int name, void *out, size_t bytes)
{
    const attribute *a = find(d, name);
    memset(out, 0, bytes);
    if (a)
        memcpy(out, a->bytes, bytes);
}

static descriptor *part(const descriptor *d, int name)
{
    descriptor *p;
    value(d, name, &p, sizeof p);
    return p;
}

static int64_t engine_of(const descriptor *plan)
{
    const descriptor *config = part(plan, DNN_PLAN_CONFIG);
    int64_t engine = 0;
    if (config)
        value(config, DNN_ENGINE_INDEX, &engine, sizeof engine);
    return engine;
}

/* Into the caller's descriptor of an engine. */
static int set_engine(descriptor *engine, const descriptor *config)
{
    int64_t index;
    value(config, DNN_ENGINE_INDEX, &index, sizeof index);
    return set(engine, DNN_ENGINE_INDEX, DNN_IS_INT64, 1, &index);
}

static int finalize(void *p)
{
    static const int needs[][3] = { { DNN_TENSOR, DNN_TENSOR_ID, DNN_TENSOR_STRIDES }, { DNN_OP_SDPA, DNN_SDPA_Q, DNN_SDPA_SCALE },
                                    { DNN_OP_CONVOLUTION, DNN_OP_CONV_ALPHA, DNN_OP_CONV_Y }, { DNN_GRAPH, DNN_GRAPH_OPS, DNN_GRAPH_OPS },
                                    { DNN_PLAN, DNN_PLAN_CONFIG, DNN_PLAN_DEVICE }, { DNN_PACK, DNN_PACK_IDS, DNN_PACK_WORKSPACE } };
    descriptor *d = p;
    if (fails())
        return FAILED;
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (needs[i][0] == d->kind && (!find(d, needs[i][1]) || !find(d, needs[i][2])))
            return WRONG;
    if (d->kind == DNN_PLAN && engine_of(d) == BAD)
        return FAILED;
    d->whole = 1;
    planned += d->kind == DNN_PLAN;
    return 0;
}

/* A configuration remembers its graph and its engine. */
static int offer(const descriptor *heuristic, int type, int64_t room, int64_t *n, void **configs)
{
    static const int64_t all[2][4] = { { 7, 8, BAD, 9 }, { 7 } }, nine[2][4] = { { 9 }, { 9 } };
    const int64_t (*engines)[4] = one_config ? nine : all;
    descriptor *graph = part(heuristic, DNN_HEURISTIC_GRAPH);
    int mode;
    value(heuristic, DNN_HEURISTIC_MODE, &mode, sizeof mode);
    *n = mode == DNN_HEURISTIC_A && !one_config ? 4 : 1;
    for (int64_t i = 0; i < *n && i < room; i++) {
        descriptor *config = configs[i];
        config->whole = 0;
        if (set(config, DNN_HEURISTIC_GRAPH, type, 1, &graph) ||
            set(config, DNN_ENGINE_INDEX, DNN_IS_INT64, 1, &engines[mode != DNN_HEURISTIC_A][i]))
            return FAILED;
    }
    return 0;
}

static int get(const void *p, int name, int type, int64_t room, int64_t *n, void *values)
{
    const descriptor *d = p;
    const int64_t workspace = name == DNN_PLAN_WORKSPACE && engine_of(d) == large_engine ? large : WORKSPACE;
    if (fails() || room < 1)
        return FAILED;
    *n = 1;
    if (name == DNN_HEURISTIC_RESULTS)
        return offer(d, type, room, n, values);
    if (name == DNN_PLAN_WORKSPACE)
        memcpy(values, &workspace, sizeof workspace);
    else if (name == DNN_CONFIG_ENGINE)
        return set_engine(*(void **)values, d);
    else if (name == DNN_ENGINE_INDEX)
        value(d, DNN_ENGINE_INDEX, values, sizeof(int64_t));
    return 0;
}

/* ---- execution ---- */

typedef struct tensor {
    int64_t dims[5], strides[5];
    int type;
    void *at;
} tensor;

static tensor open_tensor(const descriptor *d, const descriptor *pack)
{
    tensor t = { .type = 0 };
    int64_t id, ids[16];
    void *pointers[16];
    const attribute *all = find(pack, DNN_PACK_IDS);
    value(d, DNN_TENSOR_ID, &id, sizeof id);
    value(d, DNN_TENSOR_TYPE, &t.type, sizeof t.type);
    value(d, DNN_TENSOR_DIMENSIONS, t.dims, sizeof t.dims);
    value(d, DNN_TENSOR_STRIDES, t.strides, sizeof t.strides);
    value(pack, DNN_PACK_IDS, ids, sizeof ids);
    value(pack, DNN_PACK_POINTERS, pointers, sizeof pointers);
    for (int64_t i = 0; i < all->n; i++)
        if (ids[i] == id)
            t.at = pointers[i];
    return t;
}

static size_t index_of(const tensor *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (size_t)(a * t->strides[1] + b * t->strides[2] + c * t->strides[3] + d * t->strides[4]);
}

static float load(const tensor *t, size_t i)
{
    return prxi_load(t->at, t->type == DNN_BF16 ? PRXI_BF16 : PRXI_F32, i);
}

typedef struct sdpa {
    tensor q, k, v, o, scale, lse, table, q_rows, kv_rows;
    int64_t room;                               /* keys that an entry may have */
    bool paged, stats;
} sdpa;

/* 0: all of it is there. */
static int open_sdpa(sdpa *s, const descriptor *op, const descriptor *pack)
{
    const struct {
        tensor *to;
        int name, needed;
    } all[] = { { &s->q, DNN_SDPA_Q, 1 }, { &s->k, DNN_SDPA_K, 1 }, { &s->v, DNN_SDPA_V, 1 }, { &s->o, DNN_SDPA_O, 1 },
                { &s->scale, DNN_SDPA_SCALE, 1 }, { &s->lse, DNN_SDPA_STATS, 0 }, { &s->table, DNN_SDPA_TABLE_K, 0 },
                { &s->q_rows, DNN_SDPA_ROWS_Q, 0 }, { &s->kv_rows, DNN_SDPA_ROWS_KV, 0 } };
    *s = (sdpa) { .stats = part(op, DNN_SDPA_STATS) != NULL, .paged = part(op, DNN_SDPA_TABLE_K) != NULL };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const descriptor *d = part(op, all[i].name);
        if (d)
            *all[i].to = open_tensor(d, pack);
        if ((d || all[i].needed) && !all[i].to->at)
            return WRONG;
    }
    if (s->paged && (part(op, DNN_SDPA_TABLE_K) != part(op, DNN_SDPA_TABLE_V) || !s->q_rows.at || !s->kv_rows.at ||
                     s->table.type != DNN_INT32 || s->q_rows.type != DNN_INT32 || s->kv_rows.type != DNN_INT32))
        return WRONG;
    s->room = s->k.dims[2] * (s->paged ? s->table.dims[2] : 1);
    return 0;
}

static int64_t word(const tensor *t, int64_t a, int64_t c)
{
    return ((const int32_t *)t->at)[a * t->strides[0] + c * t->strides[2]];
}

static size_t place(const tensor *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (size_t)(a * t->strides[0] + b * t->strides[1] + c * t->strides[2] + d * t->strides[3]);
}

/* Key j of an entry: where its head lies in k or v. */
static size_t key_at(const sdpa *s, const tensor *t, int64_t entry, int64_t head, int64_t j)
{
    return s->paged ? place(t, word(&s->table, entry, j / t->dims[2]), head, j % t->dims[2], 0) : place(t, entry, head, j, 0);
}

/* A query of a head. Keys past the last of an entry, up to a whole page, are read and count nothing. */
static void attend_row(const sdpa *s, int64_t entry, int64_t head, int64_t row, int64_t keys, double *p)
{
    const int64_t page = s->paged ? s->k.dims[2] : 1, touched = (keys + page - 1) / page * page, d = s->q.dims[3];
    const size_t q = place(&s->q, entry, head, row, 0), o = place(&s->o, entry, head, row, 0);
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < touched; j++) {
        const size_t k = key_at(s, &s->k, entry, head, j);
        double dot = 0;
        for (int64_t e = 0; e < d; e++)
            dot += (double)load(&s->q, q + (size_t)e) * load(&s->k, k + (size_t)e);
        p[j] = j < keys ? dot * *(const float *)s->scale.at : -INFINITY;
        top = fmax(top, p[j]);
    }
    for (int64_t j = 0; j < touched; j++)
        sum += p[j] = exp(p[j] - top);
    for (int64_t e = 0; e < d; e++) {
        double out = 0;
        for (int64_t j = 0; j < touched; j++)
            out += p[j] * load(&s->v, key_at(s, &s->v, entry, head, j) + (size_t)e);
        prxi_store(s->o.at, PRXI_BF16, o + (size_t)e, (float)(out / sum));
    }
    if (s->stats)
        prxi_store(s->lse.at, PRXI_F32, place(&s->lse, entry, head, row, 0), (float)(top + log(sum)));
}

/* Rows past the queries of an entry are read and overwritten. */
static void spoil_row(const sdpa *s, int64_t entry, int64_t head, int64_t row)
{
    for (int64_t e = 0; e < s->q.dims[3]; e++) {
        const float was = load(&s->q, place(&s->q, entry, head, row, e));
        prxi_store(s->o.at, PRXI_BF16, place(&s->o, entry, head, row, e), was * NAN);
    }
}

static int check_entry(const sdpa *s, int64_t entry, int64_t *rows, int64_t *keys)
{
    *rows = s->paged ? word(&s->q_rows, entry, 0) : s->q.dims[2];
    *keys = s->paged ? word(&s->kv_rows, entry, 0) : s->k.dims[2];
    if (*rows < 1 || *rows > s->q.dims[2] || *keys < 1 || *keys > s->room)
        return WRONG;
    for (int64_t j = 0; s->paged && j < *keys; j += s->k.dims[2]) {
        const int64_t page = word(&s->table, entry, j / s->k.dims[2]);
        if (page < 0 || page >= s->k.dims[0])
            return WRONG;
    }
    return 0;
}

static int attend(const descriptor *op, const descriptor *pack)
{
    sdpa s;
    int64_t rows, keys;
    int wrong = open_sdpa(&s, op, pack);
    double *p = wrong ? NULL : malloc((size_t)s.room * sizeof *p);
    for (int64_t b = 0; !wrong && b < s.q.dims[0]; b++) {
        wrong = check_entry(&s, b, &rows, &keys);
        for (int64_t h = 0; !wrong && h < s.q.dims[1]; h++)
            for (int64_t i = 0; i < s.q.dims[2]; i++)
                if (i < rows)
                    attend_row(&s, b, h, i, keys, p);
                else
                    spoil_row(&s, b, h, i);
    }
    free(p);
    return wrong;
}

static int convolve(const descriptor *op, const descriptor *bias_op, const descriptor *pack)
{
    const tensor x = open_tensor(part(op, DNN_OP_CONV_X), pack), w = open_tensor(part(op, DNN_OP_CONV_W), pack);
    const tensor b = open_tensor(part(bias_op, DNN_OP_POINTWISE_B), pack), y = open_tensor(part(bias_op, DNN_OP_POINTWISE_Y), pack);
    int64_t pad[3];
    value(part(op, DNN_OP_CONV_DESC), DNN_CONV_PAD_BEFORE, pad, sizeof pad);
    if (!x.at || !w.at || !b.at || !y.at || part(op, DNN_OP_CONV_Y) != part(bias_op, DNN_OP_POINTWISE_X))
        return WRONG;
    for (int64_t k = 0; k < y.dims[1]; k++)
        for (int64_t i = 0; i < y.dims[2] * y.dims[3] * y.dims[4]; i++) {
            const int64_t t = i / y.dims[4] / y.dims[3], r = i / y.dims[4] % y.dims[3], c = i % y.dims[4];
            double sum = load(&b, index_of(&b, k, 0, 0, 0));
            for (int64_t tap = 0; tap < w.dims[2] * w.dims[3] * w.dims[4]; tap++) {
                const int64_t u = tap / w.dims[4] / w.dims[3], m = tap / w.dims[4] % w.dims[3], n = tap % w.dims[4];
                const int64_t f = t + u - pad[0], row = r + m - pad[1], col = c + n - pad[2];
                if (f < 0 || f >= x.dims[2] || row < 0 || row >= x.dims[3] || col < 0 || col >= x.dims[4])
                    continue;
                for (int64_t e = 0; e < x.dims[1]; e++)
                    sum += (double)load(&x, index_of(&x, e, f, row, col)) * load(&w, (size_t)(k * w.strides[0]) + index_of(&w, e, u, m, n));
            }
            prxi_store(y.at, PRXI_BF16, index_of(&y, k, t, r, c), (float)sum);
        }
    return 0;
}

/* The host cannot touch the memory of the emulated device: that is what this is while it computes. Where the emulation is not part of this
 * program it is in the module; without one, memory is the host's. */
static void be_device(const char *call)
{
    const char *module = getenv("PRAXINO_CUDA_MODULE");
    void *library = dlopen(module && *module ? module : NULL, RTLD_NOW | RTLD_NOLOAD), *entry = library ? dlsym(library, call) : NULL;
    void (*fn)(void) = NULL;
    memcpy(&fn, &entry, sizeof fn);
    if (fn)
        fn();
    if (library)
        dlclose(library);
}

static int execute(void *handle, void *plan, void *pack)
{
    const descriptor *graph = part(part(plan, DNN_PLAN_CONFIG), DNN_HEURISTIC_GRAPH);
    const descriptor *ops[2] = { NULL, NULL };
    const attribute *all = find(graph, DNN_GRAPH_OPS);
    void *workspace;
    value(pack, DNN_PACK_WORKSPACE, &workspace, sizeof workspace);
    if (fails() || handle != &calls || !workspace || (watcher && watcher((int)engine_of(plan))))
        return FAILED;
    be_device("emu_device_begin");
    memset(workspace, 0x7f, WORKSPACE);
    memcpy(ops, all->bytes, (size_t)all->n * sizeof *ops);
    const int status = ops[0]->kind == DNN_OP_SDPA ? attend(ops[0], pack) : convolve(ops[0], ops[1], pack);
    be_device("emu_device_end");
    return status;
}

const prxi_cudnn_api *fake_cudnn(void)
{
    static const prxi_cudnn_api api = { version, error_string, last_error, create, destroy, set_stream, make, drop, finalize, set, get,
                                        execute };
    return &api;
}

void fake_cudnn_workspace(int engine, int64_t bytes)
{
    large_engine = engine;
    large = bytes;
}

int fake_cudnn_fail(int n)
{
    const int seen = calls;
    calls = 0;
    failing = n;
    return seen;
}

int fake_cudnn_alive(void)
{
    return alive;
}

int fake_cudnn_planned(void)
{
    const int n = planned;
    planned = 0;
    return n;
}

void fake_cudnn_version(size_t v)
{
    version_now = v;
}

void fake_cudnn_configs(int one)
{
    one_config = one;
}

void fake_cudnn_watch(int (*ran)(int engine))
{
    watcher = ran;
}
