/* Block-sparse attention for Hopper, bf16, heads of 64 and 128. One block a multiprocessor takes pieces of work (128 queries of a head)
 * from a queue, longest first. Its first warp finds the keys of the block list, cuts each run into boxes of 128 to 16 rows and has them
 * copied until a tile of 128 is full; two warpgroups of 64 queries each multiply (wgmma), in turns: while one has the tensor cores, the
 * other does its softmax (Shah et al., FlashAttention-3, 2024). Products with V of a tile overlap the softmax of the next. */
#include "keys.cuh"
#include "prim90.cuh"

enum {
    ROWS = PRXI_CU_QUEUE_ROWS,      /* queries of a piece of work */
    KEYS = 128,                     /* of a tile */
    GROUP = 128,                    /* threads of a warpgroup */
    THREADS = 3 * GROUP,
    SLAB = 128 * 128,               /* bytes: 128 rows of 64 columns */
    STAGES = 3,                     /* two: one tile is multiplied while the next is copied; the third lets copies be late */
    SMALLEST = 16,                  /* rows of the smallest box */
    BOXES = 4,                      /* 16, 32, 64, 128 rows */
    TURN = 1,                       /* barriers by number: TURN + i opens when group i may multiply */
    RELEASES = 2 * GROUP / 32,      /* each warp says when it is done with a buffer */
};

enum { LAST = 1, PARTIAL = 2 };     /* of a tile: no other follows; some keys do not count, or one counts more */

#define MASKED (-1e30f)
#define LOG2E 1.4426950408889634f

static_assert(ROWS == 2 * 64 && KEYS == 128, "shapes of the products");

struct hopper_maps {
    tensor_map q, k[BOXES], v[BOXES];
};

/* What the first warp tells the others about a tile. */
struct tile_note {
    uint32_t valid[KEYS / 32];      /* bit i: key i counts */
    int32_t tail, flags;            /* which key is the last of all, or -1 */
};

struct control {
    mbarrier q_full, q_empty, k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES];
    prxi_cu_tile work;              /* head -1: the queue is empty */
    int32_t any;                    /* it has keys */
    tile_note note[STAGES];
};

template <int D> struct buffers {
    enum { TILE = D / 64 * SLAB, CONTROL = 1024, BYTES = CONTROL + (1 + 2 * STAGES) * TILE };
    control *c;
    unsigned char *q, *k, *v;
};

static_assert(sizeof(control) <= 1024, "control block");

template <int D> PRXI_DEVICE buffers<D> lay_out(unsigned char *shared)
{
    buffers<D> b;
    unsigned char *base = shared + ((0u - shared_address(shared)) & 1023u);   /* swizzling goes by the address */
    b.c = reinterpret_cast<control *>(base);
    b.q = base + buffers<D>::CONTROL;
    b.k = b.q + buffers<D>::TILE;
    b.v = b.k + STAGES * buffers<D>::TILE;
    return b;
}

/* ---- the first warp: keys ---- */

/* Kept key blocks as runs of adjacent tokens. Every lane has the same but first and length, which belong to block at + lane. */
struct key_runs {
    const int32_t *start, *cols;
    int64_t at, end;
    int32_t first, length;
    int used;                       /* blocks of these 32 that are done */
    int32_t row, left;              /* the run under way */
};

PRXI_DEVICE void load_blocks(key_runs *r)
{
    const int64_t i = r->at + threadIdx.x % 32;
    r->first = r->length = 0;
    if (i < r->end) {
        const int32_t c = r->cols[i];
        r->first = r->start[c];
        r->length = r->start[c + 1] - r->first;
    }
    r->used = 0;
}

PRXI_DEVICE key_runs open_runs(const prxi_cu_attn &a, const prxi_cu_tile &work)
{
    const int64_t h = a.per_head ? work.head : 0;
    const int64_t *rows = a.row_ptr + h * (a.row_end ? a.nq : a.nq + 1);
    key_runs r;
    r.start = a.k_start + h * (a.nk + 1);
    r.cols = a.cols;
    r.at = rows[work.block];
    r.end = a.row_end ? a.row_end[h * a.nq + work.block] : rows[work.block + 1];
    r.row = r.left = 0;
    load_blocks(&r);
    return r;
}

