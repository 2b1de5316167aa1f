/* Schedule files: the published lists load, bad files are refused, and a schedule carries over to other sigmas. */
#include "tests/vectors.h"

#include <dirent.h>

#include "caching/schedule.h"

static prxi_mem mem;
static prxi_ctx ctx = { .mem = &mem };

static int count(const uint8_t *m, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += m[i];
    return sum;
}

static int map(const prxi_schedule *s, const float *sigmas, int boundary, int steps, uint8_t *mask)
{
    const prxi_job_steps job = { steps, boundary, sigmas };
    prxi_clear(&ctx);
    return prxi_schedule_map(&ctx, s, &job, mask);
}

static void check_published(void)
{
    static const char dir[] = PRX_SOURCE_DIR "/configs/schedules";
    DIR *d = opendir(dir);
    REQUIRE(d, "%s", dir);
    const struct dirent *e;
    int files = 0;
    while ((e = readdir(d))) {
        char path[1024];
        prxi_json j;
        static prxi_schedule s;
        uint8_t mask[PRXI_SCHEDULE_MAX];
        float sigmas[PRXI_SCHEDULE_MAX + 1] = { 0 };
        if (!strstr(e->d_name, ".json"))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        prxi_clear(&ctx);
        REQUIRE(prxi_json_open(&ctx, &j, path, 0) == PRX_OK, "%s", ctx.error.text);
        CHECK(prxi_schedule_read(&ctx, &s, &j) == PRX_OK, "%s", ctx.error.text);
        CHECK(map(&s, sigmas, s.steps, s.steps, mask) == PRX_OK && count(mask, s.steps) == s.n, "%s", path);
        CHECK(map(&s, sigmas, s.steps + 1, s.steps + 1, mask) == PRX_EINVAL, "%s: no sigmas, other steps", path);
        prxi_json_close(&ctx, &j);
        files++;
    }
    closedir(d);
    CHECK(files >= 20, "%d files", files);
}

static void shifted(float *sigmas, int steps, double shift)
{
    for (int i = 0; i < steps; i++) {
        const double r = 1.0 - (double)i / steps;
        sigmas[i] = (float)(shift * r / (1 + (shift - 1) * r));
    }
    sigmas[steps] = 0;
}

/* The same sigmas give the same steps; twice the steps and another shift keep budget, order and the neighbourhood in sigma. */
static void check_mapping(void)
{
    static prxi_schedule s = { .steps = 20, .n = 8, .computed = { 0, 1, 2, 4, 7, 11, 15, 19 }, .has_sigmas = 1 };
    float sigmas[101];
    uint8_t mask[100];
    shifted(sigmas, 20, 3.0);
    for (int i = 0; i < 20; i++)
        s.sigmas[i] = sigmas[i];
    REQUIRE(map(&s, sigmas, 20, 20, mask) == PRX_OK, "%s", ctx.error.text);
    for (int k = 0; k < s.n; k++)
        CHECK(mask[s.computed[k]], "step %d", s.computed[k]);
    CHECK(count(mask, 20) == s.n, "%d", count(mask, 20));
    for (int steps = 10; steps <= 100; steps += 15)
        for (int shift = 1; shift <= 7; shift += 3) {
            shifted(sigmas, steps, shift);
            REQUIRE(map(&s, sigmas, steps, steps, mask) == PRX_OK, "%s", ctx.error.text);
            CHECK(count(mask, steps) >= s.n && count(mask, steps) <= s.n + 1 && mask[0], "%d steps, shift %d: %d", steps, shift,
                  count(mask, steps));
        }
    shifted(sigmas, 5, 3.0);
    CHECK(map(&s, sigmas, 5, 5, mask) == PRX_EINVAL, "more computed steps than the job has");
}

static int first_below(const float *sigmas, int steps, double boundary)
{
    int i = 0;
    while (i < steps && sigmas[i] >= boundary)
        i++;
    return i;
}

