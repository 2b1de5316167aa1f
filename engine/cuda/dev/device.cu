/* Device 0 through the CUDA runtime: what it is, its memory, its one stream. */
#include "device.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <cublasLt.h>

#ifndef PRXI_CUDA_ARCHS
#define PRXI_CUDA_ARCHS "unknown"
#endif

/* The runtime also keeps an error for who asks what the last one was: told here, it must not be found again by the next launch. */
static int check(device *d, cudaError_t err, const char *op)
{
    if (err == cudaSuccess)
        return PRX_OK;
    cudaGetLastError();
    return prxi_cu_fail(d, err == cudaErrorMemoryAllocation ? PRX_ENOMEM : PRX_EIO, op, cudaGetErrorString(err));
}

size_t prxi_cu_device_bytes(void)
{
    return sizeof(device) + prxi_cu_lt_bytes();
}

/* Whether it is there, for doctor; the library uses it by itself (engine/cuda/cudnn.h). It stays: its parts open each other, and nobody
 * promises that they can go. */
static void find_cudnn(prxi_cu_info *info)
{
    void *lib = dlopen("libcudnn.so.9", RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    size_t (*version)(void) = nullptr;
    void *entry = lib ? dlsym(lib, "cudnnGetVersion") : nullptr;
    memcpy(&version, &entry, sizeof version);
    if (version)
        snprintf(info->cudnn, sizeof info->cudnn, "%zu", version());
    else
        snprintf(info->cudnn, sizeof info->cudnn, "not found (libcudnn.so.9)");
    if (lib)
        dlclose(lib);
}

/* Code for sm_90a runs on compute capability 9.0 alone. */
static int is_hopper(int major, int minor)
{
    return major == 9 && minor == 0 && strstr(PRXI_CUDA_ARCHS, "90a") != nullptr;
}

int prxi_cu_probe(prxi_cu_info *info)
{
    memset(info, 0, sizeof *info);
    snprintf(info->archs, sizeof info->archs, "%s", PRXI_CUDA_ARCHS);
    snprintf(info->cublaslt, sizeof info->cublaslt, "%zu", cublasLtGetVersion());
    find_cudnn(info);
    cudaRuntimeGetVersion(&info->runtime);
    cudaError_t err = cudaDriverGetVersion(&info->driver);
    if (err == cudaSuccess && info->driver == 0) {
        snprintf(info->why, sizeof info->why, "no NVIDIA driver is installed (libcuda.so.1)");
        return PRX_ENOTSUP;
    }
    err = cudaGetDeviceCount(&info->devices);
    if (err == cudaSuccess && info->devices == 0)
        err = cudaErrorNoDevice;
    cudaDeviceProp p;
    if (err == cudaSuccess)
        err = cudaGetDeviceProperties(&p, 0);
    if (err == cudaSuccess)
        err = cudaMemGetInfo(&info->memory_free, &info->memory);
    if (err != cudaSuccess) {
        cudaGetLastError();
        snprintf(info->why, sizeof info->why, "the driver (CUDA %d.%d) says: %s", info->driver / 1000, info->driver % 1000 / 10,
                 cudaGetErrorString(err));
        return PRX_ENOTSUP;
    }
    snprintf(info->name, sizeof info->name, "%.*s", (int)sizeof info->name - 1, p.name);
    info->major = p.major;
    info->minor = p.minor;
    info->multiprocessors = p.multiProcessorCount;
    info->hopper = is_hopper(p.major, p.minor);
    info->fp8 = p.major == 9 && p.minor == 0;
    if (p.major < 8) {
        snprintf(info->why, sizeof info->why, "%.100s is sm_%d%d; sm_80 or newer is needed", p.name, p.major, p.minor);
        return PRX_ENOTSUP;
    }
    return PRX_OK;
}

static int open_streams(device *d)
{
    int err = check(d, cudaSetDevice(0), "cudaSetDevice");
    if (err == PRX_OK)
        err = check(d, cudaDeviceGetAttribute(&d->shared_max, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), "shared memory");
    int major = 0, minor = 0;
    if (err == PRX_OK)
        err = check(d, cudaDeviceGetAttribute(&d->multiprocessors, cudaDevAttrMultiProcessorCount, 0), "multiprocessors");
    if (err == PRX_OK)
        err = check(d, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "chip");
    if (err == PRX_OK)
        err = check(d, cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), "chip");
    d->hopper = is_hopper(major, minor);
    if (err == PRX_OK)
        err = check(d, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), "stream");
    if (err == PRX_OK)
        err = check(d, cudaStreamCreateWithFlags(&d->copies, cudaStreamNonBlocking), "stream");
    for (int i = 0; i < 2 && err == PRX_OK; i++) {
        err = check(d, cudaEventCreateWithFlags(&d->filled[i], cudaEventDisableTiming), "event");
        if (err == PRX_OK)
            err = check(d, cudaEventCreateWithFlags(&d->left[i], cudaEventDisableTiming), "event");
        if (err == PRX_OK)
            err = check(d, cudaEventCreate(&d->marks[i]), "event");
    }
    return err;
}

