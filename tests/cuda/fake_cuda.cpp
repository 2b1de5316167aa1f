/* A stand-in for the CUDA runtime and cuBLASLt, for engine/cuda/dev/{device,gemm_lt}.cu. Work of a stream happens as late as it may and in
 * any order that streams and events allow; copies from page-locked memory read when they happen, memory is given back at once. An error
 * stays the last one until it is asked for. Products are made from their descriptions alone, by the header's words. */
#include "fake_cuda.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <functional>
#include <map>
#include <vector>

#include <cublasLt.h>
#include <cuda_runtime.h>

struct work {
    std::function<void()> run;
    cudaEvent_t waits;                  /* not NULL: nothing but a wait until that record has passed */
    uint64_t record;
};
struct CUstream_st {
    std::deque<work> queue;
};
struct CUevent_st {
    uint64_t recorded, passed;
    float at;
};

namespace {

struct {
    std::map<char *, size_t> memory, host;
    std::vector<CUstream_st *> streams;
    int events, handles, descriptors, calls, failing, faults, fp8_gelu;
    float clock;
    uint64_t random = 88172645463325252ull;
    cudaError_t last;
} f;

unsigned below(unsigned n)
{
    f.random ^= f.random << 13;
    f.random ^= f.random >> 7;
    f.random ^= f.random << 17;
    return static_cast<unsigned>(f.random >> 33) % n;
}

/* The n-th call of those that may fail does. */
bool fails() { return ++f.calls == f.failing; }

cudaError_t error(cudaError_t e)
{
    return f.last = e;
}

bool inside(const std::map<char *, size_t> &all, const void *p, size_t bytes)
{
    char *at = static_cast<char *>(const_cast<void *>(p));
    auto i = all.upper_bound(at);
    return i != all.begin() && (--i, at + bytes <= i->first + i->second);
}

bool step(CUstream_st *s)
{
    if (s->queue.empty() || (s->queue.front().waits && s->queue.front().waits->passed < s->queue.front().record))
        return false;
    const work w = s->queue.front();
    s->queue.pop_front();
    if (w.run)
        w.run();
    return true;
}

/* Until s has nothing left to do; others go on as it happens. */
void drain(CUstream_st *s)
{
    for (int stuck = 0; !s->queue.empty() && stuck < 10000; stuck++)
        if (step(f.streams[below(static_cast<unsigned>(f.streams.size()))]))
            stuck = 0;
    f.faults += !s->queue.empty();
}

void *take(std::map<char *, size_t> *from, size_t bytes)
{
    char *p = static_cast<char *>(aligned_alloc(256, (bytes + 255) / 256 * 256));
    memset(p, 0xff, bytes < 1 << 20 ? bytes : 1 << 20);
    (*from)[p] = bytes;
    return p;
}

bool drop(std::map<char *, size_t> *from, void *p)
{
    const bool known = from->erase(static_cast<char *>(p)) == 1;
    if (known)
        free(p);
    return known;
}

}  // namespace

void fake_fail(int n) { f.calls = 0, f.failing = n; }
int fake_calls(void) { return f.calls; }
int fake_faults(void) { return f.faults; }
int fake_held(void)
{
    return static_cast<int>(f.memory.size() + f.host.size() + f.streams.size()) + f.events + f.handles + f.descriptors;
}
void fake_fp8_gelu(int on) { f.fp8_gelu = on; }
int fake_last_error(void) { return f.last; }

/* What a kernel would read when its turn comes. */
void fake_kernel(void *stream, void *to, const void *from, size_t bytes)
{
    static_cast<CUstream_st *>(stream)->queue.push_back({ [=] {
        if (inside(f.memory, from, bytes))
            memcpy(to, from, bytes);
        else
            f.faults++;
    }, nullptr, 0 });
}

/* ---- the runtime ---- */

