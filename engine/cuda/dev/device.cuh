/* The device itself: device.cu on a GPU, a part of the test harness in emulation. */
#ifndef PRXI_CUDA_DEVICE_CUH
#define PRXI_CUDA_DEVICE_CUH

#include "launch.cuh"

size_t prxi_cu_device_bytes(void);
int  prxi_cu_probe(prxi_cu_info *info);
int  prxi_cu_open(void *dev);
void prxi_cu_close(void *dev);
void *prxi_cu_alloc(void *dev, size_t bytes);
void *prxi_cu_alloc_shared(void *dev, size_t bytes);
void prxi_cu_release(void *dev, void *p);
int  prxi_cu_put(void *dev, void *to, const void *host, size_t bytes);
int  prxi_cu_get(void *dev, void *host, const void *from, size_t bytes);
int  prxi_cu_copy(void *dev, void *to, const void *from, size_t bytes);
void *prxi_cu_alloc_host(void *dev, size_t bytes);
void prxi_cu_release_host(void *dev, void *p);
int  prxi_cu_fetch(void *dev, int slot, void *to, const void *host, size_t bytes);
int  prxi_cu_arrive(void *dev, int slot);
int  prxi_cu_leave(void *dev, int slot);
int  prxi_cu_sync(void *dev);
int  prxi_cu_mark(void *dev, int i);
int  prxi_cu_between(void *dev, float *ms);
void *prxi_cu_stream(void *dev);

/* cuBLASLt's part of the handle. */
size_t prxi_cu_lt_bytes(void);
int  prxi_cu_lt_open(device *d, void *memory);
void prxi_cu_lt_close(device *d);
void prxi_cu_gemm_remember(void *dev, const prxi_cu_gemm_memory *m);

#endif
