/* Loading cuDNN, plans by shape, and execution. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn.h"

enum { PLANS = 128, KEY = 14 };

typedef struct plan {
    int64_t key[KEY];                       /* key[0]: what; 0: free */
    prxi_cudnn_build build;
} plan;

struct prxi_cudnn {
    prxi_cudnn_api api;
    void *library, *handle;
    prxi_device *device;
    prxi_cudnn_build properties;            /* holds the descriptor of the device */
    void *device_desc, *workspace;
    int64_t workspace_bytes;
    plan plans[PLANS];
    int next;
};

/* ---- loading ---- */

static int missing(prxi_ctx *c, const char *file, const char *why)
{
    return prxi_fail(c, PRX_ENOTSUP, "cuDNN: %s: %s", file, why ? why : "cannot be loaded");
}

int prxi_cudnn_load(prxi_ctx *c, prxi_cudnn_api *api, void **library)
{
    const char *set = getenv("PRAXINO_CUDNN"), *file = set && *set ? set : "libcudnn.so.9";
    const struct {
        const char *name;
        void *slot;
    } want[] = {
        { "cudnnGetVersion", &api->version },
        { "cudnnGetErrorString", &api->error_string },
        { "cudnnGetLastErrorString", &api->last_error },
        { "cudnnCreate", &api->create },
        { "cudnnDestroy", &api->destroy },
        { "cudnnSetStream", &api->set_stream },
        { "cudnnBackendCreateDescriptor", &api->make },
        { "cudnnBackendDestroyDescriptor", &api->drop },
        { "cudnnBackendFinalize", &api->finalize },
        { "cudnnBackendSetAttribute", &api->set },
        { "cudnnBackendGetAttribute", &api->get },
        { "cudnnBackendExecute", &api->execute },
    };
    *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!*library)
        return missing(c, file, dlerror());
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        void *entry = dlsym(*library, want[i].name);
        if (!entry) {
            const int err = prxi_fail(c, PRX_ENOTSUP, "cuDNN: %s has no %s", file, want[i].name);
            dlclose(*library);
            *library = NULL;
            return err;
        }
        memcpy(want[i].slot, &entry, sizeof entry);
    }
    return PRX_OK;
}

/* Describes the device to cuDNN, and takes a handle of it unless there is only a profile. */
static int describe_device(prxi_ctx *c, prxi_cudnn *u, const char *profile, void *stream)
{
    prxi_cudnn_build *b = &u->properties;
    const int32_t first = 0;
    b->api = &u->api;
    u->device_desc = prxi_cudnn_make(b, DNN_DEVICE);
    if (profile)
        prxi_cudnn_set(b, u->device_desc, DNN_DEVICE_JSON, DNN_IS_CHAR, (int64_t)strlen(profile), profile);
    else
        prxi_cudnn_set(b, u->device_desc, DNN_DEVICE_ID, DNN_IS_INT32, 1, &first);
    prxi_cudnn_finish(b, u->device_desc);
    if (b->failed)
        return prxi_fail(c, PRX_ENOTSUP, "cuDNN: %s: %s", profile ? "device profile" : "device 0", b->why);
    if (profile)
        return PRX_OK;
    int status = u->api.create(&u->handle);
    if (!status)
        status = u->api.set_stream(u->handle, stream);
    return status ? prxi_fail(c, PRX_ENOTSUP, "cuDNN: handle: %s", u->api.error_string(status)) : PRX_OK;
}

int prxi_cudnn_open(prxi_ctx *c, prxi_cudnn **out, const prxi_cudnn_api *api, void *library, const char *profile, prxi_device *device,
                    void *stream)
{
    prxi_cudnn *u = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *u);
    *out = NULL;
    if (!u) {
        if (library)
            dlclose(library);
        return prxi_fail_nomem(c, "cuDNN", sizeof *u);
    }
    u->api = *api;
    u->library = library;
    u->device = device;
    const size_t version = api->version();
    int err = PRX_OK;
    if (version < PRXI_CUDNN_OLDEST || version / 10000 != PRXI_CUDNN_OLDEST / 10000)
        err = prxi_fail(c, PRX_ENOTSUP, "cuDNN: version %zu.%zu is here, 9.%d or a later 9 is needed", version / 10000,
                        version / 100 % 100, PRXI_CUDNN_OLDEST / 100 % 100);
    if (err == PRX_OK)
        err = describe_device(c, u, profile, stream);
    if (err < 0)
        prxi_cudnn_close(c, &u);
    *out = u;
    return err;
}