extern "C" {
cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = f.last;
    f.last = cudaSuccess;
    return e;
}
const char *cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "failed"; }
cudaError_t cudaSetDevice(int) { return fails() ? error(cudaErrorNoDevice) : cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 13000, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v) { return *v = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *n) { return *n = 1, fails() ? error(cudaErrorNoDevice) : cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    memset(p, 0, sizeof *p);
    strcpy(p->name, "stand-in");
    p->major = 9;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *all) { return *free_bytes = *all = 1 << 30, cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int)
{
    *v = a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 227 << 10 : a == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
    return fails() ? error(cudaErrorInvalidValue) : cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    if (fails())
        return error(cudaErrorMemoryAllocation);
    f.streams.push_back(*s = new CUstream_st);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    for (size_t i = 0; i < f.streams.size(); i++)
        if (f.streams[i] == s) {
            drain(s);
            f.streams.erase(f.streams.begin() + static_cast<long>(i));
            delete s;
            return cudaSuccess;
        }
    f.faults++;
    return error(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    if (fails())
        return error(cudaErrorMemoryAllocation);
    f.events++;
    *e = new CUevent_st{ 0, 0, 0 };
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    f.events--;
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    const uint64_t n = ++e->recorded;
    s->queue.push_back({ [=] { e->passed = n, e->at = f.clock; }, nullptr, 0 });
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    for (CUstream_st *s : f.streams)
        drain(s);
    return e->passed == e->recorded ? cudaSuccess : error(cudaErrorNotReady);
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) { return *ms = b->at - a->at, cudaSuccess; }
/* The record that is the latest now; one that was never recorded has passed. */
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    s->queue.push_back({ nullptr, e, e->recorded });
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) { return drain(s), cudaSuccess; }
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    return fails() ? error(cudaErrorMemoryAllocation) : (*p = take(&f.memory, bytes), cudaSuccess);
}
cudaError_t cudaMallocManaged(void **p, size_t bytes, unsigned) { return cudaMalloc(p, bytes); }
cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return fails() ? error(cudaErrorMemoryAllocation) : (*p = take(&f.host, bytes), cudaSuccess);
}
cudaError_t cudaFree(void *p) { return !p || drop(&f.memory, p) ? cudaSuccess : (f.faults++, error(cudaErrorInvalidValue)); }
cudaError_t cudaFreeHost(void *p) { return drop(&f.host, p) ? cudaSuccess : (f.faults++, error(cudaErrorInvalidValue)); }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
    const bool staged = kind == cudaMemcpyHostToDevice && !inside(f.host, from, bytes);
    const std::vector<char> now(static_cast<const char *>(from), static_cast<const char *>(from) + (staged ? bytes : 0));
    if (fails())
        return error(cudaErrorUnknown);
    s->queue.push_back({ [=] {
        const bool target = kind == cudaMemcpyDeviceToHost || inside(f.memory, to, bytes);
        const bool known = target && (staged || inside(kind == cudaMemcpyHostToDevice ? f.host : f.memory, from, bytes));
        f.faults += !known;
        if (known)
            memcpy(to, staged ? now.data() : from, bytes);
    }, nullptr, 0 });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int v, size_t bytes, cudaStream_t s)
{
    s->queue.push_back({ [=] { inside(f.memory, p, bytes) ? (void)memset(p, v, bytes) : (void)f.faults++; }, nullptr, 0 });
    return cudaSuccess;
}
}

/* ---- cuBLASLt ---- */

struct description {
    int a_transposed, epilogue, bias_type, a_mode, b_mode;
    const void *bias;
    const float *a_scale, *b_scale;
};
struct layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
};
struct wishes {
    uint64_t workspace;
    uint32_t aligned;
};

template <typename T, typename H> static T *as(H h) { return reinterpret_cast<T *>(h); }

