/* The emulated multiprocessor: fibers, a scheduler that is free to be unkind, barriers, and what warps do together. */
#include "emu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <mutex>
#include <vector>

#include "emu_control.h"
#include "emu_machine.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

dim3 emu_thread, emu_block, emu_block_size, emu_grid;

namespace {

enum { MAX_THREADS = 1024, WARP = 32, STACK = 128 << 10, GUARD = 256, MAX_SHARED = 232448, EXCHANGE = 32 };

struct copy {
    void *to;
    const void *from;
    int valid, group;
};

struct fiber {
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    unsigned char *stack;
    unsigned id;
    bool done;
    const unsigned *gate;           /* waits while *gate == closed */
    unsigned closed;
    int parity, groups;
    std::vector<copy> copies;
};

struct barrier {
    unsigned count, generation;
};

struct machine {
    ~machine()
    {
        for (fiber &f : fibers)
            free(f.stack);
        free(shared);
    }

    std::mutex lock;
    fiber fibers[MAX_THREADS];
    fiber *current;
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    unsigned threads, live;
    barrier block, warps[MAX_THREADS / WARP];
    alignas(16) unsigned char slots[MAX_THREADS / WARP][2][WARP][EXCHANGE];
    unsigned char *shared;          /* GUARD before and after */
    size_t shared_bytes;
    unsigned char poison;
    const std::function<void()> *kernel;
    uint64_t random = 1;
    bool dead;
    char fault[200];
    unsigned haste;                 /* one lane in so many is the last of its warp to run for now */
    unsigned behind, patience;      /* a warp that is left behind, for so many turns of the others */
    int launches, failing, until_lost;
    bool lost;
    double clock;
    std::vector<const char *> launched;
    std::vector<emu_site *> sites;
    int left_out = -1;
};

machine m;

unsigned random_below(unsigned n)
{
    m.random ^= m.random >> 12;
    m.random ^= m.random << 25;
    m.random ^= m.random >> 27;
    return static_cast<unsigned>((m.random * 2685821657736338717ull) >> 33) % n;
}

/* ---- fibers ---- */

#if defined(__x86_64__)
/* Saves what a call must keep (System V ABI, 3.2.1), changes stacks, and goes on there. */
extern "C" void emu_switch(void **save, void *to);
asm(R"(.text
.globl emu_switch
.type emu_switch, @function
emu_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
.size emu_switch, .-emu_switch
)");

void to_scheduler() { emu_switch(&m.current->sp, m.sp); }
void to_fiber(fiber *f) { emu_switch(&m.sp, f->sp); }
#else
void to_scheduler() { swapcontext(&m.current->context, &m.context); }
void to_fiber(fiber *f) { swapcontext(&m.context, &f->context); }
#endif

void fail(const char *fmt, ...)
{
    if (!m.dead) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(m.fault, sizeof m.fault, fmt, ap);
        va_end(ap);
    }
    m.dead = true;
}

void deliver(const copy &c)
{
    if (c.valid)
        memcpy(c.to, c.from, 16);
    else
        memset(c.to, 0, 16);
}

void entry()
{
    (*m.kernel)();
    for (const copy &c : m.current->copies)
        deliver(c);
    m.current->copies.clear();
    m.current->done = true;
    m.live--;
    for (;;)
        to_scheduler();
}

void start_fiber(fiber *f, unsigned id)
{
    if (!f->stack)
        f->stack = static_cast<unsigned char *>(aligned_alloc(64, STACK));
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(f->stack, STACK);       /* marks of frames that were left without a return */
#endif
    f->id = id;
    f->done = false;
    f->gate = nullptr;
    f->parity = f->groups = 0;
    f->copies.clear();
#if defined(__x86_64__)
    void **top = reinterpret_cast<void **>(f->stack + STACK - 64);
    *--top = nullptr;                               /* entry has no caller */
    *--top = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f->sp = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, entry, 0);
#endif
}

/* ---- scheduler ---- */

