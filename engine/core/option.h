/* Option tables: how a plug-in declares its settings, so that --set, presets, help and stats all come
 * from one place. */
#ifndef PRXI_OPTION_H
#define PRXI_OPTION_H

#include "ctx.h"

typedef enum prxi_opt_type {
    PRXI_OPT_INT,
    PRXI_OPT_DOUBLE,
    PRXI_OPT_BOOL,
    PRXI_OPT_CHOICE,
    PRXI_OPT_STRING
} prxi_opt_type;

typedef struct prxi_option {
    const char *name;        /* without the "attention." / "cache." prefix */
    prxi_opt_type type;
    size_t offset;           /* of int64_t, double, int (bool, choice index) or char[PRXI_OPT_STRING_MAX] */
    double min, max;         /* numbers: inclusive range; both 0: any finite number */
    const char *choices;     /* CHOICE: "a|b|c" */
    const char *def;         /* default, as text */
    const char *help;        /* one line */
} prxi_option;

#define PRXI_OPT_STRING_MAX 512

/* table ends with name NULL. priv is the struct that offsets point into. */
int prxi_option_defaults(prxi_ctx *c, const prxi_option *table, void *priv);
/* prefix ("cache.") is for messages. Unknown name or bad value: PRX_EINVAL with the range or the nearest name. */
int prxi_option_set(prxi_ctx *c, const prxi_option *table, void *priv, const char *prefix,
                    const char *name, const char *value);
/* Defaults, then "key=value,key=value"; text NULL or "" sets nothing. With a newline in it, pairs end at newlines and a value may hold
 * commas. */
int prxi_option_parse(prxi_ctx *c, const prxi_option *table, void *priv, const char *prefix, const char *text);
/* Text of the current value into buf; PRX_EINVAL if unknown. */
int prxi_option_get(const prxi_option *table, const void *priv, const char *name, char *buf, size_t n);
/* "int", "float", "bool", "choice", "string". */
const char *prxi_option_type_name(prxi_opt_type type);
/* Numbers as text, whatever the locale of the host program is. Parsing takes the whole text, no spaces, nothing that is
 * not finite: 1 on success. Printing gives the shortest text that reads back as the same number. */
int prxi_parse_int(const char *text, int64_t *out);
int prxi_parse_num(const char *text, double *out);
int prxi_print_num(double v, char *buf, size_t n);          /* as snprintf */
/* The nearest name within an edit distance of 1 + length/3, or NULL. Case does not count, '-' equals '_'. */
const char *prxi_nearest(const char *name, const char *const *names, int n);

#endif
