/* praxino inspect MODEL: what a model directory holds. */
#include "app.h"
#include "commands.h"
#include "show.h"

static const cli_option options[] = {
    { NULL, 0, "json", "FILE", NULL, NULL, "write it as JSON, with every tensor (-: standard output)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

/* What a job with default settings would need. A model for which there is no plan here can still be looked at. */
static void show_plan(prx_engine *e, prx_model *m)
{
    prx_job *j = NULL;
    char *text = NULL;
    if (prx_job_open(&j, m) == PRX_OK && prx_job_set(j, "prompt", "plan") == PRX_OK) {
        const int err = prx_job_plan(j, &text);
        cJSON *plan = err == PRX_OK ? cJSON_Parse(text) : NULL;
        if (plan) {
            printf("\nplan with default settings\n");
            show_json(stdout, plan, 24);
        } else {
            printf("\nplan with default settings: %s\n", prx_job_last_error(j));
        }
        cJSON_Delete(plan);
        prx_text_free(e, text);
    }
    prx_job_close(&j);
}

static int run(const cli_args *a)
{
    const char *json = cli_value(a, "json");
    prx_engine *e;
    prx_model *m = NULL;
    char *text = NULL;
    int code = json ? cli_check_writable("--json", json) : 0;
    if (code)
        return code;
    code = cli_open_engine(&e, a);
    if (!code) {
        int err = prx_model_open(&m, e, a->words[0]);
        if (err == PRX_OK)
            err = prx_model_describe(m, &text);
        code = err < 0 ? cli_fail(err, prx_engine_last_error(e)) : show_or_write(json, text, 24);
        prx_text_free(e, text);
        if (!code && !json)
            show_plan(e, m);
    }
    prx_model_close(&m);
    prx_engine_close(&e);
    return code;
}

const cli_command cmd_inspect = {
    "inspect", "inspect MODEL [OPTIONS]", "what a model directory holds, its sizes, the memory plan",
    options, 1, 1, "one model directory", run, NULL,
};
