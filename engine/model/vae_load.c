/* VAE decoder: configuration and weights (names and shapes of models.md 2.1, 2.4 and 2.5). */
#include "vae_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/core/device.h"
#include "engine/core/json.h"
#include "engine/weights/safetensors.h"

/* Whatever a hostile config says, sizes below stay far from overflow. */
enum { MAX_DIM = 1 << 14, MAX_Z = 256 };

/* ---- configuration; missing keys take diffusers' defaults ---- */

static const double mean16[16] = { -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
                                   0.4134,  -0.0715, 0.5517,  -0.3632, -0.1922, -0.9497, 0.2503, -0.2921 };
static const double std16[16] = { 2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                                  3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160 };

static int read_mult(prxi_ctx *c, const prxi_json *j, prxi_vae_dims *o)
{
    double m[PRXI_VAE_MAX_BLOCKS] = { 1, 2, 4, 4 };
    int n = -1;
    const int err = prxi_json_nums(c, j, "dim_mult", m, PRXI_VAE_MAX_BLOCKS, &n);
    if (err < 0)
        return err;
    o->blocks = n < 0 ? 4 : n;
    for (int i = 0; i < o->blocks; i++) {
        if (!(m[i] >= 1 && m[i] <= 64) || m[i] != (int)m[i])
            return prxi_fail(c, PRX_EFORMAT, "%s: dim_mult[%d]: a whole number from 1 to 64 expected", j->path, i);
        o->mult[i] = (int)m[i];
    }
    return o->blocks > 0 ? PRX_OK : prxi_fail(c, PRX_EFORMAT, "%s: dim_mult: at least one number expected", j->path);
}

/* temperal_downsample (sic) is in the order of the encoder; the decoder runs it backwards. */
static int read_temporal(prxi_ctx *c, const prxi_json *j, prxi_vae_dims *o)
{
    int down[PRXI_VAE_MAX_BLOCKS] = { 0, 1, 1 }, n = 3;
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(j->root, "temperal_downsample");
    if (a && !cJSON_IsNull(a)) {
        const cJSON *e;
        n = 0;
        if (!cJSON_IsArray(a) || cJSON_GetArraySize(a) > PRXI_VAE_MAX_BLOCKS)
            return prxi_fail(c, PRX_EFORMAT, "%s: temperal_downsample: a list of at most %d booleans expected", j->path,
                             PRXI_VAE_MAX_BLOCKS);
        cJSON_ArrayForEach(e, a) {
            if (!cJSON_IsBool(e))
                return prxi_fail(c, PRX_EFORMAT, "%s: temperal_downsample[%d]: true or false expected", j->path, n);
            down[n++] = cJSON_IsTrue(e);
        }
    }
    if (n < o->blocks - 1)
        return prxi_fail(c, PRX_EFORMAT, "%s: temperal_downsample: %d values for %d levels of dim_mult: one less than "
                         "the levels expected", j->path, n, o->blocks);
    o->scale_spatial = o->patch;
    o->scale_temporal = 1;
    for (int i = 0; i < o->blocks - 1; i++) {
        o->temporal[i] = down[n - 1 - i];
        o->scale_spatial *= 2;
        o->scale_temporal *= o->temporal[i] ? 2 : 1;
    }
    return PRX_OK;
}

/* A config that claims another compression than its levels give is not of this decoder. */
static int check_scales(prxi_ctx *c, const prxi_json *j, const prxi_vae_dims *o)
{
    int64_t spatial = o->scale_spatial, temporal = o->scale_temporal;
    int err;
    if ((err = prxi_json_int(c, j, "scale_factor_spatial", 1, 4096, &spatial)) < 0 ||
        (err = prxi_json_int(c, j, "scale_factor_temporal", 1, 4096, &temporal)) < 0)
        return err;
    if (spatial != o->scale_spatial)
        return prxi_fail(c, PRX_EFORMAT, "%s: scale_factor_spatial: %lld, but dim_mult and patch_size give %d", j->path,
                         (long long)spatial, o->scale_spatial);
    if (temporal != o->scale_temporal)
        return prxi_fail(c, PRX_EFORMAT, "%s: scale_factor_temporal: %lld, but temperal_downsample gives %d", j->path,
                         (long long)temporal, o->scale_temporal);
    return PRX_OK;
}

