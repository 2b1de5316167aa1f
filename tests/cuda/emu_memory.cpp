/* Two arenas of 256-byte units: one that the host may touch, one that it may not. Behind each block is a unit of 0xa5. */
#include "emu_memory.h"

#include "emu_control.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace {

constexpr size_t UNIT = 256, PAGE = 4096, ROOM = (size_t)32 << 30;

struct arena {
    unsigned char *base;
    size_t end;                             /* bytes that were ever in use, whole pages */
    std::map<size_t, size_t> used;          /* offset of a block, its bytes */
};

std::recursive_mutex lock;
arena arenas[2];                            /* the device's own; shared */
std::vector<std::pair<const unsigned char *, size_t>> lent;     /* of the host, but both sides may touch it */
size_t held;
int inside;

bool is_split()
{
    static const bool split = getenv("PRAXINO_EMU_SPLIT") && strcmp(getenv("PRAXINO_EMU_SPLIT"), "1") == 0;
    return split;
}

void allow(int access)
{
    if (is_split() && arenas[0].end > 0)
        mprotect(arenas[0].base, arenas[0].end, access);
}

size_t units(size_t bytes)
{
    return (bytes + UNIT - 1) / UNIT * UNIT + UNIT;
}

/* The first gap that is large enough. */
size_t place(const arena &a, size_t bytes)
{
    size_t at = 0;
    for (const auto &block : a.used) {
        if (block.first - at >= units(bytes))
            return at;
        at = block.first + units(block.second);
    }
    return at;
}

arena *arena_of(const void *p)
{
    const unsigned char *at = static_cast<const unsigned char *>(p);
    for (arena &a : arenas)
        if (a.base && at >= a.base && at < a.base + ROOM)
            return &a;
    return nullptr;
}

bool is_lent(const void *p)
{
    const unsigned char *at = static_cast<const unsigned char *>(p);
    for (const auto &part : lent)
        if (at >= part.first && at < part.first + part.second)
            return true;
    return false;
}

bool is_mapped(uintptr_t at)
{
    unsigned char in;
    return mincore(reinterpret_cast<void *>(at & ~(PAGE - 1)), PAGE, &in) == 0;
}

/* Where the host's memory usually lies on this system: numbers that are no pointers are hardly ever there. */
bool may_be_host(uintptr_t v)
{
    return (v >> 40 >= 0x55 && v >> 40 < 0x57) || (v >> 40 >= 0x60 && v >> 40 < 0x65) || (v >> 40 >= 0x7e && v >> 40 < 0x80);
}

}

void emu_device_begin(void)
{
    lock.lock();
    if (inside++ == 0)
        allow(PROT_READ | PROT_WRITE);
}

void emu_device_end(void)
{
    if (--inside == 0)
        allow(PROT_NONE);
    lock.unlock();
}

emu_as_device::emu_as_device()
{
    emu_device_begin();
}

emu_as_device::~emu_as_device()
{
    emu_device_end();
}

void *emu_memory_take(size_t bytes, bool shared)
{
    const emu_as_device here;
    arena &a = arenas[shared];
    if (!a.base) {
        void *p = mmap(nullptr, ROOM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            return nullptr;
        a.base = static_cast<unsigned char *>(p);
    }
    const size_t at = place(a, bytes), end = (at + units(bytes) + PAGE - 1) / PAGE * PAGE;
    if (end > ROOM || (end > a.end && mprotect(a.base + a.end, end - a.end, PROT_READ | PROT_WRITE) != 0))
        return nullptr;
    a.end = end > a.end ? end : a.end;
    a.used[at] = bytes;
    held += bytes;
    unsigned char *p = a.base + at;
    ASAN_UNPOISON_MEMORY_REGION(p, units(bytes));
    memset(p, 0xff, bytes);
    memset(p + bytes, 0xa5, units(bytes) - bytes);
    ASAN_POISON_MEMORY_REGION(p + bytes, units(bytes) - bytes);
    return p;
}

bool emu_memory_give(void *p)
{
    const emu_as_device here;
    arena *a = arena_of(p);
    const auto block = a ? a->used.find(static_cast<size_t>(static_cast<unsigned char *>(p) - a->base)) : arenas[0].used.end();
    if (!a || block == a->used.end())
        return false;
    unsigned char *at = static_cast<unsigned char *>(p), *end = at + units(block->second);
    bool whole = true;
    ASAN_UNPOISON_MEMORY_REGION(at, units(block->second));
    for (const unsigned char *q = at + block->second; q < end; q++)
        whole = whole && *q == 0xa5;
    ASAN_POISON_MEMORY_REGION(at, units(block->second));
    held -= block->second;
    a->used.erase(block);
    return whole;
}

void emu_share(const void *p, size_t bytes)
{
    const std::lock_guard<std::recursive_mutex> hold(lock);
    lent.push_back({ static_cast<const unsigned char *>(p), bytes });
}

int emu_memory_blocks()
{
    const std::lock_guard<std::recursive_mutex> hold(lock);
    return static_cast<int>(arenas[0].used.size() + arenas[1].used.size());
}

size_t emu_memory_bytes()
{
    const std::lock_guard<std::recursive_mutex> hold(lock);
    return held;
}

bool emu_memory_is_host(const void *argument, size_t bytes)
{
    for (size_t i = 0; i + sizeof(uintptr_t) <= bytes; i += sizeof(uintptr_t)) {
        uintptr_t v;
        memcpy(&v, static_cast<const unsigned char *>(argument) + i, sizeof v);
        const void *at = reinterpret_cast<void *>(v);
        if (may_be_host(v) && !arena_of(at) && !is_lent(at) && is_mapped(v))
            return true;
    }
    return false;
}
