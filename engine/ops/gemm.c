/* Linear layers: packing, and the loops around the tile kernels (Goto and van de Geijn, Anatomy of high-performance
 * matrix multiplication, 2008: a block of x in L2, a panel of weights streamed past it). Weights in bf16 are widened a panel
 * at a time, once per block of rows: the products are then exact in f32, and on cores whose bf16 dot product has half the
 * rate of their f32 multiply-add (Sapphire Rapids without AMX) this is also the faster way. */
#include "gemm_kernel.h"

#include "engine/core/attr.h"
#include "engine/core/cpu.h"
#include "engine/core/device.h"
#include "onednn/gemm.h"

/* Rows and columns of a task. Per thread: x block 168 x 528, sums 168 x 512, panel 512 x 32 floats: 750 KiB, for L2. */
enum { MC = 168, NC = 512 };
/* The longest row stride of an x that is used where it lies: a tile's rows stay in the first cache. */
enum { DIRECT_LDX = 640 };
/* Tasks that a product should give each thread where it is large enough, with x copied and used where it lies; and the multiply-adds
 * that make one worth a hand-over. */
enum { TASKS_COPIED = 5, TASKS_DIRECT = 7, TASK_WORK = 1 << 19 };

struct prxi_linear {
    const prxi_gemm_kernel *kernel;
    int64_t n, k;
    prxi_dtype compute, out;
    prxi_epilogue epilogue;
    float *bias;             /* [n] or NULL */
    unsigned char *packed;   /* [k / KC][n / nr][<= KC][nr] in the compute type, the last panel filled up with zeros */
    size_t bytes;
    prxi_dnn_linear *dnn;    /* set: oneDNN does it, and nothing is packed here */
    prxi_device *device;     /* set: it does it, with these */
    void *device_weight, *device_bias;
    void *device_eight;      /* weights in 8 bits, and their scales [n]; device_weight is NULL when there are no others */
    float *device_scale;
    prxi_linear_parts place; /* of a placed layer */
    int eight_bits, placed, biased;
};

/* Row counts of oneDNN's products. Its register tiles are 6 rows high where it has no AMX, so 192 rows are faster than 128. The last
 * rows of an input are filled up to one of the counts. */
enum { DNN_LARGE, DNN_SMALL };
static const int64_t dnn_tiles[PRXI_DNN_TILES] = { 192, 64, 32, 8 };

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static const prxi_gemm_kernel *pick_kernel(uint32_t isa)
{
    const prxi_gemm_kernel *k = prxi_gemm_kernel_x86(isa);
    return k ? k : prxi_gemm_kernel_ref();
}

/* ---- packing ---- */

static float load_any(const void *p, prxi_dtype t, size_t i)
{
    return t == PRXI_F16 ? prxi_f16_to_f32(((const uint16_t *)p)[i]) : prxi_load(p, t, i);
}

/* Where panel p begins at k, a multiple of KC: panels of one block of k lie side by side, in the order of use. */
static size_t packed_at(const prxi_linear *l, int64_t panel, int64_t k)
{
    const int64_t depth = min64(PRXI_GEMM_KC, l->k - k), panels = ceil_div(l->n, l->kernel->nr);
    return (size_t)((k * panels + panel * depth) * l->kernel->nr) * prxi_dtype_size(l->compute);
}

static int check_desc(prxi_ctx *c, const prxi_linear_desc *d)
{
    const int64_t limit = (int64_t)1 << 40;
    if (!d->weight || d->n <= 0 || d->k <= 0 || d->n > limit / d->k)
        return prxi_fail(c, PRX_EINVAL, "linear: weight [%lld, %lld] is not usable", (long long)d->n, (long long)d->k);
    if (d->compute >= PRXI_COMPUTE_DTYPES || d->out >= PRXI_COMPUTE_DTYPES)
        return prxi_fail(c, PRX_EINVAL, "linear: compute and output types are f32 or bf16");
    if (d->weight_dtype > PRXI_F16 || (d->bias && d->bias_dtype > PRXI_F16))
        return prxi_fail(c, PRX_EINVAL, "linear: weight and bias types are f32, f16 or bf16");
    if (d->epilogue > PRXI_EPI_SILU)
        return prxi_fail(c, PRX_EINVAL, "linear: unknown epilogue %d", (int)d->epilogue);
    return PRX_OK;
}

