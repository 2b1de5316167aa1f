/* praxino render: a prompt becomes a video. */
#include <cjson/cJSON.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app.h"
#include "commands.h"
#include "names.h"
#include "presets.h"
#include "progress.h"
#include "show.h"

enum { PROMPT_MAX = 64 * 1024 };

static const cli_option options[] = {
    { "Input", 'm', "model", "DIR", NULL, NULL, "model directory in diffusers layout (the built-in model)" },
    { NULL, 0, "transformer", "FILE", NULL, NULL, "weights for the model's transformer: another fine-tune, either layout" },
    { NULL, 'n', "negative", "TEXT", "negative_prompt", NULL, "what the video should not show" },
    { NULL, 0, "prompt-file", "FILE", NULL, NULL, "read the prompt from a file (-: standard input)" },
    { NULL, 0, "config", "FILE", NULL, NULL, "preset: a JSON file, or a name of configs/presets; flags win" },
    { NULL, 0, "from", "VIDEO", NULL, NULL, "settings of a video that praxino made, prompt and seed too; presets and flags win" },
    { NULL, 0, "latents", "FILE", "latents", NULL, "start from the tensor `latents` of a safetensors file" },
    { NULL, 0, "resume", "FILE", "resume", NULL, "go on from a file of --save-state" },
    { "Video", 'W', "width", "N", "width", NULL, "pixels" },
    { NULL, 'H', "height", "N", "height", NULL, "pixels" },
    { NULL, 'f', "frames", "N", "frames", NULL, "frames; 4k + 1 for Wan models" },
    { NULL, 0, "fps", "N", "fps", NULL, "frames per second" },
    { "Sampling", 's', "steps", "N", "steps", NULL, "denoising steps" },
    { NULL, 'g', "guidance", "X", "guidance", NULL, "classifier-free guidance; 1 runs the prompt alone" },
    { NULL, 0, "guidance-2", "X", "guidance_2", NULL, "guidance of the low-noise expert (that of the other)" },
    { NULL, 0, "shift", "X", "shift", NULL, "flow shift of the sigmas" },
    { NULL, 0, "scheduler", "NAME", "scheduler", NULL, "unipc, euler, dpmpp (the model's own)" },
    { NULL, 0, "seed", "N", "seed", NULL, "seed of the noise: the same gives the same video" },
    { "Acceleration", 0, "attention", "NAME", "attention", NULL, "attention policy, see below (dense)" },
    { NULL, 0, "cache", "NAME", "cache", NULL, "cache policy, see below (none)" },
    { NULL, 0, "schedule", "FILE", "schedule", NULL, "steps to compute, for --cache lemica (configs/schedules, schedule solve)" },
    { NULL, 0, "vram-budget", "GIB", "vram_budget", NULL, "device memory to take at most; weights beyond come from the host" },
    { NULL, 0, "set", "KEY=VALUE", NULL, NULL, "any setting by name, as cache.threshold=0.1; may be repeated" },
    { "Output", 'o', "output", "FILE", "output", NULL,
      "mp4, mkv, mov, webm, gif, y4m, %04d.png; -: Y4M (named after the prompt)" },
    { NULL, 0, "crf", "N", "crf", NULL, "quality of a lossy encoder: smaller is better and larger" },
    { NULL, 0, "stats", "FILE", NULL, NULL, "timings and decisions as JSON (-: standard output)" },
    { NULL, 0, "dump", "FILE", "dump", NULL, "embeddings, latents of every step, frames as safetensors" },
    { NULL, 0, "record-trace", "FILE", "record_trace", NULL, "samples of the cache's probes, for replay (cache none or dbcache)" },
    { NULL, 0, "save-state", "FILE", "save_state", NULL, "write a file to --resume from while denoising" },
    { NULL, 0, "save-every", "N", "save_every", NULL, "steps between two of them" },
    { NULL, 0, "plan", NULL, NULL, NULL, "say what would run and what memory it takes, then stop" },
    { NULL, 0, "progress", "MODE", NULL, "auto|bar|json|none", "progress on standard error (auto)" },
    CLI_ENGINE_OPTIONS,
    CLI_END_OPTIONS,
};

