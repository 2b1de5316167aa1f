/* Between the library and libpraxino_cuda.so: plain C, one table of functions. The module knows nothing of the library; it never
 * allocates host memory, and every call returns PRX_OK or a negative code with the reason in last_error.
 * Pointers named below are device memory unless they are said to be the host's. Calls queue work on the device's one stream, in order;
 * only get and sync wait. Types: 0 f32, 1 bf16 (prxi_dtype). */
#ifndef PRXI_CUDA_MODULE_H
#define PRXI_CUDA_MODULE_H

#include <stddef.h>
#include <stdint.h>

#include <praxino/praxino.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PRXI_CUDA_ABI 5
#define PRXI_CUDA_ENTRY "prxi_cuda_module_table"    /* const prxi_cuda_module *prxi_cuda_module_table(void) */

/* ---- norms (contracts: engine/ops/norm.h) ---- */

typedef struct prxi_cu_ln {
    int64_t rows, dim;                     /* dim at most PRXI_CU_ROW */
    void *x;
    const void *o;
    const float *gate, *mul, *add;
    float eps;
    void *out;
    void *q;                               /* not NULL: instead of out, of type bf16, what quantise would make of it; and scale */
    float *scale;
} prxi_cu_ln;

typedef struct prxi_cu_rms {
    int64_t rows, dim;
    const void *x;
    int64_t ldx;
    const float *weight;
    float eps;
    const float *rope;
    int64_t rope_rows;
    int head_dim;
    void *out;
    int64_t ldo;
} prxi_cu_rms;

/* Longest row that a norm keeps in shared memory. */
enum { PRXI_CU_ROW = 11264 };

/* ---- elementwise (engine/ops/act.h) ---- */

typedef enum prxi_cu_binary { PRXI_CU_GELU_MUL, PRXI_CU_SILU, PRXI_CU_ADD, PRXI_CU_SUB } prxi_cu_binary;
typedef enum prxi_cu_convert { PRXI_CU_F32_TO_BF16, PRXI_CU_BF16_TO_F32, PRXI_CU_F16_TO_F32 } prxi_cu_convert;

/* ---- the outside of the DiT ---- */

/* rows of values (channel, pt, ph, pw) from latents f32 [channels, frames, height, width]; type of rows as given. Unpatchify: f32
 * rows of (pt, ph, pw, channel) to latents f32. */
typedef struct prxi_cu_patch {
    int channels, frames, height, width, patch[3];
    const void *in;
    void *out;
} prxi_cu_patch;

/* out[i] = table[i] + vec[i % period] + (bit i / dim of ones set ? 1 : 0) for i < rows * dim; period is dim or rows * dim. */
typedef struct prxi_cu_modulate {
    int rows;
    int64_t dim, period;
    const float *table, *vec;
    uint32_t ones;
    float *out;
} prxi_cu_modulate;

/* ---- the VAE (engine/ops/conv.h, engine/ops/frame.h): pictures in rings of rows, pitches of rows in bytes ---- */

typedef struct prxi_cu_plane {
    unsigned char *base;
    int64_t pitch, rows, first;
} prxi_cu_plane;

/* prxi_device_conv (engine/core/device.h); a row of weights is at most 2^31 elements. */
typedef struct prxi_cu_conv {
    int in, out, kt, kh, kw, dy, dx, scale, oy, ox, add;
    int64_t cout, pitch, shortcut_pitch, out_pitch, height, width, begin, end;
    const void *weights;
    const float *bias;
    prxi_cu_plane src[3], shortcut, to;
} prxi_cu_conv;

/* out = silu(x / max(|x|, 1e-12) * sqrt(dim) * gamma) per pixel, silu optional; pitch: elements between pixels, zero after dim. */
typedef struct prxi_cu_rms_silu {
    int64_t begin, end, width, dim, pitch;
    prxi_cu_plane x, out;
    const float *gamma;
    int silu;
} prxi_cu_rms_silu;

typedef struct prxi_cu_frame_copy {
    prxi_cu_plane from, to;
    int64_t rows;
    size_t bytes;
} prxi_cu_frame_copy;

typedef struct prxi_cu_frame_dup {
    prxi_cu_plane x, up;
    int64_t begin, end, width, pitch, up_pitch;
    int channels, up_channels, times, sub;
} prxi_cu_frame_dup;

typedef struct prxi_cu_frame_latent {
    int channels;
    int64_t height, width, pitch, plane_step, row_step;
    const float *z, *inv_std, *mean, *weight, *bias;
    prxi_cu_plane out;
} prxi_cu_frame_latent;

typedef struct prxi_cu_frame_carry {
    int64_t begin, end, width, pitch;
    int channels;
    prxi_cu_plane taps;
    float *next, *after, *raw;
    const float *bias;
} prxi_cu_frame_carry;