static int pack(prxi_ctx *c, prxi_linear *l, const prxi_linear_desc *d)
{
    const int nr = l->kernel->nr;
    const int64_t panels = ceil_div(d->n, nr);
    const size_t panel = (size_t)(d->k * nr) * prxi_dtype_size(d->compute);
    l->bytes = prxi_mul((size_t)panels, panel);
    l->packed = prxi_alloc(c->mem, PRXI_MEM_WEIGHTS, l->bytes);
    if (!l->packed)
        return prxi_fail_nomem(c, "linear weights", l->bytes);
    if (d->bias) {
        l->bias = prxi_alloc(c->mem, PRXI_MEM_WEIGHTS, (size_t)d->n * sizeof *l->bias);
        if (!l->bias)
            return prxi_fail_nomem(c, "linear bias", (size_t)d->n * sizeof *l->bias);
        for (int64_t i = 0; i < d->n; i++)
            l->bias[i] = load_any(d->bias, d->bias_dtype, (size_t)i);
    }
    const size_t size = prxi_dtype_size(d->weight_dtype);
    for (int64_t p = 0; p < panels; p++)
        for (int64_t k = 0; k < d->k; k += PRXI_GEMM_KC)
            l->kernel->pack((const unsigned char *)d->weight + (size_t)(p * nr * d->k + k) * size, d->weight_dtype, d->k,
                            (int)min64(nr, d->n - p * nr), min64(PRXI_GEMM_KC, d->k - k),
                            l->packed + packed_at(l, p, k), d->compute);
    return PRX_OK;
}

/* Where bf16 products run at their full rate, in AMX tiles or in AMD's dot products, oneDNN's are faster than widening. PRX_OK with
 * l->dnn set or left NULL. */
static int open_dnn(prxi_ctx *c, prxi_linear *l, const prxi_linear_desc *d, prxi_gemm_with with)
{
    const int wanted = with == PRXI_GEMM_ONEDNN;
    const int dot = prxi_cpu_fast_bf16_dot();
    const int pays = with == PRXI_GEMM_AUTO && d->compute == PRXI_BF16 && (d->isa & PRXI_ISA_AVX512_BF16) &&
                     (dot || prxi_dnn_amx());
    if (d->isa == 0 || (!wanted && !pays))
        return PRX_OK;
    prxi_dnn_desc desc = { .linear = d, .threads = 1 };
    memcpy(desc.tiles, dnn_tiles, sizeof dnn_tiles);
    const int ret = prxi_dnn_open(c, &l->dnn, &desc);
    if (ret == PRX_ENOTSUP)
        return wanted ? prxi_fail(c, ret, "linear: oneDNN has no such product on this processor") : PRX_OK;
    if (l->dnn && !wanted && !dot && !strstr(prxi_dnn_name(l->dnn), "amx"))
        prxi_dnn_close(c, &l->dnn);         /* the system refused the tile registers */
    return ret;
}

/* n elements in type `to`, on the device: straight from the file's pages where they have the type already. */
static int upload(prxi_ctx *c, prxi_device *device, const void *from, prxi_dtype type, prxi_dtype to, int64_t n, void **out)
{
    const size_t bytes = (size_t)n * prxi_dtype_size(to);
    void *copy = NULL;
    *out = prxi_device_alloc(c, device, PRXI_MEM_WEIGHTS, bytes);
    if (!*out)
        return prxi_fail_nomem(c, "linear weights on the device", bytes);
    if (type != to) {
        copy = prxi_alloc(c->mem, PRXI_MEM_SCRATCH, bytes);
        if (!copy)
            return prxi_fail_nomem(c, "linear weights", bytes);
        for (int64_t i = 0; i < n; i++)
            prxi_store(copy, to, (size_t)i, load_any(from, type, (size_t)i));
    }
    const int err = prxi_device_put(c, device, *out, copy ? copy : from, bytes);
    prxi_free(c->mem, copy);
    return err;
}

static void free_on_device(prxi_ctx *c, prxi_device *device, void **p)
{
    prxi_device_free(c, device, *p);            /* waits */
    *p = NULL;
}

/* Weights in 8 bits, made on the device from what was uploaded. */
static int shrink(prxi_ctx *c, prxi_linear *l)
{
    const size_t values = (size_t)(l->n * l->k), bytes = (size_t)l->n * sizeof(float);
    prxi_device *device = l->device;
    l->device_eight = prxi_device_alloc(c, device, PRXI_MEM_WEIGHTS, values);
    l->device_scale = prxi_device_alloc(c, device, PRXI_MEM_WEIGHTS, bytes);
    int err = PRX_OK;
    if (!l->device_eight || !l->device_scale)
        err = prxi_fail_nomem(c, "linear weights on the device", values + bytes);
    else if ((err = device->quantise(device, l->compute, l->n, l->k, l->device_weight, l->k, l->device_eight, l->device_scale)) < 0)
        err = prxi_fail(c, err, "device %s: %s", device->name, device->error(device));
    if (l->eight_bits == PRXI_EIGHT_ONLY)
        free_on_device(c, device, &l->device_weight);
    return err;
}