typedef struct render {
    const cli_args *args;
    prx_engine *engine;
    prx_model *model;
    prx_job *job;
    char *prompt_text;               /* of --prompt-file */
    char output[PATH_MAX];
} render;

/* ---- settings ---- */

static int job_fail(const render *r, int status)
{
    return cli_fail(status, prx_job_last_error(r->job));
}

static int set(const render *r, const char *key, const char *value)
{
    const int err = prx_job_set(r->job, key, value);
    return err < 0 ? job_fail(r, err) : 0;
}

/* The argument, or --prompt-file without the newlines at its end. */
static int set_prompt(render *r)
{
    const char *file = cli_value(r->args, "prompt-file");
    const char *text = r->args->n_words ? r->args->words[0] : NULL;
    if (file && text)
        return cli_error(2, "prompt: given both as an argument and by --prompt-file; one is accepted");
    if (file) {
        size_t n;
        const int code = cli_read_text("--prompt-file", file, PROMPT_MAX, &r->prompt_text, &n);
        if (code)
            return code;
        while (n > 0 && strchr(" \t\r\n", r->prompt_text[n - 1]))
            r->prompt_text[--n] = '\0';
        if (n == 0)
            return cli_error(2, "--prompt-file: %s: holds no text", file);
        text = r->prompt_text;
    }
    if (text && text[strspn(text, " \t\r\n")] == '\0')
        return cli_error(2, "prompt: empty: say what the video should show");
    return text ? set(r, "prompt", text) : 0;
}

static int load_preset(const render *r, const char *name)
{
    char path[PATH_MAX];
    const int code = presets_path(name, path, sizeof path);
    const int err = code ? PRX_OK : prx_job_load_config(r->job, path, 0);
    return err < 0 ? job_fail(r, err) : code;
}

static int set_pair(const render *r, const char *pair)
{
    char key[CLI_KEY_MAX];
    const char *value;
    const int code = cli_split_pair(pair, key, &value);
    return code ? code : set(r, key, value);
}

/* Later ones win: video, preset, flags, --set (whose keys may belong to a policy that a flag chose). */
static int apply_settings(render *r)
{
    const char *preset = cli_value(r->args, "config"), *video = cli_value(r->args, "from");
    const int err = video ? prx_job_load_video(r->job, video, 0) : PRX_OK;
    int code = err < 0 ? job_fail(r, err) : preset ? load_preset(r, preset) : 0;
    for (int i = 0; options[i].name && !code; i++)
        if (options[i].key && r->args->value[i])
            code = set(r, options[i].key, r->args->value[i]);
    for (int i = 0; i < r->args->n_sets && !code; i++)
        code = set_pair(r, r->args->sets[i]);
    return code ? code : set_prompt(r);
}

static void get(const render *r, const char *key, char *buf, size_t n)
{
    if (prx_job_get(r->job, key, buf, n) != PRX_OK)
        buf[0] = '\0';
}

/* Something to show, and a name to write to. */
static int resolve_names(render *r)
{
    static char prompt[PROMPT_MAX + 1];
    get(r, "prompt", prompt, sizeof prompt);
    if (prompt[0] == '\0')
        return cli_error(2, "prompt: missing: praxino render \"a red ball bounces on a blue floor\"");
    get(r, "output", r->output, sizeof r->output);
    if (r->output[0] == '\0') {
        if (!name_for_prompt(prompt, r->output, sizeof r->output))
            return cli_error(2, "output: no free name for this prompt here: give one with -o");
        return set(r, "output", r->output);
    }
    if (strcmp(r->output, "-") == 0 && isatty(STDOUT_FILENO))
        return cli_error(2, "output: -: video is not written to a terminal: pipe it or name a file");
    return 0;
}

/* ---- before the work ---- */

