/* The golden cases: reading tests/vectors/golden/NAME, comparing, the machine's instruction sets. */
#ifndef PRXI_GOLDEN_COMMON_H
#define PRXI_GOLDEN_COMMON_H

#include "engine/core/cpu.h"
#include "engine/core/json.h"
#include "engine/core/stream.h"
#include "engine/weights/safetensors.h"
#include "tests/test.h"

/* Distance of diffusers in bf16 from diffusers in fp32, and what ours may be of it (DESIGN.md section 4). */
#define GOLDEN_BF16_FACTOR 1.5

typedef struct golden_case {
    const char *name;
    char dir[512], model[512];
    prxi_json json;
    prxi_tensors *expect;
    const char *prompt, *negative, *scheduler;    /* negative NULL: none given */
    int64_t width, height, frames, steps, max_text, branches, frames_stride;
    double guidance, guidance_2, seed;
    int shape[4];                                 /* latents: channels, T, h, w */
    size_t elems;
} golden_case;

extern const char *const golden_names[];          /* ends with NULL */
extern prxi_mem golden_mem;
extern prxi_ctx golden_ctx;

/* Sets up golden_mem and golden_ctx. */
void golden_begin(void);
void golden_open(golden_case *g, const char *name);
void golden_close(golden_case *g);

/* Stored f32 tensor; the test ends when it is missing. Unaligned data are copied, so the pointer lasts until golden_close. */
const prxi_tensor *golden_tensor(const golden_case *g, const char *name);
float *golden_floats(const golden_case *g, const char *name, size_t *n);      /* free() it */
int golden_ids(const golden_case *g, const char *key, int32_t *ids, int max);
/* bf16 reference: path like "text", then indices; each leaf is [rms, max]. */
void golden_bf16(const golden_case *g, const char *key, int index, double rms_max[2]);
double golden_timestep(const golden_case *g, int step);
int golden_expert(const golden_case *g, int step);

/* [0] rms of the difference over rms of the truth, [1] largest difference over largest truth. NaN or Inf in a: INFINITY. */
void golden_distance(const float *a, const float *truth, size_t n, double out[2]);
void golden_absolute(const float *a, const float *truth, size_t n, double out[2]);

/* Instruction sets to try: "ref", then what this machine has. Ends with NULL. */
const char *const *golden_isas(void);
uint64_t golden_digest(const void *p, size_t n);

/* A test program over all cases, or those named. Here, for the counters of CHECK belong to the file that includes them. */
static inline int golden_main(int argc, char **argv, void (*check)(const golden_case *))
{
    golden_begin();
    for (int i = 0; golden_names[i]; i++) {
        int named = argc < 2;
        for (int a = 1; a < argc; a++)
            named |= strcmp(argv[a], golden_names[i]) == 0;
        if (!named)
            continue;
        golden_case g;
        golden_open(&g, golden_names[i]);
        check(&g);
        golden_close(&g);
    }
    CHECK(atomic_load(&golden_mem.total) == 0, "%zu bytes leaked", atomic_load(&golden_mem.total));
    return TEST_END();
}

#endif
