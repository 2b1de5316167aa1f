/* VAE decoders against diffusers (tests/vectors/vae, made by make_vae_vectors.py): every configuration form, f32 and bf16, every
 * instruction set; equal bytes for any thread count; tiling. Broken files: vae_files.c. */
#include <math.h>

#include "tests/test.h"

#include "engine/core/cpu.h"
#include "engine/model/vae_int.h"
#include "engine/weights/safetensors.h"

#define VECTORS PRX_SOURCE_DIR "/tests/vectors/vae/"
enum { STEP = 11 };             /* of the pixels kept from tiled frames */

static prxi_mem mem;
static prxi_ctx c;
static int matmul;              /* force the convolutions to oneDNN's products */

static void use_isa(prxi_kernels *k, uint32_t isa)
{
    memset(k, 0, sizeof *k);
    k->isa = isa;
    prxi_act_init_ref(&k->act);
    prxi_conv_init_ref(&k->conv);
    prxi_act_init_x86(&k->act, isa);
    prxi_conv_init_x86(&k->conv, isa);
    prxi_frame_init_ref(&k->frame);
    prxi_plain_attn_init(&k->plain);
    if (matmul)
        k->conv.matmul = 2;
}

static float *tensor(prxi_tensors *t, const char *name, int64_t *shape)
{
    float *p = NULL;
    const prxi_tensor *x = prxi_tensors_find(t, name);
    if (!x)
        return NULL;
    memcpy(shape, x->shape, sizeof x->shape);
    REQUIRE(prxi_tensor_f32(&c, x, &p) == PRX_OK, "%s", c.error.text);
    return p;
}

/* All frames of a clip; NULL and the error in c when something fails. */
static float *decode(const prxi_vae *v, const prxi_vae_job *job, const float *latents, int threads)
{
    const prxi_vae_info *i = prxi_vae_get_info(v);
    const size_t frame = (size_t)job->height * (size_t)job->width * (size_t)(i->scale_spatial * i->scale_spatial) * 3;
    const size_t frames = (size_t)(job->frames - 1) * (size_t)i->scale_temporal + 1;
    float *out = prxi_alloc(&mem, PRXI_MEM_FRAMES, (frames + (size_t)i->scale_temporal) * frame * sizeof *out), *p = out;
    prxi_decoder *d = NULL;
    prxi_stream s;
    prxi_stream_init(&s, &c, threads);
    int err = out ? prxi_decoder_open(&c, &d, v, job) : prxi_fail_nomem(&c, "frames", frames * frame);
    for (int t = 0, n = 0; t < job->frames && err == PRX_OK; t++, p += (size_t)n * frame)
        err = prxi_decoder_next(&c, &s, d, latents, t, p, &n);
    CHECK(err < 0 || (size_t)(p - out) == frames * frame, "%zu floats instead of %zu", (size_t)(p - out), frames * frame);
    prxi_decoder_close(&c, &d);
    prxi_stream_close(&s);
    if (err == PRX_OK)
        return out;
    prxi_free(&mem, out);
    return NULL;
}

static double rms(const float *a, const float *b, size_t n)
{
    double d = 0;
    for (size_t i = 0; i < n; i++)
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(d / (double)n);
}

static double worst(const float *a, const float *b, size_t n)
{
    double w = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - b[i]);
        if (!(d <= w))
            w = d;
    }
    return w;
}

typedef struct sample {
    float *latents, *frames, *bf16_rms, *tiled_latents, *tiled_frames;
    prxi_vae_job job, tiled;
    size_t n;                   /* floats of frames */
    int64_t tiled_shape[PRXI_MAX_DIMS];
} sample;

static void open_sample(sample *x, const char *name)
{
    char path[512];
    prxi_tensors *t = NULL;
    int64_t shape[PRXI_MAX_DIMS];
    memset(x, 0, sizeof *x);
    snprintf(path, sizeof path, VECTORS "%s/cases.safetensors", name);
    REQUIRE(prxi_tensors_open_file(&c, &t, path) == PRX_OK, "%s", c.error.text);
    x->bf16_rms = tensor(t, "bf16_rms", shape);
    x->frames = tensor(t, "frames", shape);
    x->n = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
    x->latents = tensor(t, "latents", shape);
    REQUIRE(x->bf16_rms && x->frames && x->latents, "%s: incomplete", path);
    x->job = (prxi_vae_job) { (int)shape[1], (int)shape[2], (int)shape[3], 0, 0 };
    x->tiled_latents = tensor(t, "tiled.latents", shape);
    x->tiled = (prxi_vae_job) { (int)shape[1], (int)shape[2], (int)shape[3], 1, 0 };
    x->tiled_frames = tensor(t, "tiled.frames", x->tiled_shape);
    prxi_tensors_close(&c, &t);
}

