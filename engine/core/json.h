/* JSON in: a checked reader over cJSON (UTF-8, depth <= 1000, size limit, no trailing text), typed getters that
 * name the file and the key when something is wrong. JSON out: cJSON itself. */
#ifndef PRXI_JSON_H
#define PRXI_JSON_H

#include <cjson/cJSON.h>

#include "ctx.h"

typedef struct prxi_json {
    cJSON *root;
    char *path;          /* for messages */
} prxi_json;

/* max_bytes 0: 64 MiB. The root must be an object. PRX_EFORMAT names file and offset. */
int prxi_json_open(prxi_ctx *c, prxi_json *out, const char *path, size_t max_bytes);
int prxi_json_parse(prxi_ctx *c, prxi_json *out, const char *name, const char *text, size_t n);
void prxi_json_close(prxi_ctx *c, prxi_json *j);

/* Missing key or null: *out keeps its value (the default) and PRX_OK. Wrong type or range: PRX_EFORMAT. */
int prxi_json_int(prxi_ctx *c, const prxi_json *j, const char *key, int64_t min, int64_t max, int64_t *out);
int prxi_json_num(prxi_ctx *c, const prxi_json *j, const char *key, double *out);
int prxi_json_bool(prxi_ctx *c, const prxi_json *j, const char *key, int *out);
/* Borrowed string, NULL when missing. */
int prxi_json_str(prxi_ctx *c, const prxi_json *j, const char *key, const char **out);
/* Array of numbers: writes at most max, sets *n; more than max is PRX_EFORMAT. */
int prxi_json_nums(prxi_ctx *c, const prxi_json *j, const char *key, double *out, int max, int *n);

/* A number that reads back as the very same: cJSON's own printer lets the last bit go. */
cJSON *prxi_json_exact(double v);

/* Whole file into a prxi_alloc'd buffer with a final NUL; *n without it. PRX_EIO / PRX_EINVAL. */
int prxi_read_file(prxi_ctx *c, const char *path, size_t max_bytes, char **out, size_t *n);
/* Writes to a temporary name beside path, fsyncs, renames: the target is old or new, never half. */
int prxi_write_file(prxi_ctx *c, const char *path, const void *data, size_t n);

#endif
