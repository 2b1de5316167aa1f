/* The frame of a target whose input is a JSON file: what parses is checked, and nothing may be left in memory. */
#ifndef PRXI_FUZZ_JSON_H
#define PRXI_FUZZ_JSON_H

#include <stdlib.h>

#include "engine/core/json.h"
#include "tests/fuzz/fuzz.h"

static inline int fuzz_json(const uint8_t *data, size_t n, void (*check)(prxi_ctx *c, const prxi_json *j))
{
    prxi_mem mem;
    prxi_mem_init(&mem, NULL);
    prxi_ctx c = { .mem = &mem };
    prxi_json j;
    const int err = prxi_json_parse(&c, &j, "fuzz", (const char *)data, n);
    if ((err == PRX_OK) != (j.root != NULL) || (err != PRX_OK && err != PRX_EFORMAT))
        abort();
    if (err == PRX_OK)
        check(&c, &j);
    prxi_json_close(&c, &j);
    if (atomic_load(&mem.total) != 0)
        abort();
    return 0;
}

#endif