static int read_stats(prxi_ctx *c, const prxi_json *j, const char *key, const double *def, int z, double *out)
{
    int n = -1;
    const int err = prxi_json_nums(c, j, key, out, MAX_Z, &n);
    if (err < 0)
        return err;
    if (n < 0 && z == 16) {
        memcpy(out, def, 16 * sizeof *out);
        n = 16;
    }
    if (n != z)
        return prxi_fail(c, PRX_EFORMAT, "%s: %s: %d numbers expected, one for each of z_dim", j->path, key, z);
    for (int i = 0; i < z; i++)
        if (!isfinite(out[i]))
            return prxi_fail(c, PRX_EFORMAT, "%s: %s[%d]: not a finite number", j->path, key, i);
    return PRX_OK;
}

static int read_latent_stats(prxi_ctx *c, const prxi_json *j, prxi_vae_dims *o)
{
    double mean[MAX_Z], std[MAX_Z];
    int err;
    if ((err = read_stats(c, j, "latents_mean", mean16, o->z_dim, mean)) < 0 ||
        (err = read_stats(c, j, "latents_std", std16, o->z_dim, std)) < 0)
        return err;
    for (int i = 0; i < o->z_dim; i++) {
        o->mean[i] = (float)mean[i];
        o->std[i] = (float)std[i];
        o->inv_std[i] = 1.0f / o->std[i];        /* first, in f32: what the pipeline divides by */
        if (!(o->std[i] > 0.0f))
            return prxi_fail(c, PRX_EFORMAT, "%s: latents_std[%d]: a number above 0 expected", j->path, i);
    }
    return PRX_OK;
}

static int parse_config(prxi_ctx *c, const prxi_json *j, prxi_vae_dims *o)
{
    int64_t base = 96, z = 16, res = 2, patch = 1, out = 3, decoder = -1;
    const struct {
        const char *key;
        int64_t max, *value;
    } ints[] = { { "base_dim", 4096, &base },       { "decoder_base_dim", 4096, &decoder }, { "z_dim", MAX_Z, &z },
                 { "num_res_blocks", PRXI_VAE_MAX_RES - 1, &res }, { "patch_size", 16, &patch },
                 { "out_channels", 4096, &out } };
    int err;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if ((err = prxi_json_int(c, j, ints[i].key, 1, ints[i].max, ints[i].value)) < 0)
            return err;
    o->base_dim = (int)(decoder > 0 ? decoder : base);
    o->z_dim = (int)z, o->res_per_block = (int)res + 1, o->patch = (int)patch, o->out_channels = (int)out;
    if ((err = prxi_json_bool(c, j, "is_residual", &o->is_residual)) < 0 || (err = read_mult(c, j, o)) < 0 ||
        (err = read_temporal(c, j, o)) < 0 || (err = check_scales(c, j, o)) < 0 ||
        (err = read_latent_stats(c, j, o)) < 0)
        return err;
    if (o->out_channels != 3 * o->patch * o->patch)
        return prxi_fail(c, PRX_EFORMAT, "%s: out_channels: %d, but RGB in patches of %d takes %d", j->path,
                         o->out_channels, o->patch, 3 * o->patch * o->patch);
    for (int i = 0; i < o->blocks; i++)
        if (o->mult[i] * o->base_dim > MAX_DIM)
            return prxi_fail(c, PRX_EFORMAT, "%s: dim_mult[%d]: %d channels, at most %d expected", j->path, i,
                             o->mult[i] * o->base_dim, MAX_DIM);
    return PRX_OK;
}

static int load_config(prxi_ctx *c, const char *dir, prxi_vae_dims *out)
{
    char path[4096];
    prxi_json j;
    if (snprintf(path, sizeof path, "%s/vae/config.json", dir) >= (int)sizeof path)
        return prxi_fail(c, PRX_EINVAL, "%s: path too long", dir);
    int err = prxi_json_open(c, &j, path, 0);
    if (err < 0)
        return err;
    memset(out, 0, sizeof *out);
    err = parse_config(c, &j, out);
    prxi_json_close(c, &j);
    return err;
}

