/* The stand-in for cuDNN as a library of its name, for the command: PRAXINO_CUDNN=FILE. */
#include "fake_cudnn.h"

#define EXPORT(type, name, params, ...)                                              \
    __attribute__((visibility("default"))) type name params;                         \
    __attribute__((visibility("default"))) type name params { return fake_cudnn()->__VA_ARGS__; }

EXPORT(size_t, cudnnGetVersion, (void), version())
EXPORT(const char *, cudnnGetErrorString, (int status), error_string(status))
EXPORT(int, cudnnCreate, (void **handle), create(handle))
EXPORT(int, cudnnDestroy, (void *handle), destroy(handle))
EXPORT(int, cudnnSetStream, (void *handle, void *stream), set_stream(handle, stream))
EXPORT(int, cudnnBackendCreateDescriptor, (int kind, void **d), make(kind, d))
EXPORT(int, cudnnBackendDestroyDescriptor, (void *d), drop(d))
EXPORT(int, cudnnBackendFinalize, (void *d), finalize(d))
EXPORT(int, cudnnBackendSetAttribute, (void *d, int name, int type, int64_t n, const void *v), set(d, name, type, n, v))
EXPORT(int, cudnnBackendGetAttribute, (const void *d, int name, int type, int64_t room, int64_t *n, void *v),
       get(d, name, type, room, n, v))
EXPORT(int, cudnnBackendExecute, (void *handle, void *plan, void *pack), execute(handle, plan, pack))

__attribute__((visibility("default"))) void cudnnGetLastErrorString(char *text, size_t n);
__attribute__((visibility("default"))) void cudnnGetLastErrorString(char *text, size_t n)
{
    fake_cudnn()->last_error(text, n);
}
