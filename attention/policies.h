/* The policies of this folder, for the registry. */
#ifndef PRXI_ATTENTION_POLICIES_H
#define PRXI_ATTENTION_POLICIES_H

#include "attention/attention.h"

enum { PRXI_PROBE_SAMPLES = 64 };

extern const prxi_attn_policy prxi_attn_dense, prxi_attn_radial, prxi_attn_svg2;

#endif