/* The bias has the type of the output there, as the libraries of devices want it. */
static int open_device(prxi_ctx *c, prxi_linear *l, const prxi_linear_desc *d)
{
    l->device = d->device;
    l->eight_bits = d->eight_bits;
    int err = upload(c, d->device, d->weight, d->weight_dtype, d->compute, d->n * d->k, &l->device_weight);
    if (err == PRX_OK && d->eight_bits)
        err = shrink(c, l);
    return err < 0 || !d->bias ? err : upload(c, d->device, d->bias, d->bias_dtype, d->out, d->n, &l->device_bias);
}

/* ---- placed weights ---- */

static size_t round_256(size_t n)
{
    return prxi_add(n, 255) & ~(size_t)255;
}

prxi_linear_parts prxi_linear_part_bytes(int64_t n, int64_t k, prxi_dtype compute, prxi_dtype out)
{
    return (prxi_linear_parts) { prxi_add(round_256((size_t)(n * k)), round_256((size_t)n * sizeof(float))),
                                 round_256((size_t)n * prxi_dtype_size(out)),
                                 round_256(prxi_mul((size_t)(n * k), prxi_dtype_size(compute))) };
}

static void convert(void *to, prxi_dtype t, const void *from, prxi_dtype f, int64_t n)
{
    if (t == f)
        memcpy(to, from, (size_t)n * prxi_dtype_size(t));
    for (int64_t i = 0; i < n && t != f; i++)
        prxi_store(to, t, (size_t)i, load_any(from, f, (size_t)i));
}

/* From the codes of a placed layer to its scales. */
static size_t scales_after(const prxi_linear *l)
{
    return round_256((size_t)(l->n * l->k));
}

/* Weights in 8 bits are made on the device, with the bits that they have where they stay, and brought back. */
static int place_eight(prxi_ctx *c, prxi_linear *l, const prxi_linear_desc *d, unsigned char *to)
{
    prxi_device *device = d->device;
    int err = upload(c, device, d->weight, d->weight_dtype, d->compute, d->n * d->k, &l->device_weight);
    if (err == PRX_OK)
        err = shrink(c, l);
    if (err == PRX_OK && ((err = device->get(device, to, l->device_eight, (size_t)(l->n * l->k))) < 0 ||
                          (err = device->get(device, to + scales_after(l), l->device_scale, (size_t)l->n * sizeof(float))) < 0))
        err = prxi_fail(c, err, "device %s: %s", device->name, device->error(device));
    free_on_device(c, device, &l->device_weight);
    free_on_device(c, device, &l->device_eight);
    prxi_device_free(c, device, l->device_scale);
    l->device_scale = NULL;
    return err;
}

int prxi_linear_open_placed(prxi_ctx *c, prxi_linear **out, const prxi_linear_desc *d, const prxi_linear_place *place)
{
    *out = NULL;
    int err = check_desc(c, d);
    prxi_linear *l = err == PRX_OK ? prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, 1, sizeof *l) : NULL;
    if (!l)
        return err < 0 ? err : prxi_fail_nomem(c, "linear", sizeof *l);
    l->n = d->n, l->k = d->k;
    l->compute = d->compute, l->out = d->out, l->epilogue = d->epilogue;
    l->device = d->device;
    l->eight_bits = d->eight_bits;
    l->placed = 1;
    l->biased = d->bias != NULL;
    l->place = place->at;
    if (d->eight_bits && (err = place_eight(c, l, d, place->host + l->place.eight)) < 0) {
        prxi_linear_close(c, &l);
        return err;
    }
    if (d->eight_bits != PRXI_EIGHT_ONLY)
        convert(place->host + l->place.weight, d->compute, d->weight, d->weight_dtype, d->n * d->k);
    if (d->bias)
        convert(place->host + l->place.bias, d->out, d->bias, d->bias_dtype, d->n);
    *out = l;
    return PRX_OK;
}

void prxi_linear_move(prxi_linear *l, unsigned char *base, size_t begin, size_t end)
{
    const prxi_linear_parts p = l->place;
    const int eight = l->eight_bits && p.eight >= begin && p.eight < end;
    const int wide = l->eight_bits != PRXI_EIGHT_ONLY && p.weight >= begin && p.weight < end;
    l->device_eight = eight ? base + (p.eight - begin) : NULL;
    l->device_scale = eight ? (float *)(void *)(base + (p.eight - begin) + scales_after(l)) : NULL;
    l->device_weight = wide ? base + (p.weight - begin) : NULL;
    l->device_bias = l->biased && p.bias >= begin && p.bias < end ? base + (p.bias - begin) : NULL;
}

