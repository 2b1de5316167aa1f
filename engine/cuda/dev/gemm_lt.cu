/* Linear layers by cuBLASLt. It thinks in columns: row-major y[m, n] = x W^T is its column-major y^T[n, m] = W x^T, so W is the transposed
 * left operand (TN, the form with every epilogue). The algorithm of a shape is
 * chosen once: the fastest of those that the library offers, which the disk remembers. */
#include "device.cuh"

#include <string.h>

#include <cublasLt.h>

enum { SHAPES = 128, WORKSPACE = 64 << 20, TRIED = 8, RUNS = 3 };

static const double WORTH = 1e8;            /* multiplications from which on a choice is measured */

struct lt_shape {
    int64_t m, n, k, ldx, ldy, ldw;
    int compute, out, epilogue, bias, plain, aligned, used;
    cublasLtMatmulAlgo_t algorithm;
};

struct lt_state {
    cublasLtHandle_t handle;
    void *workspace;
    lt_shape shapes[SHAPES];
    int next;
    prxi_cu_gemm_memory memory;             /* find NULL: none */
    cudaEvent_t marks[2];
};

/* Descriptions of one product; destroyed in every case. */
struct lt_call {
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, x, y;
};

size_t prxi_cu_lt_bytes(void)
{
    return sizeof(lt_state);
}

int prxi_cu_lt_open(device *d, void *memory)
{
    d->lt = static_cast<lt_state *>(memory);
    cublasStatus_t st = cublasLtCreate(&d->lt->handle);
    if (st != CUBLAS_STATUS_SUCCESS)
        return prxi_cu_fail(d, PRX_ENOTSUP, "cuBLASLt", cublasLtGetStatusString(st));
    if (cudaMalloc(&d->lt->workspace, WORKSPACE) != cudaSuccess) {
        cudaGetLastError();                 /* told here: not the next launch's */
        d->lt->workspace = nullptr;
        return prxi_cu_fail(d, PRX_ENOMEM, "cuBLASLt", "no device memory for its workspace");
    }
    for (int i = 0; i < 2; i++)
        if (cudaEventCreate(&d->lt->marks[i]) != cudaSuccess)
            return prxi_cu_fail(d, PRX_EIO, "cuBLASLt", "no event to measure with");
    return PRX_OK;
}

void prxi_cu_gemm_remember(void *dev, const prxi_cu_gemm_memory *m)
{
    as_device(dev)->lt->memory = *m;
}

void prxi_cu_lt_close(device *d)
{
    if (!d->lt)
        return;
    if (d->lt->workspace)
        cudaFree(d->lt->workspace);
    for (int i = 0; i < 2; i++)
        if (d->lt->marks[i])
            cudaEventDestroy(d->lt->marks[i]);
    if (d->lt->handle)
        cublasLtDestroy(d->lt->handle);
}

static cudaDataType_t type_of(int type)
{
    return type == PRXI_CU_E4M3 ? CUDA_R_8F_E4M3 : type ? CUDA_R_16BF : CUDA_R_32F;
}

/* A scale a row of both operands: its left one is W. */
static cublasStatus_t describe_scales(lt_call *c, const prxi_cu_gemm *a)
{
    const cublasLtMatmulMatrixScale_t by_row = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    cublasStatus_t st = cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &by_row, sizeof by_row);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &by_row, sizeof by_row);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &a->w_scale, sizeof a->w_scale);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &a->x_scale, sizeof a->x_scale);
    return st;
}

static cublasStatus_t describe_op(lt_call *c, const prxi_cu_gemm *a)
{
    const cublasOperation_t transposed = a->plain ? CUBLAS_OP_N : CUBLAS_OP_T;
    const bool gelu = a->epilogue == 1;
    const cublasLtEpilogue_t e = a->bias ? (gelu ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS)
                                         : (gelu ? CUBLASLT_EPILOGUE_GELU : CUBLASLT_EPILOGUE_DEFAULT);
    const cudaDataType_t bias_type = type_of(a->out);
    cublasStatus_t st = cublasLtMatmulDescCreate(&c->op, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &e, sizeof e);
    if (st == CUBLAS_STATUS_SUCCESS && a->bias)
        st = cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &a->bias, sizeof a->bias);
    if (st == CUBLAS_STATUS_SUCCESS && a->bias)
        st = cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type);
    if (st == CUBLAS_STATUS_SUCCESS && a->x_scale)
        st = describe_scales(c, a);
    return st;
}

static int64_t ldw_of(const prxi_cu_gemm *a)
{
    return a->ldw ? a->ldw : a->plain ? a->n : a->k;
}

