/* Fills the op tables of the CPU: reference first, then what the instruction sets in the mask allow. */
#include "kernels.h"

#include <string.h>

void prxi_kernels_init(prxi_kernels *k, uint32_t isa)
{
    memset(k, 0, sizeof *k);
    k->isa = isa;
    prxi_norm_init_ref(&k->norm);
    prxi_act_init_ref(&k->act);
    prxi_attn_init_ref(&k->attn);
    prxi_conv_init_ref(&k->conv);
    prxi_outer_init_ref(&k->outer);
    prxi_frame_init_ref(&k->frame);
    prxi_plain_attn_init(&k->plain);
    prxi_latent_init_ref(&k->latent);
    prxi_norm_init_x86(&k->norm, isa);
    prxi_act_init_x86(&k->act, isa);
    prxi_attn_init_x86(&k->attn, isa);
    prxi_conv_init_x86(&k->conv, isa);
}
