/* What a test tells the emulation. Plain C. */
#ifndef PRXI_TESTS_CUDA_EMU_CONTROL_H
#define PRXI_TESTS_CUDA_EMU_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)        /* tests find them in the module, too */
#ifdef __cplusplus
extern "C" {
#endif

/* Order of blocks and warps, moments of copies. */
void emu_seed(uint64_t seed);
/* Places where threads wait that have been reached so far, by number. Line -N: a cp_async_wait<N>. */
int  emu_sites(void);
const char *emu_site_name(int id, int *line);
/* The waits of this place are left out; -1: none is. */
void emu_leave_out(int id);

/* Dynamic shared memory that a block may have from now on: other chips. */
void emu_shared_room(int kib);

/* Faults of a device: the n-th launch or allocation from now on fails (0: none does). Returns how many there were since the last call. */
int  emu_fail_launch(int n);
int  emu_refuse_memory(int n);
/* With the n-th launch from now on the device is lost: nothing of it works until 0 brings it back. */
void emu_lose_device(int n);
int  emu_device_lost(void);
/* Launches of this op since emu_fail_launch. */
int  emu_launched(const char *op);
/* The machine's clock, put forward by this: it goes 100 microseconds a launch. */
double emu_clock(double microseconds);
/* Products whose algorithm was found where it had been left, since the last call. */
int  emu_gemms_recalled(void);
/* From now on kernels may be given pointers to these bytes of the host, as if they were managed memory. */
void emu_share(const void *p, size_t bytes);
/* Between these the caller is the device: its memory may be touched. */
void emu_device_begin(void);
void emu_device_end(void);
/* Blocks of device memory that are held, and their bytes. */
int  emu_blocks(void);
size_t emu_bytes(void);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop

#endif
