/* The N-th allocation of a sweep fails: a status and a text, nothing leaks; what it wrote stays readable, and the same folder goes on
 * to the end. */
#include <praxino/praxino.h>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "tests/fault/fault.h"
#include "tests/test.h"

#define MODEL_DIR PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model"

#ifdef __SANITIZE_ADDRESS__
enum { SWEEPS = 40 };
#else
enum { SWEEPS = 150 };
#endif
enum { ROWS = 4 };

static char dir[64];

static const char *file(const char *name)
{
    static char path[4][160];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(file(name), "w");
    REQUIRE(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", name);
}

static void empty_folder(const char *path)
{
    char name[512];
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0)
            empty_folder(name);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

static void set_engine(prx_engine_params *p, const prx_allocator *a)
{
    p->allocator = a;
    p->threads = 2;
    p->dtype = "f32";
}

/* ---- a sweep ---- */

static int sweep(faults *f, char *text, size_t n)
{
    const prx_allocator allocator = { fault_alloc, fault_free, f };
    const char *json;
    prx_sweep *s = NULL;
    prx_sweep_params p;
    prx_sweep_default_params(&p);
    set_engine(&p.engine, &allocator);
    p.model = MODEL_DIR;
    int err = prx_sweep_open(&s, &p, file("spec.json"), file("out"));
    if (err == PRX_OK)
        err = prx_sweep_run(s);
    if (err == PRX_OK)
        err = prx_sweep_summary(s, &json);
    snprintf(text, n, "%s", s ? prx_sweep_last_error(s) : "no sweep");
    prx_sweep_close(&s);
    return err;
}

/* Rows of the folder: every line is one, none twice. */
static int count_rows(long at)
{
    static char line[1 << 16];
    char keys[ROWS][32];
    int n = 0;
    FILE *f = fopen(file("out/results.jsonl"), "r");
    while (f && fgets(line, sizeof line, f)) {
        cJSON *row = cJSON_Parse(line);
        const char *key = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "key"));
        CHECK(key && n < ROWS, "allocation %ld: row %d", at, n);
        for (int i = 0; key && i < n; i++)
            CHECK(strcmp(keys[i], key) != 0, "allocation %ld: row %d is row %d again", at, n, i);
        if (key && n < ROWS)
            snprintf(keys[n++], sizeof keys[0], "%s", key);
        cJSON_Delete(row);
    }
    if (f)
        fclose(f);
    return n;
}

static void check_sweep(long at, int stay)
{
    char text[300];
    faults f = { .at = at, .stay = stay }, none = { .at = 0 };
    const int err = sweep(&f, text, sizeof text), before = count_rows(at);
    CHECK(err == PRX_OK || err == PRX_ENOMEM, "sweep, allocation %ld: %s: %s", at, prx_status_name(err), text);
    CHECK(err == PRX_OK || text[0], "sweep, allocation %ld: no text", at);
    CHECK(atomic_load(&f.outstanding) == 0, "sweep, allocation %ld: %ld blocks leak", at, atomic_load(&f.outstanding));
    CHECK(err < 0 || before == ROWS, "sweep, allocation %ld: done with %d rows", at, before);
    CHECK(sweep(&none, text, sizeof text) == PRX_OK, "sweep after allocation %ld: %s", at, text);
    CHECK(count_rows(at) == ROWS, "sweep after allocation %ld: %d rows", at, count_rows(at));
    empty_folder(file("out"));
}

static void check_sweeps(void)
{
    char text[300];
    faults none = { .at = 0 };
    write_text("spec.json", "{\"prompts\": [\"a ball\", \"a cube\"], \"base\": {\"steps\": 2, \"frames\": 5, \"width\": 32,"
                            " \"height\": 32}, \"settings\": [{\"steps\": 1}]}\n");
    REQUIRE(sweep(&none, text, sizeof text) == PRX_OK, "without failures: %s", text);
    CHECK(count_rows(0) == ROWS && atomic_load(&none.outstanding) == 0, "without failures: %d rows", count_rows(0));
    empty_folder(file("out"));
    const long total = atomic_load(&none.calls);
    for (long at = 1; at <= total; at += total / SWEEPS + 1)
        check_sweep(at, 0);
    for (long at = 1; at <= total; at += 5 * (total / SWEEPS) + 1)
        check_sweep(at, 1);
    fprintf(stderr, "%ld allocations in a sweep\n", total);
}

int main(void)
{
    snprintf(dir, sizeof dir, "%s/praxino-fault.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    REQUIRE(mkdtemp(dir), "no folder");
    check_sweeps();
    empty_folder(dir);
    return TEST_END();
}
