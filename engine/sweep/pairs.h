/* Settings of a row as text: key=value in the order they are applied, as prx_job_set takes them. */
#ifndef PRXI_PAIRS_H
#define PRXI_PAIRS_H

#include <cjson/cJSON.h>

#include "engine/job.h"

typedef struct prxi_pairs {
    prxi_setting *list;
    int n;
} prxi_pairs;

/* Sets a key anew or replaces its value. */
int  prxi_pairs_set(prxi_ctx *c, prxi_pairs *p, const char *key, const char *value);
int  prxi_pairs_add(prxi_ctx *c, prxi_pairs *to, const prxi_pairs *from);
const char *prxi_pairs_get(const prxi_pairs *p, const char *key);    /* NULL: not set */
void prxi_pairs_close(prxi_ctx *c, prxi_pairs *p);

/* A string, number or boolean as prx_job_set takes it; 0 for any other JSON value or when it is too long. */
int prxi_pairs_text(const cJSON *v, char *buf, size_t n);
/* A preset file ({"key": value, ...}, nested objects join their names with dots). */
int prxi_pairs_load(prxi_ctx *c, prxi_pairs *p, const char *path);

#endif
