/* The configs of a model directory, through the public API: the first byte picks the file (i index, t transformer, v VAE, s scheduler,
 * e text encoder), the rest is its text; the other files are those of models/tiny. A model that opens is planned and encodes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <praxino/praxino.h>

#include "tests/fuzz/fuzz.h"

#define TINY PRX_SOURCE_DIR "/models/tiny/"

const int fuzz_rounds = 600;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("i{\"_class_name\":\"WanPipeline\",\"transformer\":[\"d\",\"WanTransformer3DModel\"],\"vae\":[\"d\",\"AutoencoderKLWan\"],"
              "\"text_encoder\":[\"t\",\"UMT5EncoderModel\"],\"boundary_ratio\":null,\"expand_timesteps\":false,"
              "\"transformer_2\":[null,null],\"scheduler\":[\"d\",\"UniPCMultistepScheduler\"]}"),
    FUZZ_TEXT("t{\"attention_head_dim\":64,\"eps\":1e-06,\"ffn_dim\":576,\"freq_dim\":256,\"in_channels\":48,\"out_channels\":48,"
              "\"num_attention_heads\":3,\"num_layers\":6,\"patch_size\":[1,2,2],\"text_dim\":128,\"rope_max_seq_len\":1024}"),
    FUZZ_TEXT("v{\"base_dim\":32,\"decoder_base_dim\":32,\"dim_mult\":[1,2,2],\"in_channels\":48,\"is_residual\":true,\"out_channels\":48,"
              "\"num_res_blocks\":1,\"patch_size\":4,\"scale_factor_spatial\":16,\"scale_factor_temporal\":4,\"z_dim\":48,"
              "\"temperal_downsample\":[true,true],\"attn_scales\":[]}"),
    FUZZ_TEXT("s{\"_class_name\":\"UniPCMultistepScheduler\",\"prediction_type\":\"flow_prediction\",\"use_flow_sigmas\":true,"
              "\"flow_shift\":3.0,\"num_train_timesteps\":1000,\"solver_order\":2,\"beta_end\":0.02,\"thresholding\":false}"),
    FUZZ_TEXT("s{\"_class_name\":\"FlowMatchEulerDiscreteScheduler\",\"shift\":7,\"num_train_timesteps\":1000}"),
    FUZZ_TEXT("e{\"d_model\":128,\"d_ff\":256,\"d_kv\":32,\"num_heads\":4,\"num_layers\":3,\"vocab_size\":256,\"layer_norm_epsilon\":1e-6,"
              "\"relative_attention_num_buckets\":32,\"feed_forward_proj\":\"gated-gelu\"}"),
    { NULL, 0 },
};

static const struct {
    char kind;
    const char *path;
} files[] = {
    { 'i', "model_index.json" },         { 't', "transformer/config.json" },  { 'v', "vae/config.json" },
    { 's', "scheduler/scheduler_config.json" }, { 'e', "text_encoder/config.json" },
};
static const char *const links[] = { "tokenizer", "text_encoder/model.safetensors", "transformer/diffusion_pytorch_model.safetensors",
                                     "vae/diffusion_pytorch_model.safetensors" };

static char dir[64];
static prx_engine *engine;
static long alive;

static void *get(void *cookie, size_t n)
{
    (void)cookie;
    if (n > (size_t)1 << 30)        /* a config may ask for much: that is refused, not served */
        return NULL;
    alive++;
    return malloc(n);
}

static void put(void *cookie, void *p)
{
    (void)cookie;
    alive--;
    free(p);
}

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void clean_up(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    if (system(cmd) != 0)
        perror(dir);
}

static void restore(const char *name)
{
    char target[512];
    snprintf(target, sizeof target, TINY "%s", name);
    unlink(in_dir(name));
    if (symlink(target, in_dir(name)) != 0)
        abort();
}

static void set_up(void)
{
    static const char *const folders[] = { "transformer", "vae", "scheduler", "text_encoder" };
    const prx_allocator counted = { get, put, NULL };
    prx_engine_params p;
    strcpy(dir, "/tmp/praxino-fuzz-XXXXXX");
    if (!mkdtemp(dir))
        abort();
    atexit(clean_up);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (mkdir(in_dir(folders[i]), 0777) != 0)
            abort();
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        restore(links[i]);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        restore(files[i].path);
    prx_engine_default_params(&p);
    p.threads = 1;
    p.allocator = &counted;
    if (prx_engine_open(&engine, &p) != PRX_OK)
        abort();
}

static void use(prx_model *m)
{
    char *json = NULL;
    prx_job *j;
    prx_model_describe(m, &json);
    prx_text_free(engine, json);
    json = NULL;
    if (prx_job_open(&j, m) == PRX_OK && prx_job_set(j, "prompt", "a red ball") == PRX_OK &&
        prx_job_set(j, "frames", "5") == PRX_OK && prx_job_set(j, "width", "64") == PRX_OK && prx_job_set(j, "height", "64") == PRX_OK) {
        prx_job_plan(j, &json);
        prx_text_free(engine, json);
        prx_job_step(j);
    }
    prx_job_close(&j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!engine)
        set_up();
    size_t k = 0;
    while (k < sizeof files / sizeof *files && (n == 0 || files[k].kind != (char)data[0]))
        k++;
    if (k == sizeof files / sizeof *files)
        return 0;
    const char *path = in_dir(files[k].path);
    unlink(path);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data + 1, 1, n - 1, f) != n - 1 || fclose(f) != 0)
        abort();
    const long before = alive;
    prx_model *m;
    if (prx_model_open(&m, engine, dir) == PRX_OK)
        use(m);
    else if (prx_engine_last_error(engine)[0] == '\0')
        abort();
    prx_model_close(&m);
    if (alive != before)
        abort();
    restore(files[k].path);
    return 0;
}
