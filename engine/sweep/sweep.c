/* Public functions of a sweep, and its loop. */
#include "sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/core/file.h"
#include "engine/core/sha256.h"

enum { PATH = 4096 };

PRX_API void prx_sweep_default_params(prx_sweep_params *p)
{
    memset(p, 0, sizeof *p);
    prx_engine_default_params(&p->engine);
}

PRX_API const char *prx_sweep_last_error(const prx_sweep *s)
{
    return s ? s->ctx.error.text : "out of memory";
}

PRX_API void prx_sweep_on_progress(prx_sweep *s, prx_sweep_fn fn, void *cookie)
{
    s->on_progress = fn;
    s->cookie = cookie;
}

PRX_API void prx_sweep_cancel(prx_sweep *s)
{
    prxi_lab_cancel(&s->lab);
}

/* ---- open ---- */

/* Size and both ends of a weight file, all of a small one: a model that was trained again is another model. */
static int digest_file(prxi_ctx *c, const char *path, uint8_t sum[32])
{
    enum { END = 1 << 16 };
    struct stat st;
    char text[96], hex[65];
    prxi_sha256 h;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char *buf = fd >= 0 ? prxi_alloc(c->mem, PRXI_MEM_SCRATCH, END) : NULL;
    if (!buf || fstat(fd, &st) != 0) {
        if (fd >= 0)
            close(fd);
        prxi_free(c->mem, buf);
        return fd >= 0 ? prxi_fail_nomem(c, path, END) : PRX_OK;
    }
    prxi_sha256_init(&h);
    snprintf(text, sizeof text, "%lld", (long long)st.st_size);
    prxi_sha256_add(&h, text, strlen(text));
    ssize_t n = pread(fd, buf, END, 0);
    prxi_sha256_add(&h, buf, n > 0 ? (size_t)n : 0);
    n = st.st_size > END ? pread(fd, buf, END, (off_t)st.st_size - END) : 0;
    prxi_sha256_add(&h, buf, n > 0 ? (size_t)n : 0);
    prxi_sha256_hex(&h, hex);
    for (int i = 0; i < 32; i++) {
        unsigned v = 0;
        sscanf(hex + 2 * i, "%2x", &v);
        sum[i] = (uint8_t)(sum[i] + v);      /* folders have no order */
    }
    close(fd);
    prxi_free(c->mem, buf);
    return PRX_OK;
}

static int digest_folder(prxi_ctx *c, const char *path, int depth, uint8_t sum[32])
{
    char name[PATH];
    struct stat st;
    int err = PRX_OK;
    DIR *d = opendir(path);
    const struct dirent *e;
    while (d && err == PRX_OK && (e = readdir(d)))
        if (e->d_name[0] != '.' && snprintf(name, sizeof name, "%s/%s", path, e->d_name) < PATH && stat(name, &st) == 0) {
            if (S_ISDIR(st.st_mode) && depth > 0)
                err = digest_folder(c, name, depth - 1, sum);
            else if (S_ISREG(st.st_mode))
                err = digest_file(c, name, sum);
        }
    if (d)
        closedir(d);
    return err;
}

static int digest_model(prx_sweep *s)
{
    uint8_t sum[32] = { 0 };
    int err = digest_folder(&s->ctx, s->model, 1, sum);
    if (err == PRX_OK && s->transformer)
        err = digest_file(&s->ctx, s->transformer, sum);
    for (int i = 0; i < 32; i++)
        snprintf(s->model_digest + 2 * i, 3, "%02x", sum[i]);
    return err;
}

static int check_settings(prx_sweep *s)
{
    int64_t size[3] = { 0 }, first[3] = { 0 };
    for (int i = 0; i < s->spec.n; i++) {
        const prxi_sweep_setting *k = &s->spec.settings[i];
        int err = prxi_lab_check(&s->ctx, &s->lab, &k->all, s->spec.prompts[0], size);
        if (err < 0) {
            char text[sizeof s->ctx.error.text];
            snprintf(text, sizeof text, "%s", s->ctx.error.text);
            prxi_clear(&s->ctx);
            return prxi_fail(&s->ctx, err, "%s: %s (%s): %s", s->spec.path, k->where, k->label, text);
        }
        if (i == 0)
            memcpy(first, size, sizeof first);
        if (s->spec.has_reference && memcmp(first, size, sizeof first) != 0)
            return prxi_fail(&s->ctx, PRX_EINVAL,
                             "%s: %s (%s): %lldx%lld, %lld frames; the reference has %lldx%lld, %lld: nothing to compare (\"reference\": "
                             "null measures time alone)", s->spec.path, k->where, k->label, (long long)size[0], (long long)size[1],
                             (long long)size[2], (long long)first[0], (long long)first[1], (long long)first[2]);
    }
    return PRX_OK;
}