/* Goes to the next run when this one is used up. False: there is none. */
PRXI_DEVICE bool next_run(key_runs *r)
{
    for (;;) {
        const int here = r->end - r->at < 32 ? (int)(r->end - r->at) : 32;
        if (r->used < here) {
            const int32_t first = shfl_from(r->first, r->used), length = shfl_from(r->length, r->used);
            if (r->left == 0)
                r->row = first;
            else if (first != r->row + r->left)
                return true;
            r->left += length;
            r->used++;
        } else if (r->left > 0 || here < 32) {
            return r->left > 0;
        } else {
            r->at += 32;
            load_blocks(r);
        }
    }
}

PRXI_DEVICE uint32_t bits_below(int n)
{
    return n <= 0 ? 0u : n >= 32 ? ~0u : (1u << n) - 1u;
}

/* A box of a tile: rows from `row` on to place `to`. Each of the first lanes has one. */
struct box {
    int32_t row, rows, to;
};

/* Collects up to KEYS keys. Returns the number of boxes, which always fill the tile: the last ones read beyond the last token, which gives
 * zeros. */
PRXI_DEVICE int next_tile(key_runs *r, int64_t tokens, box *mine, tile_note *note)
{
    const int lane = threadIdx.x % 32;
    int fill = 0, keys = 0, n = 0;
    PRXI_UNROLL
    for (int w = 0; w < KEYS / 32; w++)
        note->valid[w] = 0;
    note->tail = -1;
    while (fill < KEYS) {
        const bool some = next_run(r);
        const int32_t row = some ? r->row : (int32_t)tokens, left = some ? r->left : KEYS;
        int rows = KEYS;
        while (rows > KEYS - fill || (rows > SMALLEST && rows > left))
            rows /= 2;
        if (lane == n)
            *mine = { row, rows, fill };
        n++;
        if (some) {
            const int v = rows < left ? rows : left;
            PRXI_UNROLL
            for (int w = 0; w < KEYS / 32; w++)
                note->valid[w] |= bits_below(fill + v - 32 * w) & ~bits_below(fill - 32 * w);
            if (tokens - 1 >= row && tokens - 1 < row + v)
                note->tail = fill + (int32_t)(tokens - 1 - row);
            r->row += v;
            r->left -= v;
            keys += v;
        }
        fill += rows;
    }
    note->flags = keys < KEYS ? PARTIAL : 0;
    return n;
}

/* One lane waits for the warp: with all of them, one that is slow to look could find the phase after the next under way, which has the
 * parity that it waits for. (Those who read a buffer all pass before they release it, so there it cannot happen.) */
PRXI_DEVICE void wait_for_room(mbarrier *empty, uint32_t parity)
{
    if (threadIdx.x % 32 == 0)
        barrier_wait(empty, parity);
    sync_warp();
}

/* Copies the boxes of a tile, one a lane. */
template <int D> PRXI_DEVICE void copy_tile(unsigned char *to, const tensor_map *maps, int boxes, const box &mine, int head, mbarrier *full)
{
    const int lane = threadIdx.x % 32;
    if (lane == 0)
        barrier_expect(full, buffers<D>::TILE);
    if (lane < boxes) {
        const tensor_map *map = maps + (mine.rows == 128 ? 3 : mine.rows == 64 ? 2 : mine.rows == 32 ? 1 : 0);
        PRXI_UNROLL
        for (int slab = 0; slab < D / 64; slab++)
            copy_box(to + slab * SLAB + mine.to * 128, map, slab * 64, head, mine.row, full);
    }
}

template <int D> PRXI_DEVICE void produce(const hopper_maps &maps, const prxi_cu_attn &a, const buffers<D> &b)
{
    const int lane = threadIdx.x % 32;
    unsigned tile = 0;
    for (unsigned turn = 0;; turn++) {
        int n = (int)blockIdx.x;
        if (turn > 0) {
            n = lane == 0 ? take(a.queue) : 0;
            n = (int)gridDim.x + shfl_from(n, 0);
        }
        wait_for_room(&b.c->q_empty, (turn & 1) ^ 1);
        const prxi_cu_tile work = n < a.n_items ? a.items[n] : prxi_cu_tile { -1, 0, 0, 0 };
        if (work.rows == 0) {
            if (lane == 0) {
                b.c->work.head = -1;
                barrier_arrive(&b.c->q_full);
            }
            return;
        }
        key_runs runs = open_runs(a, work);
        bool more = next_run(&runs);
        if (lane == 0) {
            b.c->work = work;
            b.c->any = more;
            barrier_expect(&b.c->q_full, buffers<D>::TILE);
            PRXI_UNROLL
            for (int slab = 0; slab < D / 64; slab++)
                copy_box(b.q + slab * SLAB, &maps.q, slab * 64, work.head, work.first, &b.c->q_full);
        }
        for (; more; tile++) {
            const unsigned stage = tile % STAGES, parity = tile / STAGES % 2 ^ 1;
            box mine = { 0, 0, 0 };
            tile_note note;
            const int boxes = next_tile(&runs, a.kv_len, &mine, &note);
            more = next_run(&runs);
            note.flags |= (more ? 0 : LAST) | (note.tail >= 0 && a.tail_bias != 0 ? PARTIAL : 0);
            wait_for_room(&b.c->k_empty[stage], parity);
            if (lane == 0)              /* who also arrives */
                b.c->note[stage] = note;
            copy_tile<D>(b.k + stage * buffers<D>::TILE, maps.k, boxes, mine, work.head, &b.c->k_full[stage]);
            wait_for_room(&b.c->v_empty[stage], parity);
            copy_tile<D>(b.v + stage * buffers<D>::TILE, maps.v, boxes, mine, work.head, &b.c->v_full[stage]);
        }
    }
}

