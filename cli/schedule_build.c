/* praxino schedule build: measures LeMiCa's graph on a model. */
#include <cjson/cJSON.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app.h"
#include "progress.h"
#include "schedule.h"

enum { PROMPTS_MAX = 4 << 20, SETTINGS_MAX = 4096 };

typedef struct builder {
    const cli_args *args;
    prx_engine *engine;
    prx_model *model;
    prx_job *job;
    char *prompts, *graph;
    char settings[SETTINGS_MAX];       /* of the measurement: key=value, one a line */
    char state[PATH_MAX];
} builder;

static int job_fail(const builder *b, int status)
{
    return cli_fail(status, prx_job_last_error(b->job));
}

/* cache.KEY belongs to the measurement, everything else to the job. */
static int set(builder *b, const char *key, const char *value)
{
    if (strncmp(key, "cache.", 6) != 0) {
        const int err = prx_job_set(b->job, key, value);
        return err < 0 ? job_fail(b, err) : 0;
    }
    const size_t used = strlen(b->settings), room = sizeof b->settings - used;
    if ((size_t)snprintf(b->settings + used, room, "%s=%s\n", key + 6, value) >= room)
        return cli_error(2, "--set: %.40s: too long", key);
    return 0;
}

static int set_pair(builder *b, const char *pair)
{
    char key[CLI_KEY_MAX];
    const char *value;
    const int code = cli_split_pair(pair, key, &value);
    return code ? code : set(b, key, value);
}

static int apply_settings(builder *b)
{
    const cli_option *o = b->args->command->options;
    int code = 0;
    for (int i = 0; o[i].name && !code; i++)
        if (o[i].key && b->args->value[i])
            code = set(b, o[i].key, o[i].arg ? b->args->value[i] : "true");
    for (int i = 0; i < b->args->n_sets && !code; i++)
        code = set_pair(b, b->args->sets[i]);
    return code;
}

static int prepare(builder *b)
{
    char found[PATH_MAX];
    size_t n;
    const char *prompts = cli_value(b->args, "prompts"), *output = cli_value(b->args, "output"), *dir = cli_value(b->args, "model");
    if (!prompts)
        return cli_error(2, "--prompts: missing: a file with one prompt a line expected");
    if (!output)
        return cli_error(2, "--output: missing: where the graph is written");
    if (strlen(output) > PATH_MAX - 16)
        return cli_error(2, "--output: '%.80s' is no file name", output);
    if (!dir && !cli_find_data("models/tiny", found, sizeof found))
        return cli_error(2, "--model: missing, and the built-in model (models/tiny) is not installed");
    int err, code = cli_check_writable("--output", output);
    if (!code)
        code = cli_read_text("--prompts", prompts, PROMPTS_MAX, &b->prompts, &n);
    if (!code)
        code = cli_open_engine(&b->engine, b->args);
    if (code)
        return code;
    if (strcmp(output, "-") != 0)
        snprintf(b->state, sizeof b->state, "%s.state", output);
    if ((err = prx_model_open(&b->model, b->engine, dir ? dir : found)) < 0 || (err = prx_job_open(&b->job, b->model)) < 0)
        return cli_fail(err, prx_engine_last_error(b->engine));
    return apply_settings(b);
}

/* One line on what came out; of a quick graph how far its interpolation is off. */
static void summarize(const builder *b)
{
    char line[PATH_MAX + 256];
    cJSON *root = cJSON_Parse(b->graph);
    const cJSON *quick = cJSON_GetObjectItemCaseSensitive(root, "quick");
    const cJSON *mean = cJSON_GetObjectItemCaseSensitive(quick, "mean_relative_error");
    const cJSON *worst = cJSON_GetObjectItemCaseSensitive(quick, "worst_relative_error");
    snprintf(line, sizeof line, "%s written: %d jumps", cli_value(b->args, "output"),
             cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, "edges")));
    const size_t used = strlen(line);
    if (mean && worst)
        snprintf(line + used, sizeof line - used, ", %d of them interpolated: off by %.1f %% on average, %.1f %% at worst (%d checked)",
                 cJSON_GetObjectItemCaseSensitive(quick, "interpolated")->valueint, 100 * mean->valuedouble, 100 * worst->valuedouble,
                 cJSON_GetObjectItemCaseSensitive(quick, "checked")->valueint);
    progress_note(line);
    cJSON_Delete(root);
}

static int execute(builder *b)
{
    const char *state = *b->state ? b->state : NULL;
    char line[PATH_MAX + 64];
    if (state && access(state, F_OK) == 0) {
        snprintf(line, sizeof line, "going on from %s", state);
        progress_note(line);
    }
    progress_set_job(b->job);
    prx_job_on_progress(b->job, progress_update, NULL);
    const int err = prx_schedule_build(b->job, b->prompts, cli_value(b->args, "seeds"), b->settings, state, &b->graph);
    progress_set_job(NULL);
    progress_stop();
    if (err == PRX_ECANCELED && progress_interrupted()) {
        if (state && access(state, F_OK) == 0)
            return cli_error(130, "interrupted: no graph was written; %s keeps what was measured, and the same command goes on", state);
        return cli_error(130, "interrupted: no graph was written");
    }
    if (err < 0)
        return job_fail(b, err);
    const int code = cli_write_text("--output", cli_value(b->args, "output"), b->graph);
    if (code == 0 && state)
        unlink(state);
    if (code == 0)
        summarize(b);
    return code;
}

int schedule_build(const cli_args *a)
{
    const char *mode = cli_value(a, "progress");
    builder b = { .args = a };
    int code = progress_start(mode ? mode : "auto");
    if (!code)
        code = prepare(&b);
    if (!code)
        code = execute(&b);
    progress_stop();
    prx_text_free(b.engine, b.graph);
    prx_job_close(&b.job);
    prx_model_close(&b.model);
    prx_engine_close(&b.engine);
    free(b.prompts);
    return code;
}
