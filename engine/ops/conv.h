/* Convolutions of the VAE, channels last, without an im2col buffer: for one output pixel the channels of kw neighbouring
 * pixels lie side by side in memory, so a row of taps is one run of a matrix product whose rows overlap. Rows are found
 * through rings (prxi_plane), so that the history of a causal convolution stays where it was written. */
#ifndef PRXI_CONV_H
#define PRXI_CONV_H

#include "engine/core/device.h"
#include "engine/core/dtype.h"

enum { PRXI_CONV_MAX_KT = 3, PRXI_CONV_MAX_TAPS = PRXI_CONV_MAX_KT * 3 + 1 };

/* A row of taps: k elements per output pixel, whose sources are `step` bytes apart. */
typedef struct prxi_conv_tap {
    const unsigned char *src;       /* run of output pixel 0 */
    int64_t step, k;                /* k is even for bf16 */
    const unsigned char *weights;   /* f32: [k][block]; bf16: [k/2][block][2] */
} prxi_conv_tap;

/* out[x][j] (+)= bias[j] + sum over taps of run(x) . weights[][j] for x < width, j < cols <= block. Sums in f32 in tap
 * order; one rounding at the store. A pixel's bits do not depend on its neighbours, so any cut of the row is the same. */
typedef struct prxi_conv_tile {
    const prxi_conv_tap *taps;
    int n_taps, cols;
    int64_t width;
    const float *bias;              /* [block] */
    unsigned char *out;
    int64_t out_step;               /* bytes between output pixels */
    prxi_dtype out_dtype;
    int add;                        /* add to what out holds */
} prxi_conv_tile;

/* Single-threaded kernels, called from tasks. */
typedef struct prxi_conv_ops {
    int block;                      /* output channels of a packed block, at most PRXI_CONV_MAX_BLOCK */
    void (*tile[PRXI_COMPUTE_DTYPES])(const prxi_conv_tile *t);
    /* Not NULL: the bf16 tile reads sources in f32, which this makes of bf16 ones. */
    void (*widen)(int64_t n, const prxi_bf16 *x, float *y);
    /* out (+)= x, n values, rounded once. */
    void (*merge)(int64_t n, const float *x, int add, prxi_dtype t, void *out);
    /* bf16 layers as matrix products of oneDNN, whose AMX tiles are several times faster than ours: 0 never, 1 where oneDNN does
     * use AMX, 2 always (tests). A tile of pixels is gathered at a time. */
    int matmul;
    /* out = silu(x / max(|x|_2, 1e-12) * sqrt(dim) * gamma) per row of dim channels (silu optional); f32 inside. */
    void (*rms_silu[PRXI_COMPUTE_DTYPES])(int64_t rows, int64_t dim, const void *x, int64_t ldx, const float *gamma,
                                          int silu, void *out, int64_t ldo);
} prxi_conv_ops;

enum { PRXI_CONV_MAX_BLOCK = 32 };

void prxi_conv_init_ref(prxi_conv_ops *t);
void prxi_conv_init_x86(prxi_conv_ops *t, uint32_t isa);

/* Elements between pixels of `channels` channels: even, so that bf16 pairs are whole; a padding channel is zero. */
static inline int64_t prxi_conv_pitch(int64_t channels)
{
    return (channels + 1) & ~(int64_t)1;
}

/* ---- a layer ---- */

typedef struct prxi_conv_desc {
    const float *weight;            /* [cout, cin, kt, kh, kw] */
    const float *bias;              /* [cout] */
    int64_t cout, cin;
    int kt, kh, kw;
    const float *shortcut;          /* [cout, shortcut_cin] 1x1x1, summed into the same output, or NULL */
    const float *shortcut_bias;
    int64_t shortcut_cin;
    prxi_dtype dtype;               /* of input and weights */
    struct prxi_device *device;     /* where the weights go and the sum runs; NULL: here */
} prxi_conv_desc;

typedef struct prxi_conv prxi_conv; /* packed weights: immutable, shared */

int prxi_conv_open(prxi_ctx *c, prxi_conv **out, const prxi_conv_ops *ops, const prxi_conv_desc *d);
void prxi_conv_close(prxi_mem *m, prxi_conv **conv);
size_t prxi_conv_bytes(const prxi_conv *conv);

/* A picture in a ring of rows: row r at base + ((first + r) mod rows) * pitch. A plane that is read with kw > 1 has a
 * zero pixel before and after each row; neighbours share it. base NULL: no picture, all zero. */
typedef struct prxi_plane {
    unsigned char *base;            /* pixel 0 of ring row 0 */
    int64_t pitch, rows, first;
} prxi_plane;

static inline unsigned char *prxi_plane_row(const prxi_plane *p, int64_t r)
{
    return p->base + (p->first + r) % p->rows * p->pitch;
}

typedef struct prxi_conv_args {
    const prxi_conv *conv;
    prxi_plane src[PRXI_CONV_MAX_KT];   /* kt pictures, oldest first */
    prxi_plane shortcut;
    int64_t height, width;          /* of a source picture; rows outside it are zero */
    int64_t begin, end;             /* rows to compute, in the grid of the sources */
    int dy, dx;                     /* source of the first tap, relative to the output pixel */
    prxi_plane out;                 /* grid pixel (y, x) goes to (y * scale + oy, x * scale + ox) */
    int scale, oy, ox;
    int64_t out_pitch;              /* elements between output pixels, even; a channel between cout and it gets zero */
    prxi_dtype out_dtype;
    int add;
    prxi_conv_by by;                /* on a device */
    void *scratch;                  /* for widened sources: at least prxi_conv_scratch() of one row, better of a strip */
    size_t scratch_bytes;
} prxi_conv_args;

/* Bytes of widened sources for `rows` output rows of a picture of this width; 0 where the tiles need none. */
size_t prxi_conv_scratch(const prxi_conv_ops *ops, const prxi_conv *conv, int64_t width, int64_t rows);

/* Lets a device decide who computes this one, before it is needed; out is written. Nothing on the host. */
void prxi_conv_prepare(prxi_stream *s, const prxi_conv_args *a);
/* Work is cut by rows, blocks of channels and pieces of a row: the same bytes for any thread count. */
void prxi_conv_run(prxi_stream *s, const prxi_conv_ops *ops, const prxi_conv_args *a);

#endif
