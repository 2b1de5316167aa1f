/* Linear layers with weights of 8 bits: their input is brought to the same type first. */
#include "cuda.h"

int prxi_cuda_eight_bits(prxi_cuda *u, prxi_cu_gemm *g)
{
    const size_t values = prxi_carve_size((size_t)(g->m * g->k)), bytes = values + (size_t)g->m * sizeof(float);
    if (bytes > u->eight_bytes) {
        if (u->eight)
            prxi_cuda_give(u, u->eight);
        u->eight = prxi_cuda_take(u, bytes);
        u->eight_bytes = u->eight ? bytes : 0;
    }
    if (!u->eight)
        return PRX_ENOMEM;
    float *scale = (float *)(void *)((unsigned char *)u->eight + values);
    const prxi_cu_quantise q = { g->m, g->k, g->x, g->ldx, u->eight, scale };
    const int err = u->module->quantise(u->dev, g->compute, &q);
    g->compute = PRXI_CU_E4M3;
    g->x = u->eight;
    g->ldx = g->k;
    g->x_scale = scale;
    return err;
}
