/* Linear layers through their public contract: against sums in double, for any thread count, stride and type. */
#include "tests/test.h"

#include "engine/core/cpu.h"
#include "engine/ops/gemm.h"

static uint32_t state = 1;

static float uniform(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

int main(void)
{
    prxi_mem mem;
    prxi_mem_init(&mem, NULL);
    prxi_ctx c = { .mem = &mem };
    enum { M = 37, N = 45, K = 801, LDX = K + 3, LDY = N + 2 };
    static float w[N * K], bias[N], x[M * LDX], y1[M * LDY], y2[M * LDY];
    for (int i = 0; i < N * K; i++)
        w[i] = uniform();
    for (int i = 0; i < N; i++)
        bias[i] = uniform();
    for (int i = 0; i < M * LDX; i++)
        x[i] = uniform();
    prxi_linear *l;
    const prxi_linear_desc d = { .weight = w, .bias = bias, .n = N, .k = K, .isa = prxi_cpu_detect() };
    REQUIRE(prxi_linear_open(&c, &l, &d) == PRX_OK, "open: %s", c.error.text);
    prxi_stream s1, s2;
    prxi_stream_init(&s1, &c, 1);
    prxi_stream_init(&s2, &c, 3);
    prxi_linear_run(&s1, l, M, x, LDX, y1, LDY);
    prxi_linear_run(&s2, l, M, x, LDX, y2, LDY);
    CHECK(memcmp(y1, y2, sizeof y1) == 0, "same bytes for 1 and 3 threads");
    int bad = 0;
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            double sum = bias[n], mag = fabs(sum);
            for (int k = 0; k < K; k++) {
                sum += (double)x[m * LDX + k] * w[n * K + k];
                mag += fabs((double)x[m * LDX + k] * w[n * K + k]);
            }
            /* Random-walk bound of a chain of K roundings of partial sums, each at most mag. */
            bad += !(fabs(y1[m * LDY + n] - sum) <= 1.2e-7 * sqrt(K) * mag);
        }
    CHECK(bad == 0, "%d values off", bad);
    prxi_linear_close(&c, &l);
    CHECK(l == NULL && atomic_load(&mem.total) == 0, "%zu bytes leak", atomic_load(&mem.total));
    return TEST_END();
}