/* Every count of each expert, carried over to other steps and shifts: as many in each expert, its first step among them. */
static void check_experts(void)
{
    static prxi_schedule s = { .steps = 20, .has_sigmas = 1 };
    float sigmas[101];
    uint8_t mask[100];
    int mapped = 0, refused = 0;
    shifted(sigmas, 20, 5.0);
    for (int i = 0; i < 20; i++)
        s.sigmas[i] = sigmas[i];
    s.boundary = first_below(sigmas, 20, 0.875);
    REQUIRE(s.boundary > 3 && s.boundary < 17, "%d", s.boundary);
    for (int high = 1; high <= s.boundary; high++)
        for (int low = 2; low <= 20 - s.boundary; low++) {
            s.n = 0;
            for (int i = 0; i < high; i++)          /* one side at its end, the other at its beginning: neighbours of the boundary */
                s.computed[s.n++] = i ? s.boundary - high + i : 0;
            for (int i = 0; i < low; i++)
                s.computed[s.n++] = i < low - 1 ? s.boundary + i : 19;
            for (int steps = 6; steps <= 100; steps += 11)
                for (int shift = 1; shift <= 9; shift += 2) {
                    shifted(sigmas, steps, shift);
                    const int boundary = first_below(sigmas, steps, 0.875), fits = high <= boundary && low <= steps - boundary;
                    CHECK((map(&s, sigmas, boundary, steps, mask) == PRX_OK) == fits, "%d+%d, %d steps, shift %d: %s", high, low, steps,
                          shift, ctx.error.text);
                    fits ? mapped++ : refused++;
                    if (!fits) {
                        CHECK(s.n > steps || strstr(ctx.error.text, "-noise expert"), "%s", ctx.error.text);
                        continue;
                    }
                    CHECK(count(mask, boundary) == high && count(mask + boundary, steps - boundary) == low && mask[0] && mask[boundary] &&
                          mask[steps - 1], "%d+%d, %d steps, shift %d", high, low, steps, shift);
                }
        }
    CHECK(mapped > 500 && refused > 500, "%d, %d", mapped, refused);
}

static void check_bad(void)
{
    static const char *const bad[] = {
        "{}", "{\"steps\": 5}", "{\"steps\": 5, \"computed\": []}", "{\"steps\": 5, \"computed\": [0]}",
        "{\"steps\": 5, \"computed\": [1, 2]}", "{\"steps\": 5, \"computed\": [0, 5]}", "{\"steps\": 5, \"computed\": [0, 3, 3]}",
        "{\"steps\": 5, \"computed\": [0, 2.5]}", "{\"steps\": 1e9, \"computed\": [0, 1]}",
        "{\"steps\": 5, \"computed\": [0, 2, 4], \"boundary_step\": 3}", "{\"steps\": 5, \"computed\": [0, 2], \"boundary_step\": 4}",
        "{\"steps\": 5, \"computed\": [0, 2], \"boundary_step\": 5}", "{\"steps\": 5, \"computed\": [0, 2], \"boundary_step\": 0}",
        "{\"steps\": 3, \"computed\": [0, 1], \"sigmas\": [1, 0.5]}", "{\"steps\": 3, \"computed\": [0, 1], \"sigmas\": [0.5, 1, 0.2]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        prxi_json j;
        static prxi_schedule s;
        prxi_clear(&ctx);
        REQUIRE(prxi_json_parse(&ctx, &j, "s.json", bad[i], strlen(bad[i])) == PRX_OK, "%s", ctx.error.text);
        CHECK(prxi_schedule_read(&ctx, &s, &j) == PRX_EFORMAT && strstr(ctx.error.text, "s.json"), "%s: %s", bad[i], ctx.error.text);
        prxi_json_close(&ctx, &j);
    }
}

int main(void)
{
    prxi_mem_init(&mem, NULL);
    check_published();
    check_mapping();
    check_experts();
    check_bad();
    CHECK(atomic_load(&mem.total) == 0, "leak");
    return TEST_END();
}
