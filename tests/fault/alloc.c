/* The N-th allocation fails, once or from then on: every call comes back with a status and a text, nothing leaks, no
 * output file stays. The whole job runs through the public interface with the caller's allocator. */
#include <praxino/praxino.h>

#include <sys/stat.h>
#include <unistd.h>

#include "tests/fault/fault.h"
#include "tests/test.h"

#define MODEL_DIR PRX_SOURCE_DIR "/tests/vectors/golden/wan21_unipc/model"

/* Every allocation; sanitizers make a job too slow for that. */
#ifdef __SANITIZE_ADDRESS__
enum { EVERY_ONE_BELOW = 60, STRIDE = 9 };
#else
enum { EVERY_ONE_BELOW = 60, STRIDE = 1 };
#endif

static char dir[64];

static const char *file(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* Jobs: with a saved state, with policies that hold memory, and one that measures a graph. */
typedef struct job_kind {
    const char *cache, *setting, *value;      /* a value "x.json" is a file in the folder of the outputs */
    int stride;                               /* times STRIDE: the jobs share most allocations */
    const char *steps;
    int graph;
} job_kind;

static const job_kind kinds[] = {
    { NULL, "save_state", "state", 1, "2", 0 },
    { "dbcache", "record_trace", "x.json", 1, "2", 0 },
    { "teacache", "cache.coefficients", "0,0,0,0,0.05", 7, "2", 0 },
    { "teacache", "cache.calibrate", "x.json", 7, "7", 0 },
    { "magcache", "cache.calibrate", "x.json", 7, "2", 0 },
    { "easycache", "cache.ret_steps", "1", 7, "2", 0 },
    { "dbprune", "cache.non_prune_block_ids", "1", 7, "2", 0 },
    { NULL, "max_text", "64", 17, "4", 1 },
};

static int set_cache(prx_job *j, const job_kind *kind)
{
    const int is_file = strcmp(kind->value, "x.json") == 0 || strcmp(kind->value, "state") == 0;
    const int err = kind->cache ? prx_job_set(j, "cache", kind->cache) : PRX_OK;
    return err < 0 ? err : prx_job_set(j, kind->setting, is_file ? file(kind->value) : kind->value);
}

static int configure(prx_job *j, const job_kind *kind)
{
    const char *const settings[][2] = {
        { "prompt", "a red ball" }, { "negative_prompt", "blurry" }, { "width", "32" }, { "height", "32" },
        { "frames", "5" }, { "guidance", "4" }, { "steps", kind->steps },
    };
    int err = set_cache(j, kind);
    static const char *const svg2[][2] = {      /* 8 tokens, clustered in every layer: memory is asked for in the middle of one */
        { "attention", "svg2" }, { "attention.first_times_fp", "0" }, { "attention.num_q_centroids", "2" },
        { "attention.num_k_centroids", "4" }, { "attention.top_p_kmeans", "0.5" }, { "attention.probe", "true" },
        { "attention.seeding", "farthest" },
    };
    for (size_t i = 0; kind->cache && i < sizeof svg2 / sizeof *svg2 && err == PRX_OK; i++)
        err = prx_job_set(j, svg2[i][0], svg2[i][1]);
    for (size_t i = 0; i < sizeof settings / sizeof *settings && err == PRX_OK; i++)
        err = prx_job_set(j, settings[i][0], settings[i][1]);
    if (err == PRX_OK && !kind->graph)
        err = prx_job_set(j, "output", file("x.y4m"));
    if (err == PRX_OK && !kind->graph)
        err = prx_job_set(j, "dump", file("x.safetensors"));
    return err;
}

/* One job from opening the engine to closing it. text gets what failed; *complete: the run was through. */
static int whole_job(faults *f, const job_kind *kind, int *complete, char *text, size_t n)
{
    const prx_allocator allocator = { fault_alloc, fault_free, f };
    prx_engine_params params;
    prx_engine *e = NULL;
    prx_model *m = NULL;
    prx_job *j = NULL;
    char *json = NULL;
    *complete = 0;
    prx_engine_default_params(&params);
    params.allocator = &allocator;
    params.threads = 2;
    int err = prx_engine_open(&e, &params);
    if (err == PRX_OK)
        err = prx_model_open(&m, e, MODEL_DIR);
    if (err == PRX_OK)
        err = prx_job_open(&j, m);
    snprintf(text, n, "%s", e ? prx_engine_last_error(e) : "no engine");
    if (err == PRX_OK) {
        err = configure(j, kind);
        if (err == PRX_OK)
            err = kind->graph ? prx_schedule_build(j, "a red ball\na cube\n", "1-2", "max_gap=3", file("x.json"), &json) : prx_job_run(j);
        *complete = err == PRX_OK;
        if (err == PRX_OK && !kind->graph)
            err = prx_job_stats(j, &json);
        snprintf(text, n, "%s", prx_job_last_error(j));
    }
    prx_text_free(e, json);
    prx_job_close(&j);
    prx_model_close(&m);
    prx_engine_close(&e);
    return err;
}

static void remove_files(void)
{
    static const char *const names[] = { "x.y4m", "x.safetensors", "state", "x.json" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(file(names[i]));
}

/* Failure number at: returns 1 when the job was done without reaching it. */
static int try_failure(long at, int stay, const job_kind *job)
{
    char text[256];
    faults f = { .at = at, .stay = stay };
    int complete;
    const int err = whole_job(&f, job, &complete, text, sizeof text);
    const char *kind = stay ? "from allocation" : "allocation";
    const int done = err == PRX_OK;
    CHECK(done || err == PRX_ENOMEM, "%s %ld: %s: %s", kind, at, prx_status_name(err), text);
    CHECK(done || text[0] != '\0', "%s %ld: no text", kind, at);
    CHECK(atomic_load(&f.outstanding) == 0, "%s %ld: %ld blocks leak", kind, at, atomic_load(&f.outstanding));
    CHECK(complete || (access(file("x.y4m"), F_OK) != 0 && access(file("x.safetensors"), F_OK) != 0),
          "%s %ld: an output file stays", kind, at);
    remove_files();
    CHECK(rmdir(dir) == 0 && mkdir(dir, 0700) == 0, "%s %ld: a temporary file stays", kind, at);
    return atomic_load(&f.calls) < at;
}

static void try_all(const job_kind *job)
{
    char text[256];
    int complete;
    faults none = { .at = 0 };
    REQUIRE(whole_job(&none, job, &complete, text, sizeof text) == PRX_OK, "without failures: %s", text);
    CHECK(atomic_load(&none.outstanding) == 0, "without failures: %ld blocks leak", atomic_load(&none.outstanding));
    remove_files();
    const long total = atomic_load(&none.calls);
    CHECK(total > 300, "only %ld allocations: is the caller's allocator used?", total);
    for (long at = 1; at <= total; at += at < EVERY_ONE_BELOW && job->stride == 1 ? 1 : STRIDE * job->stride)
        try_failure(at, 0, job);
    for (long at = 1; at <= total; at += job->stride * (total / 60) + 1)
        try_failure(at, 1, job);
    CHECK(try_failure(total + 1000000, 0, job), "a failure that is never reached");
    fprintf(stderr, "%ld allocations in a job with cache %s\n", total, job->graph ? "measured" : job->cache ? job->cache : "none");
}

int main(void)
{
    snprintf(dir, sizeof dir, "%s/praxino-fault.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    REQUIRE(mkdtemp(dir), "no folder for the outputs");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        try_all(&kinds[i]);
    rmdir(dir);
    return TEST_END();
}