bool ready(const fiber &f)
{
    return !f.done && !(f.gate && *f.gate == f.closed);
}

void resume(fiber *f)
{
    m.current = f;
    emu_thread = dim3(f->id);
    to_fiber(f);
}

/* The lanes of one warp, from a random one on. Now and then only some, and then the warp may stay behind for a long time. False: none
 * could run. */
bool run_warp(unsigned w)
{
    const unsigned first = random_below(WARP);
    bool any = false;
    for (unsigned i = 0; i < WARP && !m.dead; i++) {
        fiber *f = &m.fibers[w * WARP + (first + i) % WARP];
        if (ready(*f)) {
            any = true;
            resume(f);
            if (random_below(m.haste) == 0) {
                if (m.patience == 0) {
                    m.behind = w;
                    m.patience = random_below(2) * random_below(4000);
                }
                break;
            }
        }
    }
    return any;
}

bool is_behind(unsigned w)
{
    return m.patience && m.behind == w;
}

/* A copy that is under way may arrive at any time. */
void some_copy_arrives()
{
    fiber *f = &m.fibers[random_below(m.threads)];
    if (f->copies.empty())
        return;
    const size_t i = random_below(static_cast<unsigned>(f->copies.size()));
    deliver(f->copies[i]);
    f->copies[i] = f->copies.back();
    f->copies.pop_back();
}

void run_threads()
{
    const unsigned warps = m.threads / WARP;
    while (m.live && !m.dead) {
        unsigned w = random_below(warps), tried = 0;
        for (unsigned reps = 1 + random_below(3); reps > 0 && !m.dead && !is_behind(w); reps--)
            tried += run_warp(w);
        m.patience -= m.patience > 0;
        some_copy_arrives();
        emu90_progress();
        for (unsigned i = 0; !tried && i < warps && !m.dead; i++)
            tried += !is_behind(i) && run_warp(i);
        if (!tried && m.patience && !m.dead && !emu90_stuck()) {
            m.patience = 0;
            tried += run_warp(m.behind);
        }
        if (!tried && m.live && !m.dead && !m.patience && !emu90_stuck())
            fail("%u threads wait for a barrier that will not open", m.live);
    }
}

void check_guards()
{
    for (size_t i = 0; i < GUARD; i++)
        if (m.shared[i] != 0xa5 || m.shared[GUARD + m.shared_bytes + i] != 0xa5)
            fail("a write outside of the shared memory of %zu bytes", m.shared_bytes);
}

void run_block()
{
    memset(m.shared, 0xa5, GUARD);
    memset(m.shared + GUARD, m.poison, m.shared_bytes);
    memset(m.shared + GUARD + m.shared_bytes, 0xa5, GUARD);
    memset(m.slots, m.poison, sizeof m.slots);
    m.live = m.threads;
    m.patience = 0;
    m.haste = 4u << 2 * random_below(4);
    m.block.count = 0;
    for (unsigned w = 0; w < m.threads / WARP; w++)
        m.warps[w].count = 0;
    for (unsigned t = 0; t < m.threads; t++)
        start_fiber(&m.fibers[t], t);
    emu90_begin(m.threads);
    run_threads();
    if (!m.dead)
        emu90_end();
    check_guards();
}

void arrive(barrier *b, unsigned all)
{
    const unsigned seen = b->generation;
    if (++b->count == all) {
        b->count = 0;
        b->generation++;
        if (random_below(2))
            return;                 /* the last may run ahead, or not */
    }
    m.current->gate = &b->generation;
    m.current->closed = seen;
    to_scheduler();
    m.current->gate = nullptr;
}

/* True: this wait is left out. */
bool left_out(emu_site *s)
{
    if (s->id < 0) {
        s->id = static_cast<int>(m.sites.size());
        m.sites.push_back(s);
    }
    return s->id == m.left_out;
}

}  // namespace