static int make_folder(prx_sweep *s, const char *name)
{
    char path[PATH];
    if (snprintf(path, sizeof path, "%s%s%s", s->dir, *name ? "/" : "", name) >= PATH - 80)
        return prxi_fail(&s->ctx, PRX_EINVAL, "%s: the path is too long", s->dir);
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return PRX_OK;
    const int status = prxi_errno_status(errno);
    return prxi_fail(&s->ctx, status, "%s: %s", path, strerror(errno));
}

/* "KEY.ending" is a complete clip; with anything else behind its key it is not, and neither is "summary.json.1234-0.tmp". */
static int is_half(const char *name, const char *ending)
{
    const size_t n = strlen(name);
    if (strncmp(name, "summary.json.", 13) == 0 || strncmp(name, "sweep.json.", 11) == 0)
        return n > 4 && strcmp(name + n - 4, ".tmp") == 0;
    name += name[0] == '.';
    return strspn(name, "0123456789abcdef") == 24 && strcmp(name + 24, ending) != 0;
}

/* What a killed sweep left half-written. */
static void sweep_up(const prx_sweep *s, const char *name, const char *ending)
{
    char path[PATH], file[PATH];
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    DIR *d = opendir(path);
    const struct dirent *e;
    while (d && (e = readdir(d)))
        if (is_half(e->d_name, ending) && snprintf(file, sizeof file, "%s/%s", path, e->d_name) < PATH)
            unlink(file);
    if (d)
        closedir(d);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Keys of all rows, sorted, for the lines of an earlier run: each is [25 bytes of key][int row]. */
typedef struct key_table {
    prx_sweep *s;
    char *text;
    const char **sorted;
} key_table;

enum { KEY_STRIDE = 32 };

static int take_row(void *cookie, prxi_ctx *c, const cJSON *row)
{
    const key_table *t = cookie;
    const char *key = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "key"));
    if (!key)
        return prxi_fail(c, PRX_EFORMAT, "%s/results.jsonl: a row without a key: not of a sweep", t->s->dir);
    const char **found = bsearch(&key, t->sorted, (size_t)t->s->n_rows, sizeof *t->sorted, compare_keys);
    if (found)
        prxi_row_read(&t->s->rows[(size_t)(*found - t->text) / KEY_STRIDE], row);
    return PRX_OK;
}

static int open_results(prx_sweep *s)
{
    prxi_ctx *c = &s->ctx;
    const size_t n = (size_t)s->n_rows;
    key_table t = { s, prxi_alloc(c->mem, PRXI_MEM_MISC, n * KEY_STRIDE), prxi_calloc(c->mem, PRXI_MEM_MISC, n, sizeof *t.sorted) };
    int err = t.text && t.sorted ? PRX_OK : prxi_fail_nomem(c, "rows", n * KEY_STRIDE);
    for (size_t i = 0; i < n && err == PRX_OK; i++) {
        char key[65];
        prxi_row_key(s, &s->rows[i], key);
        snprintf(t.text + i * KEY_STRIDE, KEY_STRIDE, "%.24s", key);
        t.sorted[i] = t.text + i * KEY_STRIDE;
    }
    if (err == PRX_OK) {
        qsort(t.sorted, n, sizeof *t.sorted, compare_keys);
        err = prxi_results_open(c, &s->results, s->dir, take_row, &t);
    }
    prxi_free(c->mem, t.text);
    prxi_free(c->mem, t.sorted);
    return err;
}