void prxi_cudnn_close(prxi_ctx *c, prxi_cudnn **p)
{
    prxi_cudnn *u = *p;
    *p = NULL;
    if (!u)
        return;
    for (int i = 0; i < PLANS; i++)
        prxi_cudnn_drop(&u->plans[i].build);
    prxi_cudnn_drop(&u->properties);
    if (u->handle)
        u->api.destroy(u->handle);
    prxi_device_free(c, u->device, u->workspace);
    if (u->library)
        dlclose(u->library);
    prxi_free(c->mem, u);
}

size_t prxi_cudnn_version(const prxi_cudnn *u)
{
    return u->api.version();
}

/* ---- plans ---- */

enum { ATTENTION = 1, CONVOLUTION };

static void key_attn(int64_t key[KEY], const prxi_cudnn_attn *s, int from)
{
    const int64_t k[KEY] = { ATTENTION, s->heads, s->head_dim, s->lse != 0, s->q_len, s->kv_len, s->ldq, s->ldk, s->ldv, s->ldo,
                             s->rows, s->page, s->pages, from };
    memcpy(key, k, sizeof k);
}

static void key_conv(int64_t key[KEY], const prxi_cudnn_conv *s, int from)
{
    const int64_t k[KEY] = { CONVOLUTION, s->in, s->out, s->frames, s->height, s->width, s->kt, s->kh, s->kw, s->x_row, s->y_row, from };
    memcpy(key, k, sizeof k);
}

/* The plan of this key, or a free entry to make it in. The caller sees by build.plan. */
static plan *find(prxi_cudnn *u, const int64_t key[KEY])
{
    for (int i = 0; i < PLANS; i++)
        if (memcmp(u->plans[i].key, key, sizeof u->plans[i].key) == 0 && u->plans[i].build.plan)
            return &u->plans[i];
    plan *p = &u->plans[u->next];
    u->next = (u->next + 1) % PLANS;
    prxi_cudnn_drop(&p->build);
    memset(p, 0, sizeof *p);
    memcpy(p->key, key, sizeof p->key);
    p->build.api = &u->api;
    return p;
}

static int finish(prxi_ctx *c, prxi_cudnn *u, plan *p, void *graph, int from, const char *what, prxi_cudnn_plan_info *info)
{
    if (graph || p->build.failed)
        prxi_cudnn_plan(&p->build, graph, u->device_desc, from);
    if (!p->build.plan) {
        const int err = prxi_fail(c, PRX_ENOTSUP, "cuDNN: %s cannot be planned: %s", what, p->build.why);
        prxi_cudnn_drop(&p->build);
        memset(p->key, 0, sizeof p->key);
        return err;
    }
    if (info)
        *info = p->build.info;
    return PRX_OK;
}

static int plan_attn(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_attn *s, int from, prxi_cudnn_plan_info *info, plan **out)
{
    int64_t key[KEY];
    key_attn(key, s, from);
    *out = find(u, key);
    return finish(c, u, *out, (*out)->build.plan ? NULL : prxi_cudnn_graph_attn(&(*out)->build, s), from, "attention", info);
}

static int plan_conv(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_conv *s, int from, prxi_cudnn_plan_info *info, plan **out)
{
    int64_t key[KEY];
    key_conv(key, s, from);
    *out = find(u, key);
    return finish(c, u, *out, (*out)->build.plan ? NULL : prxi_cudnn_graph_conv(&(*out)->build, s), from, "convolution", info);
}

int prxi_cudnn_plan_attn(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_attn *s, int from, prxi_cudnn_plan_info *info)
{
    plan *p;
    return plan_attn(c, u, s, from, info, &p);
}

int prxi_cudnn_plan_conv(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_conv *s, int from, prxi_cudnn_plan_info *info)
{
    plan *p;
    return plan_conv(c, u, s, from, info, &p);
}

