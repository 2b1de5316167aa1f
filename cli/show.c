/* JSON shown as aligned text. */
#include "show.h"

#include <math.h>
#include <string.h>

#include "app.h"

enum { CELL = 96, MAX_COLUMNS = 12, MAX_DEPTH = 8 };

static int ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static void bytes_text(double v, char *out, size_t n)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    int u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, n, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static int is_scalar(const cJSON *v)
{
    return !cJSON_IsObject(v) && !cJSON_IsArray(v);
}

/* A number, text, yes or no; "-" for null. */
static void scalar_text(const char *key, const cJSON *v, char *out, size_t n)
{
    if (cJSON_IsBool(v))
        snprintf(out, n, "%s", cJSON_IsTrue(v) ? "yes" : "no");
    else if (cJSON_IsString(v))
        snprintf(out, n, "%s", v->valuestring);
    else if (!cJSON_IsNumber(v))
        snprintf(out, n, "-");
    else if (ends_with(key, "bytes"))
        bytes_text(v->valuedouble, out, n);
    else if (v->valuedouble == floor(v->valuedouble) && fabs(v->valuedouble) < 1e15)
        snprintf(out, n, "%.0f", v->valuedouble);
    else
        snprintf(out, n, "%.4g", v->valuedouble);
}

/* "peak_memory_bytes" is shown as "peak memory". */
static void label(const char *key, char *out, size_t n)
{
    snprintf(out, n, "%s", key);
    char *s = out;
    if (ends_with(s, "_bytes"))
        s[strlen(s) - 6] = '\0';
    for (; *s; s++)
        if (*s == '_')
            *s = ' ';
}

/* "1, 2, 3" when v is a list of scalars; a long one is cut: "1, 2, ... (33 in all)". */
static int scalar_list_text(const char *key, const cJSON *v, char *out, size_t n)
{
    const size_t room = n - 24;         /* for the count */
    size_t used = 0;
    int cut = 0;
    out[0] = '\0';
    for (const cJSON *i = v->child; i; i = i->next) {
        char cell[CELL];
        if (!is_scalar(i))
            return 0;
        scalar_text(key, i, cell, sizeof cell);
        cut |= used + strlen(cell) + 3 > room;
        if (!cut)
            used += (size_t)snprintf(out + used, n - used, "%s%s", used ? ", " : "", cell);
    }
    if (cut)
        snprintf(out + used, n - used, ", ... (%d in all)", cJSON_GetArraySize(v));
    if (!v->child)
        snprintf(out, n, "none");
    return 1;
}

static int columns_of(const cJSON *row, const char **keys)
{
    int n = 0;
    for (const cJSON *c = row->child; c; c = c->next)
        if (is_scalar(c) && n < MAX_COLUMNS)
            keys[n++] = c->string;
    return n;
}

static void cell_text(const cJSON *row, const char *key, char *out, size_t n)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(row, key);
    if (v)
        scalar_text(key, v, out, n);
    else
        snprintf(out, n, "-");
}

/* Text left, numbers right. */
static void put_cell(FILE *f, const char *text, int width, int right, int last)
{
    if (right)
        fprintf(f, "%*s", width, text);
    else if (last)
        fprintf(f, "%s", text);
    else
        fprintf(f, "%-*s", width, text);
    fputs(last ? "\n" : "  ", f);
}

static void show_table(FILE *f, const cJSON *list, int indent, int max_rows)
{
    const char *keys[MAX_COLUMNS] = { NULL };
    int width[MAX_COLUMNS], right[MAX_COLUMNS];
    char cell[CELL];
    const int n = columns_of(list->child, keys);
    const int rows = cJSON_GetArraySize(list);
    for (int c = 0; c < n; c++) {
        label(keys[c], cell, sizeof cell);
        width[c] = (int)strlen(cell);
        right[c] = cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(list->child, keys[c]));
        int r = 0;
        for (const cJSON *row = list->child; row && r < max_rows; row = row->next, r++) {
            cell_text(row, keys[c], cell, sizeof cell);
            if ((int)strlen(cell) > width[c])
                width[c] = (int)strlen(cell);
        }
    }
    fprintf(f, "%*s", indent, "");
    for (int c = 0; c < n; c++) {
        label(keys[c], cell, sizeof cell);
        put_cell(f, cell, width[c], right[c], c == n - 1);
    }
    int r = 0;
    for (const cJSON *row = list->child; row && r < max_rows; row = row->next, r++) {
        fprintf(f, "%*s", indent, "");
        for (int c = 0; c < n; c++) {
            cell_text(row, keys[c], cell, sizeof cell);
            put_cell(f, cell, width[c], right[c], c == n - 1);
        }
    }
    if (rows > max_rows)
        fprintf(f, "%*s... and %d more; --json has all\n", indent, "", rows - max_rows);
}

static void show_object(FILE *f, const cJSON *object, int indent, int max_rows, int depth);

static void show_child(FILE *f, const cJSON *v, int indent, int key_width, int max_rows, int depth)
{
    char name[CELL], text[CELL];
    const char *key = v->string ? v->string : "";
    label(key, name, sizeof name);
    if (is_scalar(v)) {
        /* a long text (a path, a prompt) is not cut */
        if (cJSON_IsString(v)) {
            fprintf(f, "%*s%-*s  %s\n", indent, "", key_width, name, v->valuestring);
            return;
        }
        scalar_text(key, v, text, sizeof text);
        fprintf(f, "%*s%-*s  %s\n", indent, "", key_width, name, text);
    } else if (cJSON_IsArray(v) && scalar_list_text(key, v, text, sizeof text)) {
        fprintf(f, "%*s%-*s  %s\n", indent, "", key_width, name, text);
    } else if (!v->child) {
        return;
    } else if (depth == MAX_DEPTH) {
        fprintf(f, "%*s%-*s  ...\n", indent, "", key_width, name);
    } else {
        fprintf(f, "%*s%s\n", indent, "", name);
        if (cJSON_IsArray(v) && cJSON_IsObject(v->child) && is_scalar(v->child->child))
            show_table(f, v, indent + 2, max_rows);
        else
            show_object(f, v, indent + 2, max_rows, depth + 1);
    }
}

static void show_object(FILE *f, const cJSON *object, int indent, int max_rows, int depth)
{
    int width = 0, rows = 0;
    char name[CELL];
    for (const cJSON *v = object->child; v; v = v->next) {
        label(v->string ? v->string : "", name, sizeof name);
        if ((is_scalar(v) || (cJSON_IsArray(v) && v->child && is_scalar(v->child))) && (int)strlen(name) > width)
            width = (int)strlen(name);
    }
    for (const cJSON *v = object->child; v; v = v->next) {
        if (cJSON_IsArray(object) && rows++ == max_rows) {
            fprintf(f, "%*s... and more; --json has all\n", indent, "");
            return;
        }
        show_child(f, v, indent, width, max_rows, depth);
    }
}

void show_json(FILE *f, const cJSON *root, int max_rows)
{
    if (cJSON_IsArray(root) && cJSON_IsObject(root->child))
        show_table(f, root, 0, max_rows);
    else
        show_object(f, root, 0, max_rows, 0);
}

int show_or_write(const char *json_path, const char *text, int max_rows)
{
    if (json_path)
        return cli_write_text("--json", json_path, text);
    cJSON *root = cJSON_Parse(text);
    if (!root)
        return cli_error(1, "internal error: the library gave text that is not JSON");
    show_json(stdout, root, max_rows);
    cJSON_Delete(root);
    return fflush(stdout) != 0 ? cli_error(1, "standard output: write failed") : 0;
}
