/* torch's CPU generator: MT19937, 24-bit uniforms, 16-wide Box-Muller (models.md section 5.3). */
#ifndef PRXI_RNG_H
#define PRXI_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct prxi_rng {
    uint32_t state[624];
    int next;
    double cached_normal;    /* of the scalar path (fewer than 16 values) */
    int has_cached;
} prxi_rng;

void prxi_rng_seed(prxi_rng *r, uint64_t seed);
uint32_t prxi_rng_u32(prxi_rng *r);
float prxi_rng_uniform(prxi_rng *r);                  /* [0, 1), 24 bits */
/* Equals torch.randn(n, generator=cpu) bit for bit as torch's AVX2 kernel computes it. */
void prxi_rng_normal(prxi_rng *r, float *out, size_t n);

#endif