/* splitmix64: the order needs no more. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Every repeat is a round of all settings and clips in its own random order: a slow minute hits all settings alike. */
static int make_rows(prx_sweep *s)
{
    prxi_ctx *c = &s->ctx;
    const int per_round = s->spec.n * s->clips;
    uint64_t state = (uint64_t)s->spec.order_seed;
    s->n_rows = per_round * s->spec.repeats;
    s->rows = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)s->n_rows, sizeof *s->rows);
    s->order = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)s->n_rows, sizeof *s->order);
    s->setting_seconds = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)s->spec.n, sizeof *s->setting_seconds);
    s->setting_rows = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)s->spec.n, sizeof *s->setting_rows);
    if (!s->rows || !s->order || !s->setting_seconds || !s->setting_rows)
        return prxi_fail_nomem(c, "rows", (size_t)s->n_rows * sizeof *s->rows);
    for (int i = 0; i < s->n_rows; i++) {
        const int in_round = i % per_round;
        s->rows[i] = (prxi_sweep_row) { .setting = in_round / s->clips, .clip = in_round % s->clips, .repeat = i / per_round };
        s->order[i] = i;
    }
    for (int r = 0; r < s->spec.repeats; r++)
        for (int i = per_round - 1; i > 0; i--) {
            int *round = s->order + r * per_round;
            const int k = (int)(next_random(&state) % (uint64_t)(i + 1)), swap = round[i];
            round[i] = round[k];
            round[k] = swap;
        }
    return PRX_OK;
}

static int write_json(prx_sweep *s, const char *name, cJSON *tree)
{
    char path[PATH];
    char *text = tree ? cJSON_Print(tree) : NULL;
    cJSON_Delete(tree);
    if (!text)
        return s->ctx.error.code < 0 ? s->ctx.error.code : prxi_fail_nomem(&s->ctx, name, 0);
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    const int err = prxi_write_file(&s->ctx, path, text, strlen(text));
    cJSON_free(text);
    return err;
}

static int choose_model(prx_sweep *s, const prx_sweep_params *p)
{
    const char *model = p->model ? p->model : s->spec.model ? s->spec.model : p->builtin;
    if (!model)
        return prxi_fail(&s->ctx, PRX_EINVAL, "%s: model: missing", s->spec.path);
    s->model = prxi_strdup(s->ctx.mem, model);
    s->transformer = p->transformer ? prxi_strdup(s->ctx.mem, p->transformer) : NULL;
    if (!s->model || (p->transformer && !s->transformer))
        return prxi_fail_nomem(&s->ctx, "model", 0);
    return digest_model(s);
}

static int keep_params(prx_sweep *s, const prx_sweep_params *p)
{
    const char *const texts[3] = { p->engine.device, p->engine.isa, p->engine.dtype };
    s->base = p->engine;
    for (int i = 0; i < 3; i++)
        if (!(s->engine_text[i] = prxi_strdup(s->ctx.mem, texts[i] ? texts[i] : "auto")))
            return prxi_fail_nomem(&s->ctx, "engine", 0);
    s->base.device = s->engine_text[0];
    s->base.isa = s->engine_text[1];
    s->base.dtype = s->engine_text[2];
    return PRX_OK;
}

static int prepare(prx_sweep *s, const prx_sweep_params *p, const char *spec, const char *dir)
{
    int err;
    if ((err = keep_params(s, p)) < 0 || (err = prxi_sweep_spec_read(&s->ctx, &s->spec, spec, p->presets)) < 0 ||
        (err = choose_model(s, p)) < 0)
        return err;
    s->clips = s->spec.n_prompts * s->spec.n_seeds;
    prxi_lab_open(&s->lab, &s->base, s->model, s->transformer, s->spec.n_prompts);
    s->lab_open = 1;
    if ((err = check_settings(s)) < 0 || (err = make_rows(s)) < 0)
        return err;
    if (!(s->dir = prxi_strdup(s->ctx.mem, dir)))
        return prxi_fail_nomem(&s->ctx, dir, 0);
    if ((err = make_folder(s, "")) < 0 || (err = open_results(s)) < 0 || (err = make_folder(s, "reference")) < 0 ||
        (s->spec.keep_clips && (err = make_folder(s, "clips")) < 0))
        return err;
    sweep_up(s, ".", "");
    sweep_up(s, "reference", ".safetensors");
    sweep_up(s, "clips", ".mp4");
    return write_json(s, "sweep.json", prxi_sweep_describe(s));
}