/* ---- on a device ---- */

/* scale: of x in 8 bits; NULL: it has the layer's type. */
static void run_device(prxi_stream *s, const prxi_linear *l, int64_t m, const void *x, int64_t ldx, const float *scale, int eight, void *y,
                       int64_t ldy)
{
    const void *w = eight ? l->device_eight : l->device_weight;
    const prxi_device_linear a = { m, l->n, l->k, l->compute, l->out, l->epilogue, x, w, l->device_bias, ldx, ldy, y,
                                   eight ? l->device_scale : NULL, scale };
    if (!w || (l->biased && !l->device_bias)) {
        prxi_stream_fail(s, PRX_EINTERNAL, "linear", eight ? "its weights are not there in 8 bits" : "its weights are not there");
        return;
    }
    const int err = l->device->linear(l->device, &a);
    if (err < 0)
        prxi_stream_fail(s, err, l->device->name, l->device->error(l->device));
}

int prxi_linear_open(prxi_ctx *c, prxi_linear **out, const prxi_linear_desc *d)
{
    return prxi_linear_open_with(c, out, d, PRXI_GEMM_AUTO);
}

int prxi_linear_open_with(prxi_ctx *c, prxi_linear **out, const prxi_linear_desc *d, prxi_gemm_with with)
{
    *out = NULL;
    int ret = check_desc(c, d);
    if (ret < 0)
        return ret;
    prxi_linear *l = prxi_calloc(c->mem, PRXI_MEM_WEIGHTS, 1, sizeof *l);
    if (!l)
        return prxi_fail_nomem(c, "linear", sizeof *l);
    l->kernel = pick_kernel(d->isa);
    l->n = d->n;
    l->k = d->k;
    l->compute = d->compute;
    l->out = d->out;
    l->epilogue = d->epilogue;
    ret = d->device ? open_device(c, l, d) : open_dnn(c, l, d, with);
    if (ret == PRX_OK && !l->device && !l->dnn)
        ret = pack(c, l, d);
    if (ret < 0) {
        prxi_linear_close(c, &l);
        return ret;
    }
    *out = l;
    return PRX_OK;
}

void prxi_linear_close(prxi_ctx *c, prxi_linear **l)
{
    if (!l || !*l)
        return;
    prxi_dnn_close(c, &(*l)->dnn);
    if (!(*l)->placed) {
        prxi_device_free(c, (*l)->device, (*l)->device_weight);
        prxi_device_free(c, (*l)->device, (*l)->device_bias);
        prxi_device_free(c, (*l)->device, (*l)->device_eight);
        prxi_device_free(c, (*l)->device, (*l)->device_scale);
    }
    prxi_free(c->mem, (*l)->packed);
    prxi_free(c->mem, (*l)->bias);
    prxi_free(c->mem, *l);
    *l = NULL;
}

size_t prxi_linear_bytes(const prxi_linear *l)
{
    const size_t eight = l->eight_bits ? (size_t)l->n * ((size_t)l->k + sizeof(float)) : 0;
    const size_t wide = l->eight_bits != PRXI_EIGHT_ONLY ? (size_t)(l->n * l->k) * prxi_dtype_size(l->compute) : 0;
    if (l->device)
        return sizeof *l + eight + wide + (size_t)l->n * prxi_dtype_size(l->out);
    if (l->dnn)
        return sizeof *l + prxi_dnn_bytes(l->dnn);
    return sizeof *l + l->bytes + (l->bias ? (size_t)l->n * sizeof *l->bias : 0);
}

/* ---- running ---- */

typedef struct linear_job {
    const prxi_linear *l;
    int64_t m, ldx, ldy;
    const unsigned char *x;
    unsigned char *y;
    int64_t mc, nc, n_blocks, n_slabs;
    int direct;                   /* x is used where it lies */
    unsigned char *scratch;       /* per thread: x block, panel, sums */
    size_t scratch_size, panel_at, sums_at;
} linear_job;

/* An f32 copy of rows [row, row + rows), columns [k, k + depth) of x. */
static void copy_x(const linear_job *j, int64_t row, int64_t rows, int64_t k, int64_t depth, float *a)
{
    const size_t elem = prxi_dtype_size(j->l->compute);
    for (int64_t r = 0; r < rows; r++)
        j->l->kernel->load[j->l->compute](depth, j->x + (size_t)((row + r) * j->ldx + k) * elem, a + r * PRXI_GEMM_LDA);
}

/* The next panel and the next block of x are fetched while the current panel is at work: caches further out are slow to answer,
 * and a row or a panel is too short for the processor to notice a pattern. */