/* ---- the warpgroups: products and softmax. A thread has rows lane / 4 and + 8 of its warp's 16, columns 8 n + 2 (lane % 4) + {0, 1}:
 * s[4 n + 2 row + column]. ---- */

template <int D> PRXI_DEVICE void start_scores(float s[64], const unsigned char *q, const unsigned char *k)
{
    const uint64_t a = operand(q), b = operand(k);
    settle<64>(s);
    product_fence();
    PRXI_UNROLL
    for (int d = 0; d < D / 16; d++) {
        const int at = d / 4 * SLAB + d % 4 * 32;
        product_scores(s, operand_at(a, at), operand_at(b, at), d > 0);
    }
    product_commit();
}

template <int D> PRXI_DEVICE void start_values(float o[D / 2], const uint32_t p[32], const unsigned char *v)
{
    const uint64_t b = operand_across(v, SLAB);
    settle<D / 2>(o);
    product_fence();
    PRXI_UNROLL
    for (int k = 0; k < KEYS / 16; k++)
        product_values<D>(o, p + 4 * k, operand_at(b, k * 16 * 128));
    product_commit();
}

/* Keys that do not count to MASKED; the last of all gets its bias, in units of the scores. */
PRXI_DEVICE void mask(float s[64], const tile_note &note, float bias)
{
    const int pair = threadIdx.x % 4 * 2;
    const int32_t tail = note.tail;
    PRXI_UNROLL
    for (int w = 0; w < KEYS / 32; w++) {
        const uint32_t valid = note.valid[w] >> pair;
        PRXI_UNROLL
        for (int i = 0; i < 16; i++) {
            const int column = i / 4 * 8 + (i & 1);
            if (!(valid >> column & 1))
                s[16 * w + i] = MASKED;
            else if (tail == 32 * w + column + pair)
                s[16 * w + i] += bias;
        }
    }
}

/* Scores to weights, and what the output must be multiplied by: scale holds log2 e. */
PRXI_DEVICE void softmax(float s[64], float m[2], float l[2], float alpha[2], float scale)
{
    PRXI_UNROLL
    for (int r = 0; r < 2; r++) {
        float top = m[r], sum = 0;
        PRXI_UNROLL
        for (int i = 2 * r; i < 64; i += 4)
            top = fmaxf(top, fmaxf(s[i], s[i + 1]));
        top = fmaxf(top, shfl_xor(top, 1));
        top = fmaxf(top, shfl_xor(top, 2));
        const float shift = -top * scale;
        alpha[r] = exp2_fast(fmaf(m[r], scale, shift));
        m[r] = top;
        PRXI_UNROLL
        for (int i = 2 * r; i < 64; i += 4) {
            s[i] = exp2_fast(fmaf(s[i], scale, shift));
            s[i + 1] = exp2_fast(fmaf(s[i + 1], scale, shift));
            sum += s[i] + s[i + 1];
        }
        l[r] = fmaf(l[r], alpha[r], sum);
    }
}

/* Weights as the left operand of the second product: as they lie, rounded. */
PRXI_DEVICE void pack(uint32_t p[32], const float s[64])
{
    PRXI_UNROLL
    for (int i = 0; i < 32; i++)
        p[i] = pack_fast(s[2 * i], s[2 * i + 1]);
}