PRX_API int prx_sweep_open(prx_sweep **out, const prx_sweep_params *p, const char *spec, const char *dir)
{
    prxi_mem mem;
    prxi_mem_init(&mem, p->engine.allocator);
    prx_sweep *s = prxi_calloc(&mem, PRXI_MEM_MISC, 1, sizeof *s);
    *out = s;
    if (!s)
        return PRX_ENOMEM;
    s->mem.allocator = mem.allocator;
    s->log = (prxi_log) { p->engine.log, p->engine.log_cookie, p->engine.log_level };
    s->ctx.mem = &s->mem;
    s->ctx.log = &s->log;
    s->results.fd = -1;
    prxi_clear(&s->ctx);
    const int err = prepare(s, p, spec, dir);
    s->checked = err == PRX_OK;
    return err;
}

PRX_API void prx_sweep_close(prx_sweep **sp)
{
    if (!sp || !*sp)
        return;
    prx_sweep *s = *sp;
    prxi_ctx *c = &s->ctx;
    *sp = NULL;
    if (s->lab_open)
        prxi_lab_close(&s->lab);
    prxi_results_close(c, &s->results);
    prxi_sweep_spec_close(c, &s->spec);
    void *const blocks[] = { s->dir, s->model, s->transformer, s->engine_text[0], s->engine_text[1], s->engine_text[2], s->summary,
                             s->rows, s->order, s->setting_seconds, s->setting_rows };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        prxi_free(c->mem, blocks[i]);
    prxi_mem mem;
    prxi_mem_init(&mem, &s->mem.allocator);
    prxi_free(&mem, s);
}

/* ---- run ---- */

/* Time left: what rows of the same setting took, or the mean of all that ran. */
static double remaining(const prx_sweep *s)
{
    double all = 0, left = 0;
    int n = 0;
    for (int i = 0; i < s->spec.n; i++)
        all += s->setting_seconds[i], n += s->setting_rows[i];
    if (n == 0)
        return -1;
    for (int i = 0; i < s->spec.n; i++) {
        int missing = 0;
        for (int k = 0; k < s->spec.repeats * s->clips; k++)
            missing += !prxi_sweep_row_at(s, i, k)->done;
        left += missing * (s->setting_rows[i] ? s->setting_seconds[i] / s->setting_rows[i] : all / n);
    }
    return left;
}

static int tell(prx_sweep *s, const char *label, int estimate)
{
    prx_sweep_progress *p = &s->progress;
    p->label = label;
    p->elapsed = prxi_now() - s->started;
    if (estimate)
        p->remaining = remaining(s);
    if (s->on_progress && s->on_progress(s->cookie, p))
        prxi_lab_cancel(&s->lab);
    return s->lab.cancelled ? prxi_fail(&s->ctx, PRX_ECANCELED, "cancelled") : PRX_OK;
}

static void row_path(const prx_sweep *s, const prxi_sweep_row *r, const char *folder, const char *ending, char out[PATH])
{
    char key[65];
    prxi_row_key(s, r, key);
    snprintf(out, PATH, "%s/%s/%s%s", s->dir, folder, key, ending);
}

/* The reference of a clip: from its file, else computed and filed. */
static int get_reference(prx_sweep *s, int clip, prxi_clip *out)
{
    prxi_ctx *c = &s->ctx;
    const prxi_sweep_row r = { .setting = 0, .clip = clip, .repeat = 0 };
    char path[PATH];
    prxi_trial t;
    row_path(s, &r, "reference", ".safetensors", path);
    if (access(path, F_OK) == 0)
        return prxi_clip_load(c, out, path);
    int err = prxi_lab_run(c, &s->lab, &s->spec.settings[0].all, s->spec.prompts[clip / s->spec.n_seeds],
                           s->spec.seeds[clip % s->spec.n_seeds], NULL, &t);
    if (err < 0)
        return err;
    if ((err = prxi_clip_save(c, &t.clip, path)) == PRX_OK) {
        *out = t.clip;
        t.clip = (prxi_clip) { 0 };
    } else
        s->broken = 1;
    prxi_trial_close(c, &t);
    return err;
}

