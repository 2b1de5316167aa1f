/* The CUDA device as the rest of the library sees it. The module with the kernels is a file of its own, loaded when it is asked for. */
#ifndef PRXI_CUDA_H
#define PRXI_CUDA_H

#include <pthread.h>

#include "cudnn.h"
#include "engine/core/choices.h"
#include "engine/core/device.h"
#include "engine/kernels.h"
#include "module.h"

/* PRAXINO_CUDA_ATTENTION: who serves attention. Auto: cuDNN what is dense, where it is installed and has a plan; lists, and the rest,
 * the kernel for Hopper on such a chip, else the portable one. */
typedef enum prxi_cuda_attention { PRXI_CUDA_AUTO, PRXI_CUDA_PORTABLE, PRXI_CUDA_HOPPER, PRXI_CUDA_CUDNN } prxi_cuda_attention;

/* Who computes a convolution: cuDNN's best configuration, -1 where it has none, and microseconds of it and of our kernel. */
typedef struct prxi_cuda_conv_choice {
    prxi_cudnn_conv shape;
    int add, config, recalled;
    int64_t engine;
    double theirs, ours;
} prxi_cuda_conv_choice;

enum { PRXI_CUDA_CONVS = 128 };

typedef struct prxi_cuda prxi_cuda;
struct prxi_cuda {
    prxi_device device;                     /* first: a prxi_device * of ours is a prxi_cuda * */
    const prxi_cuda_module *module;
    void *library;                          /* of dlopen; NULL: the module is part of this program (tests) */
    void *dev;
    pthread_mutex_t lock;
    prxi_cu_info info;
    int wait;                               /* after each op, so that an error names it: PRAXINO_CUDA_SYNC=1 */
    struct prxi_cuda_lists *lists;          /* block lists that are on the device */
    double *parts;                          /* of reductions, on the device */
    prxi_cudnn *cudnn;                      /* NULL: not used */
    int dense_cudnn;                        /* it serves dense attention */
    int hopper, must_cudnn;                 /* attention90 serves what it can; dense attention never falls back from cuDNN */
    int tune;                               /* what is faster is measured: PRAXINO_CUDA_TUNE=0 does not */
    prxi_choices *choices;                  /* measured here, kept on disk */
    prxi_cuda_conv_choice convs[PRXI_CUDA_CONVS];
    int n_convs;
    prxi_ctx own;                           /* of calls that are not a stream's */
    int own_failed;                         /* the last error is there, not in the module */
    void *room;                             /* q, k and v in the order of a permuted list */
    size_t room_bytes;
    void *eight;                            /* x of a linear layer in 8 bits, then its scales */
    size_t eight_bytes;
    char attention[320];                    /* what was chosen, and why not something else */
    char no_cudnn[200];                     /* why cuDNN is not used */
};

/* The module's table: from the file that PRAXINO_CUDA_MODULE names, else libpraxino_cuda.so beside this library. PRX_ENOTSUP with
 * what is missing; c may be NULL: nothing is recorded. *library goes to prxi_cuda_unload. */
int  prxi_cuda_load(prxi_ctx *c, const prxi_cuda_module **module, void **library);
void prxi_cuda_unload(void *library);
/* Opens device 0. PRX_ENOTSUP with what exactly is missing: the module, one of its libraries, the driver, a device. c must outlive it. */
int  prxi_cuda_open(prxi_ctx *c, prxi_cuda **out);
int  prxi_cuda_open_module(prxi_ctx *c, prxi_cuda **out, const prxi_cuda_module *module, void *library);
void prxi_cuda_close(prxi_ctx *c, prxi_cuda **cuda);
/* Tensors of step caches (cache.c). */
extern const struct prxi_cache_ops prxi_cuda_cache_ops;
extern const prxi_cluster_ops prxi_cuda_cluster_ops;
/* Sum of |a - b| and first index of a that is not finite, in out[2] of the host: waits. */
int  prxi_cuda_reduce(prxi_cuda *cuda, int64_t n, const float *a, const float *b, double out[2]);
/* The slots of the model's parts; what stays empty is refused at plan time. Streams of these kernels have stream->device =
 * &cuda->device. */
void prxi_cuda_kernels(prxi_kernels *k, prxi_cuda *cuda);

/* Rows of g->x in 8 bits into memory of the device's own, grown to the largest; g goes on with those (quant.c). */
int  prxi_cuda_eight_bits(prxi_cuda *u, prxi_cu_gemm *g);

/* ---- who serves attention (choose.c) ---- */

int  prxi_cuda_choose(prxi_ctx *c, prxi_cuda *u);
/* 1: cuDNN serves this dense call. A shape that it has no plan for is logged, and left to our kernels. */
int  prxi_cuda_by_cudnn(prxi_ctx *c, prxi_cuda *u, const prxi_attn_args *a, prxi_dtype t);
prxi_cudnn_attn prxi_cuda_cudnn_shape(const prxi_attn_args *a);
int  prxi_cuda_room(prxi_ctx *c, prxi_cuda *u, size_t bytes);

/* ---- convolutions (conv.c) ---- */

/* True: cuDNN could compute it. */
int  prxi_cuda_conv_shape(const prxi_device_conv *a, prxi_cudnn_conv *s);
int  prxi_cuda_conv(prxi_cuda *u, const prxi_device_conv *a);
int  prxi_cuda_conv_prepare(prxi_cuda *u, const prxi_device_conv *a);
/* The device as a word, for keys of what was measured on it. */
void prxi_cuda_device_word(const prxi_cuda *u, char *out, size_t n);

/* Products ask the disk for their algorithms, and leave new ones there (algos.c). */
void prxi_cuda_remember_gemm(prxi_cuda *u);

/* ---- the queue of the kernel for Hopper (queue.c) ---- */

/* Heads whose keys and values stay in the second-level cache together. */
int  prxi_cuda_head_group(int heads, int head_dim, int64_t kv_len);
int  prxi_cuda_queue_count(const prxi_block_list *b, int heads);
/* Fills items, prxi_cuda_queue_count of them: groups of heads one after the other, longest first inside a group. */
int  prxi_cuda_queue(prxi_ctx *c, const prxi_block_list *b, int heads, int group, int64_t kv_len, prxi_cu_tile *items);

/* ---- block lists (lists.c) ---- */

/* Tiles of at most PRXI_CU_TILE_ROWS queries: rows of every block, the blocks of a head one after the other. Returns the count; tiles may
 * be NULL. A pure function: positions, not tokens. */
int  prxi_cuda_tiles(const prxi_block_list *b, int heads, prxi_cu_tile *tiles);
/* Brings a list to the device; pointers in a stay valid until the next call. */
int  prxi_cuda_put_list(prxi_cuda *cuda, prxi_ctx *c, const prxi_attn_args *args, const prxi_block_list *b, prxi_cu_attn *a);
int  prxi_cuda_open_lists(prxi_cuda *cuda, prxi_ctx *c);
void prxi_cuda_drop_lists(prxi_cuda *cuda, prxi_ctx *c);

#endif
