/* An attention policy around the chosen one that copies q, k and v of one layer and step into the dump. */
#ifndef PRXI_TAP_H
#define PRXI_TAP_H

#include "job.h"

extern const prxi_attn_policy prxi_attn_tap;       /* priv: the job */

int prxi_tap_check(prx_job *j);                    /* settings dump_layer, dump_step */
int prxi_tap_on(const prx_job *j);
/* Appends q, k, v to the tensors of the dump; returns how many there are now. */
int prxi_tap_tensors(const prx_job *j, prxi_tensor_out *list, int n);
/* PRX_EINVAL when the step was cached and there was nothing to copy. */
int prxi_tap_finish(prx_job *j);

#endif
