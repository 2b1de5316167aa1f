/* Option tables: defaults, set with range check, get, and suggestions for names that do not exist. */
#include "option.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- numbers as text ---- */

int prxi_parse_int(const char *text, int64_t *out)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (*digits < '0' || *digits > '9')     /* strtoll would skip spaces */
        return 0;
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return 0;
    *out = v;
    return 1;
}

/* A host program may run under a locale with a decimal comma. */
static locale_t enter_c_locale(locale_t *old)
{
    const locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (c != (locale_t)0)
        *old = uselocale(c);
    return c;
}

static void leave_c_locale(locale_t c, locale_t old)
{
    if (c == (locale_t)0)
        return;
    uselocale(old);
    freelocale(c);
}

int prxi_parse_num(const char *text, double *out)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if ((*digits < '0' || *digits > '9') && *digits != '.')     /* no spaces, no "inf", no "nan" */
        return 0;
    locale_t old = (locale_t)0;
    const locale_t c = enter_c_locale(&old);
    char *end;
    const double v = strtod(text, &end);
    leave_c_locale(c, old);
    if (end == text || *end != '\0' || !isfinite(v))
        return 0;
    *out = v;
    return 1;
}

int prxi_print_num(double v, char *buf, size_t n)
{
    char text[40];
    locale_t old = (locale_t)0;
    const locale_t c = enter_c_locale(&old);
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v || v != v)
            break;
    }
    leave_c_locale(c, old);
    return snprintf(buf, n, "%s", text);
}

/* ---- nearest name ---- */

enum { NAME_MAX_LEN = 64 };

static int fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A' + 'a';
    return c == '-' ? '_' : c;
}

static int min3(int a, int b, int c)
{
    const int ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edit distance with insertion, deletion, replacement and transposition of neighbours (optimal string
 * alignment). Both at most NAME_MAX_LEN long. */
static int distance(const char *a, size_t na, const char *b, size_t nb)
{
    int rows[3][NAME_MAX_LEN + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= nb; j++)
        last[j] = (int)j;
    memcpy(before, last, sizeof rows[0]);
    for (size_t i = 1; i <= na; i++) {
        now[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            const int differ = fold(a[i - 1]) != fold(b[j - 1]);
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + differ);
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) &&
                before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        int *const spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[nb];
}

const char *prxi_nearest(const char *name, const char *const *names, int n)
{
    const size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_LEN)
        return NULL;
    int best = 1 + (int)(len / 3) + 1;
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        const size_t other = strlen(names[i]);
        if (other > NAME_MAX_LEN)
            continue;
        const int d = distance(name, len, names[i], other);
        /* a distance of the whole name would suggest anything for "x" */
        if (d < best && (size_t)d < len) {
            best = d;
            found = names[i];
        }
    }
    return found;
}

/* ---- tables ---- */

const char *prxi_option_type_name(prxi_opt_type type)
{
    static const char *const names[] = {
        [PRXI_OPT_INT] = "int",       [PRXI_OPT_DOUBLE] = "float",  [PRXI_OPT_BOOL] = "bool",
        [PRXI_OPT_CHOICE] = "choice", [PRXI_OPT_STRING] = "string",
    };
    return (size_t)type < sizeof names / sizeof *names ? names[type] : "?";
}

static const prxi_option *find(const prxi_option *table, const char *name)
{
    for (const prxi_option *o = table; o && o->name; o++)
        if (strcmp(o->name, name) == 0)
            return o;
    return NULL;
}

static int fail_unknown(prxi_ctx *c, const prxi_option *table, const char *prefix, const char *name)
{
    enum { MAX = 64 };
    const char *names[MAX] = { NULL };
    char list[512] = "";
    int n = 0;
    size_t used = 0;
    for (const prxi_option *o = table; o && o->name && n < MAX; o++) {
        names[n++] = o->name;
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", o->name);
    }
    const char *near = prxi_nearest(name, names, n);
    if (near)
        return prxi_fail(c, PRX_EINVAL, "%s%s: unknown option; did you mean %s%s?", prefix, name, prefix, near);
    if (n == 0)
        return prxi_fail(c, PRX_EINVAL, "%s%s: unknown option; there are none with this prefix", prefix, name);
    return prxi_fail(c, PRX_EINVAL, "%s%s: unknown option; accepted: %s", prefix, name, list);
}

/* The accepted numbers, in words. */
static void print_range(const prxi_option *o, char *buf, size_t n)
{
    const char *kind = o->type == PRXI_OPT_INT ? "a whole number" : "a number";
    if (o->min == 0 && o->max == 0) {
        snprintf(buf, n, "%s", kind);
        return;
    }
    char lo[40], hi[40];
    prxi_print_num(o->min, lo, sizeof lo);
    prxi_print_num(o->max, hi, sizeof hi);
    if (o->max >= 9.2e18)
        snprintf(buf, n, "%s from %s", kind, lo);
    else
        snprintf(buf, n, "%s from %s to %s", kind, lo, hi);
}

static int in_range(const prxi_option *o, double v)
{
    return (o->min == 0 && o->max == 0) || (v >= o->min && v <= o->max);
}

static int parse_bool(const char *text, int *out)
{
    static const char *const words[] = { "0", "1", "false", "true", "off", "on", "no", "yes" };
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++)
        if (strcasecmp(text, words[i]) == 0) {
            *out = i & 1;
            return 1;
        }
    return 0;
}