static double value(const layout *m, const void *p, uint64_t row, uint64_t col)
{
    const size_t i = col * static_cast<uint64_t>(m->ld) + row;
    if (m->type == CUDA_R_32F)
        return static_cast<const float *>(p)[i];
    if (m->type == CUDA_R_16BF) {
        const uint32_t u = static_cast<uint32_t>(static_cast<const uint16_t *>(p)[i]) << 16;
        float v;
        memcpy(&v, &u, 4);
        return v;
    }
    const int u = static_cast<const uint8_t *>(p)[i], e = u >> 3 & 15, frac = u & 7;       /* e4m3 */
    return (u & 128 ? -1 : 1) * (e ? ldexp(8 + frac, e - 10) : ldexp(frac, -9));
}

static void set(const layout *m, void *p, uint64_t row, uint64_t col, double v)
{
    const size_t i = col * static_cast<uint64_t>(m->ld) + row;
    const float x = static_cast<float>(v);
    uint32_t u;
    memcpy(&u, &x, 4);
    if (m->type == CUDA_R_32F)
        static_cast<float *>(p)[i] = x;
    else
        static_cast<uint16_t *>(p)[i] = static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static size_t size_of(cudaDataType t) { return t == CUDA_R_32F ? 4 : t == CUDA_R_16BF ? 2 : 1; }

/* What the documentation says of shapes, types and scales. */
static bool takes(const description *o, const layout *a, const layout *b, const layout *d)
{
    const bool fp8 = a->type == CUDA_R_8F_E4M3;
    const uint64_t m = o->a_transposed ? a->cols : a->rows, k = o->a_transposed ? a->rows : a->cols;
    bool good = a->type == b->type && k == b->rows && m == d->rows && b->cols == d->cols && d->type != CUDA_R_8F_E4M3 &&
                a->ld >= (int64_t)a->rows && b->ld >= (int64_t)b->rows && d->ld >= (int64_t)d->rows;
    if (o->epilogue & CUBLASLT_EPILOGUE_BIAS)
        good = good && o->bias && o->bias_type == (int)d->type;
    if (fp8) {                              /* transposed, 16 bytes, bf16 out; scales of both by row; no f32 bias */
        good = good && o->a_transposed && a->ld % 16 == 0 && b->ld % 16 == 0 && d->ld * 2 % 16 == 0 && d->type == CUDA_R_16BF;
        good = good && o->a_mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F && o->b_mode == o->a_mode && o->a_scale && o->b_scale;
        good = good && (f.fp8_gelu || !(o->epilogue & CUBLASLT_EPILOGUE_GELU));
    }
    return good;
}

extern "C" {
size_t cublasLtGetVersion(void) { return 130100; }
const char *cublasLtGetStatusString(cublasStatus_t) { return "a status"; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    if (fails())
        return CUBLAS_STATUS_NOT_INITIALIZED;
    f.handles++;
    *h = as<cublasLtContext>(&f);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return f.handles--, CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    f.descriptors++;
    *d = as<cublasLtMatmulDescOpaque_t>(new description{ 0, CUBLASLT_EPILOGUE_DEFAULT, -1, 0, 0, nullptr, nullptr, nullptr });
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    f.descriptors--;
    delete as<description>(d);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t h, cublasLtMatmulDescAttributes_t name, const void *v, size_t bytes)
{
    description *d = as<description>(h);
    const std::map<int, std::pair<void *, size_t>> known = {
        { CUBLASLT_MATMUL_DESC_TRANSA, { &d->a_transposed, 4 } }, { CUBLASLT_MATMUL_DESC_EPILOGUE, { &d->epilogue, 4 } },
        { CUBLASLT_MATMUL_DESC_BIAS_POINTER, { &d->bias, 8 } }, { CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, { &d->bias_type, 4 } },
        { CUBLASLT_MATMUL_DESC_A_SCALE_MODE, { &d->a_mode, 4 } }, { CUBLASLT_MATMUL_DESC_B_SCALE_MODE, { &d->b_mode, 4 } },
        { CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, { &d->a_scale, 8 } }, { CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, { &d->b_scale, 8 } },
    };
    const auto i = known.find(name);
    if (i == known.end() || i->second.second != bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(i->second.first, v, bytes);
    if (name == CUBLASLT_MATMUL_DESC_TRANSA)
        d->a_transposed = d->a_transposed == CUBLAS_OP_T;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
    f.descriptors++;
    *l = as<cublasLtMatrixLayoutOpaque_t>(new layout{ type, rows, cols, ld });
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    f.descriptors--;
    delete as<layout>(l);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    f.descriptors++;
    *p = as<cublasLtMatmulPreferenceOpaque_t>(new wishes{ 0, 256 });
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    f.descriptors--;
    delete as<wishes>(p);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name, const void *v,
                                                    size_t bytes)
{
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == 8)
        memcpy(&as<wishes>(p)->workspace, v, bytes);
    else if (name >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES && name <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES && bytes == 4)
        memcpy(&as<wishes>(p)->aligned, v, bytes);
    else
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

/* Algorithms: what their pointers must be aligned to, and how long they take; one that is none is among them. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t p, int room,
                                              cublasLtMatmulHeuristicResult_t found[], int *count)
{
    *count = 0;
    if (!takes(as<description>(o), as<layout>(a), as<layout>(b), as<layout>(d)) || as<layout>(c)->type != as<layout>(d)->type)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const uint64_t times[] = { 5, 4, 2, 3 };
    for (int i = 0; i < room && i < 4; i++, ++*count) {
        memset(&found[i], 0, sizeof found[i]);
        found[i].algo.data[0] = as<wishes>(p)->aligned;
        found[i].algo.data[1] = times[i];
        found[i].state = i == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
        found[i].workspaceSize = as<wishes>(p)->workspace;
    }
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    result->workspaceSize = 0;
    return algo->data[1] >= 2 && algo->data[1] <= 5 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t op, const void *alpha, const void *A, cublasLtMatrixLayout_t al,
                              const void *B, cublasLtMatrixLayout_t bl, const void *beta, const void *, cublasLtMatrixLayout_t, void *D,
                              cublasLtMatrixLayout_t dl, const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t s)
{
    const description o = *as<description>(op);
    const layout a = *as<layout>(al), b = *as<layout>(bl), d = *as<layout>(dl);
    const uint64_t step = algo->data[0], time = algo->data[1], k = b.rows;
    const float scale = *static_cast<const float *>(alpha);
    for (const void *p : { A, B, static_cast<const void *>(D) })
        if (step < 1 || reinterpret_cast<uintptr_t>(p) % step)
            return CUBLAS_STATUS_INVALID_VALUE;
    if (!takes(&o, &a, &b, &d) || algo->data[1] == 5 || reinterpret_cast<uintptr_t>(workspace) % 256 || bytes < 32 << 20 ||
        *static_cast<const float *>(beta) != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    s->queue.push_back({ [=] {
        f.clock += static_cast<float>(time);
        if (d.rows * d.cols * k > 10000000)         /* only the time that it takes is looked at */
            return;
        for (uint64_t j = 0; j < d.cols; j++)
            for (uint64_t i = 0; i < d.rows; i++) {
                double sum = 0;
                for (uint64_t x = 0; x < k; x++)
                    sum += value(&a, A, o.a_transposed ? x : i, o.a_transposed ? i : x) * value(&b, B, x, j);
                sum *= scale * (o.a_mode ? static_cast<double>(o.a_scale[i]) * o.b_scale[j] : 1);
                if (o.epilogue & CUBLASLT_EPILOGUE_BIAS) {
                    const layout bias = { static_cast<cudaDataType>(o.bias_type), d.rows, 1, (int64_t)d.rows };
                    sum += value(&bias, o.bias, i, 0);
                }
                if (o.epilogue & CUBLASLT_EPILOGUE_GELU)
                    sum = 0.5 * sum * (1 + tanh(0.7978845608028654 * (sum + 0.044715 * sum * sum * sum)));
                set(&d, D, i, j, sum);
            }
    }, nullptr, 0 });
    return CUBLAS_STATUS_SUCCESS;
}
}