int prxi_vae_config(prxi_ctx *c, const char *dir, prxi_vae_info *out)
{
    prxi_vae_dims *cfg = prxi_alloc(c->mem, PRXI_MEM_MISC, sizeof *cfg);
    if (!cfg)
        return prxi_fail_nomem(c, "VAE configuration", sizeof *cfg);
    const int err = load_config(c, dir, cfg);
    if (err == PRX_OK)
        *out = (prxi_vae_info) { cfg->z_dim, cfg->scale_spatial, cfg->scale_temporal, NULL, NULL };
    prxi_free(c->mem, cfg);
    return err;
}

/* ---- weights ---- */

/* What loading needs; after the first error (kept in c) later calls return at once. */
typedef struct loader {
    prxi_ctx *c;
    prxi_vae *v;
    prxi_tensors *t;
    int err;
} loader;

static float *load_f32(loader *l, int ndim, const int64_t *shape, const char *prefix, const char *name)
{
    char full[192];
    const prxi_tensor *t = NULL;
    float *p = NULL;
    if (l->err < 0)
        return NULL;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    l->err = prxi_tensors_get(l->c, l->t, full, ndim, shape, &t);
    if (l->err == PRX_OK)
        l->err = prxi_tensor_f32(l->c, t, &p);
    if (p)
        prxi_tensor_drop(t);
    return p;
}

/* What stays a vector, where the kernels run. */
static float *keep(loader *l, float *p, int64_t n)
{
    return prxi_device_floats(l->c, l->v->k.device, p, (size_t)n, &l->err);
}

static float *load_gamma(loader *l, int ndim, int64_t n, const char *prefix, const char *name)
{
    return keep(l, load_f32(l, ndim, (int64_t[]) { n, 1, 1, 1 }, prefix, name), n);
}

/* The f32 copies of one convolution. */
typedef struct raw_conv {
    float *weight, *bias;
} raw_conv;

static raw_conv load_raw(loader *l, int ndim, const int64_t *shape, const char *prefix, const char *name)
{
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    const raw_conv r = { load_f32(l, ndim, shape, prefix, weight), load_f32(l, 1, shape, prefix, bias) };
    return r;
}

static void free_raw(loader *l, raw_conv *r)
{
    prxi_free(l->c->mem, r->weight);
    prxi_free(l->c->mem, r->bias);
}

static void open_conv(loader *l, prxi_conv **out, prxi_conv_desc d)
{
    d.dtype = l->v->dtype;
    d.device = l->v->k.device;
    if (l->err == PRX_OK)
        l->err = prxi_conv_open(l->c, out, &l->v->k.conv, &d);
}

static void load_conv3(loader *l, prxi_conv **out, int cout, int cin, const char *prefix, const char *name)
{
    raw_conv r = load_raw(l, 5, (int64_t[]) { cout, cin, 3, 3, 3 }, prefix, name);
    open_conv(l, out, (prxi_conv_desc) { .weight = r.weight, .bias = r.bias, .cout = cout, .cin = cin, .kt = 3, .kh = 3,
                                         .kw = 3 });
    free_raw(l, &r);
}

static void load_conv1(loader *l, prxi_conv **out, int cout, int cin, const char *prefix, const char *name)
{
    raw_conv r = load_raw(l, 4, (int64_t[]) { cout, cin, 1, 1 }, prefix, name);
    open_conv(l, out, (prxi_conv_desc) { .weight = r.weight, .bias = r.bias, .cout = cout, .cin = cin, .kt = 1, .kh = 1,
                                         .kw = 1 });
    free_raw(l, &r);
}