/* Index of text among "a|b|c", or -1. */
static int choice_index(const char *choices, const char *text)
{
    const size_t len = strlen(text);
    int i = 0;
    for (const char *p = choices; ; i++) {
        const size_t n = strcspn(p, "|");
        if (n == len && memcmp(p, text, n) == 0)
            return i;
        if (p[n] == '\0')
            return -1;
        p += n + 1;
    }
}

static int fail_value(prxi_ctx *c, const prxi_option *o, const char *prefix, const char *value)
{
    char accepted[256];
    switch (o->type) {
    case PRXI_OPT_BOOL:
        snprintf(accepted, sizeof accepted, "on or off");
        break;
    case PRXI_OPT_CHOICE:
        snprintf(accepted, sizeof accepted, "%s", o->choices);
        break;
    case PRXI_OPT_STRING:
        snprintf(accepted, sizeof accepted, "at most %d bytes", PRXI_OPT_STRING_MAX - 1);
        break;
    default:
        print_range(o, accepted, sizeof accepted);
    }
    return prxi_fail(c, PRX_EINVAL, "%s%s: '%.80s' is not accepted: must be %s", prefix, o->name, value, accepted);
}

static int store(prxi_ctx *c, const prxi_option *o, void *priv, const char *prefix, const char *value)
{
    char *const at = (char *)priv + o->offset;
    int64_t i;
    double d;
    int b;
    switch (o->type) {
    case PRXI_OPT_INT:
        if (!prxi_parse_int(value, &i) || !in_range(o, (double)i))
            return fail_value(c, o, prefix, value);
        memcpy(at, &i, sizeof i);
        return PRX_OK;
    case PRXI_OPT_DOUBLE:
        if (!prxi_parse_num(value, &d) || !in_range(o, d))
            return fail_value(c, o, prefix, value);
        memcpy(at, &d, sizeof d);
        return PRX_OK;
    case PRXI_OPT_BOOL:
        if (!parse_bool(value, &b))
            return fail_value(c, o, prefix, value);
        memcpy(at, &b, sizeof b);
        return PRX_OK;
    case PRXI_OPT_CHOICE:
        b = choice_index(o->choices, value);
        if (b < 0)
            return fail_value(c, o, prefix, value);
        memcpy(at, &b, sizeof b);
        return PRX_OK;
    case PRXI_OPT_STRING:
        if (strlen(value) >= PRXI_OPT_STRING_MAX)
            return fail_value(c, o, prefix, value);
        memcpy(at, value, strlen(value) + 1);
        return PRX_OK;
    }
    return prxi_fail(c, PRX_EINTERNAL, "%s%s: option table holds an unknown type", prefix, o->name);
}

int prxi_option_set(prxi_ctx *c, const prxi_option *table, void *priv, const char *prefix,
                    const char *name, const char *value)
{
    const prxi_option *o = find(table, name);
    if (!o)
        return fail_unknown(c, table, prefix, name);
    return store(c, o, priv, prefix, value);
}

int prxi_option_defaults(prxi_ctx *c, const prxi_option *table, void *priv)
{
    for (const prxi_option *o = table; o && o->name; o++) {
        const int err = store(c, o, priv, "default of ", o->def ? o->def : "");
        if (err < 0)
            return err;
    }
    return PRX_OK;
}

int prxi_option_parse(prxi_ctx *c, const prxi_option *table, void *priv, const char *prefix, const char *text)
{
    char key[128], value[PRXI_OPT_STRING_MAX];
    const char *separator = text && strchr(text, '\n') ? "\n" : ",";
    int err = prxi_option_defaults(c, table, priv);
    while (err == PRX_OK && text && *text) {
        const size_t n = strcspn(text, separator);
        const char *eq = memchr(text, '=', n);
        const size_t k = eq ? (size_t)(eq - text) : 0, v = eq ? n - k - 1 : 0;
        if (!eq || k >= sizeof key || v >= sizeof value)
            return prxi_fail(c, PRX_EINVAL, "'%.60s': key=value expected", text);
        memcpy(key, text, k);
        key[k] = '\0';
        memcpy(value, eq + 1, v);
        value[v] = '\0';
        err = prxi_option_set(c, table, priv, prefix, key, value);
        text += n + (text[n] != '\0');
    }
    return err;
}

static int get_choice(const prxi_option *o, int index, char *buf, size_t n)
{
    const char *p = o->choices;
    for (int i = 0; i < index; i++) {
        p += strcspn(p, "|");
        if (*p == '\0')
            return -1;
        p++;
    }
    return snprintf(buf, n, "%.*s", (int)strcspn(p, "|"), p);
}

int prxi_option_get(const prxi_option *table, const void *priv, const char *name, char *buf, size_t n)
{
    const prxi_option *o = find(table, name);
    if (!o)
        return PRX_EINVAL;
    const char *const at = (const char *)priv + o->offset;
    int64_t i;
    double d;
    int b, len = -1;
    switch (o->type) {
    case PRXI_OPT_INT:
        memcpy(&i, at, sizeof i);
        len = snprintf(buf, n, "%lld", (long long)i);
        break;
    case PRXI_OPT_DOUBLE:
        memcpy(&d, at, sizeof d);
        len = prxi_print_num(d, buf, n);
        break;
    case PRXI_OPT_BOOL:
        memcpy(&b, at, sizeof b);
        len = snprintf(buf, n, "%s", b ? "on" : "off");
        break;
    case PRXI_OPT_CHOICE:
        memcpy(&b, at, sizeof b);
        len = get_choice(o, b, buf, n);
        break;
    case PRXI_OPT_STRING:
        len = snprintf(buf, n, "%s", at);
        break;
    }
    return len >= 0 && (size_t)len < n ? PRX_OK : PRX_EINVAL;
}
