/* All op tables of a device, filled at engine open. */
#ifndef PRXI_KERNELS_H
#define PRXI_KERNELS_H

#include "attention/attention.h"
#include "engine/ops/act.h"
#include "engine/ops/conv.h"
#include "engine/ops/frame.h"
#include "engine/ops/gemm.h"
#include "engine/ops/latent.h"
#include "engine/ops/norm.h"
#include "engine/ops/outer.h"
#include "engine/ops/plain_attn.h"

typedef struct prxi_kernels {
    uint32_t isa;
    struct prxi_device *device;        /* NULL: the CPU */
    prxi_norm_ops norm;
    prxi_act_ops act;
    prxi_attn_ops attn;
    prxi_conv_ops conv;
    prxi_outer_ops outer;
    prxi_frame_ops frame;
    prxi_plain_attn_ops plain;
    prxi_latent_ops latent;
} prxi_kernels;

/* Reference in every slot, then the ISA files overwrite what the mask allows. */
void prxi_kernels_init(prxi_kernels *k, uint32_t isa);

#endif