int prxi_cu_open(void *dev)
{
    device *d = as_device(dev);
    int err = open_streams(d);
    if (err == PRX_OK)
        err = prxi_cu_lt_open(d, static_cast<unsigned char *>(dev) + sizeof(device));
    if (err < 0)
        prxi_cu_close(dev);
    return err;
}

/* Also of what has been opened in part. */
void prxi_cu_close(void *dev)
{
    device *d = as_device(dev);
    prxi_cu_lt_close(d);
    for (int i = 0; i < 2; i++)
        for (cudaEvent_t e : { d->filled[i], d->left[i], d->marks[i] })
            if (e)
                cudaEventDestroy(e);
    for (cudaStream_t s : { d->copies, d->stream })
        if (s)
            cudaStreamDestroy(s);
    cudaGetLastError();
}

void *prxi_cu_alloc(void *dev, size_t bytes)
{
    void *p = nullptr;
    return check(as_device(dev), cudaMalloc(&p, bytes), "device memory") < 0 ? nullptr : p;
}

void *prxi_cu_alloc_shared(void *dev, size_t bytes)
{
    void *p = nullptr;
    return check(as_device(dev), cudaMallocManaged(&p, bytes), "shared memory") < 0 ? nullptr : p;
}

void prxi_cu_release(void *dev, void *p)
{
    device *d = as_device(dev);
    if (!p)
        return;
    cudaStreamSynchronize(d->copies);       /* that cudaFree waits is a habit of the driver, no promise */
    cudaStreamSynchronize(d->stream);
    if (cudaFree(p) != cudaSuccess)
        cudaGetLastError();
}

/* From memory that may be pageable and may be reused at once: the call returns when the bytes have been read. */
int prxi_cu_put(void *dev, void *to, const void *host, size_t bytes)
{
    device *d = as_device(dev);
    cudaError_t err = cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, d->stream);
    if (err == cudaSuccess)
        err = cudaStreamSynchronize(d->stream);
    return check(d, err, "copy to the device");
}

int prxi_cu_get(void *dev, void *host, const void *from, size_t bytes)
{
    device *d = as_device(dev);
    cudaError_t err = cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, d->stream);
    if (err == cudaSuccess)
        err = cudaStreamSynchronize(d->stream);
    return check(d, err, "copy from the device");
}

int prxi_cu_copy(void *dev, void *to, const void *from, size_t bytes)
{
    device *d = as_device(dev);
    return check(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, d->stream), "copy on the device");
}

void *prxi_cu_alloc_host(void *dev, size_t bytes)
{
    void *p = nullptr;
    return check(as_device(dev), cudaMallocHost(&p, bytes), "page-locked memory") < 0 ? nullptr : p;
}

void prxi_cu_release_host(void *dev, void *p)
{
    cudaStreamSynchronize(as_device(dev)->copies);
    cudaFreeHost(p);
}

/* An event that was never recorded counts as passed. */
int prxi_cu_fetch(void *dev, int slot, void *to, const void *host, size_t bytes)
{
    device *d = as_device(dev);
    cudaError_t err = cudaStreamWaitEvent(d->copies, d->left[slot], 0);
    if (err == cudaSuccess)
        err = cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, d->copies);
    if (err == cudaSuccess)
        err = cudaEventRecord(d->filled[slot], d->copies);
    return check(d, err, "copy of weights");
}

int prxi_cu_arrive(void *dev, int slot)
{
    device *d = as_device(dev);
    return check(d, cudaStreamWaitEvent(d->stream, d->filled[slot], 0), "waiting for weights");
}

int prxi_cu_leave(void *dev, int slot)
{
    device *d = as_device(dev);
    return check(d, cudaEventRecord(d->left[slot], d->stream), "leaving weights");
}

int prxi_cu_zero(void *dev, void *p, size_t bytes)
{
    device *d = as_device(dev);
    return check(d, cudaMemsetAsync(p, 0, bytes, d->stream), "clearing device memory");
}

int prxi_cu_sync(void *dev)
{
    device *d = as_device(dev);
    return check(d, cudaStreamSynchronize(d->stream), "waiting for the device");
}

int prxi_cu_mark(void *dev, int i)
{
    device *d = as_device(dev);
    return check(d, cudaEventRecord(d->marks[i], d->stream), "marking a moment");
}

int prxi_cu_between(void *dev, float *ms)
{
    device *d = as_device(dev);
    cudaError_t err = cudaEventSynchronize(d->marks[1]);
    if (err == cudaSuccess)
        err = cudaEventElapsedTime(ms, d->marks[0], d->marks[1]);
    return check(d, err, "time between two moments");
}

void *prxi_cu_stream(void *dev)
{
    return as_device(dev)->stream;
}