static int find_model(const render *r, char *dir, size_t n)
{
    const char *given = cli_value(r->args, "model");
    if (given) {
        const int len = snprintf(dir, n, "%s", given);
        return len < 0 || (size_t)len >= n ? cli_error(2, "--model: the path is too long") : 0;
    }
    if (!cli_find_data("models/tiny", dir, n))
        return cli_error(2, "--model: missing, and the built-in model (models/tiny) is not installed");
    return 0;
}

/* What can be known to fail is said before a minute of work. */
static int check_outputs(const render *r)
{
    static const char *const keys[] = { "output", "dump", "save_state", "record_trace", "cache.calibrate" };
    const char *stats = cli_value(r->args, "stats");
    if (stats && strcmp(stats, "-") == 0 && strcmp(r->output, "-") == 0)
        return cli_error(2, "--stats: -: standard output already takes the video");
    int code = stats ? cli_check_writable("--stats", stats) : 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !code; i++) {
        char path[PATH_MAX];
        get(r, keys[i], path, sizeof path);
        if (path[0] && stats && strcmp(stats, path) == 0)
            return cli_error(2, "--stats: %s: is the file of %s too", stats, keys[i]);
        if (path[0])
            code = cli_check_writable(keys[i], path);
    }
    return code;
}

static int prepare(render *r)
{
    char dir[PATH_MAX];
    int err, code = find_model(r, dir, sizeof dir);
    if (!code)
        code = cli_open_engine(&r->engine, r->args);
    if (code)
        return code;
    const char *weights = cli_value(r->args, "transformer");
    if ((err = prx_model_open(&r->model, r->engine, dir)) < 0 ||
        (weights && (err = prx_model_set(r->model, "transformer", weights)) < 0) ||
        (err = prx_job_open(&r->job, r->model)) < 0)
        return cli_fail(err, prx_engine_last_error(r->engine));
    code = apply_settings(r);
    if (!code)
        code = resolve_names(r);
    return code ? code : check_outputs(r);
}

static int show_plan(const render *r)
{
    char *text = NULL;
    const int err = prx_job_plan(r->job, &text);
    const int code = err < 0 ? job_fail(r, err) : show_or_write(NULL, text, 24);
    prx_text_free(r->engine, text);
    return code;
}

/* How long the denoising will take, when that is long enough to be wondered about. */
static void announce_time(const cJSON *plan)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(plan, "expected");
    const cJSON *most = cJSON_GetObjectItemCaseSensitive(o, "denoise_seconds_at_most");
    const cJSON *all = most ? most : cJSON_GetObjectItemCaseSensitive(o, "denoise_seconds");
    const cJSON *dense = cJSON_GetObjectItemCaseSensitive(o, "dense_step_seconds");
    const cJSON *sparse = cJSON_GetObjectItemCaseSensitive(o, "sparse_step_seconds");
    const cJSON *saved = cJSON_GetObjectItemCaseSensitive(o, "flops_saved");
    char line[256], steps[96], flops[64] = "";
    if (!cJSON_IsNumber(all) || !cJSON_IsNumber(dense) || all->valuedouble < 10)
        return;
    snprintf(steps, sizeof steps, cJSON_IsNumber(sparse) ? "%.3g s a dense step, %.3g s a sparse one" : "%.3g s a step", dense->valuedouble,
             cJSON_IsNumber(sparse) ? sparse->valuedouble : 0.0);
    if (cJSON_IsNumber(saved))
        snprintf(flops, sizeof flops, ", %.0f %% of the FLOPs saved", 100 * saved->valuedouble);
    snprintf(line, sizeof line, "expected on this machine: %s, %s%.1f min of denoising%s", steps, most ? "at most " : "",
             all->valuedouble / 60, flops);
    progress_note(line);
}