typedef struct prxi_cu_frame_rgb {
    int64_t height, width;
    int patch;
    const float *raw;
    float *rgb;
} prxi_cu_frame_rgb;

/* ---- the text encoder (engine/ops/plain_attn.h) ---- */

typedef struct prxi_cu_text_attn {
    int64_t n, ld, ldo;
    int heads, head_dim;
    const float *q, *k, *v;
    float *out;
    const float *table;
    const int32_t *bucket;
} prxi_cu_text_attn;

/* ---- linear: y = epilogue(x W^T + bias) (engine/ops/gemm.h) ---- */

typedef struct prxi_cu_gemm {
    int64_t m, n, k;
    int compute, out, epilogue;            /* types; prxi_epilogue: 0 none, 1 gelu tanh, 2 silu */
    const void *x, *w, *bias;              /* w [n, k]; bias [n] of type `out`, or NULL */
    int64_t ldx, ldy;
    void *y;
    int64_t ldw;                           /* elements between rows of w; 0: they are adjacent */
    int plain;                             /* w is [k, n] instead */
    float alpha;                           /* factor of x W^T before the bias; 0 stands for 1 */
    const float *x_scale, *w_scale;        /* compute PRXI_CU_E4M3: [m], [n]; else NULL */
} prxi_cu_gemm;

/* The type of a gemm's x and w beside the two of prxi_dtype. */
enum { PRXI_CU_E4M3 = 2 };

/* q [rows, k] in e4m3 and scale [rows]: x is q times the scale of its row, up to rounding. */
typedef struct prxi_cu_quantise {
    int64_t rows, k;
    const void *x;
    int64_t ldx;
    void *q;
    float *scale;
} prxi_cu_quantise;

/* ---- attention (attention/attention.h) ---- */

/* A tile of queries: rows [first, first + rows) of the positions of a block. */
typedef struct prxi_cu_tile {
    int32_t head, block, first, rows;      /* head -1: every head (the second grid dimension) */
} prxi_cu_tile;

enum { PRXI_CU_TILE_ROWS = 64, PRXI_CU_QUEUE_ROWS = 128 };

typedef struct prxi_cu_attn {
    int heads, head_dim;
    int64_t q_len, kv_len;
    const void *q, *k, *v;
    void *o;
    int64_t ldq, ldk, ldv, ldo;
    float scale, tail_bias;
    float *lse;
    /* the list; tables with one entry a head when per_head */
    int per_head, nq, nk, n_tiles;
    const int32_t *k_start, *cols, *q_perm, *k_perm;
    const int64_t *row_ptr;
    const prxi_cu_tile *tiles;
    const int64_t *row_end;                /* not NULL: rows [nq] a head that need not follow each other */
    /* attention90: tiles of PRXI_CU_QUEUE_ROWS queries of a head (never -1), longest first inside a group of heads, up to the first
     * without rows; a counter; room for attention90_copies bytes */
    int n_items;
    const prxi_cu_tile *items;
    int32_t *queue;
    void *copies;
} prxi_cu_attn;

typedef struct prxi_cu_nearest {
    int heads, head_dim, k;
    int64_t n, ldx;
    const void *x, *centroids;
    int32_t *labels;
    float *products, *sums;
    int32_t *counts;
    float *halves;                         /* [heads][k] scratch of the tuned kernel; NULL: the plain one */
} prxi_cu_nearest;

/* Where the algorithms of products are kept from one run to the next; shape: what one is chosen for. find: 1 when it is known. */
enum { PRXI_CU_GEMM_SHAPE = 12, PRXI_CU_GEMM_ALGORITHM = 64 };

typedef struct prxi_cu_gemm_memory {
    void *cookie;
    int tune;                              /* measure those that are not known; else the library's first choice */
    int  (*find)(void *cookie, const int64_t shape[PRXI_CU_GEMM_SHAPE], unsigned char data[PRXI_CU_GEMM_ALGORITHM]);
    void (*keep)(void *cookie, const int64_t shape[PRXI_CU_GEMM_SHAPE], const unsigned char data[PRXI_CU_GEMM_ALGORITHM]);
} prxi_cu_gemm_memory;

enum { PRXI_CU_CHUNK = 1024, PRXI_CU_CLUSTERS = 1024 };

enum { PRXI_CU_STRIDED, PRXI_CU_FARTHEST, PRXI_CU_RANDOM };       /* prxi_seeding */

/* attention/attention.h: prxi_cluster_args, prxi_select_args. counts: [heads][chunks of PRXI_CU_CHUNK tokens][k]. */
typedef struct prxi_cu_cluster {
    int heads, head_dim, k, iters, fresh;
    int64_t n, ldx;
    double tolerance;
    const void *x;
    void *centroids, *means;
    int32_t *labels, *perm, *start, *counts, *stopped;
    float *halves;
    double *moved;
    int seeding, reseed;
    uint64_t seed;
    float *far;
    double *gaps;
} prxi_cu_cluster;