static void close_sample(sample *x)
{
    prxi_free(&mem, x->latents);
    prxi_free(&mem, x->frames);
    prxi_free(&mem, x->bf16_rms);
    prxi_free(&mem, x->tiled_latents);
    prxi_free(&mem, x->tiled_frames);
}

static prxi_vae *open_vae(const char *name, uint32_t isa, prxi_dtype dtype)
{
    char dir[512];
    prxi_kernels k;
    prxi_vae *v = NULL;
    use_isa(&k, isa);
    snprintf(dir, sizeof dir, VECTORS "%s", name);
    prxi_clear(&c);
    REQUIRE(prxi_vae_open(&c, &v, dir, &k, dtype) == PRX_OK, "%s", c.error.text);
    return v;
}

/* In f32 the sums differ from torch's in order only: 2e-5 of values in [0, 1]. In bf16 no farther from the f32 truth than
 * 1.5 times diffusers' own bf16 run. */
static void check_frames(const char *name, uint32_t isa, prxi_dtype dtype, const sample *x)
{
    prxi_vae *v = open_vae(name, isa, dtype);
    float *one = decode(v, &x->job, x->latents, 1);
    REQUIRE(one, "%s", c.error.text);
    if (dtype == PRXI_F32) {
        const double w = worst(one, x->frames, x->n);
        CHECK(w <= 2e-5, "%s on %s: differs by %g", name, prxi_cpu_name(isa), w);
    } else {
        const double got = rms(one, x->frames, x->n), limit = 1.5 * (double)x->bf16_rms[0];
        CHECK(got <= limit, "%s on %s, bf16: rms %g, diffusers %g", name, prxi_cpu_name(isa), got, (double)x->bf16_rms[0]);
    }
    for (int threads = 2; threads <= 3 && isa == prxi_cpu_detect(); threads++) {
        float *more = decode(v, &x->job, x->latents, threads);
        REQUIRE(more, "%s", c.error.text);
        CHECK(memcmp(one, more, x->n * sizeof *one) == 0, "%s on %s: %d threads give other bytes", name,
              prxi_cpu_name(isa), threads);
        prxi_free(&mem, more);
    }
    prxi_free(&mem, one);
    prxi_vae_close(&c, &v);
}

/* A clip is what its first frames are: the history is causal, the chunks are those of the whole clip. */
static void check_prefix(const char *name, const sample *x)
{
    prxi_vae *v = open_vae(name, prxi_cpu_detect(), PRXI_F32);
    const size_t plane = (size_t)x->job.height * (size_t)x->job.width;
    const int z = prxi_vae_get_info(v)->z_dim;
    const prxi_vae_job shorter = { x->job.frames - 1, x->job.height, x->job.width, 0, 0 };
    float *latents = prxi_alloc(&mem, PRXI_MEM_MISC, (size_t)z * (size_t)shorter.frames * plane * sizeof *latents);
    for (int i = 0; i < z; i++)
        memcpy(latents + (size_t)(i * shorter.frames) * plane, x->latents + (size_t)(i * x->job.frames) * plane,
               (size_t)shorter.frames * plane * sizeof *latents);
    float *a = decode(v, &x->job, x->latents, 2), *b = decode(v, &shorter, latents, 2);
    REQUIRE(a && b, "%s", c.error.text);
    const size_t frames = (size_t)(shorter.frames - 1) * (size_t)prxi_vae_get_info(v)->scale_temporal + 1;
    const size_t all = (size_t)(x->job.frames - 1) * (size_t)prxi_vae_get_info(v)->scale_temporal + 1;
    CHECK(memcmp(a, b, x->n / all * frames * sizeof *a) == 0, "%s: a longer clip changes its beginning", name);
    CHECK(prxi_decoder_bytes(v, &x->job) == prxi_decoder_bytes(v, &shorter), "%s: workspace grows with the clip", name);
    prxi_free(&mem, a);
    prxi_free(&mem, b);
    prxi_free(&mem, latents);
    prxi_vae_close(&c, &v);
}

