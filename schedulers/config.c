/* scheduler_config.json: which scheduler, with which settings. A setting that would change the numbers and is not
 * implemented is an error, never ignored; keys that have no effect on flow sigmas are ignored. */
#include "sched_priv.h"

#include <math.h>
#include <string.h>

/* The key must be absent, null, false or an empty list. */
static int refuse(prxi_ctx *c, const prxi_json *j, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j->root, key);
    if (!v || cJSON_IsNull(v) || cJSON_IsFalse(v) || (cJSON_IsArray(v) && !cJSON_GetArraySize(v)))
        return PRX_OK;
    return prxi_fail(c, PRX_EFORMAT, "%s: %s is set; this is not supported", j->path, key);
}

static int refuse_all(prxi_ctx *c, const prxi_json *j, const char *const *keys)
{
    for (; *keys; keys++) {
        const int rc = refuse(c, j, *keys);
        if (rc < 0)
            return rc;
    }
    return PRX_OK;
}

/* The key (def when missing) must be one of a, b (b may be NULL). */
static int require_text(prxi_ctx *c, const prxi_json *j, const char *key, const char *def, const char *a, const char *b)
{
    const char *s = NULL;
    const int rc = prxi_json_str(c, j, key, &s);
    if (rc < 0)
        return rc;
    if (!s)
        s = def;
    if (!strcmp(s, a) || (b && !strcmp(s, b)))
        return PRX_OK;
    return prxi_fail(c, PRX_EFORMAT, "%s: %s is \"%s\"; supported: \"%s\"", j->path, key, s, a);
}

static int require_bool(prxi_ctx *c, const prxi_json *j, const char *key, int def, int must)
{
    int b = def;
    const int rc = prxi_json_bool(c, j, key, &b);
    if (rc < 0)
        return rc;
    if (!b == !must)
        return PRX_OK;
    return prxi_fail(c, PRX_EFORMAT, "%s: %s is %s; only %s is supported", j->path, key, b ? "true" : "false",
                     must ? "true" : "false");
}

static int get_int(prxi_ctx *c, const prxi_json *j, const char *key, int64_t min, int64_t max, int *out)
{
    int64_t v = *out;
    const int rc = prxi_json_int(c, j, key, min, max, &v);
    *out = (int)v;
    return rc;
}

static int get_shift(prxi_ctx *c, const prxi_json *j, const char *key, double *out)
{
    const int rc = prxi_json_num(c, j, key, out);
    if (rc < 0)
        return rc;
    if (!(*out >= 0.01 && *out <= 100))
        return prxi_fail(c, PRX_EFORMAT, "%s: %s %g: must be 0.01 to 100", j->path, key, *out);
    return PRX_OK;
}

static int load_euler(prxi_ctx *c, const prxi_json *j, prxi_sched_config *out)
{
    static const char *const none[] = { "use_dynamic_shifting", "invert_sigmas", "shift_terminal", "use_karras_sigmas",
                                        "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling", NULL };
    const int rc = refuse_all(c, j, none);
    return rc < 0 ? rc : get_shift(c, j, "shift", &out->shift);
}

/* What UniPC and DPM-Solver++ have in common. */
static int load_flow(prxi_ctx *c, const prxi_json *j, int max_order, prxi_sched_config *out)
{
    static const char *const none[] = { "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
                                        "use_dynamic_shifting", "thresholding", "rescale_betas_zero_snr", "disable_corrector",
                                        "solver_p", "shift_terminal", "variance_type", NULL };
    int rc = refuse_all(c, j, none);
    if (rc == PRX_OK)
        rc = require_text(c, j, "prediction_type", "epsilon", "flow_prediction", NULL);
    if (rc == PRX_OK)
        rc = require_text(c, j, "final_sigmas_type", "zero", "zero", NULL);
    if (rc == PRX_OK)
        rc = require_bool(c, j, "use_flow_sigmas", 0, 1);
    if (rc == PRX_OK)
        rc = get_int(c, j, "solver_order", 1, max_order, &out->order);
    if (rc == PRX_OK)
        rc = prxi_json_bool(c, j, "lower_order_final", &out->lower_order_final);
    return rc < 0 ? rc : get_shift(c, j, "flow_shift", &out->shift);
}

static int load_unipc(prxi_ctx *c, const prxi_json *j, prxi_sched_config *out)
{
    int rc = load_flow(c, j, prxi_sched_unipc.max_order, out);
    if (rc == PRX_OK)
        rc = require_bool(c, j, "predict_x0", 1, 1);
    return rc < 0 ? rc : require_text(c, j, "solver_type", "bh2", "bh2", NULL);
}

static int load_dpmpp(prxi_ctx *c, const prxi_json *j, prxi_sched_config *out)
{
    int rc = load_flow(c, j, prxi_sched_dpmpp.max_order, out);
    if (rc == PRX_OK)
        rc = require_text(c, j, "algorithm_type", "dpmsolver++", "dpmsolver++", NULL);
    /* diffusers turns UniPC's name for its solver into midpoint, so that a UniPC config can be taken over. */
    return rc < 0 ? rc : require_text(c, j, "solver_type", "midpoint", "midpoint", "bh2");
}

int prxi_sched_config_load(prxi_ctx *c, const prxi_json *j, prxi_sched_config *out, const prxi_scheduler **which)
{
    *out = (prxi_sched_config){ .shift = 3, .order = 2, .train_timesteps = 1000, .old_sigmas = 0, .lower_order_final = 1 };
    *which = &prxi_sched_unipc;
    if (!j || !j->root)
        return PRX_OK;
    const char *class = NULL;
    int rc = prxi_json_str(c, j, "_class_name", &class);
    if (rc < 0)
        return rc;
    if (!class)
        return prxi_fail(c, PRX_EFORMAT, "%s: _class_name is missing", j->path);
    *which = prxi_scheduler_for_class(class);
    if (!*which)
        return prxi_fail(c, PRX_EFORMAT, "%s: _class_name \"%s\" is not known; supported: %s, %s, %s", j->path, class,
                         prxi_sched_unipc.diffusers_class, prxi_sched_euler.diffusers_class,
                         prxi_sched_dpmpp.diffusers_class);
    out->shift = 1;        /* the default of all three classes */
    rc = get_int(c, j, "num_train_timesteps", 2, 1000000, &out->train_timesteps);
    if (rc < 0)
        return rc;
    if (*which == &prxi_sched_euler)
        return load_euler(c, j, out);
    return *which == &prxi_sched_unipc ? load_unipc(c, j, out) : load_dpmpp(c, j, out);
}