typedef struct prxi_cu_select {
    int heads, head_dim, cq, ck, least, tiles_each;
    int64_t n;
    float scale, top_p;
    const void *q_centroids, *k_centroids;
    const int32_t *q_start, *k_start;
    int32_t *cols, *keys;
    int64_t *row_ptr, *row_end;
    prxi_cu_tile *tiles;
    double *kept;
    int n_items, group;                    /* n_items > 0: also the queue of attention90, heads in groups of so many */
    prxi_cu_tile *items;                   /* those after the last have no rows */
} prxi_cu_select;

/* ---- caches (caching/drift.h, caching/forecast.h); arithmetic in f64 as there ---- */

/* The probe x - base (base NULL: x), every stride-th channel. With moved: [2 * rows] sums of |then - now| and |then| of each row, `then`
 * being the probe buffer; with store the probe buffer takes the new values, in the same pass. total: [2] f64, the measure's two
 * sums over rows, tokens above `important` only when that is > 0 and any is. */
typedef struct prxi_cu_drift {
    int x_type, probe_type, stride, store;
    int64_t rows, dim;
    const void *x, *base;
    void *probe;
    double important;
    double *moved, *total;
} prxi_cu_drift;

enum { PRXI_CU_TERMS = 5 };

/* Update: d[0] = after - before (before NULL: after), d[i + 1] = (new d[i] - old[i]) / window[i]. Prediction: y = (add ? y : 0) +
 * sum of weight[i] d[i]. */
typedef struct prxi_cu_forecast {
    int64_t n;
    int type, elem, terms, add;            /* of after, before, y; of the ladder */
    const void *after, *before;
    void *y;
    void *d[PRXI_CU_TERMS];
    const void *old[PRXI_CU_TERMS];
    double window[PRXI_CU_TERMS], weight[PRXI_CU_TERMS];
} prxi_cu_forecast;

/* ---- latents, f32 ---- */

/* What the schedulers do to x once their coefficients are known: schedulers/{unipc,dpmpp,euler}.c. */
typedef struct prxi_cu_step {
    int kind;                              /* 0 euler, 1 dpmpp, 2 unipc */
    int64_t n;
    int correct;                           /* unipc */
    float sigma, dt;                       /* dt: euler */
    float c_keep, c_e, c_d, c_d2, c_rho;   /* corrector */
    float p_keep, p_e, p_d, p_d2;          /* predictor; dpmpp's update */
    const float *v;
    float *x, *m1, *m2, *m3, *last;        /* dpmpp: m1 is the earlier prediction */
} prxi_cu_step;

/* Blocks of a reduction over latents. */
enum { PRXI_CU_PARTS = 64 };

/* RGB u8 [height, width, 3] to planes (video_io/color.h), strides in bytes. */
typedef struct prxi_cu_yuv {
    const uint8_t *rgb;
    int width, height;
    uint8_t *plane[3];
    int stride[3];
} prxi_cu_yuv;

/* ---- the device ---- */

typedef struct prxi_cu_info {
    char name[128], why[256];              /* why: what is missing when probe fails */
    int devices, major, minor, multiprocessors, driver, runtime, emulated;
    int hopper;                            /* attention90 runs here: a chip of sm_90, and code for it in this module */
    int fp8;                               /* products of e4m3 with scales by row of both operands: sm_90 */
    size_t memory, memory_free;
    char cublaslt[32], cudnn[64], archs[64];
} prxi_cu_info;

/* A source of kernels and whether hardware has run it as it stands: tests/gpu/ledger.json. */
typedef struct prxi_cu_kernel_row {
    const char *name, *hash, *state;       /* state: "not yet run on hardware", "changed since GPU", "qualified on GPU" */
} prxi_cu_kernel_row;