static void check_tiled(const char *name, const sample *x)
{
    if (!x->tiled_latents)
        return;
    prxi_vae *v = open_vae(name, prxi_cpu_detect(), PRXI_F32);
    const prxi_vae_info *i = prxi_vae_get_info(v);
    const int64_t H = (int64_t)x->tiled.height * i->scale_spatial, W = (int64_t)x->tiled.width * i->scale_spatial;
    const int64_t *n = x->tiled_shape;
    float *all = decode(v, &x->tiled, x->tiled_latents, 2);
    REQUIRE(all, "%s", c.error.text);
    REQUIRE(n[1] == (H + STEP - 1) / STEP && n[2] == (W + STEP - 1) / STEP, "%s: other pixels were kept", name);
    double w = 0;
    for (int64_t f = 0; f < n[0]; f++)
        for (int64_t y = 0; y < n[1]; y++)
            for (int64_t p = 0; p < n[2]; p++)
                w = fmax(w, worst(all + ((f * H + y * STEP) * W + p * STEP) * 3,
                                  x->tiled_frames + ((f * n[1] + y) * n[2] + p) * 3, 3));
    CHECK(w <= 2e-5, "%s tiled: differs by %g", name, w);
    prxi_free(&mem, all);
    prxi_vae_close(&c, &v);
}

static void check_model(const char *name)
{
    static const char *const isas[] = { "ref", "avx2", "avx512" };
    sample x;
    open_sample(&x, name);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const int64_t isa = prxi_cpu_mask(isas[i]);
        if (isa < 0)
            continue;
        check_frames(name, (uint32_t)isa, PRXI_F32, &x);
        check_frames(name, (uint32_t)isa, PRXI_BF16, &x);
    }
    if (prxi_cpu_detect() & PRXI_ISA_AVX512_BF16) {
        matmul = 1;
        check_frames(name, prxi_cpu_detect(), PRXI_BF16, &x);
        matmul = 0;
    }
    check_prefix(name, &x);
    check_tiled(name, &x);
    close_sample(&x);
}

/* The decoder of Wan 2.1 at 256 x 256, without what convolutions widen into: 300 MiB, of which 285 million bytes cannot go, the last
 * two inputs of every convolution over three frames. */
static void published_workspace(void)
{
    static const int cin[4] = { 384, 192, 192, 96 }, cout[4] = { 384, 384, 192, 96 }, side[4] = { 32, 64, 128, 256 };
    static prxi_vae v = { .cfg = { .z_dim = 16, .base_dim = 96, .blocks = 4, .res_per_block = 3, .out_channels = 3 }, .dtype = PRXI_BF16 };
    static prxi_vae_core core;
    double kept = 4.0 * 2 * 32 * 32 * 384 * 2;
    for (int i = 0; i < 2; i++)
        v.mid[i].cin = v.mid[i].cout = 384;
    for (int i = 0; i < 4; i++) {
        prxi_vae_block *b = &v.block[i];
        const double pixels = 2.0 * side[i] * side[i] * 2;
        *b = (prxi_vae_block) { .cin = cin[i], .cout = cout[i], .up_cout = cout[i] / 2, .has_up = i < 3, .temporal = i < 2 };
        for (int r = 0; r < 3; r++) {
            b->res[r].cin = r ? cout[i] : cin[i];
            b->res[r].cout = cout[i];
            kept += pixels * (b->res[r].cin + cout[i]);
        }
        kept += b->temporal ? pixels * cout[i] : 0;
    }
    const size_t bytes = prxi_vae_core_init(&core, &v, 32, 32, NULL);
    CHECK(kept > 284e6 && (double)bytes > kept && (double)bytes < 1.11 * kept && bytes <= (size_t)300 << 20, "%zu bytes, %.0f kept",
          bytes, kept);
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    c.mem = &mem;
    published_workspace();
    check_model("wan21");
    check_model("wan22");
    check_model("small");
    check_model("flat");
    CHECK(atomic_load(&mem.total) == 0, "%zu bytes leak", atomic_load(&mem.total));
    return TEST_END();
}
