/* Numbers that a policy needs of its model (TeaCache's polynomial, MagCache's ratios): JSON files, or published for the model. */
#ifndef PRXI_CALIBRATION_H
#define PRXI_CALIBRATION_H

#include "cache.h"
#include "engine/core/json.h"

/* Calls take with the numbers of `policy`, from the first of: the file `path` (an option's value, may be ""), MODEL_DIR/(policy).json,
 * what is published for the model. None: an error that says how they are measured. A file of another policy or model is an error. */
typedef int (*prxi_calibration_fn)(void *priv, prxi_ctx *c, const prxi_json *numbers);
int prxi_calibration_read(prxi_ctx *c, const prxi_cache_env *env, const char *policy, const char *path, prxi_calibration_fn take,
                          void *priv);
/* Exactly n numbers under a key, or PRX_EFORMAT. */
int prxi_calibration_list(prxi_ctx *c, const prxi_json *j, const char *key, int n, double *out);
/* A file that prxi_calibration_read takes; numbers (taken and deleted) gets "policy" and "model". */
int prxi_calibration_write(prxi_ctx *c, const char *path, const char *policy, const char *model, cJSON *numbers);

#endif
