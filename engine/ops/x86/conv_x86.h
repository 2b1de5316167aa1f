/* Convolution tables by instruction set. */
#ifndef PRXI_CONV_X86_H
#define PRXI_CONV_X86_H

#include "engine/ops/conv.h"

void prxi_conv_init_avx2(prxi_conv_ops *t);
void prxi_conv_init_avx512(prxi_conv_ops *t);
void prxi_conv_init_avx512bf16(prxi_conv_ops *t);    /* after avx512: overwrites the bf16 tile */

#endif