static void load_res(loader *l, prxi_vae_res *r, int cin, int cout, const char *prefix)
{
    raw_conv shortcut = { NULL, NULL };
    r->cin = cin, r->cout = cout;
    r->norm1 = load_gamma(l, 4, cin, prefix, "norm1.gamma");
    load_conv3(l, &r->conv1, cout, cin, prefix, "conv1");
    r->norm2 = load_gamma(l, 4, cout, prefix, "norm2.gamma");
    raw_conv w = load_raw(l, 5, (int64_t[]) { cout, cout, 3, 3, 3 }, prefix, "conv2");
    if (cin != cout)
        shortcut = load_raw(l, 5, (int64_t[]) { cout, cin, 1, 1, 1 }, prefix, "conv_shortcut");
    open_conv(l, &r->conv2, (prxi_conv_desc) {
        .weight = w.weight, .bias = w.bias, .cout = cout, .cin = cout, .kt = 3, .kh = 3, .kw = 3,
        .shortcut = shortcut.weight, .shortcut_bias = shortcut.bias, .shortcut_cin = cin != cout ? cin : 0 });
    free_raw(l, &w);
    free_raw(l, &shortcut);
}

/* Causal (3,1,1) to 2C channels: channel k * C + c belongs to output frame 2t + k. */
static void load_time(loader *l, prxi_vae_block *b, const char *prefix)
{
    const int64_t n = b->cout;
    raw_conv r = load_raw(l, 5, (int64_t[]) { 2 * n, n, 3, 1, 1 }, prefix, "time_conv");
    for (int64_t k = 0; k < 2 && l->err == PRX_OK; k++)
        open_conv(l, &b->time[k], (prxi_conv_desc) { .weight = r.weight + k * n * n * 3, .bias = r.bias + k * n,
                                                     .cout = n, .cin = n, .kt = 3, .kh = 1, .kw = 1 });
    free_raw(l, &r);
}

/* A 3x3 kernel over a picture that was doubled by repetition reads, for each parity of the output pixel, only 2x2 source
 * pixels: tap t of parity p falls on source (p + t + 1) / 2 - 1, so kernel entries that meet there are summed. */
static void fold_phase(const float *w, int64_t n, int py, int px, float *out)
{
    memset(out, 0, (size_t)n * 4 * sizeof *out);
    for (int64_t i = 0; i < n; i++)
        for (int y = 0; y < 3; y++)
            for (int x = 0; x < 3; x++)
                out[i * 4 + (py + y + 1) / 2 * 2 - 2 * py + (px + x + 1) / 2 - px] += w[i * 9 + y * 3 + x];
}

static void load_upsample(loader *l, prxi_vae_block *b, const char *prefix)
{
    const int64_t n = (int64_t)b->up_cout * b->cout;
    raw_conv r = load_raw(l, 4, (int64_t[]) { b->up_cout, b->cout, 3, 3 }, prefix, "resample.1");
    float *folded = l->err == PRX_OK ? prxi_calloc(l->c->mem, PRXI_MEM_SCRATCH, (size_t)n, 4 * sizeof(float)) : NULL;
    if (l->err == PRX_OK && !folded)
        l->err = prxi_fail_nomem(l->c, "VAE weights", (size_t)n * 4 * sizeof(float));
    for (int p = 0; p < 4 && l->err == PRX_OK; p++) {
        fold_phase(r.weight, n, p / 2, p % 2, folded);
        open_conv(l, &b->phase[p], (prxi_conv_desc) { .weight = folded, .bias = r.bias, .cout = b->up_cout,
                                                      .cin = b->cout, .kt = 1, .kh = 2, .kw = 2 });
    }
    prxi_free(l->c->mem, folded);
    free_raw(l, &r);
}

/* [co][ci][kt][3][3] -> [kt * co][ci][1][3][3]: conv_out keeps what earlier frames contribute instead of the frames. */
static void load_out(loader *l, int cin)
{
    prxi_vae *v = l->v;
    const int64_t co = v->cfg.out_channels, ci = cin, n = 3 * co * ci * 9;
    raw_conv r = load_raw(l, 5, (int64_t[]) { co, ci, 3, 3, 3 }, "decoder.", "conv_out");
    float *w = l->err == PRX_OK ? prxi_calloc(l->c->mem, PRXI_MEM_SCRATCH, (size_t)(n + 3 * co), sizeof(float)) : NULL;
    if (l->err == PRX_OK && !w)
        l->err = prxi_fail_nomem(l->c, "VAE weights", (size_t)n * sizeof(float));
    if (w) {
        for (int64_t o = 0; o < co; o++)
            for (int64_t i = 0; i < ci; i++)
                for (int64_t k = 0; k < 3; k++)
                    memcpy(w + ((k * co + o) * ci + i) * 9, r.weight + ((o * ci + i) * 3 + k) * 9, 9 * sizeof(float));
        open_conv(l, &v->conv_out, (prxi_conv_desc) { .weight = w, .bias = w + n, .cout = 3 * co, .cin = ci, .kt = 1,
                                                      .kh = 3, .kw = 3 });
    }
    prxi_free(l->c->mem, w);
    prxi_free(l->c->mem, r.weight);
    v->out_bias = keep(l, r.bias, co);
}

