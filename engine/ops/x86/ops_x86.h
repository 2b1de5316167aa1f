/* Norm and elementwise tables by instruction set. */
#ifndef PRXI_OPS_X86_H
#define PRXI_OPS_X86_H

#include "engine/ops/act.h"
#include "engine/ops/norm.h"

void prxi_norm_init_avx2(prxi_norm_ops *t);
void prxi_norm_init_avx512(prxi_norm_ops *t);
void prxi_act_init_avx2(prxi_act_ops *t);
void prxi_act_init_avx512(prxi_act_ops *t);

#endif
