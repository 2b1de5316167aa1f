/* Picks the default settings of a model by what its transformer's config says. */
#include "engine/defaults.h"

#include <string.h>

/* The number of keys that agree, or -1 when one does not. */
static int agreement(const cJSON *match, const cJSON *config, int experts)
{
    int n = 0;
    const cJSON *want;
    cJSON_ArrayForEach(want, match)
    {
        if (strcmp(want->string, "experts") == 0) {
            if (want->valueint != experts)
                return -1;
        } else {
            const cJSON *have = cJSON_GetObjectItemCaseSensitive(config, want->string);
            if (!have || !cJSON_Compare(want, have, 1))
                return -1;
        }
        n++;
    }
    return n;
}

int prxi_model_defaults(prxi_ctx *c, const prxi_json *transformer_config, int experts, prxi_json *out)
{
    const prxi_embedded *best = NULL;
    int most = 0;
    memset(out, 0, sizeof *out);
    for (const prxi_embedded *e = prxi_model_configs; e->name; e++) {
        prxi_json file = { NULL, NULL };
        const int err = prxi_json_parse(c, &file, e->name, e->text, strlen(e->text));
        if (err < 0)
            return err;
        const cJSON *match = cJSON_GetObjectItemCaseSensitive(file.root, "match");
        const int n = agreement(match, transformer_config->root, experts);
        prxi_json_close(c, &file);
        if (n > most) {
            most = n;
            best = e;
        }
    }
    return best ? prxi_json_parse(c, out, best->name, best->text, strlen(best->text)) : PRX_OK;
}
