/* Control of the stand-in for the CUDA runtime and cuBLASLt. */
#ifndef PRXI_TESTS_CUDA_FAKE_CUDA_H
#define PRXI_TESTS_CUDA_FAKE_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From now on, the n-th call that may fail does; 0: none. */
void fake_fail(int n);
int  fake_calls(void);
/* Reads and writes of memory that is not there, streams that cannot go on, things given back twice. */
int  fake_faults(void);
/* Memory, streams, events, handles and descriptions that somebody has. */
int  fake_held(void);
/* Whether GELU comes with products of 8 bits. */
void fake_fp8_gelu(int on);
int  fake_last_error(void);
/* Queues a read of device memory. */
void fake_kernel(void *stream, void *to, const void *from, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
