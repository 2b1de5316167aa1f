/* The part of cuDNN 9's backend C interface that is used here, declared by us: the library is found at run time, and neither its headers
 * nor its files are needed to build. tests/cuda/cudnn_header.c compares every number with NVIDIA's header where there is one. */
#ifndef PRXI_CUDNN_API_H
#define PRXI_CUDNN_API_H

#include <stddef.h>
#include <stdint.h>

enum { PRXI_CUDNN_OLDEST = 91400 };         /* 9.14: the attention operation with statistics */

typedef struct prxi_cudnn_api {
    size_t (*version)(void);
    const char *(*error_string)(int status);
    void (*last_error)(char *text, size_t n);
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, void *stream);
    int (*make)(int type, void **descriptor);
    int (*drop)(void *descriptor);
    int (*finalize)(void *descriptor);
    int (*set)(void *descriptor, int name, int type, int64_t n, const void *values);
    int (*get)(const void *descriptor, int name, int type, int64_t room, int64_t *n, void *values);
    int (*execute)(void *handle, void *plan, void *pack);
} prxi_cudnn_api;

/* Kinds of descriptors. */
enum {
    DNN_POINTWISE = 0,
    DNN_CONVOLUTION = 1,
    DNN_ENGINE = 2,
    DNN_ENGINE_CONFIG = 3,
    DNN_HEURISTIC = 4,
    DNN_PLAN = 5,
    DNN_OP_CONVOLUTION = 10,
    DNN_OP_POINTWISE = 13,
    DNN_GRAPH = 15,
    DNN_PACK = 16,
    DNN_TENSOR = 17,
    DNN_DEVICE = 38,
    DNN_OP_SDPA = 41,
};

/* Names of attributes. */
enum {
    DNN_POINTWISE_MODE = 0,
    DNN_POINTWISE_PRECISION = 1,
    DNN_CONV_PRECISION = 100,
    DNN_CONV_MODE = 101,
    DNN_CONV_DILATIONS = 102,
    DNN_CONV_STRIDES = 103,
    DNN_CONV_PAD_AFTER = 104,
    DNN_CONV_PAD_BEFORE = 105,
    DNN_CONV_DIMENSIONS = 106,
    DNN_HEURISTIC_MODE = 200,
    DNN_HEURISTIC_GRAPH = 201,
    DNN_HEURISTIC_RESULTS = 202,
    DNN_HEURISTIC_DEVICE = 204,
    DNN_CONFIG_ENGINE = 300,
    DNN_PLAN_CONFIG = 401,
    DNN_PLAN_WORKSPACE = 402,
    DNN_PLAN_DEVICE = 407,
    DNN_OP_CONV_ALPHA = 700,
    DNN_OP_CONV_BETA = 701,
    DNN_OP_CONV_DESC = 702,
    DNN_OP_CONV_W = 703,
    DNN_OP_CONV_X = 704,
    DNN_OP_CONV_Y = 705,
    DNN_OP_POINTWISE_DESC = 750,
    DNN_OP_POINTWISE_X = 751,
    DNN_OP_POINTWISE_B = 752,
    DNN_OP_POINTWISE_Y = 753,
    DNN_GRAPH_OPS = 801,
    DNN_TENSOR_ALIGNMENT = 900,
    DNN_TENSOR_TYPE = 901,
    DNN_TENSOR_DIMENSIONS = 902,
    DNN_TENSOR_STRIDES = 903,
    DNN_TENSOR_ID = 906,
    DNN_TENSOR_VIRTUAL = 907,
    DNN_TENSOR_BY_VALUE = 908,
    DNN_PACK_IDS = 1000,
    DNN_PACK_POINTERS = 1001,
    DNN_PACK_WORKSPACE = 1003,
    DNN_ENGINE_INDEX = 1301,
    DNN_DEVICE_ID = 2700,
    DNN_DEVICE_JSON = 2702,
    DNN_SDPA_Q = 2800,
    DNN_SDPA_K = 2801,
    DNN_SDPA_V = 2802,
    DNN_SDPA_O = 2803,
    DNN_SDPA_STATS = 2804,
    DNN_SDPA_SCALE = 2805,
    DNN_SDPA_TABLE_K = 2807,
    DNN_SDPA_TABLE_V = 2808,
    DNN_SDPA_ROWS_Q = 2809,
    DNN_SDPA_ROWS_KV = 2810,
};

/* Types of attributes. */
enum {
    DNN_IS_DATA_TYPE = 1,
    DNN_IS_BOOL = 2,
    DNN_IS_INT64 = 3,
    DNN_IS_FLOAT = 4,
    DNN_IS_POINTER = 6,
    DNN_IS_CONV_MODE = 7,
    DNN_IS_HEURISTIC_MODE = 8,
    DNN_IS_POINTWISE_MODE = 14,
    DNN_IS_DESCRIPTOR = 15,
    DNN_IS_INT32 = 23,
    DNN_IS_CHAR = 24,
};

/* Values. */
enum {
    DNN_F32 = 0,
    DNN_INT32 = 4,
    DNN_BF16 = 9,
    DNN_POINTWISE_ADD = 0,
    DNN_CROSS_CORRELATION = 1,
    DNN_HEURISTIC_FALLBACK = 2,
    DNN_HEURISTIC_A = 3,
};

#endif