static void load_block(loader *l, int i)
{
    prxi_vae *v = l->v;
    prxi_vae_block *b = &v->block[i];
    char prefix[80];
    for (int r = 0; r < v->cfg.res_per_block; r++) {
        snprintf(prefix, sizeof prefix, "decoder.up_blocks.%d.resnets.%d.", i, r);
        load_res(l, &b->res[r], r ? b->cout : b->cin, b->cout, prefix);
    }
    if (!b->has_up)
        return;
    snprintf(prefix, sizeof prefix, "decoder.up_blocks.%d.%s.", i, v->cfg.is_residual ? "upsampler" : "upsamplers.0");
    load_upsample(l, b, prefix);
    if (b->temporal)
        load_time(l, b, prefix);
}

/* The shortcut round a block repeats channels: the counts must divide. */
static int check_block(prxi_ctx *c, const prxi_vae_dims *g, int i, int in)
{
    const int cout = g->base_dim * g->mult[g->blocks - 1 - i];
    const int factor = g->is_residual && i < g->blocks - 1 ? 4 * (g->temporal[i] ? 2 : 1) : 0;
    if (factor && cout * factor % in)
        return prxi_fail(c, PRX_EFORMAT, "VAE: up block %d: %d channels cannot be shared out to %d", i, in, cout);
    if (!g->is_residual && i < g->blocks - 1 && cout < 2)
        return prxi_fail(c, PRX_EFORMAT, "VAE: up block %d: %d channels cannot be halved", i, cout);
    return PRX_OK;
}

/* Channels of every part, from the configuration. */
static int shape_parts(prxi_ctx *c, prxi_vae *v)
{
    const prxi_vae_dims *g = &v->cfg;
    int in = g->base_dim * g->mult[g->blocks - 1];
    for (int i = 0; i < 2; i++)
        v->mid[i].cin = v->mid[i].cout = in;
    for (int i = 0; i < g->blocks; i++) {
        prxi_vae_block *b = &v->block[i];
        const int err = check_block(c, g, i, in);
        if (err < 0)
            return err;
        b->cin = in;
        b->cout = g->base_dim * g->mult[g->blocks - 1 - i];
        b->has_up = i < g->blocks - 1;
        b->temporal = b->has_up && g->temporal[i];
        in = b->up_cout = g->is_residual ? b->cout : b->cout / 2;
        for (int k = 0; k < g->res_per_block; k++) {
            b->res[k].cin = k ? b->cout : b->cin;
            b->res[k].cout = b->cout;
        }
    }
    return PRX_OK;
}

static void load_latent(loader *l, int z)
{
    prxi_vae *v = l->v;
    float *stats = prxi_alloc(l->c->mem, PRXI_MEM_WEIGHTS, 2 * (size_t)z * sizeof *stats);
    if (!stats) {
        l->err = prxi_fail_nomem(l->c, "VAE", 2 * (size_t)z * sizeof *stats);
        return;
    }
    memcpy(stats, v->cfg.inv_std, (size_t)z * sizeof *stats);
    memcpy(stats + z, v->cfg.mean, (size_t)z * sizeof *stats);
    v->latent_stats = keep(l, stats, 2 * z);
    v->post_weight = keep(l, load_f32(l, 5, (int64_t[]) { z, z, 1, 1, 1 }, "post_quant_conv.", "weight"), (int64_t)z * z);
    v->post_bias = keep(l, load_f32(l, 1, (int64_t[]) { z }, "post_quant_conv.", "bias"), z);
}