/* One line on what begins: the settings as the plan resolved them. */
static void announce(const render *r, const char *plan)
{
    static const char *const keys[] = { "width", "height", "frames", "fps", "steps", "scheduler", "guidance",
                                        "attention", "cache", "seed" };
    char v[10][64], line[800];
    cJSON *root = cJSON_Parse(plan);
    const cJSON *request = cJSON_GetObjectItemCaseSensitive(root, "request");
    for (int i = 0; i < 10; i++) {
        const cJSON *o = cJSON_GetObjectItemCaseSensitive(request, keys[i]);
        if (cJSON_IsNumber(o))
            snprintf(v[i], sizeof v[i], "%.15g", o->valuedouble);
        else
            snprintf(v[i], sizeof v[i], "%s", cJSON_IsString(o) ? o->valuestring : "?");
    }
    get(r, "seed", v[9], sizeof v[9]);       /* as a JSON number it would lose digits */
    snprintf(line, sizeof line,
             "%sx%s, %s frames at %s/s, %s steps of %s, guidance %s, %s attention, cache %s, seed %s", v[0], v[1],
             v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9]);
    progress_note(line);
    announce_time(root);
    cJSON_Delete(root);
}

/* ---- after the work ---- */

static double number(const cJSON *o, const char *name, double def)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(v) ? v->valuedouble : def;
}

/* " 12 cached (diff_lt 12)": one kind of pass, with its reasons. */
static size_t put_passes(char *out, size_t n, const cJSON *kind)
{
    char why[300] = "";
    size_t used = 0;
    double total = 0;
    for (const cJSON *p = kind->child; p && used < sizeof why - 80; p = p->next) {
        used += (size_t)snprintf(why + used, sizeof why - used, "%s%.60s %.0f", used ? ", " : "", p->string, p->valuedouble);
        total += p->valuedouble;
    }
    return (size_t)snprintf(out, n, "%s %.0f %s (%s)", kind->prev->next ? "," : "", total, kind->string, used ? why : "none");
}

/* What the cache did and why, and what it saved against steps that are all computed. */
static void summarize_cache(const cJSON *root)
{
    char line[900];
    const cJSON *cache = cJSON_GetObjectItemCaseSensitive(root, "cache"), *p;
    const cJSON *policy = cJSON_GetObjectItemCaseSensitive(cache, "policy");
    if (!cJSON_IsString(policy) || strcmp(policy->valuestring, "none") == 0)
        return;
    const double computed = number(cache, "computed_steps", 0), cached = number(cache, "cached_steps", 0);
    const double full = number(cache, "computed_step_seconds", 0), reused = number(cache, "cached_step_seconds", -1);
    const double saved = number(cache, "saved_seconds", 0), spent = number(cJSON_GetObjectItemCaseSensitive(root, "phases"), "denoise", 0);
    const double partly = number(cache, "partly_cached_steps", 0);
    size_t used = (size_t)snprintf(line, sizeof line, "cache %s: %.0f steps computed", policy->valuestring, computed);
    if (partly > 0)
        used += (size_t)snprintf(line + used, sizeof line - used, " (%.0f in one branch only)", partly);
    used += (size_t)snprintf(line + used, sizeof line - used, ", %.0f cached; passes", cached);
    cJSON_ArrayForEach(p, cJSON_GetObjectItemCaseSensitive(cache, "passes")) used += put_passes(line + used, sizeof line - used, p);
    if (full > 0 && reused >= 0)
        used += (size_t)snprintf(line + used, sizeof line - used, "; a cached step takes %.3f of a computed one", reused / full);
    if (full > 0)
        snprintf(line + used, sizeof line - used, "; %.2f s saved of %.2f", saved, saved + spent);
    progress_note(line);
    const cJSON *advice = cJSON_GetObjectItemCaseSensitive(cache, "advice");
    if (!cJSON_IsString(advice))
        return;
    snprintf(line, sizeof line, "cache %s: nothing was cached, nothing saved; what would change that: %.700s", policy->valuestring,
             advice->valuestring);
    progress_note(line);
}

