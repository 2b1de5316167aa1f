/* Which kernels must have run on hardware before --device auto takes a GPU. */
#include "engine/cuda/cuda.h"
#include "tests/test.h"

static int is(const prxi_cu_kernel_row *rows, int hopper, const char *want)
{
    const char *got = prxi_cuda_unqualified(rows, hopper);
    return want ? got && strcmp(got, want) == 0 : !got;
}

int main(void)
{
    static const char good[] = "qualified on NVIDIA H200", changed[] = "changed since NVIDIA H200", never[] = "not yet run on hardware";
    const prxi_cu_kernel_row all[] = { { "act", "", good }, { "attn90", "", good }, { "norm", "", good }, { NULL, NULL, NULL } };
    const prxi_cu_kernel_row other[] = { { "act", "", good }, { "attn90", "", never }, { "quant", "", never }, { NULL, NULL, NULL } };
    const prxi_cu_kernel_row stale[] = { { "act", "", good }, { "norm", "", changed }, { NULL, NULL, NULL } };
    CHECK(is(all, 1, NULL) && is(all, 0, NULL), "all have run");
    CHECK(is(other, 0, NULL) && is(other, 1, "attn90"), "what only sm_90 runs counts there alone");
    CHECK(is(stale, 0, "norm") && is(stale, 1, "norm"), "a changed source is none that has run");
    return TEST_END();
}