static void load_all(loader *l)
{
    prxi_vae *v = l->v;
    const int z = v->cfg.z_dim, top = v->cfg.base_dim * v->cfg.mult[v->cfg.blocks - 1];
    load_latent(l, z);
    load_conv3(l, &v->conv_in, top, z, "decoder.", "conv_in");
    load_res(l, &v->mid[0], top, top, "decoder.mid_block.resnets.0.");
    v->attn_norm = load_gamma(l, 3, top, "decoder.mid_block.attentions.0.", "norm.gamma");
    load_conv1(l, &v->qkv, 3 * top, top, "decoder.mid_block.attentions.0.", "to_qkv");
    load_conv1(l, &v->proj, top, top, "decoder.mid_block.attentions.0.", "proj");
    load_res(l, &v->mid[1], top, top, "decoder.mid_block.resnets.1.");
    for (int i = 0; i < v->cfg.blocks && l->err == PRX_OK; i++)
        load_block(l, i);
    const int in = v->cfg.base_dim * v->cfg.mult[0];
    v->norm_out = load_gamma(l, 4, in, "decoder.", "norm_out.gamma");
    load_out(l, in);
}

/* A decoder has no use for the other half of the file. */
static int ignored(const char *name)
{
    return strncmp(name, "encoder.", 8) == 0 || strncmp(name, "quant_conv.", 11) == 0;
}

static void close_res(prxi_ctx *c, prxi_device *device, prxi_vae_res *r)
{
    prxi_mem *m = c->mem;
    prxi_device_free(c, device, r->norm1);
    prxi_device_free(c, device, r->norm2);
    prxi_conv_close(m, &r->conv1);
    prxi_conv_close(m, &r->conv2);
}

void prxi_vae_close(prxi_ctx *c, prxi_vae **vae)
{
    prxi_vae *v = *vae;
    prxi_mem *m = c->mem;
    if (!v)
        return;
    float *const arrays[] = { v->latent_stats, v->post_weight, v->post_bias, v->out_bias, v->attn_norm, v->norm_out };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        prxi_device_free(c, v->k.device, arrays[i]);
    prxi_conv_close(m, &v->conv_in);
    prxi_conv_close(m, &v->conv_out);
    prxi_conv_close(m, &v->qkv);
    prxi_conv_close(m, &v->proj);
    close_res(c, v->k.device, &v->mid[0]);
    close_res(c, v->k.device, &v->mid[1]);
    for (int i = 0; i < PRXI_VAE_MAX_BLOCKS; i++) {
        prxi_vae_block *b = &v->block[i];
        for (int r = 0; r < PRXI_VAE_MAX_RES; r++)
            close_res(c, v->k.device, &b->res[r]);
        for (int p = 0; p < 4; p++)
            prxi_conv_close(m, &b->phase[p]);
        prxi_conv_close(m, &b->time[0]);
        prxi_conv_close(m, &b->time[1]);
    }
    prxi_free(m, v);
    *vae = NULL;
}

int prxi_vae_open(prxi_ctx *c, prxi_vae **out, const char *dir, const prxi_kernels *k, prxi_dtype dtype)
{
    char path[4096];
    *out = NULL;
    loader l = { c, prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, 1, sizeof(prxi_vae)), NULL, PRX_OK };
    if (!l.v)
        return prxi_fail_nomem(c, "VAE", sizeof(prxi_vae));
    l.v->k = *k;
    l.v->dtype = dtype;
    if (snprintf(path, sizeof path, "%s/vae", dir) >= (int)sizeof path)
        l.err = prxi_fail(c, PRX_EINVAL, "%s: path too long", dir);
    if (l.err == PRX_OK && (l.err = load_config(c, dir, &l.v->cfg)) == PRX_OK && (l.err = shape_parts(c, l.v)) == PRX_OK)
        l.err = prxi_tensors_open_dir(c, &l.t, path, "diffusion_pytorch_model");
    if (l.err == PRX_OK)
        load_all(&l);
    if (l.err == PRX_OK)
        l.err = prxi_tensors_check_used(c, l.t, ignored);
    prxi_tensors_close(c, &l.t);
    if (l.err < 0) {
        prxi_vae_close(c, &l.v);
        return l.err;
    }
    const prxi_vae_dims *g = &l.v->cfg;
    l.v->info = (prxi_vae_info) { g->z_dim, g->scale_spatial, g->scale_temporal, g->mean, g->std };
    *out = l.v;
    return PRX_OK;
}