typedef struct panel_span {
    int64_t row, rows;       /* of x */
    int64_t col, cols;       /* of the panel */
    int64_t k, depth;
    const unsigned char *next;    /* the packed panel after this one */
    size_t next_bytes;            /* 0 after the last one */
    int64_t fetch_row;            /* the first row of the next block of x that the tiles of this panel fetch */
} panel_span;

/* What tile t of n tiles fetches: its share of the next panel, and one row of the next block of x. */
static prxi_gemm_fetch plan_fetch(const linear_job *j, const panel_span *p, const float *a, int64_t t, int64_t n)
{
    const int64_t turns = p->depth / PRXI_GEMM_FETCH_STEPS + 1, k = p->k + p->depth, row = p->fetch_row + t;
    const int64_t share = (int64_t)p->next_bytes / n;
    const size_t elem = prxi_dtype_size(j->l->compute);
    const unsigned char *idle = (const unsigned char *)a;
    prxi_gemm_fetch f = { { idle, idle }, { 0, 0 } };
    if (share > 0) {
        f.at[0] = p->next + t * share;
        f.step[0] = share / turns + 1;
    }
    if (k < j->l->k && row < p->rows) {
        f.at[1] = j->x + (size_t)((p->row + row) * j->ldx + k) * elem;
        f.step[1] = min64(PRXI_GEMM_KC, j->l->k - k) * (int64_t)elem / turns + 1;
    }
    return f;
}

/* All row tiles of the block against one panel; rows of a are lda apart. sums holds mr x nr floats per tile between the blocks of k. */
static void run_panel(const linear_job *j, const panel_span *p, const float *a, int64_t lda, const float *b, float *sums)
{
    const prxi_linear *l = j->l;
    const prxi_gemm_kernel *kernel = l->kernel;
    const int first = p->k == 0, last = p->k + p->depth == l->k;
    const size_t step = first && last ? 0 : (size_t)kernel->mr * (size_t)kernel->nr;
    const size_t out_size = prxi_dtype_size(l->out);
    const int64_t tiles = ceil_div(p->rows, kernel->mr);
    const float *bias = l->bias ? l->bias + p->col : NULL;
    /* Sums in f32 that nothing else is done to leave from the registers. */
    const int plain = last && l->out == PRXI_F32 && l->epilogue == PRXI_EPI_NONE && p->cols == kernel->nr;
    for (int64_t t = 0; t < tiles; t++, sums += step) {
        const int64_t r = t * kernel->mr;
        const int rows = (int)min64(kernel->mr, p->rows - r);
        unsigned char *y = j->y + (size_t)((p->row + r) * j->ldy + p->col) * out_size;
        const prxi_gemm_tile product = { rows, first, p->depth, lda, a + r * lda, b, sums, plan_fetch(j, p, a, t, tiles),
                                         plain ? (float *)(void *)y : NULL, bias, j->ldy };
        for (int i = 0; last && i < rows; i++)
            for (size_t e = 0; e < (size_t)p->cols * out_size; e += 64)
                PRXI_PREFETCH(y + (size_t)(i * j->ldy) * out_size + e);
        kernel->tile(&product);
        if (!last || plain)
            continue;
        const prxi_gemm_store s = {
            .rows = rows, .cols = (int)p->cols, .c = sums, .bias = bias, .alpha = 1.0f,
            .epilogue = l->epilogue, .y = y, .ldy = j->ldy,
        };
        kernel->store[l->out](&s);
    }
}

/* Where part i of n begins: parts of whole tiles that differ by one tile at most. */
static int64_t part_begin(int64_t tiles, int64_t i, int64_t n, int tile)
{
    return tiles * i / n * tile;
}

/* A block of rows by a slab of columns. The smaller of x and the weights is walked again for every part of the larger one: it is more
 * likely to stay in a cache. */
