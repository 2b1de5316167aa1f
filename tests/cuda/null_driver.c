/* A stand-in for NVIDIA's driver (libcuda.so.1), for plans without a device: cuDNN compiles kernels and hands them to the driver
 * to look at; this one takes anything and runs nothing. */
#include <stddef.h>

enum { NO_DEVICE = 100, OK = 0 };

static int object;

#define EXPORT __attribute__((visibility("default")))
#define TAKES(name, args) EXPORT int name args; EXPORT int name args { return OK; }
#define GIVES(name, args, to) EXPORT int name args; EXPORT int name args { *to = &object; return OK; }
#define COUNTS(name, args, to, value) EXPORT int name args; EXPORT int name args { *to = value; return OK; }

EXPORT int cuInit(unsigned flags);
EXPORT int cuInit(unsigned flags)
{
    (void)flags;
    return NO_DEVICE;
}

COUNTS(cuDriverGetVersion, (int *v), v, 13000)
COUNTS(cuDeviceGetCount, (int *n), n, 1)
COUNTS(cuDeviceGet, (int *d, int i), d, i)
COUNTS(cuLibraryGetKernelCount, (unsigned *n, void *lib), n, lib != NULL)
COUNTS(cuKernelGetName, (const char **name, void *k), name, k ? "kernel" : "")
COUNTS(cuKernelGetAttribute, (int *value, int what, void *k, int d), value, k && d == 0 && what == 0 ? 1024 : 0)
COUNTS(cuFuncGetAttribute, (int *value, int what, void *f), value, f && what < 0)
COUNTS(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *n, void *f, int threads, size_t shared), n, f && threads && shared + 1)
COUNTS(cuOccupancyMaxPotentialClusterSize, (int *n, void *f, void *config), n, f && config)
COUNTS(cuCtxGetLimit, (size_t *v, int what), v, what < 0 ? 0 : 1024)

GIVES(cuLibraryLoadData, (void **lib), lib)
GIVES(cuLibraryLoadFromFile, (void **lib), lib)
GIVES(cuLibraryGetKernel, (void **k), k)
GIVES(cuKernelGetFunction, (void **f), f)
GIVES(cuModuleLoadData, (void **m), m)
GIVES(cuModuleLoadDataEx, (void **m), m)
GIVES(cuModuleGetFunction, (void **f), f)
GIVES(cuCtxGetCurrent, (void **c), c)

TAKES(cuCtxPopCurrent, (void))
TAKES(cuCtxPushCurrent, (void))
TAKES(cuFuncSetAttribute, (void))
TAKES(cuKernelSetAttribute, (void))
TAKES(cuLibraryUnload, (void))
TAKES(cuLinkAddData, (void))
TAKES(cuLinkComplete, (void))
TAKES(cuLinkCreate, (void))
TAKES(cuLinkDestroy, (void))
TAKES(cuModuleUnload, (void))
TAKES(cuLaunchCooperativeKernel, (void))
TAKES(cuLaunchKernel, (void))
TAKES(cuLaunchKernelEx, (void))

EXPORT int cuLibraryEnumerateKernels(void **k, unsigned n, void *lib);
EXPORT int cuLibraryEnumerateKernels(void **k, unsigned n, void *lib)
{
    for (unsigned i = 0; i < n; i++)
        k[i] = lib;
    return OK;
}

EXPORT int cuStreamGetCtx(void *stream, void **c);
EXPORT int cuStreamGetCtx(void *stream, void **c)
{
    (void)stream;
    *c = &object;
    return OK;
}

COUNTS(cuGetErrorName, (int e, const char **s), s, e ? "NULL_DRIVER" : "OK")
COUNTS(cuGetErrorString, (int e, const char **s), s, e ? "stand-in driver" : "no error")