typedef struct prxi_cuda_module {
    uint32_t abi, size;                    /* PRXI_CUDA_ABI, sizeof of this */
    size_t device_bytes;                   /* host bytes of a `dev`, which the caller allocates, zeroed */
    const prxi_cu_kernel_row *kernels;     /* ends with a NULL name */
    int  (*probe)(prxi_cu_info *info);
    int  (*open)(void *dev);               /* device 0 */
    void (*close)(void *dev);
    const char *(*last_error)(void *dev);
    void *(*alloc)(void *dev, size_t bytes);              /* NULL: refused */
    void *(*alloc_shared)(void *dev, size_t bytes);       /* that the host may touch while nothing runs: for tests */
    void (*release)(void *dev, void *p);                  /* waits for the device */
    int  (*put)(void *dev, void *to, const void *host, size_t bytes);
    int  (*get)(void *dev, void *host, const void *from, size_t bytes);
    int  (*copy)(void *dev, void *to, const void *from, size_t bytes);
    /* Two slots of memory that are filled while kernels run: engine/core/device.h. */
    void *(*alloc_host)(void *dev, size_t bytes);
    void (*release_host)(void *dev, void *p);             /* waits for the device */
    int  (*fetch)(void *dev, int slot, void *to, const void *host, size_t bytes);
    int  (*arrive)(void *dev, int slot);
    int  (*leave)(void *dev, int slot);
    int  (*zero)(void *dev, void *p, size_t bytes);
    int  (*sync)(void *dev);
    /* Moments 0 and 1 of the work so far; between waits for the second and gives the milliseconds from the first to it. */
    int  (*mark)(void *dev, int i);
    int  (*between)(void *dev, float *ms);

    int (*layernorm)(void *dev, int type, const prxi_cu_ln *a);
    int (*rmsnorm)(void *dev, int type, const prxi_cu_rms *a);
    int (*rms_silu)(void *dev, int type, const prxi_cu_rms_silu *a);
    int (*binary)(void *dev, int type, prxi_cu_binary op, int64_t n, const void *a, const void *b, void *y);
    int (*convert)(void *dev, prxi_cu_convert op, int64_t n, const void *x, void *y);
    int (*softmax)(void *dev, int64_t rows, int64_t n, float *x, int64_t ld);
    int (*patchify)(void *dev, int type, const prxi_cu_patch *a);
    int (*unpatchify)(void *dev, const prxi_cu_patch *a);
    int (*modulate)(void *dev, const prxi_cu_modulate *a);
    int (*conv)(void *dev, const prxi_cu_conv *a);
    int (*conv_simple)(void *dev, const prxi_cu_conv *a);
    int (*frame_copy)(void *dev, const prxi_cu_frame_copy *a);
    int (*frame_dup)(void *dev, int type, const prxi_cu_frame_dup *a);
    int (*frame_latent)(void *dev, int type, const prxi_cu_frame_latent *a);
    int (*frame_carry)(void *dev, const prxi_cu_frame_carry *a);
    int (*frame_rgb)(void *dev, const prxi_cu_frame_rgb *a);
    int (*text_attention)(void *dev, const prxi_cu_text_attn *a);
    /* y [rows][pitch] of the type from x [rows][n], zero after the n-th value. */
    int (*store_rows)(void *dev, int type, int64_t rows, int64_t n, int64_t pitch, const float *x, void *y);
    int (*gemm)(void *dev, const prxi_cu_gemm *a);        /* cuBLASLt; the simple one in emulation */
    int (*gemm_simple)(void *dev, const prxi_cu_gemm *a);
    void (*gemm_memory)(void *dev, const prxi_cu_gemm_memory *m);
    int (*quantise)(void *dev, int type, const prxi_cu_quantise *a);
    int (*attention)(void *dev, int type, const prxi_cu_attn *a);
    int (*attention_simple)(void *dev, int type, const prxi_cu_attn *a);
    int (*attention90)(void *dev, int type, const prxi_cu_attn *a);
    int (*attention90_takes)(int type, const prxi_cu_attn *a);      /* whether these shapes are for it */
    size_t (*attention90_copies)(const prxi_cu_attn *a);
    void *(*stream)(void *dev);                           /* of the CUDA runtime, for libraries; NULL in emulation */
    int (*nearest)(void *dev, int type, const prxi_cu_nearest *a);
    int (*gather)(void *dev, int type, const prxi_cu_nearest *a);
    int (*cluster)(void *dev, int type, const prxi_cu_cluster *a);
    int (*select)(void *dev, int type, const prxi_cu_select *a);
    int (*drift)(void *dev, const prxi_cu_drift *a);
    int (*forecast_update)(void *dev, const prxi_cu_forecast *a);
    int (*forecast_apply)(void *dev, const prxi_cu_forecast *a);
    int (*guide)(void *dev, int64_t n, float *cond, const float *uncond, float guidance);
    int (*sched_step)(void *dev, const prxi_cu_step *a);
    /* parts [2 (PRXI_CU_PARTS + 1)], the last two: sum |a - b| (b NULL: |a|), and the first index of a that is not finite, or -1. */
    int (*reduce)(void *dev, int64_t n, const float *a, const float *b, double *parts);
    int (*rgb_to_u8)(void *dev, int64_t n, const float *rgb, uint8_t *out);
    int (*rgb_to_yuv)(void *dev, const prxi_cu_yuv *a);
} prxi_cuda_module;

#ifdef __cplusplus
}
#endif

#endif
