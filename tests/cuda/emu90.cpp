#include "emu_machine.h"

#include <vector>

namespace {

enum { WARP = 32, WARPS = 32, NAMED = 16, SWIZZLE_128 = 1 };

struct phase_barrier {
    mbarrier *at;
    unsigned generation;            /* phases that are over */
    int arrivals, pending;
    int64_t bytes;                  /* that are still to come */
    bool published;
};

struct box_copy {
    tensor_map map;
    uint32_t to;
    int at[3];
    mbarrier *full;
    bool late;                      /* comes when nobody can go on without it, or seldom */
};

struct product {
    float *d[WARP];
    const uint32_t *a_registers[WARP];      /* NULL: a in shared memory */
    uint64_t a, b;
    int columns, add, group, warp;
};

struct named {
    unsigned generation;
    int count, threads;
};

struct hopper {
    std::vector<phase_barrier> barriers;
    std::vector<box_copy> copies;
    std::vector<product> products[WARPS];
    int groups[WARPS], started[WARPS];
    bool fenced[WARPS * WARP];
    named by_number[NAMED];
    unsigned threads;
} h;

unsigned warp_id() { return emu_thread_id() / WARP; }
unsigned lane_id() { return emu_thread_id() % WARP; }

/* ---- barriers ---- */

/* NULL, with a fault, when it was not opened. */
phase_barrier *find(mbarrier *b)
{
    for (phase_barrier &x : h.barriers)
        if (x.at == b)
            return &x;
    emu_fault("a barrier in shared memory that was not opened");
    return nullptr;
}

void check_phase(phase_barrier *x)
{
    if (x->pending < 0)
        emu_fault("more arrivals at a barrier than it expects");
    if (x->pending || x->bytes)
        return;
    x->generation++;
    x->pending = x->arrivals;
}

void arrive(mbarrier *b, int64_t bytes)
{
    phase_barrier *x = find(b);
    if (!x)
        return;
    x->bytes += bytes;
    x->pending--;
    check_phase(x);
    for (unsigned n = emu_random(4); n > 0; n--)
        emu_yield();
}

/* ---- copies ---- */

uint32_t swizzled(uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

/* Where a value of shared memory is, or somewhere harmless. */
uint16_t *place(uint32_t address)
{
    uint32_t first, end;
    unsigned char *memory = emu_memory(&first, &end);
    if (address < first || address + 2 > end) {
        emu_fault("an operand or a copy outside of shared memory");
        address = first;
    }
    return reinterpret_cast<uint16_t *>(memory + address);
}

void deliver(const box_copy &c)
{
    const tensor_map &m = c.map;
    for (int r = 0; r < m.box[2]; r++)
        for (int i = 0; i < m.box[0]; i++) {
            const int64_t at[3] = { c.at[0] + i, c.at[1], c.at[2] + r };
            bool inside = true;
            int64_t offset = 0;
            for (int d = 0; d < 3; d++) {
                inside &= at[d] >= 0 && at[d] < m.dims[d];
                offset += at[d] * m.strides[d];
            }
            *place(swizzled(c.to + static_cast<uint32_t>(r * 128 + i * 2))) = inside ? m.base[offset] : 0;
        }
    phase_barrier *x = find(c.full);
    if (!x)
        return;
    x->bytes -= static_cast<int64_t>(m.box[0]) * m.box[2] * 2;
    check_phase(x);
}

void deliver_any(bool needed)
{
    const size_t i = emu_random(static_cast<unsigned>(h.copies.size()));
    const box_copy c = h.copies[i];
    if (c.late && !needed && emu_random(64))
        return;
    h.copies[i] = h.copies.back();
    h.copies.pop_back();
    deliver(c);
}

/* ---- products ---- */

struct operand_bits {
    uint32_t start, leading, stride;
};

operand_bits decode(uint64_t d)
{
    if (d >> 62 != SWIZZLE_128)
        emu_fault("an operand that is not swizzled by 128 bytes");
    return { static_cast<uint32_t>(d & 0x3fff) << 4, static_cast<uint32_t>(d >> 16 & 0x3fff) << 4,
             static_cast<uint32_t>(d >> 32 & 0x3fff) << 4 };
}

float number(uint32_t address)
{
    return bits_float(static_cast<uint32_t>(*place(swizzled(address))) << 16);
}

/* Element (row, k) with k along the rows of memory; element (k, column) with k across them. */
uint32_t along(const operand_bits &o, uint32_t row, uint32_t k)
{
    return o.start + row / 8 * o.stride + row % 8 * 128 + k * 2;
}

uint32_t across(const operand_bits &o, uint32_t k, uint32_t column)
{
    return o.start + column / 64 * o.leading + k / 8 * o.stride + k % 8 * 128 + column % 64 * 2;
}

/* Lane 4 g + t of warp w of a warpgroup has rows 16 w + g and + 8: of a the columns 2 t, 2 t + 1 and + 8, of d 8 n + 2 t, 2 t + 1. */
void make(const product &p)
{
    static float a[16][16], b[16][128], d[16][128];
    const operand_bits ao = p.a_registers[0] ? operand_bits{ 0, 0, 0 } : decode(p.a), bo = decode(p.b);
    const uint32_t warp = static_cast<uint32_t>(p.warp) % 4;
    for (uint32_t r = 0; r < 16; r++)
        for (uint32_t k = 0; k < 16; k++) {
            if (p.a_registers[0]) {
                const uint32_t pair = p.a_registers[r % 8 * 4 + k % 8 / 2][k / 8 * 2 + r / 8];
                a[r][k] = bits_float(k % 2 ? pair & 0xffff0000u : pair << 16);
            } else {
                a[r][k] = number(along(ao, warp * 16 + r, k));
            }
        }
    for (uint32_t k = 0; k < 16; k++)
        for (uint32_t n = 0; n < static_cast<uint32_t>(p.columns); n++)
            b[k][n] = number(p.a_registers[0] ? across(bo, k, n) : along(bo, n, k));
    for (int r = 0; r < 16; r++) {
        for (int n = 0; n < p.columns; n++)
            d[r][n] = 0;
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < p.columns; n++)
                d[r][n] += a[r][k] * b[k][n];
        for (int n = 0; n < p.columns; n++) {
            float *to = &p.d[r % 8 * 4 + n % 8 / 2][n / 8 * 4 + r / 8 * 2 + n % 2];
            *to = p.add ? *to + d[r][n] : d[r][n];
        }
    }
}

void make_first(unsigned warp)
{
    const product p = h.products[warp].front();
    h.products[warp].erase(h.products[warp].begin());
    make(p);
}

void start(float *d, const uint32_t *a_registers, uint64_t a, uint64_t b, int columns, int add)
{
    struct {
        float *d;
        const uint32_t *registers;
        uint64_t a, b;
    } mine = { d, a_registers, a, b };
    const void *all;
    size_t stride;
    const unsigned w = warp_id();
    if (!h.fenced[emu_thread_id()])
        emu_fault("a product without a fence after its registers were used");
    emu_exchange(&mine, sizeof mine, &all, &stride);
    if (lane_id() != 0)
        return;
    product p = { {}, {}, a, b, columns, add, h.groups[w], static_cast<int>(w) };
    for (unsigned l = 0; l < WARP; l++) {
        memcpy(&mine, static_cast<const char *>(all) + l * stride, sizeof mine);
        p.d[l] = mine.d;
        p.a_registers[l] = mine.registers;
        if (mine.a != a || mine.b != b)
            emu_fault("lanes name different operands");
    }
    h.started[w]++;
    h.products[w].push_back(p);
}

}  // namespace