template <int D>
PRXI_DEVICE void write_out(const prxi_cu_attn &a, const prxi_cu_tile &work, const float o[D / 2], const float m[2], const float l[2])
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 - 4;         /* of the eight */
    PRXI_UNROLL
    for (int r = 0; r < 2; r++) {
        float sum = l[r] + shfl_xor(l[r], 1);
        sum += shfl_xor(sum, 2);
        const int row = warp * 16 + lane / 4 + 8 * r;
        if (row >= work.rows)
            continue;
        const int64_t query = query_at(a, work, work.head, row);
        const float inverse = sum > 0 ? 1.0f / sum : 0.0f;
        bf16 *to = static_cast<bf16 *>(a.o) + query * a.ldo + (int64_t)work.head * D + lane % 4 * 2;
        PRXI_UNROLL
        for (int n = 0; n < D / 8; n++)
            *reinterpret_cast<uint32_t *>(to + n * 8) = pack_fast(o[4 * n + 2 * r] * inverse, o[4 * n + 2 * r + 1] * inverse);
        if (a.lse && lane % 4 == 0)
            a.lse[(int64_t)work.head * a.q_len + query] = sum > 0 ? fmaf(m[r], a.scale, logf(sum)) : -PRXI_INFINITY;
    }
}

/* This warp needs a buffer no more. */
PRXI_DEVICE void release(mbarrier *b)
{
    if (threadIdx.x % 32 == 0)
        barrier_arrive(b);
}

/* One piece of work, first tile to last. *tile counts those of the block. */
template <int D>
PRXI_DEVICE void attend(const prxi_cu_attn &a, const buffers<D> &b, int group, unsigned *tile, float o[D / 2], float m[2], float l[2])
{
    control *c = b.c;
    const float scale = a.scale * LOG2E, bias = a.tail_bias / a.scale;
    const unsigned char *q = b.q + group * 64 * 128;
    float s[64], alpha[2];
    uint32_t p[32];
    unsigned stage = *tile % STAGES, parity = *tile / STAGES % 2;
    barrier_wait(&c->k_full[stage], parity);
    tile_note note = c->note[stage];
    group_sync(TURN + group, 2 * GROUP);        /* and all have read the note */
    start_scores<D>(s, q, b.k + stage * buffers<D>::TILE);
    group_arrive(TURN + (group ^ 1), 2 * GROUP);
    product_wait<0>();
    settle<64>(s);
    if (note.flags & PARTIAL)
        mask(s, note, bias);
    release(&c->k_empty[stage]);
    if (note.flags & LAST)
        release(&c->q_empty);
    softmax(s, m, l, alpha, scale);
    pack(p, s);
    while (!(note.flags & LAST)) {
        const unsigned before = stage, before_parity = parity;
        ++*tile;
        stage = *tile % STAGES;
        parity = *tile / STAGES % 2;
        barrier_wait(&c->k_full[stage], parity);
        note = c->note[stage];
        group_sync(TURN + group, 2 * GROUP);
        start_scores<D>(s, q, b.k + stage * buffers<D>::TILE);
        barrier_wait(&c->v_full[before], before_parity);
        start_values<D>(o, p, b.v + before * buffers<D>::TILE);
        group_arrive(TURN + (group ^ 1), 2 * GROUP);
        product_wait<1>();
        settle<64>(s);
        if (note.flags & PARTIAL)
            mask(s, note, bias);
        release(&c->k_empty[stage]);
        if (note.flags & LAST)
            release(&c->q_empty);
        softmax(s, m, l, alpha, scale);
        product_wait<0>();
        settle<D / 2>(o);
        release(&c->v_empty[before]);
        PRXI_UNROLL
        for (int i = 0; i < D / 2; i++)
            o[i] *= alpha[i / 2 % 2];
        pack(p, s);
    }
    barrier_wait(&c->v_full[stage], parity);
    start_values<D>(o, p, b.v + stage * buffers<D>::TILE);
    product_wait<0>();
    settle<D / 2>(o);
    release(&c->v_empty[stage]);
    ++*tile;
}

template <int D> PRXI_DEVICE void consume(const prxi_cu_attn &a, const buffers<D> &b)
{
    const int group = threadIdx.x / GROUP - 1;
    unsigned tile = 0;
    if (group == 1)
        group_arrive(TURN, 2 * GROUP);          /* group 0 begins */
    for (unsigned turn = 0;; turn++) {
        barrier_wait(&b.c->q_full, turn & 1);
        const prxi_cu_tile work = { shfl_from(b.c->work.head, 0), shfl_from(b.c->work.block, 0), shfl_from(b.c->work.first, 0),
                                    shfl_from(b.c->work.rows, 0) };         /* what lane 0 saw, who releases it */
        const int any = shfl_from(b.c->any, 0);
        if (work.head < 0)
            return;
        float o[D / 2], m[2] = { MASKED, MASKED }, l[2] = { 0, 0 };
        PRXI_UNROLL
        for (int i = 0; i < D / 2; i++)
            o[i] = 0;
        if (any)
            attend<D>(a, b, group, &tile, o, m, l);
        else
            release(&b.c->q_empty);
        write_out<D>(a, work, o, m, l);
    }
}

