/* A trace through the replay: decisions as many as the trace has steps and branches, or an error that names the file. */
#include <stdlib.h>

#include <cjson/cJSON.h>
#include <praxino/praxino.h>

#include "engine/trace.h"
#include "tests/fuzz/fuzz.h"

const int fuzz_rounds = 20000;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("{\"steps\":6,\"branches\":[\"cond\"],\"probes\":[[[1],[1.01],[1.02],[1.03],[1.2],[1.21]]]}"),
    FUZZ_TEXT("{\"steps\":3,\"branches\":[\"cond\",\"uncond\"],\"probes\":[[[1,2],[1,2.5],[0,0]],[[0,0],[-1e300,1e300],[1,null]]]}"),
    FUZZ_TEXT("{\"steps\":2,\"probes\":[[[],[]]]}"),
    FUZZ_TEXT("{\"steps\":4,\"branches\":[\"cond\"],\"model\":\"m\",\"blocks\":3,\"Fn_compute_blocks\":1,\"experts\":[0,0,1,1],"
              "\"metric\":{\"states\":false,\"downsample_factor\":\"1\",\"important_condition_threshold\":\"0\","
              "\"cfg_diff_compute_separate\":\"true\"},\"measured\":[[null,[0,0.02],null,[2,0.5]]],\"probes\":[[[1],[1],[2],[2]]]}"),
    { NULL, 0 },
};

static void check_answer(const char *text)
{
    cJSON *root = cJSON_Parse(text);
    const cJSON *branch, *decisions = cJSON_GetObjectItemCaseSensitive(root, "decisions");
    int steps = -1;
    if (!cJSON_IsArray(decisions) || !decisions->child)
        abort();
    cJSON_ArrayForEach(branch, decisions)
    {
        if (steps >= 0 && cJSON_GetArraySize(branch) != steps)
            abort();
        steps = cJSON_GetArraySize(branch);
    }
    cJSON_Delete(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static prx_engine *e;
    char *json = NULL;
    if (!e && prx_engine_open(&e, NULL) < 0)
        abort();
    const int err = prxi_replay_text(e, "dbcache", "max_warmup_steps=1,residual_diff_threshold=0.05", "fuzz", (const char *)data, n, &json);
    if ((err == PRX_OK) != (json != NULL) || (err < 0 && !*prx_engine_last_error(e)))
        abort();
    if (json)
        check_answer(json);
    prx_text_free(e, json);
    return 0;
}