static int keep_clip(prx_sweep *s, const prxi_sweep_row *r, const prxi_trial *t, char path[PATH])
{
    path[0] = '\0';
    if (!s->spec.keep_clips || r->repeat > 0)
        return PRX_OK;
    row_path(s, r, "clips", ".mp4", path);
    const cJSON *fps = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(t->stats, "request"), "fps");
    const int err = prxi_clip_write(&s->ctx, &t->clip, cJSON_IsNumber(fps) ? (int)fps->valuedouble : 16, path);
    s->broken = err < 0;
    memmove(path, path + strlen(s->dir) + 1, strlen(path) - strlen(s->dir));      /* relative to the folder */
    return err;
}

/* The row as JSON, failed ones too; NULL and an error for what must stop the sweep. */
static cJSON *run_row(prx_sweep *s, prxi_sweep_row *r, int *status)
{
    prxi_ctx *c = &s->ctx;
    prxi_clip reference = { 0 };
    prxi_trial t = { 0 };
    char clip[PATH] = "";
    const prxi_sweep_setting *k = &s->spec.settings[r->setting];
    int err = s->spec.has_reference ? get_reference(s, r->clip, &reference) : PRX_OK;
    if (err == PRX_OK)
        err = prxi_lab_run(c, &s->lab, &k->all, s->spec.prompts[r->clip / s->spec.n_seeds], s->spec.seeds[r->clip % s->spec.n_seeds],
                           s->spec.has_reference ? &reference : NULL, &t);
    if (err == PRX_OK)
        err = keep_clip(s, r, &t, clip);
    prxi_clip_close(c, &reference);
    cJSON *row = NULL;
    if (err == PRX_OK)
        row = prxi_row_json(s, r, &t, NULL, clip[0] ? clip : NULL);
    else if (err != PRX_ECANCELED && !s->broken) {
        row = prxi_row_json(s, r, NULL, c->error.text, NULL);
        if (!s->error[0])
            snprintf(s->error, sizeof s->error, "%.100s: %.140s", k->label, c->error.text);
        s->progress.failed++;
        prxi_clear(c);
        err = PRX_OK;
    }
    prxi_trial_close(c, &t);
    *status = err;
    return row;
}

static int do_row(prx_sweep *s, prxi_sweep_row *r)
{
    const double t = prxi_now();
    int err = tell(s, s->spec.settings[r->setting].label, 0);
    if (err < 0)
        return err;
    cJSON *row = run_row(s, r, &err);
    if (err == PRX_OK)
        err = prxi_results_add(&s->ctx, &s->results, row);
    if (err == PRX_OK) {
        prxi_row_read(r, row);
        s->setting_seconds[r->setting] += prxi_now() - t;
        s->setting_rows[r->setting]++;
        s->progress.done++;
    }
    cJSON_Delete(row);
    return err < 0 ? err : tell(s, NULL, 1);
}

PRX_API int prx_sweep_run(prx_sweep *s)
{
    int err = PRX_OK;
    prxi_clear(&s->ctx);
    if (!s->checked)
        return prxi_fail(&s->ctx, PRX_ESTATE, "sweep: it was not opened");
    s->started = prxi_now();
    s->broken = 0;
    s->progress = (prx_sweep_progress) { .rows = s->n_rows, .remaining = -1 };
    for (int i = 0; i < s->n_rows; i++) {
        s->progress.done += s->rows[i].done;
        s->progress.failed += s->rows[i].done && !s->rows[i].ok;
    }
    for (int i = 0; i < s->n_rows && err == PRX_OK; i++)
        if (!s->rows[s->order[i]].done)
            err = do_row(s, &s->rows[s->order[i]]);
    return err == PRX_OK ? write_json(s, "summary.json", prxi_sweep_summary_json(&s->ctx, s)) : err;
}

PRX_API int prx_sweep_summary(prx_sweep *s, const char **json)
{
    prxi_clear(&s->ctx);
    *json = NULL;
    if (!s->checked)
        return prxi_fail(&s->ctx, PRX_ESTATE, "sweep: it was not opened");
    cJSON *tree = prxi_sweep_summary_json(&s->ctx, s);
    if (!tree)
        return s->ctx.error.code;
    prxi_free(s->ctx.mem, s->summary);
    s->summary = NULL;
    const int err = prxi_json_text(&s->ctx, tree, &s->summary);
    *json = s->summary;
    return err;
}