static void linear_task(void *cookie, int64_t i, int thread)
{
    const linear_job *j = cookie;
    const prxi_linear *l = j->l;
    const prxi_gemm_kernel *kernel = l->kernel;
    const int nr = kernel->nr;
    unsigned char *base = j->scratch + (size_t)thread * j->scratch_size;
    float *copy = (float *)(void *)base, *wide = (float *)(void *)(base + j->panel_at);
    const int64_t block = l->n > j->m ? i % j->n_blocks : i / j->n_slabs, slab = l->n > j->m ? i / j->n_blocks : i % j->n_slabs;
    const int64_t row_tiles = ceil_div(j->m, kernel->mr), panels = ceil_div(l->n, nr);
    const int64_t row = part_begin(row_tiles, block, j->n_blocks, kernel->mr), col0 = part_begin(panels, slab, j->n_slabs, nr);
    const int64_t rows = min64(part_begin(row_tiles, block + 1, j->n_blocks, kernel->mr), j->m) - row;
    const int64_t cols0 = min64(part_begin(panels, slab + 1, j->n_slabs, nr), l->n) - col0, tiles = ceil_div(rows, kernel->mr);
    const size_t elem = prxi_dtype_size(l->compute);
    const float *a = j->direct ? (const float *)(const void *)j->x + row * j->ldx : copy;
    for (int64_t k = 0; k < l->k; k += PRXI_GEMM_KC) {
        const int64_t depth = min64(PRXI_GEMM_KC, l->k - k);
        if (!j->direct)
            copy_x(j, row, rows, k, depth, copy);
        for (int64_t c = 0; c < cols0; c += nr) {
            const unsigned char *packed = l->packed + packed_at(l, (col0 + c) / nr, k);
            const size_t bytes = (size_t)(depth * nr) * elem;
            const panel_span p = { row, rows, col0 + c, min64(nr, cols0 - c), k, depth, packed + bytes,
                                   c + nr < cols0 ? bytes : 0, c / nr * tiles };
            const float *b = (const float *)(const void *)packed;
            if (l->compute == PRXI_BF16) {
                kernel->load[PRXI_BF16](depth * nr, packed, wide);
                b = wide;
            }
            const size_t sums_at = l->k <= PRXI_GEMM_KC ? 0 : (size_t)(c / nr * tiles * kernel->mr * nr);
            run_panel(j, &p, a, j->direct ? j->ldx : PRXI_GEMM_LDA, b, (float *)(void *)(base + j->sums_at) + sums_at);
        }
    }
}

/* Rows and columns are shared out evenly, in whole tiles. When that makes too few tasks for the threads, or some that only one of them
 * would have at the end, rows are cut finer first, since every slab of columns copies x again, and then columns, down to about
 * 10 us of work each. No sum depends on the cuts. */
static void plan_job(linear_job *j, int threads)
{
    const prxi_gemm_kernel *kernel = j->l->kernel;
    const int64_t n = j->l->n, tiles = ceil_div(j->m, kernel->mr), panels = ceil_div(n, kernel->nr);
    /* The copy pays by its stride and by being reused; a short k in f32 has neither problem. */
    j->direct = j->l->compute == PRXI_F32 && j->l->k <= PRXI_GEMM_KC && j->ldx <= DIRECT_LDX;
    const int64_t enough = (int64_t)threads * (j->direct ? TASKS_DIRECT : TASKS_COPIED);
    const int64_t wanted = min64(enough, 1 + ((j->m * n) >> 10) * j->l->k / (TASK_WORK >> 10));
    const int64_t most = ceil_div(j->m, MC / 2);
    int64_t blocks = ceil_div(j->m, MC), slabs = ceil_div(n, NC);
    if (blocks * slabs < wanted)
        blocks = min64(ceil_div(wanted, slabs), most);
    if (blocks * slabs < wanted / 2)
        slabs = min64(ceil_div(wanted, blocks), panels);
    while (blocks < most && blocks * slabs < 2 * wanted && blocks * slabs % threads)
        blocks++;
    j->n_blocks = min64(blocks, tiles);
    j->n_slabs = slabs;
    j->mc = ceil_div(tiles, j->n_blocks) * kernel->mr;
    j->nc = ceil_div(panels, slabs) * kernel->nr;
    const size_t sums = j->l->k <= PRXI_GEMM_KC ? (size_t)(kernel->mr * kernel->nr) : (size_t)(j->mc * j->nc);
    j->panel_at = j->direct ? 0 : (size_t)j->mc * PRXI_GEMM_LDA * sizeof(float);
    j->sums_at = j->panel_at + prxi_carve_size((size_t)(PRXI_GEMM_KC * kernel->nr) * sizeof(float));
    j->scratch_size = prxi_carve_size(j->sums_at + sums * sizeof(float));
}

/* ---- through oneDNN ---- */

typedef struct dnn_job {
    prxi_stream *s;
    const prxi_linear *l;
    int64_t m, large, ldx, ldy;   /* large: tasks of the largest tile; those after them take the next */
    const unsigned char *x;
    unsigned char *y;
    unsigned char *scratch;       /* per thread: a seat, oneDNN's own, and where rows are copied an x tile and a y tile */
    size_t scratch_size, own_at, x_at, y_at;
} dnn_job;

static void copy_rows(unsigned char *to, size_t to_step, const unsigned char *from, size_t from_step, size_t bytes, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + (size_t)r * to_step, from + (size_t)r * from_step, bytes);
}

