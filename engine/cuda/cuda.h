/* The CUDA device as the rest of the library sees it. The module with the kernels is a file of its own, loaded when it is asked for. */
#ifndef PRXI_CUDA_H
#define PRXI_CUDA_H

#include <pthread.h>

#include "cudnn.h"
#include "engine/core/choices.h"
#include "engine/core/device.h"
#include "engine/kernels.h"
#include "module.h"

/* PRAXINO_CUDA_ATTENTION: who serves attention. Auto: what was measured; else cuDNN what is dense, where it is installed and has a plan;
 * lists, and the rest, the kernel for Hopper on such a chip, else the portable one. Paged: lists by cuDNN or not at all. */
typedef enum prxi_cuda_attention {
    PRXI_CUDA_AUTO, PRXI_CUDA_PORTABLE, PRXI_CUDA_HOPPER, PRXI_CUDA_CUDNN, PRXI_CUDA_PAGED
} prxi_cuda_attention;

/* Who can; cuDNN serves lists by pages. */
typedef enum prxi_cuda_server { PRXI_BY_ATTN, PRXI_BY_ATTN90, PRXI_BY_CUDNN, PRXI_CUDA_SERVERS } prxi_cuda_server;

/* What times of attention belong to, bf16. list: the number of a static one, 0: dense. */
typedef struct prxi_cuda_attn_shape {
    int heads, head_dim, lse, tail;
    int64_t q_len, kv_len, ldq, ldk, ldv, ldo, room;
    uint64_t list;
} prxi_cuda_attn_shape;

/* Microseconds of each, below 0: it does not serve this; of cuDNN its best configuration, the page of a list, and its engine. */
typedef struct prxi_cuda_attn_choice {
    prxi_cuda_attn_shape shape;
    double us[PRXI_CUDA_SERVERS], density;
    int config, page, recalled;
    int64_t engine;
} prxi_cuda_attn_choice;

enum { PRXI_CUDA_ATTNS = 32 };

/* A static list for cuDNN (pages.c): entries of `rows` queries, tables of `pages` pages of `page` keys each. */
typedef struct prxi_cuda_pages {
    int rows, page, pages, entries;
} prxi_cuda_pages;

/* Who computes a convolution: cuDNN's best configuration, -1 where it has none, and microseconds of it and of our kernel. */
typedef struct prxi_cuda_conv_choice {
    prxi_cudnn_conv shape;
    int add, config, recalled;
    int64_t engine;
    double theirs, ours;
} prxi_cuda_conv_choice;

enum { PRXI_CUDA_CONVS = 128 };

typedef struct prxi_cuda_block {
    void *p;
    size_t bytes;
} prxi_cuda_block;

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
    prxi_cuda_attention want;
    int hopper;                             /* attention90 serves what it can */
    int tune;                               /* what is faster is measured: PRAXINO_CUDA_TUNE=0 does not */
    prxi_choices *choices;                  /* measured here, kept on disk */
    prxi_cuda_conv_choice convs[PRXI_CUDA_CONVS];
    int n_convs;
    prxi_cuda_attn_choice attns[PRXI_CUDA_ATTNS];
    int n_attns;
    double least_timed;                     /* multiply-adds of attention that are worth measuring */
    prxi_ctx own;                           /* of calls that are not a stream's */
    int own_failed;                         /* the last error is there, not in the module */
    void *room;                             /* q, k and v in the order of a permuted list */
    size_t room_bytes;
    void *eight;                            /* x of a linear layer in 8 bits, then its scales */
    size_t eight_bytes;
    char attention[320];                    /* what was chosen, and why not something else */
    prxi_cuda_block *held;                  /* device memory (memory.c), without what libraries take */
    int n_held, most_held;
    size_t bytes, peak;
    char no_cudnn[200];                     /* why cuDNN is not used */
};

/* The module's table: from the file that PRAXINO_CUDA_MODULE names, else libpraxino_cuda.so beside this library. PRX_ENOTSUP with
 * what is missing; c may be NULL: nothing is recorded. *library goes to prxi_cuda_unload. */
int  prxi_cuda_load(prxi_ctx *c, const prxi_cuda_module **module, void **library);
void prxi_cuda_unload(void *library);
/* Opens device 0. PRX_ENOTSUP with what exactly is missing: the module, one of its libraries, the driver, a device. c must outlive it. */
int  prxi_cuda_open(prxi_ctx *c, prxi_cuda **out);
/* --device auto: *out stays NULL, and the log says why, unless there is a device and hardware has run every kernel that it would run (the
 * ledger's word). Without a module nothing is said: the CPU is what there is. */
int  prxi_cuda_open_if_qualified(prxi_ctx *c, prxi_cuda **out);
/* The first source that no hardware has run as it stands, of those that this chip runs; NULL: none. */
const char *prxi_cuda_unqualified(const prxi_cu_kernel_row *rows, int hopper);
int  prxi_cuda_open_module(prxi_ctx *c, prxi_cuda **out, const prxi_cuda_module *module, void *library);
void prxi_cuda_close(prxi_ctx *c, prxi_cuda **cuda);
/* Tensors of step caches (cache.c). */
extern const struct prxi_cache_ops prxi_cuda_cache_ops;
extern const prxi_cluster_ops prxi_cuda_cluster_ops;
/* Device memory, accounted; the lock is held. NULL: refused. */
void *prxi_cuda_take(prxi_cuda *u, size_t bytes);
void prxi_cuda_give(prxi_cuda *u, void *p);
/* Sum of |a - b| and first index of a that is not finite, in out[2] of the host: waits. */
int  prxi_cuda_reduce(prxi_cuda *cuda, int64_t n, const float *a, const float *b, double out[2]);
/* The slots of the model's parts; what stays empty is refused at plan time. Streams of these kernels have stream->device =
 * &cuda->device. */
