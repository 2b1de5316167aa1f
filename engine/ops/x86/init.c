/* Which vector files overwrite the reference slots of the norm and act tables. */
#include "engine/core/cpu.h"
#include "engine/ops/act.h"
#include "engine/ops/norm.h"

void prxi_norm_init_x86(prxi_norm_ops *t, uint32_t isa)
{
    (void)t, (void)isa;
}

void prxi_act_init_x86(prxi_act_ops *t, uint32_t isa)
{
    (void)t, (void)isa;
}
