/* VAE loading: broken configurations and weights are refused with the name of what is wrong; refused allocations leak nothing;
 * order of decoder calls; cancel. */
#include "tests/files.h"

#include <math.h>
#include <sys/stat.h>

#include "engine/core/cpu.h"
#include "engine/model/vae.h"
#include "engine/weights/safetensors.h"

#define MODEL PRX_SOURCE_DIR "/tests/vectors/vae/flat"
enum { MAX_TENSORS = 512 };

static prxi_mem mem;
static prxi_ctx c;
static prxi_kernels k;

static const char good[] = "{\"base_dim\": 7, \"z_dim\": 6, \"dim_mult\": [1, 3], \"num_res_blocks\": 1, "
                           "\"temperal_downsample\": [false], \"latents_mean\": [0,0,0,0,0,0], "
                           "\"latents_std\": [1,1,1,1,1,1]}";

static int open_with(const char *config, size_t n)
{
    prxi_vae *v = NULL;
    tmp_write("vae/config.json", config, n);
    prxi_clear(&c);
    const int err = prxi_vae_open(&c, &v, tmp_dir, &k, PRXI_F32);
    CHECK((err == PRX_OK) == (v != NULL), "a model and an error, or neither");
    prxi_vae_close(&c, &v);
    return err;
}

/* The good config with one key replaced or added in front (the first of two equal keys counts). */
static void refused(const char *pair, const char *word)
{
    char text[1024];
    const int n = snprintf(text, sizeof text, "{%s, %s", pair, good + 1);
    const int err = open_with(text, (size_t)n);
    CHECK(err == PRX_EFORMAT, "%s: status %d", pair, err);
    CHECK(strstr(c.error.text, word), "%s: '%s' does not say '%s'", pair, c.error.text, word);
}

static void check_configs(void)
{
    CHECK(open_with(good, sizeof good - 1) == PRX_OK, "%s", c.error.text);
    refused("\"z_dim\": 0", "z_dim");
    refused("\"z_dim\": 5", "latents_mean");
    refused("\"z_dim\": 1e9", "z_dim");
    refused("\"base_dim\": -3", "base_dim");
    refused("\"base_dim\": 4096, \"dim_mult\": [1, 64]", "dim_mult");
    refused("\"dim_mult\": []", "dim_mult");
    refused("\"dim_mult\": [1, 2.5]", "dim_mult");
    refused("\"dim_mult\": [1, 1, 1, 1, 1, 1, 1, 1, 1]", "dim_mult");
    refused("\"dim_mult\": [1, 2, 3]", "temperal_downsample");
    refused("\"temperal_downsample\": [1]", "temperal_downsample");
    refused("\"temperal_downsample\": \"yes\"", "temperal_downsample");
    refused("\"num_res_blocks\": 100", "num_res_blocks");
    refused("\"scale_factor_spatial\": 8", "scale_factor_spatial");
    refused("\"scale_factor_temporal\": 4", "scale_factor_temporal");
    refused("\"patch_size\": 2", "out_channels");
    refused("\"out_channels\": 4", "out_channels");
    refused("\"latents_std\": [1,1,1,1,1,0]", "latents_std");
    refused("\"latents_std\": [1]", "latents_std");
    refused("\"is_residual\": 3", "is_residual");
    refused("\"base_dim\": 8", "conv_in");         /* other shapes than in the file */
    refused("\"is_residual\": true", "up_blocks");
}

typedef enum damage { NONE, MISSING, EXTRA, SHAPE, NOT_A_NUMBER } damage;

/* Writes the model again, with one tensor damaged. */
static void write_weights(const char *name, damage how)
{
    static prxi_tensor_out out[MAX_TENSORS];
    static const float values[4] = { 0 };
    static float *bad;
    prxi_tensors *t = NULL;
    int n = 0;
    REQUIRE(prxi_tensors_open_dir(&c, &t, MODEL "/vae", "diffusion_pytorch_model") == PRX_OK, "%s", c.error.text);
    for (int i = 0; i < prxi_tensors_count(t); i++) {
        const prxi_tensor *x = prxi_tensors_at(t, i);
        prxi_tensor_out *o = &out[n++];
        const int hit = strcmp(x->name, name) == 0;
        *o = (prxi_tensor_out) { .dtype = x->dtype, .ndim = x->ndim, .data = x->data };
        snprintf(o->name, sizeof o->name, "%s", x->name);
        memcpy(o->shape, x->shape, sizeof o->shape);
        if (hit && how == MISSING)
            n--;
        if (hit && how == SHAPE)
            o->shape[0]--;
        if (hit && how == NOT_A_NUMBER) {
            REQUIRE(prxi_tensor_f32(&c, x, &bad) == PRX_OK, "%s", c.error.text);
            bad[1] = NAN;
            o->dtype = PRXI_F32;
            o->data = bad;
        }
    }
    if (how == EXTRA) {
        out[n] = (prxi_tensor_out) { .dtype = PRXI_F32, .ndim = 1, .shape = { 4 }, .data = values };
        snprintf(out[n++].name, sizeof out->name, "%s", name);
    }
    const int err = prxi_tensors_write(&c, tmp_path("vae/diffusion_pytorch_model.safetensors"), out, n, NULL);
    CHECK(err == PRX_OK, "%s", c.error.text);
    prxi_free(&mem, bad);
    bad = NULL;
    prxi_tensors_close(&c, &t);
}