void prxi_cuda_kernels(prxi_kernels *k, prxi_cuda *cuda);

/* Rows of g->x in 8 bits into memory of the device's own, grown to the largest; g goes on with those (quant.c). */
int  prxi_cuda_eight_bits(prxi_cuda *u, prxi_cu_gemm *g);

/* ---- who serves attention (choose.c) ---- */

int  prxi_cuda_choose(prxi_ctx *c, prxi_cuda *u);
int  prxi_cuda_room(prxi_ctx *c, prxi_cuda *u, size_t bytes);

/* ---- attention (attend.c) ---- */

/* b NULL: dense. Errors are in u->own or the module's. */
int  prxi_cuda_attend(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t);
/* Measures who serves such calls, unless that is known, small or settled: writes o, and waits. PRX_ENOTSUP where who must serve them
 * cannot. */
int  prxi_cuda_attend_prepare(prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t);
/* Whether this one can, by trying. */
int  prxi_cuda_attend_try(prxi_cuda *u, prxi_cuda_attention by, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t);
/* Who serves a shape that was measured. */
const char *prxi_cuda_attn_by(const prxi_cuda *u, const prxi_cuda_attn_choice *k);
/* Before anything runs: device memory beside that of the policy for its list, NULL: none that stays. PRX_ENOTSUP as above. */
int  prxi_cuda_plan_list(prxi_ctx *c, const prxi_cuda *u, const prxi_attn_args *a, const prxi_block_list *b, prxi_dtype t, size_t *bytes);

/* ---- convolutions (conv.c) ---- */

/* True: cuDNN could compute it. */
int  prxi_cuda_conv_shape(const prxi_device_conv *a, prxi_cudnn_conv *s);
int  prxi_cuda_conv(prxi_cuda *u, const prxi_device_conv *a);
int  prxi_cuda_conv_prepare(prxi_cuda *u, const prxi_device_conv *a);
/* Hash of a source of kernels, "none" for one that the module does not have; the device as a word: for keys of what was measured. */
const char *prxi_cuda_source_hash(const prxi_cuda *u, const char *name);
void prxi_cuda_device_word(const prxi_cuda *u, char *out, size_t n);

/* Products ask the disk for their algorithms, and leave new ones there (algos.c). */
void prxi_cuda_remember_gemm(prxi_cuda *u);

/* ---- the queue of the kernel for Hopper (queue.c) ---- */

/* Heads whose keys and values stay in the second-level cache together. */
int  prxi_cuda_head_group(int heads, int head_dim, int64_t kv_len);
int  prxi_cuda_queue_count(const prxi_block_list *b, int heads);
/* Fills items, prxi_cuda_queue_count of them: groups of heads one after the other, longest first inside a group. */
int  prxi_cuda_queue(prxi_ctx *c, const prxi_block_list *b, int heads, int group, int64_t kv_len, prxi_cu_tile *items);

/* ---- block lists (lists.c, pages.c) ---- */

/* Tiles of at most PRXI_CU_TILE_ROWS queries: rows of every block, the blocks of a head one after the other. Returns the count; tiles may
 * be NULL. A pure function: positions, not tokens. */
int  prxi_cuda_tiles(const prxi_block_list *b, int heads, prxi_cu_tile *tiles);
/* NULL, and the shape; or why a list has no pages, all of whose entries would be equally many queries. */
const char *prxi_cuda_page_shape(const prxi_attn_args *a, const prxi_block_list *b, prxi_cuda_pages *p);
/* The same of what may differ from call to call. */
const char *prxi_cuda_page_room(const prxi_attn_args *a, const prxi_cuda_pages *p);
/* Words of table, queries and keys of each entry, the places of these in at. */
size_t prxi_cuda_page_words(const prxi_cuda_pages *p, size_t at[3]);
void prxi_cuda_page_tables(const prxi_block_list *b, const prxi_cuda_pages *p, int32_t *words);
/* Brings them to the device beside the list; tables go to x, and stay as those of put_list do. */
int  prxi_cuda_put_pages(prxi_cuda *cuda, prxi_ctx *c, const prxi_attn_args *args, const prxi_block_list *b, prxi_cuda_pages *p,
                         prxi_cudnn_operands *x);
void prxi_cuda_drop_pages(prxi_cuda *cuda, prxi_ctx *c, const prxi_attn_args *args, const prxi_block_list *b);
/* Brings a list to the device; pointers in a stay valid until the next call. */
int  prxi_cuda_put_list(prxi_cuda *cuda, prxi_ctx *c, const prxi_attn_args *args, const prxi_block_list *b, prxi_cu_attn *a);
int  prxi_cuda_open_lists(prxi_cuda *cuda, prxi_ctx *c);
void prxi_cuda_drop_lists(prxi_cuda *cuda, prxi_ctx *c);

#endif