const prxi_vae_info *prxi_vae_get_info(const prxi_vae *v)
{
    return &v->info;
}

/* ---- what a device needs, before anything is loaded ---- */

static size_t conv_bytes(const prxi_vae *v, int64_t cout, int64_t cin, int kt, int k, int64_t shortcut)
{
    const int64_t row = kt * k * k * prxi_conv_pitch(cin) + prxi_conv_pitch(shortcut);
    const int library = v->k.device->conv_turns && v->dtype == PRXI_BF16 && !shortcut && cin % 8 == 0 && cout % 8 == 0;
    const int turns = library ? kt : 1;
    return prxi_mul(prxi_mul((size_t)cout, (size_t)row * prxi_dtype_size(v->dtype)), (size_t)turns);
}

static size_t res_bytes(const prxi_vae *v, const prxi_vae_res *r)
{
    return prxi_add(conv_bytes(v, r->cout, r->cin, 3, 3, 0), conv_bytes(v, r->cout, r->cout, 3, 3, r->cin != r->cout ? r->cin : 0));
}

/* Convolutions; vectors are a rounding error beside them. */
static size_t weight_bytes(const prxi_vae *v)
{
    const int64_t top = v->mid[0].cin;
    size_t sum = prxi_add(conv_bytes(v, top, v->cfg.z_dim, 3, 3, 0), conv_bytes(v, 4 * top, top, 1, 1, 0));
    for (int i = 0; i < 2; i++)
        sum = prxi_add(sum, res_bytes(v, &v->mid[i]));
    for (int i = 0; i < v->cfg.blocks; i++) {
        const prxi_vae_block *b = &v->block[i];
        for (int k = 0; k < v->cfg.res_per_block; k++)
            sum = prxi_add(sum, res_bytes(v, &b->res[k]));
        if (b->has_up)
            sum = prxi_add(sum, 4 * conv_bytes(v, b->up_cout, b->cout, 1, 2, 0));
        if (b->temporal)
            sum = prxi_add(sum, 2 * conv_bytes(v, b->cout, b->cout, 3, 1, 0));
    }
    return prxi_add(sum, conv_bytes(v, 3 * (int64_t)v->cfg.out_channels, v->block[v->cfg.blocks - 1].cout, 1, 3, 0));
}

int prxi_vae_device_bytes(prxi_ctx *c, const char *dir, const prxi_kernels *k, prxi_dtype dtype, const prxi_vae_job *job, size_t *bytes)
{
    prxi_vae *v = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *v);
    if (!v)
        return prxi_fail_nomem(c, "VAE", sizeof *v);
    v->k = *k;
    v->dtype = dtype;
    int err = load_config(c, dir, &v->cfg);
    if (err == PRX_OK)
        err = shape_parts(c, v);
    const size_t pixels = prxi_mul((size_t)job->height * (size_t)job->width, (size_t)v->cfg.scale_spatial * (size_t)v->cfg.scale_spatial);
    const size_t frames = prxi_mul(pixels, 12 * (size_t)v->cfg.scale_temporal + 5);     /* RGB in f32; one frame in bytes and planes */
    /* What a library adds goes through a picture of its own (engine/cuda/conv.c). */
    const int through = v->k.device && v->k.device->conv_turns && dtype == PRXI_BF16;
    const size_t picture = err == PRX_OK && through ? prxi_mul(pixels, 2 * (size_t)v->block[v->cfg.blocks - 1].cout) : 0;
    if (err == PRX_OK && prxi_vae_is_tiled(v, job))
        *bytes = prxi_add(weight_bytes(v), prxi_vae_tile_bytes(v, job));
    else if (err == PRX_OK)
        *bytes = prxi_add(weight_bytes(v), prxi_add(prxi_decoder_bytes(v, job), frames));
    *bytes = err == PRX_OK ? prxi_add(*bytes, picture) : 0;
    prxi_free(c->mem, v);
    return err;
}
