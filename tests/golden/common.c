/* Shared by the golden tests. */
#include "common.h"

const char *const golden_names[] = { "wan21_unipc", "wan21_euler", "wan22_a14b", "wan22_ti2v", "wan21_dpmpp", "wan21_patch2", NULL };
prxi_mem golden_mem;
prxi_ctx golden_ctx;

void golden_begin(void)
{
    prxi_mem_init(&golden_mem, NULL);
    golden_ctx.mem = &golden_mem;
}

static void number(golden_case *g, const char *key, int64_t *out)
{
    *out = 0;
    REQUIRE(prxi_json_int(&golden_ctx, &g->json, key, 0, INT64_C(1) << 52, out) == PRX_OK, "%s", golden_ctx.error.text);
}

static void read_settings(golden_case *g)
{
    prxi_json *j = &g->json;
    number(g, "width", &g->width);
    number(g, "height", &g->height);
    number(g, "frames", &g->frames);
    number(g, "steps", &g->steps);
    number(g, "max_text", &g->max_text);
    number(g, "branches", &g->branches);
    number(g, "frames_stride", &g->frames_stride);
    g->guidance = 1;
    REQUIRE(prxi_json_num(&golden_ctx, j, "guidance", &g->guidance) == PRX_OK, "%s", golden_ctx.error.text);
    g->guidance_2 = g->guidance;
    REQUIRE(prxi_json_num(&golden_ctx, j, "guidance_2", &g->guidance_2) == PRX_OK, "%s", golden_ctx.error.text);
    REQUIRE(prxi_json_num(&golden_ctx, j, "seed", &g->seed) == PRX_OK, "%s", golden_ctx.error.text);
    REQUIRE(prxi_json_str(&golden_ctx, j, "prompt", &g->prompt) == PRX_OK && g->prompt, "%s: prompt", g->name);
    REQUIRE(prxi_json_str(&golden_ctx, j, "negative", &g->negative) == PRX_OK, "%s", golden_ctx.error.text);
    REQUIRE(prxi_json_str(&golden_ctx, j, "scheduler", &g->scheduler) == PRX_OK && g->scheduler, "%s: scheduler", g->name);
}

void golden_open(golden_case *g, const char *name)
{
    char path[600];
    memset(g, 0, sizeof *g);
    prxi_clear(&golden_ctx);
    g->name = name;
    snprintf(g->dir, sizeof g->dir, "%s/golden/%s", PRX_VECTORS_DIR, name);
    snprintf(g->model, sizeof g->model, "%s/golden/%s/model", PRX_VECTORS_DIR, name);
    snprintf(path, sizeof path, "%s/case.json", g->dir);
    REQUIRE(prxi_json_open(&golden_ctx, &g->json, path, 0) == PRX_OK, "%s", golden_ctx.error.text);
    read_settings(g);
    snprintf(path, sizeof path, "%s/expect.safetensors", g->dir);
    REQUIRE(prxi_tensors_open_file(&golden_ctx, &g->expect, path) == PRX_OK, "%s", golden_ctx.error.text);
    const prxi_tensor *t = golden_tensor(g, "latents.000");
    REQUIRE(t->ndim == 5, "%s: latents of %d dimensions", name, t->ndim);
    g->elems = 1;
    for (int i = 0; i < 4; i++) {
        g->shape[i] = (int)t->shape[i + 1];
        g->elems *= (size_t)t->shape[i + 1];
    }
}

void golden_close(golden_case *g)
{
    prxi_tensors_close(&golden_ctx, &g->expect);
    prxi_json_close(&golden_ctx, &g->json);
}

const prxi_tensor *golden_tensor(const golden_case *g, const char *name)
{
    const prxi_tensor *t = prxi_tensors_find(g->expect, name);
    REQUIRE(t, "%s: no tensor %s", g->name, name);
    return t;
}

float *golden_floats(const golden_case *g, const char *name, size_t *n)
{
    const prxi_tensor *t = golden_tensor(g, name);
    REQUIRE(t->dtype == PRXI_F32, "%s: %s is not f32", g->name, name);
    float *out = malloc(t->bytes);
    REQUIRE(out, "memory");
    memcpy(out, t->data, t->bytes);
    *n = t->bytes / sizeof(float);
    return out;
}

static const cJSON *item(const golden_case *g, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(g->json.root, key);
    REQUIRE(v, "%s: no %s", g->name, key);
    return v;
}

int golden_ids(const golden_case *g, const char *key, int32_t *ids, int max)
{
    const cJSON *list = item(g, key), *v;
    int n = 0;
    cJSON_ArrayForEach(v, list) {
        REQUIRE(n < max, "%s: %s is too long", g->name, key);
        ids[n++] = v->valueint;
    }
    return n;
}

void golden_bf16(const golden_case *g, const char *key, int index, double rms_max[2])
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(item(g, "bf16"), key);
    if (index >= 0)
        v = cJSON_GetArrayItem(v, index);
    REQUIRE(cJSON_GetArraySize(v) == 2, "%s: bf16 %s %d", g->name, key, index);
    for (int i = 0; i < 2; i++)
        rms_max[i] = cJSON_GetArrayItem(v, i)->valuedouble;
}

double golden_timestep(const golden_case *g, int step)
{
    const cJSON *v = cJSON_GetArrayItem(item(g, "timesteps"), step);
    REQUIRE(v, "%s: timestep %d", g->name, step);
    return v->valuedouble;
}

int golden_expert(const golden_case *g, int step)
{
    const cJSON *v = cJSON_GetArrayItem(item(g, "expert"), step);
    REQUIRE(v, "%s: expert of step %d", g->name, step);
    return v->valueint;
}

static void measure(const float *a, const float *truth, size_t n, int relative, double out[2])
{
    double sum = 0, largest = 0, truth_sum = 0, truth_largest = 0;
    out[0] = out[1] = INFINITY;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - truth[i];
        if (!isfinite(d))
            return;
        sum += d * d;
        truth_sum += (double)truth[i] * truth[i];
        largest = fmax(largest, fabs(d));
        truth_largest = fmax(truth_largest, fabs((double)truth[i]));
    }
    if (relative) {
        out[0] = sqrt(sum / truth_sum);
        out[1] = largest / truth_largest;
    } else {
        out[0] = sqrt(sum / (double)n);
        out[1] = largest;
    }
}

void golden_distance(const float *a, const float *truth, size_t n, double out[2])
{
    measure(a, truth, n, 1, out);
}

void golden_absolute(const float *a, const float *truth, size_t n, double out[2])
{
    measure(a, truth, n, 0, out);
}

const char *const *golden_isas(void)
{
    static const char *const known[] = { "ref", "avx2", "avx512" };
    static const char *list[4];
    int n = 0;
    for (int i = 0; i < 3; i++)
        if (prxi_cpu_mask(known[i]) >= 0)
            list[n++] = known[i];
    list[n] = NULL;
    return list;
}

uint64_t golden_digest(const void *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3ull;
    return h;
}
