/* The N-th allocation of a search for settings fails: a status and a text, nothing leaks, and no preset without a verification. */
#include <praxino/praxino.h>

#include <unistd.h>

#include "tests/fault/fault.h"
#include "tests/test.h"

#define MODEL_DIR PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model"

/* How many allocations of opening and planning fail in turn, how many of the whole, and from how many on all do. */
#ifdef __SANITIZE_ADDRESS__
enum { OPENING = 15, WHOLE = 6, STAY = 3 };
#else
enum { OPENING = 40, WHOLE = 12, STAY = 4 };
#endif
enum { PLANNED = 400 };

static char prompts[] = "/tmp/praxino-fault-XXXXXX";

static int search(faults *f, char *text, size_t n, int *found)
{
    static const char *const base[][2] = { { "steps", "12" }, { "width", "32" }, { "height", "32" }, { "frames", "5" },
                                           { "guidance", "1" } };
    const prx_allocator allocator = { fault_alloc, fault_free, f };
    const char *json = NULL;
    prx_tune *t = NULL;
    prx_tune_params p;
    prx_tune_default_params(&p);
    p.engine.allocator = &allocator;
    p.engine.threads = 2;
    p.engine.dtype = "f32";
    p.model = MODEL_DIR;
    p.prompts = prompts;
    p.target = "psnr=12";
    int err = prx_tune_open(&t, &p);
    for (size_t i = 0; i < sizeof base / sizeof *base && err == PRX_OK; i++)
        err = prx_tune_set(t, base[i][0], base[i][1]);
    if (err == PRX_OK)
        err = prx_tune_run(t);
    if (err == PRX_OK)
        err = prx_tune_evidence(t, &json);
    if (err == PRX_OK)
        err = prx_tune_preset(t, &json);
    *found = err == PRX_OK && json;
    snprintf(text, n, "%s", t ? prx_tune_last_error(t) : "no search");
    prx_tune_close(&t);
    return err;
}

static void check(long at, int stay)
{
    char text[300];
    int found;
    faults f = { .at = at, .stay = stay };
    const int err = search(&f, text, sizeof text, &found);
    CHECK(err == PRX_OK || err == PRX_ENOMEM, "allocation %ld: %s: %s", at, prx_status_name(err), text);
    CHECK(err == PRX_OK || text[0], "allocation %ld: no text", at);
    CHECK(!(stay && at < PLANNED && found), "from allocation %ld: a preset", at);
    CHECK(atomic_load(&f.outstanding) == 0, "allocation %ld: %ld blocks leak", at, atomic_load(&f.outstanding));
}

int main(void)
{
    char text[300];
    int found;
    faults none = { .at = 0 };
    const int fd = mkstemp(prompts);
    static const char lines[] = "a ball\na cube\na star\ntwo cats\n";
    REQUIRE(fd >= 0 && write(fd, lines, sizeof lines - 1) == (ssize_t)sizeof lines - 1 && close(fd) == 0, "prompts");
    REQUIRE(search(&none, text, sizeof text, &found) == PRX_OK, "without failures: %s", text);
    CHECK(atomic_load(&none.outstanding) == 0, "without failures: %ld blocks leak", atomic_load(&none.outstanding));
    const long total = atomic_load(&none.calls);
    for (long at = 1; at < PLANNED; at += PLANNED / OPENING)
        check(at, 0);
    for (long at = PLANNED; at <= total; at += total / WHOLE + 1)
        check(at, 0);
    for (long at = 1; at <= total; at += total / STAY + 1)
        check(at, 1);
    fprintf(stderr, "%ld allocations in a search\n", total);
    unlink(prompts);
    return TEST_END();
}