/* ---- what kernels call ---- */

/* cuda.h, cuTensorMapEncodeTiled: addresses and strides at multiples of 16 bytes, no empty dimension, boxes of at most 256 elements a side,
 * the innermost one of at most what is swizzled. */
bool emu_map_is_legal(const tensor_map *m)
{
    bool good = reinterpret_cast<uintptr_t>(m->base) % 16 == 0 && m->strides[0] == 1 && m->box[0] * 2 % 16 == 0 && m->box[0] * 2 <= 128;
    for (int i = 0; i < 3; i++) {
        good = good && m->dims[i] > 0 && m->dims[i] <= INT64_C(1) << 32 && m->box[i] > 0 && m->box[i] <= 256;
        good = good && (i == 0 || (m->strides[i] > 0 && m->strides[i] * 2 % 16 == 0 && m->strides[i] * 2 < INT64_C(1) << 40));
    }
    return good;
}

uint32_t shared_address(const void *p)
{
    uint32_t first, end;
    return static_cast<uint32_t>(static_cast<const unsigned char *>(p) - emu_memory(&first, &end));
}

void barrier_open(mbarrier *b, int arrivals)
{
    place(shared_address(b));
    if (shared_address(b) % 8)
        emu_fault("a barrier that is not at a multiple of 8");
    h.barriers.push_back({ b, 0, arrivals, arrivals, 0, false });
}