static void summarize(const render *r, const char *stats)
{
    static const char *const names[] = { "load", "text", "denoise", "decode", "encode" };
    char line[PATH_MAX + 256], parts[256] = "";
    cJSON *root = cJSON_Parse(stats);
    const cJSON *phases = cJSON_GetObjectItemCaseSensitive(root, "phases");
    double total = 0;
    size_t used = 0;
    for (int i = 0; i < 5; i++) {
        const double s = number(phases, names[i], 0);
        total += i < 4 ? s : 0;          /* encoding runs beside decoding */
        if (s >= 0.05)
            used += (size_t)snprintf(parts + used, sizeof parts - used, "%s%s %.1f", used ? ", " : "", names[i], s);
    }
    const char *where = strcmp(r->output, "-") ? r->output : "standard output";
    snprintf(line, sizeof line, "%s written in %.1f s%s%s%s", where, total, used ? " (" : "", parts,
             used ? ")" : "");
    progress_note(line);
    summarize_cache(root);
    cJSON_Delete(root);
}

/* The last JSON line: what became of the job. */
static void print_json_end(const render *r)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "phase", "done");
    cJSON_AddStringToObject(o, "output", r->output);
    char *text = cJSON_PrintUnformatted(o);
    if (text)
        fprintf(stderr, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(o);
}

static int report(const render *r)
{
    const char *path = cli_value(r->args, "stats");
    char *stats = NULL;
    int code = 0;
    const int err = prx_job_stats(r->job, &stats);
    if (err < 0)
        return job_fail(r, err);
    if (path)
        code = cli_write_text("--stats", path, stats);
    if (progress_is_json())
        print_json_end(r);
    else
        summarize(r, stats);
    prx_text_free(r->engine, stats);
    return code;
}

static int interrupted(const render *r)
{
    char state[PATH_MAX];
    get(r, "save_state", state, sizeof state);
    if (state[0] && access(state, F_OK) == 0)
        return cli_error(130, "interrupted: no video was written; --resume %s goes on from the last saved step", state);
    return cli_error(130, "interrupted: no video was written");
}

static int execute(render *r)
{
    char *plan = NULL;
    int err = prx_job_plan(r->job, &plan);
    if (err < 0)
        return job_fail(r, err);
    announce(r, plan);
    prx_text_free(r->engine, plan);
    progress_set_job(r->job);
    prx_job_on_progress(r->job, progress_update, NULL);
    err = prx_job_run(r->job);
    progress_set_job(NULL);
    progress_stop();
    if (err == PRX_ECANCELED && progress_interrupted())
        return interrupted(r);
    return err < 0 ? job_fail(r, err) : report(r);
}

static int run(const cli_args *a)
{
    const char *mode = cli_value(a, "progress");
    render r = { .args = a };
    int code = progress_start(mode ? mode : "auto");
    if (!code)
        code = prepare(&r);
    if (!code)
        code = cli_value(a, "plan") ? show_plan(&r) : execute(&r);
    progress_stop();
    prx_job_close(&r.job);
    prx_model_close(&r.model);
    prx_engine_close(&r.engine);
    free(r.prompt_text);
    return code;
}

/* ---- help on policies: from the registries ---- */

static void print_plugin(FILE *f, const prx_plugin_info *p)
{
    fprintf(f, "\n%s %s: %s\n", p->kind, p->name, p->help);
    for (int i = 0; i < p->n_options; i++) {
        prx_option_info o;
        char left[80];
        if (prx_plugin_option(p->kind, p->name, i, &o) != PRX_OK)
            return;
        snprintf(left, sizeof left, "%s.%s=%s", p->kind, o.name, o.choices ? o.choices : o.type);
        fprintf(f, "  --set %-44s %s (%s)\n", left, o.help, o.def && *o.def ? o.def : "none");
    }
}

static void print_policies(FILE *f)
{
    prx_plugin_info p;
    for (int i = 0; prx_plugin_at(i, &p) == PRX_OK; i++)
        if (strcmp(p.kind, "muxer") != 0)
            print_plugin(f, &p);
    presets_print(f);
}

const cli_command cmd_render = {
    "render", "render PROMPT [OPTIONS]", "turn a prompt into a video",
    options, 0, 1, "one prompt (in quotes)", run, print_policies,
};
