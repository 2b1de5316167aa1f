/* Where a policy's numbers come from, and the files that a calibrating run writes. */
#include "calibration.h"

#include <stdio.h>
#include <unistd.h>

static int check_origin(prxi_ctx *c, const prxi_json *j, const prxi_cache_env *env, const char *policy)
{
    const char *of = NULL, *model = NULL;
    int err;
    if ((err = prxi_json_str(c, j, "policy", &of)) < 0 || (err = prxi_json_str(c, j, "model", &model)) < 0)
        return err;
    if (!of || strcmp(of, policy) != 0)
        return prxi_fail(c, PRX_EFORMAT, "%s: policy: '%s'; '%s' expected", j->path, of ? of : "", policy);
    if (model && *model && env->model && strcmp(model, env->model) != 0)
        return prxi_fail(c, PRX_EINVAL, "%s: measured on model %s, not on %s (remove its \"model\" to use it all the same)", j->path,
                         model, env->model);
    return PRX_OK;
}

static int from_file(prxi_ctx *c, const prxi_cache_env *env, const char *policy, const char *path, prxi_calibration_fn take, void *priv)
{
    prxi_json j;
    int err = prxi_json_open(c, &j, path, 1 << 20);
    if (err < 0)
        return err;
    if ((err = check_origin(c, &j, env, policy)) == PRX_OK)
        err = take(priv, c, &j);
    prxi_json_close(c, &j);
    return err;
}

int prxi_calibration_read(prxi_ctx *c, const prxi_cache_env *env, const char *policy, const char *path, prxi_calibration_fn take,
                          void *priv)
{
    char beside[4096];
    if (*path)
        return from_file(c, env, policy, path, take, priv);
    const int n = snprintf(beside, sizeof beside, "%s/%s.json", env->model_dir ? env->model_dir : ".", policy);
    if (env->model_dir && n > 0 && (size_t)n < sizeof beside && access(beside, F_OK) == 0)
        return from_file(c, env, policy, beside, take, priv);
    cJSON *known = env->published ? cJSON_GetObjectItemCaseSensitive(env->published, policy) : NULL;
    if (!known)
        return prxi_fail(c, PRX_EINVAL, "cache %s: nothing is published for model %s; measure it once with --set cache.calibrate=FILE and "
                                        "give the file, or keep it as %s.json in the model's folder",
                         policy, env->model ? env->model : "?", policy);
    char name[] = "published numbers";
    const prxi_json j = { known, name };
    return take(priv, c, &j);
}

int prxi_calibration_list(prxi_ctx *c, const prxi_json *j, const char *key, int n, double *out)
{
    int have = 0;
    const int err = prxi_json_nums(c, j, key, out, n, &have);
    if (err < 0 || have == n)
        return err;
    return prxi_fail(c, PRX_EFORMAT, "%s: %s: %d values; %d expected", j->path, key, have, n);
}

int prxi_calibration_write(prxi_ctx *c, const char *path, const char *policy, const char *model, cJSON *numbers)
{
    int err = PRX_OK;
    if (!cJSON_AddStringToObject(numbers, "policy", policy) || !cJSON_AddStringToObject(numbers, "model", model ? model : ""))
        err = prxi_fail_nomem(c, path, 0);
    char *text = err == PRX_OK ? cJSON_Print(numbers) : NULL;
    if (text)
        err = prxi_write_file(c, path, text, strlen(text));
    else if (err == PRX_OK)
        err = prxi_fail_nomem(c, path, 0);
    cJSON_free(text);
    cJSON_Delete(numbers);
    return err;
}
