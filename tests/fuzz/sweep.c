/* A sweep's spec: what is read has at least one setting, all of them different and within the limit of rows, or is refused with a text
 * that names the file. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/sweep/spec.h"
#include "tests/fuzz/fuzz.h"

const int fuzz_rounds = 5000;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("{\"prompts\":[\"a\",\"b\"],\"seeds\":[0,7],\"base\":{\"steps\":4},\"settings\":[{\"label\":\"short\",\"steps\":[2,3]},"
              "{\"cache\":\"dbcache\",\"cache.residual_diff_threshold\":[0.1,5e-2]}],\"repeats\":2,\"keep_clips\":true}"),
    FUZZ_TEXT("{\"prompts\":[\"a\"],\"reference\":null,\"grid\":[{\"steps\":[1,2],\"dtype\":[\"f32\",\"bf16\"]},{\"width\":[32,64]}]}"),
    FUZZ_TEXT("{\"description\":\"x\",\"model\":\"m\",\"prompts\":[\"\\u00e9\"],\"order_seed\":3,\"reference\":{\"attention\":\"dense\"},"
              "\"settings\":[{\"attention\":{\"decay\":[0.2,1],\"block\":64}},{}],"
              "\"grid\":{\"a\":[1,2,3],\"b\":[true,false],\"c\":\"x\"}}"),
    FUZZ_TEXT("{\"prompts\":\"nothing.txt\",\"settings\":[{\"config\":[\"none\",\"draft\"]}],\"seeds\":[-1,1e30]}"),
    { NULL, 0 },
};

static char path[] = "/tmp/praxino-fuzz-XXXXXX";

static void remove_file(void)
{
    unlink(path);
}

/* One file for all runs, written anew. */
static void write_spec(const uint8_t *data, size_t n)
{
    static int fd = -1;
    if (fd < 0) {
        fd = mkstemp(path);
        atexit(remove_file);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, n, 0) != (ssize_t)n)
        abort();
}

static void check(const prxi_sweep_spec *s)
{
    if (s->n < 1 || s->n_prompts < 1 || s->n_seeds < 1 || s->repeats < 1
        || (double)s->n * s->n_prompts * s->n_seeds * s->repeats > PRXI_SWEEP_ROWS)
        abort();
    for (int i = 0; i < s->n; i++) {
        if (strlen(s->settings[i].digest) != 64 || !s->settings[i].label[0] || !s->settings[i].where[0])
            abort();
        for (int k = 0; k < i && s->n <= 64; k++)
            if (strcmp(s->settings[i].digest, s->settings[k].digest) == 0)
                abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    prxi_mem mem;
    prxi_sweep_spec s = { 0 };
    prxi_mem_init(&mem, NULL);
    prxi_ctx c = { .mem = &mem };
    write_spec(data, n);
    if (prxi_sweep_spec_read(&c, &s, path, NULL) == PRX_OK)
        check(&s);
    else if (!strstr(c.error.text, path))
        abort();
    prxi_sweep_spec_close(&c, &s);
    if (atomic_load(&mem.total) != 0)
        abort();
    return 0;
}