void barrier_publish()
{
    for (phase_barrier &x : h.barriers)
        x.published = true;
}

void barrier_arrive(mbarrier *b)
{
    arrive(b, 0);
}

void barrier_expect(mbarrier *b, uint32_t bytes)
{
    arrive(b, bytes);
}

void emu_barrier_wait(mbarrier *b, uint32_t parity, emu_site *site)
{
    if (emu_left_out(site))
        return;
    for (phase_barrier *x = find(b); x && x->generation % 2 == parity; x = find(b))
        emu_wait_while(&x->generation, x->generation);
}

static void count(int id, int threads)
{
    named *n = &h.by_number[id];
    if (id <= 0 || id >= NAMED || threads % WARP || (n->count && n->threads != threads))
        emu_fault("barrier %d for %d threads", id, threads);
    n->threads = threads;
    if (++n->count == threads) {
        n->count = 0;
        n->generation++;
    }
}

void group_arrive(int id, int threads)
{
    count(id, threads);
}

void group_sync(int id, int threads)
{
    const unsigned before = h.by_number[id].generation;
    count(id, threads);
    while (h.by_number[id].generation == before)
        emu_wait_while(&h.by_number[id].generation, before);
}

void copy_box(void *to, const tensor_map *map, int column, int head, int row, mbarrier *b)
{
    const uint32_t address = shared_address(to);
    const phase_barrier *x = find(b);
    if (x && !x->published)
        emu_fault("a copy to a barrier that was not published");
    if (address % 1024 || map->box[0] != 64 || map->box[1] != 1 || reinterpret_cast<uintptr_t>(map->base) % 16)
        emu_fault("a copy that is not swizzled as a tile");
    for (int i = 0; i < map->box[2] * 64; i++)
        *place(address + static_cast<uint32_t>(i) * 2) = static_cast<uint16_t>(emu_poison() << 8 | emu_poison());
    h.copies.push_back({ *map, address, { column, head, row }, b, emu_random(4) == 0 });
}

void product_fence()
{
    h.fenced[emu_thread_id()] = true;
}

void product_commit()
{
    if (lane_id() == 0)             /* who also starts the products of a warp */
        h.groups[warp_id()]++;
}

void emu_product_wait(int n, emu_site *site)
{
    const unsigned w = warp_id();
    h.fenced[emu_thread_id()] = false;
    if (emu_left_out(site))
        return;
    emu_warp_meets();
    while (!h.products[w].empty() && h.products[w].front().group < h.groups[w] - n)
        make_first(w);
}

void product_scores(float s[64], uint64_t a, uint64_t b, int add)
{
    start(s, nullptr, a, b, 128, add);
}

void emu_product_values(float *o, int columns, const uint32_t p[4], uint64_t v)
{
    start(o, p, 0, v, columns, 1);
}

uint32_t pack_fast(float low, float high)
{
    const auto rounded = [](float f) {
        const uint32_t u = float_bits(f);
        return f != f ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    };
    return rounded(low) | rounded(high) << 16;
}

int shfl_from(int v, int lane)
{
    const void *all;
    size_t stride;
    emu_exchange(&v, sizeof v, &all, &stride);
    memcpy(&v, static_cast<const char *>(all) + static_cast<size_t>(lane) * stride, sizeof v);
    return v;
}

int take(int32_t *counter)
{
    return (*counter)++;
}

/* ---- what the scheduler calls ---- */

void emu90_begin(unsigned threads)
{
    h.barriers.clear();
    h.barriers.reserve(64);         /* who waits keeps addresses */
    h.copies.clear();
    for (int w = 0; w < WARPS; w++) {
        h.products[w].clear();
        h.groups[w] = h.started[w] = 0;
    }
    for (named &n : h.by_number)
        n.count = 0;
    for (bool &f : h.fenced)
        f = false;
    h.threads = threads;
}

void emu90_progress()
{
    if (!h.copies.empty() && emu_random(6) == 0)
        deliver_any(false);
    const unsigned w = emu_random(WARPS);
    if (!h.products[w].empty() && emu_random(3) == 0)
        make_first(w);
}

bool emu90_stuck()
{
    if (h.copies.empty())
        return false;
    deliver_any(true);
    return true;
}

void emu90_end()
{
    if (!h.copies.empty())
        emu_fault("%zu copies are under way when their block ends", h.copies.size());
    for (unsigned w = 0; w < h.threads / WARP; w++)
        if (!h.products[w].empty() || h.started[w] != h.started[w / 4 * 4])
            emu_fault("warps of a warpgroup made different products, or did not wait for them");
}