const char *emu_run(const char *op, dim3 grid, int threads, size_t shared, const std::function<void()> &kernel)
{
    std::lock_guard<std::mutex> hold(m.lock);
    const emu_as_device here;
    m.dead = false;
    m.launched.push_back(op);
    m.clock += 100;
    if (m.until_lost > 0 && --m.until_lost == 0)
        m.lost = true;
    if (m.lost)
        return "the device is lost";
    if (++m.launches == m.failing)
        return "the launch failed";
    if (threads <= 0 || threads % WARP || threads > MAX_THREADS || shared > MAX_SHARED)
        return "a block of impossible size";
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
        return "a grid of impossible size";
    if (!m.shared)
        m.shared = static_cast<unsigned char *>(aligned_alloc(1024, (MAX_SHARED + 2 * GUARD + 1023) / 1024 * 1024));
    m.threads = static_cast<unsigned>(threads);
    m.shared_bytes = shared;
    m.kernel = &kernel;
    emu_grid = grid;
    emu_block_size = dim3(m.threads);
    const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z, first = random_below(0x7fffffff) % blocks;
    for (uint64_t i = 0; i < blocks && !m.dead; i++) {
        const uint64_t b = (first + i) % blocks;
        emu_block = dim3(static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                         static_cast<unsigned>(b / grid.x / grid.y));
        run_block();
    }
    return m.dead ? m.fault : nullptr;
}

unsigned char *emu_shared()
{
    return m.shared + GUARD;
}

/* ---- waiting ---- */

void emu_sync_block(emu_site *site)
{
    if (!left_out(site))
        arrive(&m.block, m.threads);
}

void emu_sync_warp(emu_site *site)
{
    if (!left_out(site))
        arrive(&m.warps[m.current->id / WARP], WARP);
}

void emu_exchange(const void *mine, size_t bytes, const void **all, size_t *stride)
{
    fiber *f = m.current;
    unsigned char(*slots)[EXCHANGE] = m.slots[f->id / WARP][f->parity ^= 1];
    memcpy(slots[f->id % WARP], mine, bytes);
    arrive(&m.warps[f->id / WARP], WARP);
    *all = slots;
    *stride = EXCHANGE;
}

/* ---- copies ---- */

void cp_async16(void *to, const void *from, int valid)
{
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16)
        fail("cp.async: an address is not a multiple of 16");
    memset(to, m.poison, 16);
    m.current->copies.push_back({ to, from, valid, m.current->groups });
}

void cp_async_commit()
{
    m.current->groups++;
}

void emu_cp_wait(int n, emu_site *site)
{
    fiber *f = m.current;
    if (left_out(site))
        return;
    size_t kept = 0;
    for (size_t i = 0; i < f->copies.size(); i++)
        if (f->copies[i].group < f->groups - n)
            deliver(f->copies[i]);
        else
            f->copies[kept++] = f->copies[i];
    f->copies.resize(kept);
}

/* ---- matrices (PTX ISA: ldmatrix, mma.m16n8k16 with .bf16) ---- */

static void load_matrix(uint32_t r[4], const void *p, bool trans)
{
    const void *all;
    size_t stride;
    const unsigned lane = m.current->id % WARP;
    if (reinterpret_cast<uintptr_t>(p) % 16)
        fail("ldmatrix: an address is not a multiple of 16");
    emu_exchange(&p, sizeof p, &all, &stride);
    const auto row = [&](unsigned i) {
        const uint16_t *at;
        memcpy(&at, static_cast<const char *>(all) + i * stride, sizeof at);
        return at;
    };
    for (unsigned i = 0; i < 4; i++) {
        const unsigned pair = lane % 4 * 2;
        const uint16_t low = trans ? row(i * 8 + pair)[lane / 4] : row(i * 8 + lane / 4)[pair];
        const uint16_t high = trans ? row(i * 8 + pair + 1)[lane / 4] : row(i * 8 + lane / 4)[pair + 1];
        r[i] = low | static_cast<uint32_t>(high) << 16;
    }
}

void ldmatrix(uint32_t r[4], const void *p)
{
    load_matrix(r, p, false);
}