static cublasStatus_t describe(lt_call *c, const prxi_cu_gemm *a)
{
    const cudaDataType_t in = type_of(a->compute);
    cublasStatus_t st = describe_op(c, a);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatrixLayoutCreate(&c->w, in, (uint64_t)(a->plain ? a->n : a->k), (uint64_t)(a->plain ? a->k : a->n), ldw_of(a));
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatrixLayoutCreate(&c->x, in, (uint64_t)a->k, (uint64_t)a->m, a->ldx);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatrixLayoutCreate(&c->y, type_of(a->out), (uint64_t)a->n, (uint64_t)a->m, a->ldy);
    return st;
}

static void undescribe(lt_call *c)
{
    if (c->y)
        cublasLtMatrixLayoutDestroy(c->y);
    if (c->x)
        cublasLtMatrixLayoutDestroy(c->x);
    if (c->w)
        cublasLtMatrixLayoutDestroy(c->w);
    if (c->op)
        cublasLtMatmulDescDestroy(c->op);
}

/* What a pointer is aligned to, as far as it is asked: memory is carved in pieces of 64 bytes, so that calls of one shape agree. */
static int alignment(const void *p)
{
    int n = 64;
    while (n > 1 && reinterpret_cast<uintptr_t>(p) % (uintptr_t)n)
        n /= 2;
    return n;
}

static int alignment_of(const prxi_cu_gemm *a)
{
    const int x = alignment(a->x), w = alignment(a->w), y = alignment(a->y), xw = x < w ? x : w;
    return xw < y ? xw : y;
}

static bool same(const lt_shape *s, const prxi_cu_gemm *a)
{
    return s->used && s->m == a->m && s->n == a->n && s->k == a->k && s->ldx == a->ldx && s->ldy == a->ldy && s->ldw == ldw_of(a) &&
           s->plain == a->plain && s->compute == a->compute && s->out == a->out && s->epilogue == a->epilogue &&
           s->bias == (a->bias != nullptr) && s->aligned == alignment_of(a);
}

/* What the library offers, its favourite first; *count of them. */
static cublasStatus_t ask(device *d, const lt_call *c, const prxi_cu_gemm *a, cublasLtMatmulHeuristicResult_t *found, int room, int *count)
{
    cublasLtMatmulPreference_t want = nullptr;
    const size_t workspace = WORKSPACE;
    const uint32_t bytes = (uint32_t)alignment_of(a);
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
    };
    *count = 0;
    cublasStatus_t st = cublasLtMatmulPreferenceCreate(&want);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulPreferenceSetAttribute(want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    for (size_t i = 0; i < sizeof aligned / sizeof *aligned && st == CUBLAS_STATUS_SUCCESS; i++)
        st = cublasLtMatmulPreferenceSetAttribute(want, aligned[i], &bytes, sizeof bytes);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = cublasLtMatmulAlgoGetHeuristic(d->lt->handle, c->op, c->w, c->x, c->y, c->y, want, room, found, count);
    if (want)
        cublasLtMatmulPreferenceDestroy(want);
    int good = 0;
    for (int i = 0; i < *count && st == CUBLAS_STATUS_SUCCESS; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS && found[i].workspaceSize <= WORKSPACE)
            found[good++] = found[i];
    *count = good;
    return st == CUBLAS_STATUS_SUCCESS && *count == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : st;
}

static cublasStatus_t multiply(device *d, const lt_call *c, const prxi_cu_gemm *a, const cublasLtMatmulAlgo_t *algorithm)
{
    const float alpha = a->alpha != 0 ? a->alpha : 1, zero = 0;
    return cublasLtMatmul(d->lt->handle, c->op, &alpha, a->w, c->w, a->x, c->x, &zero, a->y, c->y, a->y, c->y, algorithm,
                          d->lt->workspace, WORKSPACE, d->stream);
}

/* Milliseconds of RUNS products; a huge time where it does not run. */
static float measure(device *d, const lt_call *c, const prxi_cu_gemm *a, const cublasLtMatmulAlgo_t *algorithm)
{
    const float never = 1e30f;
    float ms = never;
    if (multiply(d, c, a, algorithm) != CUBLAS_STATUS_SUCCESS || cudaEventRecord(d->lt->marks[0], d->stream) != cudaSuccess)
        return never;
    for (int i = 0; i < RUNS; i++)
        if (multiply(d, c, a, algorithm) != CUBLAS_STATUS_SUCCESS)
            return never;
    if (cudaEventRecord(d->lt->marks[1], d->stream) != cudaSuccess || cudaEventSynchronize(d->lt->marks[1]) != cudaSuccess ||
        cudaEventElapsedTime(&ms, d->lt->marks[0], d->lt->marks[1]) != cudaSuccess)
        return never;
    return ms;
}