static void forget(prxi_cudnn *u, const int64_t key[KEY])
{
    for (int i = 0; i < PLANS; i++)
        if (memcmp(u->plans[i].key, key, sizeof u->plans[i].key) == 0) {
            prxi_cudnn_drop(&u->plans[i].build);
            memset(&u->plans[i], 0, sizeof u->plans[i]);
        }
}

void prxi_cudnn_drop_attn(prxi_cudnn *u, const prxi_cudnn_attn *s, int from)
{
    int64_t key[KEY];
    key_attn(key, s, from);
    forget(u, key);
}

void prxi_cudnn_drop_conv(prxi_cudnn *u, const prxi_cudnn_conv *s, int from)
{
    int64_t key[KEY];
    key_conv(key, s, from);
    forget(u, key);
}

/* ---- execution ---- */

/* One workspace for all plans: the device does one thing after the other. */
static int grow(prxi_ctx *c, prxi_cudnn *u, int64_t bytes)
{
    if (bytes <= u->workspace_bytes)
        return PRX_OK;
    prxi_device_free(c, u->device, u->workspace);
    u->workspace_bytes = 0;
    u->workspace = prxi_device_alloc(c, u->device, PRXI_MEM_SCRATCH, (size_t)bytes);
    if (!u->workspace)
        return prxi_fail_nomem(c, "workspace of cuDNN on the device", (size_t)bytes);
    u->workspace_bytes = bytes;
    return PRX_OK;
}

static int run(prxi_ctx *c, prxi_cudnn *u, plan *p, int n, const int64_t *ids, void *const *pointers, const char *what)
{
    int err = grow(c, u, p->build.info.workspace);
    if (err < 0)
        return err;
    if (!u->handle)
        return prxi_fail(c, PRX_ENOTSUP, "cuDNN: %s: there is a profile, no device", what);
    prxi_cudnn_build b = { .api = &u->api };
    void *pack = prxi_cudnn_make(&b, DNN_PACK);
    prxi_cudnn_set(&b, pack, DNN_PACK_IDS, DNN_IS_INT64, n, ids);
    prxi_cudnn_set(&b, pack, DNN_PACK_POINTERS, DNN_IS_POINTER, n, pointers);
    prxi_cudnn_set(&b, pack, DNN_PACK_WORKSPACE, DNN_IS_POINTER, 1, &u->workspace);
    prxi_cudnn_finish(&b, pack);
    if (b.failed) {
        err = prxi_fail(c, PRX_EIO, "cuDNN: %s: %s", what, b.why);
    } else {
        const int status = u->api.execute(u->handle, p->build.plan, pack);
        err = status ? prxi_fail(c, PRX_EIO, "cuDNN: %s: %s", what, u->api.error_string(status)) : PRX_OK;
    }
    prxi_cudnn_drop(&b);
    return err;
}

/* A pointer that cuDNN only reads. */
static void *plain(const void *p)
{
    return (void *)(uintptr_t)p;
}

int prxi_cudnn_attention(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_attn *s, int from, const prxi_cudnn_operands *x)
{
    float scale = x->scale;
    int64_t ids[9] = { DNN_Q, DNN_K, DNN_V, DNN_O, DNN_SCALE };
    void *pointers[9] = { plain(x->q), plain(x->k), plain(x->v), x->o, &scale };
    int n = 5;
    plan *p;
    if (s->lse) {
        ids[n] = DNN_STATS;
        pointers[n++] = x->lse;
    }
    const int32_t *const tables[3] = { x->table, x->q_rows, x->kv_rows };
    for (int i = 0; i < 3 && s->page; i++) {
        ids[n] = DNN_TABLE + i;
        pointers[n++] = plain(tables[i]);
    }
    const int err = plan_attn(c, u, s, from, NULL, &p);
    return err < 0 ? err : run(c, u, p, n, ids, pointers, "attention");
}

int prxi_cudnn_convolution(prxi_ctx *c, prxi_cudnn *u, const prxi_cudnn_conv *s, int from, const void *x, const void *w, const void *bias,
                           void *y)
{
    const int64_t ids[4] = { DNN_X, DNN_W, DNN_BIAS, DNN_Y };
    void *const pointers[4] = { plain(x), plain(w), plain(bias), y };
    plan *p;
    const int err = plan_conv(c, u, s, from, NULL, &p);
    return err < 0 ? err : run(c, u, p, 4, ids, pointers, "convolution");
}
