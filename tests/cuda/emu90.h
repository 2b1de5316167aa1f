/* Hopper's primitives on the host (engine/cuda/dev/prim90.cuh). A box copy poisons its target when it starts and arrives at any
 * later moment, in any order; a product of a warp is made at any moment between its start and its wait, from what its operands then
 * are, registers included; warps of a warpgroup are as far apart as barriers let them be. Misuse is a fault: barriers that were not
 * opened or not published, too many arrivals, copies that outlive their block, products without a fence, operands that are not where
 * they may be. */
#ifndef PRXI_TESTS_CUDA_EMU90_H
#define PRXI_TESTS_CUDA_EMU90_H

#define PRXI_BOUNDS_ALONE(threads)
#define PRXI_GRID_CONSTANT

/* Dimensions and strides (in elements) from the innermost out. */
struct tensor_map {
    const uint16_t *base;
    int64_t dims[3], strides[3];
    int box[3];
    int none = 0;                   /* in place of padding, where what lay there before looks like a pointer now and then */
};

/* What the driver checks when it makes one. */
bool emu_map_is_legal(const tensor_map *m);

typedef uint64_t mbarrier;

uint32_t shared_address(const void *p);
void barrier_open(mbarrier *b, int arrivals);
void barrier_publish();
void barrier_arrive(mbarrier *b);
void barrier_expect(mbarrier *b, uint32_t bytes);
void emu_barrier_wait(mbarrier *b, uint32_t parity, emu_site *site);
#define barrier_wait(b, parity) do { static emu_site site_ = { __FILE__, __LINE__, -1 }; emu_barrier_wait(b, parity, &site_); } while (0)

/* Not sites of the mutation tests: who is first is a matter of speed. */
void group_sync(int id, int threads);
void group_arrive(int id, int threads);

void copy_box(void *to, const tensor_map *map, int column, int head, int row, mbarrier *b);

template <int N> static inline void registers_up() {}
template <int N> static inline void registers_down() {}
template <int N> static inline void settle(float *) {}

void product_fence();
void product_commit();
void emu_product_wait(int n, emu_site *site);
/* A site for each depth of each kernel: they are told apart by the number, as places in a template are one. */
template <int N> static inline void product_wait()
{
    static emu_site site_ = { __BASE_FILE__, -100 - N, -1 };
    emu_product_wait(N, &site_);
}
void product_scores(float s[64], uint64_t a, uint64_t b, int add);
void emu_product_values(float *o, int columns, const uint32_t p[4], uint64_t v);
template <int D> static inline void product_values(float *o, const uint32_t p[4], uint64_t v) { emu_product_values(o, D, p, v); }

static inline float exp2_fast(float x) { return exp2f(x); }
uint32_t pack_fast(float low, float high);
int shfl_from(int v, int lane);
int take(int32_t *counter);

#endif