void ldmatrix_trans(uint32_t r[4], const void *p)
{
    load_matrix(r, p, true);
}

/* Lane 4 g + t has a: rows g, g + 8 (registers 0, 1; 2, 3 for k + 8) at k = 2 t, 2 t + 1; b: column g at the same k (b0; b1 for
 * k + 8); c: rows g, g + 8 at columns 2 t, 2 t + 1. */
void mma_bf16(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    struct operands {
        uint32_t a[4], b[2];
    } mine = { { a[0], a[1], a[2], a[3] }, { b0, b1 } };
    const void *all;
    size_t stride;
    static_assert(sizeof mine <= EXCHANGE, "operands fit a slot");
    emu_exchange(&mine, sizeof mine, &all, &stride);
    const unsigned lane = m.current->id % WARP, g = lane / 4, t = lane % 4;
    const auto of = [&](unsigned l) { return reinterpret_cast<const operands *>(static_cast<const char *>(all) + l * stride); };
    const auto low = [](uint32_t u) { return bits_float(u << 16); };
    const auto high = [](uint32_t u) { return bits_float(u & 0xffff0000u); };
    for (unsigned k = 0; k < 8; k++) {
        const operands *rows = of(g * 4 + k % 4);
        const uint32_t r0 = rows->a[k / 4 * 2], r1 = rows->a[k / 4 * 2 + 1];
        for (unsigned n = 0; n < 2; n++) {
            const uint32_t col = of((2 * t + n) * 4 + k % 4)->b[k / 4];
            c[n] += low(r0) * low(col) + high(r0) * high(col);
            c[2 + n] += low(r1) * low(col) + high(r1) * high(col);
        }
    }
}

/* ---- for emu90.cpp ---- */

unsigned emu_random(unsigned n)
{
    return random_below(n);
}

void emu_fault(const char *fmt, ...)
{
    char text[sizeof m.fault];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fail("%s", text);
}

void emu_wide(const void *p, size_t bytes)
{
    if (reinterpret_cast<uintptr_t>(p) % bytes != 0)
        fail("%zu bytes at an address that is no multiple of as many", bytes);
}

unsigned emu_thread_id()
{
    return m.current->id;
}

unsigned char emu_poison()
{
    return m.poison;
}

unsigned char *emu_memory(uint32_t *first, uint32_t *end)
{
    *first = GUARD;
    *end = GUARD + static_cast<uint32_t>(m.shared_bytes);
    return m.shared;
}

void emu_yield()
{
    to_scheduler();
}

void emu_wait_while(const unsigned *gate, unsigned closed)
{
    m.current->gate = gate;
    m.current->closed = closed;
    to_scheduler();
    m.current->gate = nullptr;
}

void emu_warp_meets()
{
    arrive(&m.warps[m.current->id / WARP], WARP);
}

bool emu_left_out(emu_site *site)
{
    return left_out(site);
}

/* ---- control ---- */

void emu_seed(uint64_t seed)
{
    m.random = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
    m.poison = seed % 2 ? 0x7f : 0xff;      /* NaN, or numbers so large that nothing survives them */
}

int emu_sites(void)
{
    return static_cast<int>(m.sites.size());
}

const char *emu_site_name(int id, int *line)
{
    *line = m.sites[static_cast<size_t>(id)]->line;
    return m.sites[static_cast<size_t>(id)]->file;
}

int emu_fail_launch(int n)
{
    const int seen = m.launches;
    m.launches = 0;
    m.launched.clear();
    m.failing = n;
    return seen;
}

double emu_clock(double microseconds)
{
    return m.clock += microseconds;
}

void emu_lose_device(int n)
{
    m.until_lost = n;
    m.lost = false;
}

int emu_device_lost(void)
{
    return m.lost;
}

int emu_launched(const char *op)
{
    int n = 0;
    for (const char *x : m.launched)
        n += strcmp(x, op) == 0;
    return n;
}

void emu_leave_out(int id)
{
    m.left_out = id;
}
