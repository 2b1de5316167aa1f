/* The decoder alone, fed with the final latents of the reference run: fp32 and bf16, the same bytes for any number of threads. */
#include "common.h"

#include "engine/model/vae.h"
#include "shared.h"

/* fp32 against fp32 in units of the full range of a pixel; a deep chain of normalisations over 3 to 16 channels. */
#define TOLERANCE 1e-4

/* Bytes of the emulated device's memory. */
static size_t held(void)
{
#ifdef PRXI_KCHECK_CUDA
    return getenv("PRAXINO_CUDA_MODULE") ? 0 : emu_bytes();
#else
    return 0;
#endif
}

/* What a plan says of a device's memory beside what was taken: vectors are small; the picture that a library's sums go through is the
 * device's, and comes later. Whole jobs: cuda/memory. */
static void check_bytes(const golden_case *g, const prxi_kernels *k, prxi_dtype dtype, const prxi_vae_job *job, int frames, size_t taken)
{
    size_t planned = 0;
    if (held() == 0)
        return;
    REQUIRE(prxi_vae_device_bytes(&golden_ctx, g->model, k, dtype, job, &planned) == PRX_OK, "%s", golden_ctx.error.text);
    planned -= (size_t)g->width * (size_t)g->height * (12 * (size_t)frames + 5);         /* the frames are the caller's */
    CHECK((double)planned < 1.05 * (double)taken && (double)planned > 0.85 * (double)taken, "%s: %zu bytes planned, %zu taken", g->name,
          planned, taken);
}

static float *decode(const golden_case *g, const char *isa, prxi_dtype dtype, int threads, const float *latents, size_t *count)
{
    prxi_kernels k;
    prxi_vae *v;
    prxi_decoder *d;
    prxi_stream s;
    const prxi_vae_job job = { .frames = g->shape[1], .height = g->shape[2], .width = g->shape[3] };
    prxi_clear(&golden_ctx);
    prxi_kernels_init(&k, (uint32_t)prxi_cpu_mask(isa));
    prxi_stream_init(&s, &golden_ctx, threads);
#ifdef PRXI_KCHECK_CUDA
    prxi_cuda_kernels(&k, cuda_under_test());
    s.device = k.device;
    cuda_seed((uint64_t)threads);
#endif
    const size_t idle = held();
    REQUIRE(prxi_vae_open(&golden_ctx, &v, g->model, &k, dtype) == PRX_OK, "%s", golden_ctx.error.text);
    const prxi_vae_info *info = prxi_vae_get_info(v);
    const size_t weights = held() - idle;
    REQUIRE(info->z_dim == g->shape[0] && g->shape[3] * info->scale_spatial == g->width, "%s: sizes", g->name);
    const size_t frame = (size_t)g->width * (size_t)g->height * 3;
    float *out = shared_alloc(((size_t)g->frames + (size_t)info->scale_temporal) * frame * sizeof *out);
    REQUIRE(out, "memory");
    const size_t others = held();
    REQUIRE(prxi_decoder_open(&golden_ctx, &d, v, &job) == PRX_OK, "%s", golden_ctx.error.text);
    check_bytes(g, &k, dtype, &job, info->scale_temporal, weights + held() - others);
    int64_t done = 0;
    for (int t = 0; t < job.frames; t++) {
        int n = 0;
        REQUIRE(prxi_decoder_next(&golden_ctx, &s, d, latents, t, out + (size_t)done * frame, &n) == PRX_OK, "%s",
                golden_ctx.error.text);
        done += n;
    }
    CHECK(done == g->frames, "%s: %d frames", g->name, (int)done);
    prxi_decoder_close(&golden_ctx, &d);
    prxi_vae_close(&golden_ctx, &v);
    prxi_stream_close(&s);
    *count = (size_t)done * frame;
    return out;
}

static void compare(const golden_case *g, const char *isa, prxi_dtype dtype, const float *out, size_t count)
{
    size_t n;
    double d[2], allowed[2] = { TOLERANCE, TOLERANCE };
    float *truth = golden_floats(g, "frames_f32", &n), *picked = malloc(n * sizeof *picked);
    REQUIRE(picked && (n - 1) * (size_t)g->frames_stride < count, "%s: frames_f32", g->name);
    for (size_t i = 0; i < n; i++)
        picked[i] = out[i * (size_t)g->frames_stride];
    golden_absolute(picked, truth, n, d);
    if (dtype == PRXI_BF16) {
        golden_bf16(g, "vae", -1, allowed);
        allowed[0] *= GOLDEN_BF16_FACTOR;
        allowed[1] = INFINITY;
    }
    CHECK(d[0] <= allowed[0] && d[1] <= allowed[1], "%s %s %s: rms %.3g (%.3g allowed), max %.3g", g->name, isa,
          prxi_dtype_name(dtype), d[0], allowed[0], d[1]);
    if (getenv("GOLDEN_VERBOSE"))
        printf("%s %s %s: rms %.3g of %.3g, max %.3g\n", g->name, isa, prxi_dtype_name(dtype), d[0], allowed[0], d[1]);
    if (dtype == PRXI_F32) {
        const prxi_tensor *u8 = golden_tensor(g, "frames");
        size_t off = 0;
        REQUIRE(u8->dtype == PRXI_U8 && u8->bytes == count, "%s: frames", g->name);
        for (size_t i = 0; i < count; i++) {
            const double v = 255.0 * out[i] - ((const uint8_t *)u8->data)[i];
            off += v < -0.05 || v > 1.05;      /* stored values are cut to integers */
        }
        CHECK(off == 0, "%s %s: %zu of %zu bytes are off", g->name, isa, off, count);
    }
    free(truth);
    free(picked);
}

/* The emulation is slow: the larger model in bf16 only. */
static int first_type(const golden_case *g)
{
#ifdef PRXI_KCHECK_CUDA
    if (strcmp(g->name, "wan22_ti2v") == 0)
        return PRXI_BF16;
#endif
    (void)g;
    return PRXI_F32;
}

static void check_case(const golden_case *g)
{
    char name[32];
    size_t n;
    snprintf(name, sizeof name, "latents.%03d", (int)g->steps);
#ifdef PRXI_KCHECK_CUDA
    static const char *const isas[] = { "ref", NULL };          /* replaced by the tables of the device */
#else
    const char *const *isas = golden_isas();
#endif
    float *stored = golden_floats(g, name, &n), *latents = shared_alloc(n * sizeof *latents);
    REQUIRE(latents, "memory");
    memcpy(latents, stored, n * sizeof *latents);
    free(stored);
    for (const char *const *isa = isas; *isa; isa++)
        for (int dtype = first_type(g); dtype <= PRXI_BF16; dtype++) {
            uint64_t first = 0;
            const int most = strcmp(*isa, "ref") ? 3 : 1;      /* the reference and the emulation are slow */
            for (int threads = 1; threads <= most; threads++) {
                size_t count;
                float *out = decode(g, *isa, (prxi_dtype)dtype, threads, latents, &count);
                const uint64_t digest = golden_digest(out, count * sizeof *out);
                if (threads == 1) {
                    first = digest;
                    compare(g, *isa, (prxi_dtype)dtype, out, count);
                }
                CHECK(digest == first, "%s %s %s: %d threads give other bytes than 1", g->name, *isa,
                      prxi_dtype_name((prxi_dtype)dtype), threads);
                shared_free(out);
            }
        }
    shared_free(latents);
}

int main(int argc, char **argv)
{
    return golden_main(argc, argv, check_case);
}