template <int D> PRXI_KERNEL void PRXI_BOUNDS_ALONE(THREADS) queue_kernel(const PRXI_GRID_CONSTANT hopper_maps maps, prxi_cu_attn a)
{
#ifdef PRXI_HOPPER
    PRXI_SHARED(shared);
    const buffers<D> b = lay_out<D>(shared);
    if (threadIdx.x == 0) {
        barrier_open(&b.c->q_full, 1);
        barrier_open(&b.c->q_empty, RELEASES);
        for (int i = 0; i < STAGES; i++) {
            barrier_open(&b.c->k_full[i], 1);
            barrier_open(&b.c->k_empty[i], RELEASES);
            barrier_open(&b.c->v_full[i], 1);
            barrier_open(&b.c->v_empty[i], RELEASES);
        }
        barrier_publish();
    }
    sync_block();
    if (threadIdx.x < GROUP) {
        registers_down<56>();
        if (threadIdx.x < 32)
            produce<D>(maps, a, b);
    } else {
        registers_up<224>();
        consume<D>(a, b);
    }
#endif
}

/* ---- permuted lists: rows of every head are brought into the order of the list first ---- */

struct alignas(16) chunk {
    uint32_t w[4];
};

PRXI_KERNEL void order_kernel(const bf16 *from, int64_t ld, const int32_t *perm, int heads, int head_dim, int64_t n, bf16 *to)
{
    const int64_t chunks = head_dim / 8, row = heads * chunks;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n * row; i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t p = i / row, h = i % row / chunks, at = i % row * 8;
        reinterpret_cast<chunk *>(to)[i] = *reinterpret_cast<const chunk *>(from + perm[h * n + p] * ld + at);
    }
}

static int order(device *d, const void *from, int64_t ld, const int32_t *perm, const prxi_cu_attn *a, int64_t n, bf16 *to)
{
    enum { ORDER_THREADS = 256 };
    const int64_t chunks = n * a->heads * (a->head_dim / 8);
    return launch(d, "attention90", order_kernel, dim3(grid_for(chunks, ORDER_THREADS)), ORDER_THREADS, 0,
                  static_cast<const bf16 *>(from), ld, perm, a->heads, a->head_dim, n, to);
}

/* ---- start ---- */

#ifdef PRXI_CUDA_EMU

static int make_map(device *d, tensor_map *m, const void *p, const prxi_cu_attn *a, int64_t rows, int64_t ld, int box_rows)
{
    *m = { static_cast<const bf16 *>(p), { a->head_dim, a->heads, rows }, { 1, a->head_dim, ld }, { 64, 1, box_rows } };
    return emu_map_is_legal(m) ? PRX_OK : prxi_cu_fail(d, PRX_EINTERNAL, "attention90", "the driver refuses a tensor map");
}

static int clear_queue(device *d, int32_t *queue)
{
    (void)d;
    const emu_as_device here;
    *queue = 0;
    return PRX_OK;
}

#else

#include <cudaTypedefs.h>

/* The driver's function, looked up once; NULL: it has none. */
static PFN_cuTensorMapEncodeTiled_v12000 encoder()
{
    static const PFN_cuTensorMapEncodeTiled_v12000 known = [] {
        void *entry = nullptr;
        cudaDriverEntryPointQueryResult found;
        const cudaError_t err = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
        if (err != cudaSuccess)
            cudaGetLastError();
        const bool there = err == cudaSuccess && found == cudaDriverEntryPointSuccess;
        return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(there ? entry : nullptr);
    }();
    return known;
}

