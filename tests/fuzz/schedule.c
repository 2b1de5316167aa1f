/* A schedule file: what is read maps to jobs of any steps with as many computed steps as it has, the first among them, or is refused. */
#include "caching/schedule.h"
#include "tests/fuzz/fuzz_json.h"

const int fuzz_rounds = 20000;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("{\"steps\":6,\"computed\":[0,1,3,5],\"sigmas\":[1,0.9,0.7,0.5,0.3,0.1],\"worst_edge\":0.25,\"model\":\"tiny\"}"),
    FUZZ_TEXT("{\"steps\":50,\"computed\":[0,1,2,3,4,5,7,10,16,23,30,37,44,49],\"model\":\"\\u00e9\"}"),
    FUZZ_TEXT("{\"steps\":3,\"computed\":[0,2],\"sigmas\":null,\"settings\":{\"reuse\":\"velocity\",\"seeds\":[1]}}"),
    FUZZ_TEXT("{\"steps\":5,\"computed\":[0,2,4],\"attention\":[\"dense\",\"sparse\",\"dense\"],\"sigmas\":[1,0.8,0.6,0.4,0.2]}"),
    FUZZ_TEXT("{\"steps\":5,\"computed\":[0,2,4],\"boundary_step\":2,\"sigmas\":[1,0.8,0.6,0.4,0.2]}"),
    { NULL, 0 },
};

static void check_map(prxi_ctx *c, const prxi_schedule *s, int steps)
{
    float sigmas[65];
    uint8_t computed[64];
    for (int i = 0; i <= steps; i++)
        sigmas[i] = 1.0f - (float)i / (float)steps;
    for (int boundary = 0; boundary <= steps; boundary += 3) {
        const prxi_job_steps job = { steps, boundary, sigmas };
        int n = 0;
        prxi_clear(c);
        if (prxi_schedule_map(c, s, &job, computed) < 0)
            continue;
        for (int i = 0; i < steps; i++)
            n += computed[i] != PRXI_STEP_CACHED;
        if (n != s->n || !computed[0] || (s->boundary && !computed[boundary]))
            abort();
    }
}

static void check_file(prxi_ctx *c, const prxi_json *j)
{
    static prxi_schedule s;
    if (prxi_schedule_read(c, &s, j) < 0)
        return;
    for (int steps = 1; steps <= 64; steps += 7)
        check_map(c, &s, steps);
    if (s.steps <= 64)
        check_map(c, &s, s.steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    return fuzz_json(data, n, check_file);
}