/* The fastest of what the library offers; of a small product its favourite. The product is made on the way, more than once. */
static cublasStatus_t best(device *d, const lt_call *c, const prxi_cu_gemm *a, cublasLtMatmulAlgo_t *out)
{
    cublasLtMatmulHeuristicResult_t found[TRIED];
    const double size = static_cast<double>(a->m) * static_cast<double>(a->n) * static_cast<double>(a->k);
    const bool large = d->lt->memory.tune && size >= WORTH;
    int count, first = 0;
    const cublasStatus_t st = ask(d, c, a, found, TRIED, &count);
    if (st != CUBLAS_STATUS_SUCCESS)
        return st;
    float least = 1e30f;
    for (int i = 0; i < count && count > 1 && large; i++) {
        const float ms = measure(d, c, a, &found[i].algo);
        if (ms < least) {
            least = ms;
            first = i;
        }
    }
    *out = found[first].algo;
    return CUBLAS_STATUS_SUCCESS;
}

/* What an algorithm is chosen for. */
static void shape_of(const prxi_cu_gemm *a, int64_t shape[PRXI_CU_GEMM_SHAPE])
{
    const int64_t all[PRXI_CU_GEMM_SHAPE] = { a->m, a->n, a->k, a->ldx, a->ldy, ldw_of(a), a->compute, a->out, a->epilogue,
                                              a->bias != nullptr, a->plain, alignment_of(a) };
    memcpy(shape, all, sizeof all);
}

/* From the disk, if the library still takes it for this shape. */
static bool recall(device *d, const lt_call *c, const int64_t shape[PRXI_CU_GEMM_SHAPE], cublasLtMatmulAlgo_t *out)
{
    static_assert(sizeof *out == PRXI_CU_GEMM_ALGORITHM, "an algorithm is 64 bytes, to be kept as they are");
    const prxi_cu_gemm_memory *m = &d->lt->memory;
    cublasLtMatmulHeuristicResult_t result;
    unsigned char data[PRXI_CU_GEMM_ALGORITHM];
    if (!m->find || !m->tune || !m->find(m->cookie, shape, data))
        return false;
    memcpy(out, data, sizeof *out);
    return cublasLtMatmulAlgoCheck(d->lt->handle, c->op, c->w, c->x, c->y, c->y, out, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= WORKSPACE;
}

/* The algorithm of this shape, remembered. */
static cublasStatus_t choose(device *d, const lt_call *c, const prxi_cu_gemm *a, cublasLtMatmulAlgo_t *out)
{
    lt_state *lt = d->lt;
    int64_t shape[PRXI_CU_GEMM_SHAPE];
    for (int i = 0; i < SHAPES; i++)
        if (same(&lt->shapes[i], a)) {
            *out = lt->shapes[i].algorithm;
            return CUBLAS_STATUS_SUCCESS;
        }
    shape_of(a, shape);
    if (!recall(d, c, shape, out)) {
        const cublasStatus_t st = best(d, c, a, out);
        if (st != CUBLAS_STATUS_SUCCESS)
            return st;
        unsigned char data[PRXI_CU_GEMM_ALGORITHM];
        memcpy(data, out, sizeof data);
        if (lt->memory.keep && lt->memory.tune)
            lt->memory.keep(lt->memory.cookie, shape, data);
    }
    lt->shapes[lt->next] = { a->m, a->n, a->k, a->ldx, a->ldy, ldw_of(a), a->compute, a->out, a->epilogue, a->bias != nullptr,
                             a->plain, alignment_of(a), 1, *out };
    lt->next = (lt->next + 1) % SHAPES;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t run(device *d, const prxi_cu_gemm *a)
{
    lt_call c;
    memset(&c, 0, sizeof c);
    cublasLtMatmulAlgo_t algorithm;
    cublasStatus_t st = describe(&c, a);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = choose(d, &c, a, &algorithm);
    if (st == CUBLAS_STATUS_SUCCESS)
        st = multiply(d, &c, a, &algorithm);
    undescribe(&c);
    return st;
}

/* What the library has no epilogue for comes after it, by a kernel of ours: SiLU always, GELU where it offers no algorithm with it. */
int prxi_cu_gemm_lt(void *dev, const prxi_cu_gemm *a)
{
    device *d = as_device(dev);
    prxi_cu_gemm g = *a;
    if (a->m <= 0 || a->n <= 0)
        return PRX_OK;
    cublasStatus_t st = run(d, &g);
    const bool apart = a->epilogue == 2 || (a->epilogue == 1 && st == CUBLAS_STATUS_NOT_SUPPORTED && a->ldy == a->n);
    if (apart && a->epilogue == 1) {
        g.epilogue = 0;
        st = run(d, &g);
    }
    if (st != CUBLAS_STATUS_SUCCESS)
        return prxi_cu_fail(d, PRX_EIO, "linear", cublasLtGetStatusString(st));
    if (apart && a->ldy != a->n)
        return prxi_cu_fail(d, PRX_ENOTSUP, "linear", "SiLU with rows that are not adjacent");
    return apart ? prxi_cu_binary_run(dev, a->out, a->epilogue == 1 ? PRXI_CU_GELU_MUL : PRXI_CU_SILU, a->m * a->n, a->y, nullptr, a->y)
                 : PRX_OK;
}
