/* Between the parts of the emulation: emu.cpp runs threads, emu90.cpp has what Hopper adds. */
#ifndef PRXI_TESTS_CUDA_EMU_MACHINE_H
#define PRXI_TESTS_CUDA_EMU_MACHINE_H

#include "emu.h"

unsigned emu_random(unsigned n);                /* below n */
void emu_fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
unsigned emu_thread_id();
unsigned char emu_poison();
/* Shared memory from address 0 on, and its size; a block sees it from `first` on. */
unsigned char *emu_memory(uint32_t *first, uint32_t *end);
void emu_yield();                               /* others may run */
void emu_wait_while(const unsigned *gate, unsigned closed);
void emu_warp_meets();                          /* the lanes of a warp wait for each other */
bool emu_left_out(emu_site *site);

/* Called by the scheduler: at the start of a block; now and then; when no thread can run (true: something happened); at the end. */
void emu90_begin(unsigned threads);
void emu90_progress();
bool emu90_stuck();
void emu90_end();

#endif