/* x and y are used where they lie, unless their rows are apart or fewer than the tile's. */
static void dnn_task(void *cookie, int64_t i, int thread)
{
    const dnn_job *j = cookie;
    const prxi_linear *l = j->l;
    unsigned char *own = j->scratch + (size_t)thread * j->scratch_size;
    const size_t xe = prxi_dtype_size(l->compute), ye = prxi_dtype_size(l->out);
    const size_t x_row = (size_t)l->k * xe, y_row = (size_t)l->n * ye;
    int tile = i < j->large ? DNN_LARGE : DNN_SMALL;
    const int64_t row = min64(i, j->large) * dnn_tiles[DNN_LARGE] + (i - min64(i, j->large)) * dnn_tiles[DNN_SMALL];
    const int64_t rows = min64(dnn_tiles[tile], j->m - row);
    const unsigned char *x = j->x + (size_t)(row * j->ldx) * xe;
    unsigned char *y = j->y + (size_t)(row * j->ldy) * ye;
    while (tile + 1 < PRXI_DNN_TILES && dnn_tiles[tile + 1] >= rows)
        tile++;
    const int whole = rows == dnn_tiles[tile];
    const void *in = x;
    void *out = y;
    if (!whole || j->ldx != l->k) {
        unsigned char *copy = own + j->x_at;
        memset(copy + (size_t)rows * x_row, 0, (size_t)(dnn_tiles[tile] - rows) * x_row);
        copy_rows(copy, x_row, x, (size_t)j->ldx * xe, x_row, rows);
        in = copy;
    }
    if (!whole || j->ldy != l->n)
        out = own + j->y_at;
    const int ret = prxi_dnn_run_seated(l->dnn, (prxi_dnn_seat *)(void *)own, tile, in, out, own + j->own_at);
    if (ret < 0)
        prxi_stream_fail(j->s, ret, "linear", "oneDNN failed");
    else if (out != y)
        copy_rows(y, (size_t)j->ldy * ye, out, y_row, y_row, rows);
}

/* Large tiles, and at the end two to four small ones, so that cores finish together. By shape alone. Returns the number of tasks. */
static int64_t plan_dnn(dnn_job *j)
{
    const prxi_linear *l = j->l;
    const int64_t small = dnn_tiles[DNN_SMALL], each = dnn_tiles[DNN_LARGE] / small, units = ceil_div(j->m, small);
    j->large = units > 2 ? (units - 2) / each : 0;
    const int64_t copied = j->ldx != l->k || j->ldy != l->n ? dnn_tiles[DNN_LARGE] : j->m % small ? small : 0;
    j->own_at = prxi_carve_size(sizeof(prxi_dnn_seat));
    j->x_at = j->own_at + prxi_carve_size(prxi_dnn_scratch(l->dnn));
    j->y_at = j->x_at + prxi_carve_size((size_t)(copied * l->k) * prxi_dtype_size(l->compute));
    j->scratch_size = (j->y_at + (size_t)(copied * l->n) * prxi_dtype_size(l->out) + 4096) & ~(size_t)4095;
    return j->large + units - each * j->large;
}

static void run_dnn(prxi_stream *s, const prxi_linear *l, int64_t m, const void *x, int64_t ldx, void *y, int64_t ldy)
{
    dnn_job j = { .s = s, .l = l, .m = m, .ldx = ldx, .ldy = ldy, .x = x, .y = y };
    const int64_t tasks = plan_dnn(&j), threads = min64(tasks, s->n_threads);
    j.scratch = prxi_alloc(s->ctx->mem, PRXI_MEM_SCRATCH, prxi_mul((size_t)threads, j.scratch_size));
    if (!j.scratch) {
        prxi_stream_fail(s, PRX_ENOMEM, "linear", "out of memory for scratch");
        return;
    }
    for (int64_t i = 0; i < threads; i++)
        memset(j.scratch + (size_t)i * j.scratch_size, 0, sizeof(prxi_dnn_seat));
    prxi_parallel_for(s, tasks, dnn_task, &j);
    for (int64_t i = 0; i < threads; i++)
        prxi_dnn_leave((prxi_dnn_seat *)(void *)(j.scratch + (size_t)i * j.scratch_size));
    prxi_free(s->ctx->mem, j.scratch);
}

void prxi_linear_run(prxi_stream *s, const prxi_linear *l, int64_t m, const void *x, int64_t ldx, void *y,
                     int64_t ldy)
{
    if (m <= 0 || prxi_stream_error(s))
        return;
    if (l->device) {
        run_device(s, l, m, x, ldx, NULL, l->eight_bits != PRXI_EIGHT_NONE, y, ldy);
        return;
    }
    if (l->dnn) {
        run_dnn(s, l, m, x, ldx, y, ldy);
        return;
    }
    linear_job j = { .l = l, .m = m, .ldx = ldx, .ldy = ldy, .x = x, .y = y };
    plan_job(&j, s->n_threads);
    const int64_t tasks = j.n_blocks * j.n_slabs;
    j.scratch = prxi_alloc(s->ctx->mem, PRXI_MEM_SCRATCH,
                           prxi_mul((size_t)min64(tasks, s->n_threads), j.scratch_size));
    if (!j.scratch) {
        prxi_stream_fail(s, PRX_ENOMEM, "linear", "out of memory for scratch");
        return;
    }
    prxi_parallel_for(s, tasks, linear_task, &j);
    prxi_free(s->ctx->mem, j.scratch);
}

