/* JSON: configs, presets, indices. Whatever parses is read through every getter, by every key at the top. */
#include "tests/fuzz/fuzz_json.h"

const int fuzz_rounds = 20000;
const fuzz_seed fuzz_seeds[] = {
    FUZZ_TEXT("{\"d_model\": 4096, \"eps\": 1e-06, \"tie\": false, \"act\": \"gelu_new\", \"n\": null}"),
    FUZZ_TEXT("{\"patch_size\":[1,2,2],\"mean\":[-0.7571,Infinity,-Infinity],\"a\":{\"b\":[{},[],\"\\u00e9\\ud83d\\ude00\"]}}"),
    FUZZ_TEXT("{\"weight_map\":{\"a.weight\":\"model-00001-of-00002.safetensors\"},\"metadata\":{\"total_size\":9007199254740993}}"),
    FUZZ_TEXT("{\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]],\"\\\"\\\\\":\"\xc3\xa9\"}"),
    { NULL, 0 },
};

static void read_all(prxi_ctx *c, const prxi_json *j)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, j->root) {
        int64_t i = 0;
        double d = 0, v[4];
        int b = 0, n = 0;
        const char *s;
        prxi_clear(c);
        prxi_json_int(c, j, e->string, -5, INT64_MAX, &i);
        prxi_json_num(c, j, e->string, &d);
        prxi_json_bool(c, j, e->string, &b);
        prxi_json_str(c, j, e->string, &s);
        prxi_json_nums(c, j, e->string, v, 4, &n);
        if (i < -5 || n < 0 || n > 4)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    return fuzz_json(data, n, read_all);
}
