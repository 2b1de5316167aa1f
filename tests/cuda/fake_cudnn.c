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

static int calls, failing, alive, planned;
static size_t version_now = 91900;
static int (*watcher)(int engine);

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
    static const int64_t engines[2][4] = { { 7, 8, BAD, 9 }, { 7 } };
    descriptor *graph = part(heuristic, DNN_HEURISTIC_GRAPH);
    int mode;
    value(heuristic, DNN_HEURISTIC_MODE, &mode, sizeof mode);
    *n = mode == DNN_HEURISTIC_A ? 4 : 1;
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
    const int64_t workspace = WORKSPACE;
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

static int attend(const descriptor *op, const descriptor *pack)
{
    const tensor q = open_tensor(part(op, DNN_SDPA_Q), pack), k = open_tensor(part(op, DNN_SDPA_K), pack);
    const tensor v = open_tensor(part(op, DNN_SDPA_V), pack), o = open_tensor(part(op, DNN_SDPA_O), pack);
    const tensor scale = open_tensor(part(op, DNN_SDPA_SCALE), pack);
    const descriptor *stats = part(op, DNN_SDPA_STATS);
    const tensor lse = stats ? open_tensor(stats, pack) : (tensor) { .at = NULL };
    if (!q.at || !k.at || !v.at || !o.at || !scale.at || (stats && !lse.at))
        return WRONG;
    double *p = malloc((size_t)k.dims[2] * sizeof *p);
    for (int64_t h = 0; h < q.dims[1]; h++)
        for (int64_t i = 0; i < q.dims[2]; i++) {
            double top = -INFINITY, sum = 0;
            for (int64_t j = 0; j < k.dims[2]; j++) {
                double dot = 0;
                for (int64_t e = 0; e < q.dims[3]; e++)
                    dot += (double)load(&q, index_of(&q, h, i, e, 0)) * load(&k, index_of(&k, h, j, e, 0));
                p[j] = dot * *(const float *)scale.at;
                top = fmax(top, p[j]);
            }
            for (int64_t j = 0; j < k.dims[2]; j++)
                sum += p[j] = exp(p[j] - top);
            for (int64_t e = 0; e < q.dims[3]; e++) {
                double out = 0;
                for (int64_t j = 0; j < k.dims[2]; j++)
                    out += p[j] * load(&v, index_of(&v, h, j, e, 0));
                prxi_store(o.at, PRXI_BF16, index_of(&o, h, i, e, 0), (float)(out / sum));
            }
            if (stats)
                prxi_store(lse.at, PRXI_F32, index_of(&lse, h, i, 0, 0), (float)(top + log(sum)));
        }
    free(p);
    return 0;
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

void fake_cudnn_watch(int (*ran)(int engine))
{
    watcher = ran;
}