static void damaged(const char *name, damage how)
{
    prxi_clear(&c);
    write_weights(name, how);
    const int err = open_with(good, sizeof good - 1);
    CHECK(err == PRX_EFORMAT, "%s: status %d", name, err);
    CHECK(strstr(c.error.text, name), "%s: not named in '%s'", name, c.error.text);
}

static void check_weights(void)
{
    damaged("decoder.conv_in.weight", MISSING);
    damaged("decoder.up_blocks.0.upsamplers.0.resample.1.bias", MISSING);
    damaged("post_quant_conv.weight", SHAPE);
    damaged("decoder.mid_block.attentions.0.norm.gamma", SHAPE);
    damaged("decoder.up_blocks.1.resnets.0.conv2.weight", NOT_A_NUMBER);
    damaged("decoder.norm_out.gamma", NOT_A_NUMBER);
    damaged("decoder.up_blocks.0.resnets.9.conv1.weight", EXTRA);
    damaged("something", EXTRA);
    write_weights("encoder.anything", EXTRA);
    CHECK(open_with(good, sizeof good - 1) == PRX_OK, "the encoder is none of the decoder's business: %s", c.error.text);
    write_weights("", NONE);
}

static int open_and_decode(prxi_ctx *x, const prxi_vae_job *job)
{
    static float latents[6 * 2 * 200 * 8], rgb[400 * 16 * 3];
    prxi_vae *v = NULL;
    prxi_decoder *d = NULL;
    prxi_stream s;
    int n;
    prxi_stream_init(&s, x, 1);
    int err = prxi_vae_open(x, &v, MODEL, &k, PRXI_F32);
    if (err == PRX_OK)
        err = prxi_decoder_open(x, &d, v, job);
    if (err == PRX_OK)
        err = prxi_decoder_next(x, &s, d, latents, 0, rgb, &n);
    prxi_decoder_close(x, &d);
    prxi_stream_close(&s);
    prxi_vae_close(x, &v);
    return err;
}

static void check_allocations(void)
{
    test_alloc a = { 0, 0, 0, 0 };
    prxi_mem m;
    prxi_ctx x = test_ctx(&m, &a);
    FAULT_LOOP(x, a, open_and_decode(&x, &(prxi_vae_job) { 1, 2, 2, 0, 0 }), (void)0);
    FAULT_LOOP(x, a, open_and_decode(&x, &(prxi_vae_job) { 1, 130, 1, 1, 0 }), (void)0);
}

static void check_calls(void)
{
    static float latents[6 * 2 * 4], rgb[4 * 4 * 3];
    const prxi_vae_job job = { 2, 2, 2, 0, 0 };
    prxi_vae *v = NULL;
    prxi_decoder *d = NULL;
    prxi_stream s;
    prxi_vae_info info;
    atomic_int cancel = 0;
    int n = 0;
    prxi_clear(&c);
    CHECK(prxi_vae_config(&c, MODEL, &info) == PRX_OK && info.z_dim == 6 && info.scale_spatial == 2 &&
              info.scale_temporal == 1 && !info.mean, "config alone: %s", c.error.text);
    REQUIRE(prxi_vae_open(&c, &v, MODEL, &k, PRXI_BF16) == PRX_OK, "%s", c.error.text);
    CHECK(prxi_decoder_open(&c, &d, v, &(prxi_vae_job) { 1, 0, 2, 0, 0 }) == PRX_EINVAL, "height 0");
    prxi_clear(&c);
    CHECK(prxi_decoder_open(&c, &d, v, &(prxi_vae_job) { 1, 1 << 30, 2, 0, 0 }) == PRX_EINVAL, "height 2^30");
    prxi_clear(&c);
    REQUIRE(prxi_decoder_open(&c, &d, v, &job) == PRX_OK, "%s", c.error.text);
    prxi_stream_init(&s, &c, 2);
    CHECK(prxi_decoder_next(&c, &s, d, latents, 1, rgb, &n) == PRX_EINVAL, "frame 1 before frame 0");
    prxi_clear(&c);
    CHECK(prxi_decoder_next(&c, &s, d, latents, 0, rgb, &n) == PRX_OK && n == 1, "%s", c.error.text);
    s.cancel = &cancel;
    atomic_store(&cancel, 1);
    CHECK(prxi_decoder_next(&c, &s, d, latents, 1, rgb, &n) == PRX_ECANCELED, "cancel");
    prxi_clear(&c);
    prxi_stream_close(&s);
    prxi_decoder_close(&c, &d);
    prxi_vae_close(&c, &v);
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    c.mem = &mem;
    prxi_act_init_ref(&k.act);
    prxi_conv_init_ref(&k.conv);
    prxi_frame_init_ref(&k.frame);
    prxi_plain_attn_init(&k.plain);
    k.isa = prxi_cpu_detect();
    prxi_act_init_x86(&k.act, k.isa);
    prxi_conv_init_x86(&k.conv, k.isa);
    tmp_open();
    mkdir(tmp_path("vae"), 0777);
    write_weights("", NONE);
    check_configs();
    check_weights();
    check_calls();
    check_allocations();
    tmp_close();
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leak", atomic_load(&mem.total));
    return TEST_END();
}