void prxi_linear_run_wide(prxi_stream *s, const prxi_linear *l, int64_t m, const void *x, int64_t ldx, void *y, int64_t ldy)
{
    if (!l->device)
        prxi_linear_run(s, l, m, x, ldx, y, ldy);
    else if (m > 0 && !prxi_stream_error(s))
        run_device(s, l, m, x, ldx, NULL, 0, y, ldy);
}

void prxi_linear_run_eight(prxi_stream *s, const prxi_linear *l, int64_t m, const void *x, const float *scale, void *y, int64_t ldy)
{
    if (m > 0 && !prxi_stream_error(s))
        run_device(s, l, m, x, l->k, scale, 1, y, ldy);
}

/* ---- single-threaded product ---- */

/* The panel [depth][nr] of op(b), zero-filled to nr columns. */
static void pack_b(const prxi_gemm_kernel *kernel, int trans, const float *b, int64_t ldb, int cols, int64_t depth, float *out)
{
    const int nr = kernel->nr;
    if (trans) {
        kernel->pack(b, PRXI_F32, ldb, cols, depth, out, PRXI_F32);
        return;
    }
    if (cols < nr)
        memset(out, 0, (size_t)(depth * nr) * sizeof *out);
    for (int64_t i = 0; i < depth; i++)
        kernel->load[PRXI_F32](cols, b + i * ldb, out + i * nr);
}

typedef struct sgemm_args {
    const prxi_gemm_kernel *kernel;
    int64_t k;
    float alpha;
    const float *a, *b;
    int64_t lda, ldb, ldc;
    int trans_b;
} sgemm_args;

/* Rows that share a packed panel of b. */
enum { SGEMM_ROWS = 448 };

/* c for a block of at most SGEMM_ROWS rows and nr columns; the buffers live on the stack: about 130 KiB. */
static void sgemm_block(const sgemm_args *g, int64_t row, int64_t rows, int64_t col, int64_t cols, float *c)
{
    _Alignas(64) float a[PRXI_GEMM_MAX_MR * PRXI_GEMM_LDA];
    _Alignas(64) float b[PRXI_GEMM_KC * PRXI_GEMM_MAX_NR];
    _Alignas(64) float sums[SGEMM_ROWS * PRXI_GEMM_MAX_NR];
    const int mr = g->kernel->mr, nr = g->kernel->nr;
    const prxi_gemm_fetch none = { { (const unsigned char *)a, (const unsigned char *)a }, { 0, 0 } };
    for (int64_t k = 0; k < g->k || k == 0; k += PRXI_GEMM_KC) {
        const int64_t depth = min64(PRXI_GEMM_KC, g->k - k);
        pack_b(g->kernel, g->trans_b, g->b + (g->trans_b ? col * g->ldb + k : k * g->ldb + col), g->ldb, (int)cols,
               depth, b);
        for (int64_t r = 0; r < rows; r += mr) {
            const int tile = (int)min64(mr, rows - r);
            for (int i = 0; i < tile; i++)
                g->kernel->load[PRXI_F32](depth, g->a + (row + r + i) * g->lda + k, a + i * PRXI_GEMM_LDA);
            const prxi_gemm_tile t = { tile, k == 0, depth, PRXI_GEMM_LDA, a, b, sums + r * nr, none, NULL, NULL, 0 };
            g->kernel->tile(&t);
        }
    }
    const prxi_gemm_store s = { .rows = (int)rows, .cols = (int)cols, .c = sums, .alpha = g->alpha, .y = c,
                                .ldy = g->ldc };
    g->kernel->store[PRXI_F32](&s);
}

void prxi_sgemm(int trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                const float *b, int64_t ldb, float *c, int64_t ldc, uint32_t isa)
{
    const sgemm_args g = { pick_kernel(isa), k, alpha, a, b, lda, ldb, ldc, trans_b };
    for (int64_t col = 0; col < n; col += g.kernel->nr)
        for (int64_t row = 0; row < m; row += SGEMM_ROWS)
            sgemm_block(&g, row, min64(SGEMM_ROWS, m - row), col, min64(g.kernel->nr, n - col),
                        c + row * ldc + col);
}