/* [rows, heads, head_dim] with ld elements a row, read in boxes of box_rows rows and 64 columns of a head. */
static int make_map(device *d, tensor_map *m, const void *p, const prxi_cu_attn *a, int64_t rows, int64_t ld, int box_rows)
{
    const PFN_cuTensorMapEncodeTiled_v12000 encode = encoder();
    const cuuint64_t dims[3] = { (cuuint64_t)a->head_dim, (cuuint64_t)a->heads, (cuuint64_t)rows };
    const cuuint64_t strides[2] = { (cuuint64_t)a->head_dim * sizeof(bf16), (cuuint64_t)ld * sizeof(bf16) };
    const cuuint32_t box[3] = { 64, 1, (cuuint32_t)box_rows }, steps[3] = { 1, 1, 1 };
    if (!encode)
        return prxi_cu_fail(d, PRX_ENOTSUP, "attention90", "the driver has no tensor maps");
    const CUresult r = encode(m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void *>(p), dims, strides, box, steps,
                              CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                              CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS ? PRX_OK : prxi_cu_fail(d, PRX_EINTERNAL, "attention90", "the driver refuses a tensor map");
}

static int clear_queue(device *d, int32_t *queue)
{
    const cudaError_t err = cudaMemsetAsync(queue, 0, sizeof *queue, d->stream);
    return err == cudaSuccess ? PRX_OK : prxi_cu_fail(d, PRX_EIO, "attention90", cudaGetErrorString(err));
}

#endif

static int make_maps(device *d, hopper_maps *maps, const prxi_cu_attn *a)
{
    int err = make_map(d, &maps->q, a->q, a, a->q_len, a->ldq, ROWS);
    for (int i = 0; i < BOXES && err == PRX_OK; i++) {
        err = make_map(d, &maps->k[i], a->k, a, a->kv_len, a->ldk, SMALLEST << i);
        if (err == PRX_OK)
            err = make_map(d, &maps->v[i], a->v, a, a->kv_len, a->ldv, SMALLEST << i);
    }
    return err;
}

/* q, k and v in the order of the list, in a->copies; o is written in the order of the tokens. */
static int order_all(device *d, prxi_cu_attn *a)
{
    const int64_t row = (int64_t)a->heads * a->head_dim;
    bf16 *q = static_cast<bf16 *>(a->copies), *k = q + (a->q_perm ? a->q_len * row : 0), *v = k + (a->k_perm ? a->kv_len * row : 0);
    int err = a->q_perm ? order(d, a->q, a->ldq, a->q_perm, a, a->q_len, q) : PRX_OK;
    if (err == PRX_OK && a->q_perm)
        a->q = q, a->ldq = row;
    if (err == PRX_OK && a->k_perm)
        err = order(d, a->k, a->ldk, a->k_perm, a, a->kv_len, k);
    if (err == PRX_OK && a->k_perm)
        err = order(d, a->v, a->ldv, a->k_perm, a, a->kv_len, v);
    if (err == PRX_OK && a->k_perm)
        a->k = k, a->v = v, a->ldk = a->ldv = row;
    return err;
}

size_t prxi_cu_attention90_copies(const prxi_cu_attn *a)
{
    const int64_t row = (int64_t)a->heads * a->head_dim * (int64_t)sizeof(bf16);
    return (size_t)((a->q_perm ? a->q_len * row : 0) + (a->k_perm ? 2 * a->kv_len * row : 0));
}

/* Shapes and types alone decide. A bias of the last key needs its place in the list. */
int prxi_cu_attention90_takes(int type, const prxi_cu_attn *a)
{
    return type == 1 && (a->head_dim == 64 || a->head_dim == 128) && a->scale > 0 && a->kv_len > 0 && a->n_items > 0 &&
           !(a->tail_bias != 0 && a->k_perm) && aligned(a->q, a->ldq) && aligned(a->k, a->ldk) && aligned(a->v, a->ldv) &&
           aligned(a->o, a->ldo);
}

int prxi_cu_attention90(void *dev, int type, const prxi_cu_attn *args)
{
    device *d = as_device(dev);
    prxi_cu_attn a = *args;
    hopper_maps maps;
    if (!d->hopper || !prxi_cu_attention90_takes(type, args))
        return prxi_cu_fail(d, PRX_ENOTSUP, "attention90", "not for this chip or these shapes");
    int err = order_all(d, &a);
    if (err == PRX_OK)
        err = make_maps(d, &maps, &a);
    if (err == PRX_OK)
        err = clear_queue(d, a.queue);
    if (err < 0)
        return err;
    const dim3 grid((unsigned)(a.n_items < d->multiprocessors ? a.n_items : d->multiprocessors));
    const size_t shared = 1024 + (a.head_dim == 64 ? (size_t)buffers<64>::BYTES : (size_t)buffers<128>::BYTES);
    return launch(d, "attention90", a.head_dim == 64 ? queue_kernel<64> : queue_kernel<128>, grid, THREADS, shared, maps, a);
}
