/* The presets there are: a folder of JSON files with a description each. */
#include "presets.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app.h"

enum { MAX_TEXT = 1 << 16 };

static int is_preset(const struct dirent *e)
{
    const char *dot = strrchr(e->d_name, '.');
    return dot && dot != e->d_name && strcmp(dot, ".json") == 0;
}

/* Sorted entries of the folder; the count, or -1. */
static int list(char *dir, size_t n, struct dirent ***out)
{
    return cli_find_data("configs/presets", dir, n) ? scandir(dir, out, is_preset, alphasort) : -1;
}

static int stem(const struct dirent *e)
{
    return (int)(strrchr(e->d_name, '.') - e->d_name);
}

static cJSON *read_preset(const char *dir, const char *name)
{
    char path[PATH_MAX];
    const int len = snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = len > 0 && (size_t)len < sizeof path ? fopen(path, "rb") : NULL;
    char *text = f ? malloc(MAX_TEXT + 1) : NULL;
    cJSON *root = NULL;
    if (text) {
        text[fread(text, 1, MAX_TEXT, f)] = '\0';
        root = cJSON_Parse(text);
    }
    free(text);
    if (f)
        fclose(f);
    return root;
}

void presets_print(FILE *f)
{
    char dir[PATH_MAX];
    struct dirent **e = NULL;
    const int n = list(dir, sizeof dir, &e);
    if (n > 0)
        fprintf(f, "\npresets of --config\n");
    for (int i = 0; i < n; i++) {
        cJSON *root = read_preset(dir, e[i]->d_name);
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "description"));
        fprintf(f, "  %-28.*s %s\n", stem(e[i]), e[i]->d_name, text ? text : "");
        cJSON_Delete(root);
        free(e[i]);
    }
    free(e);
}

void presets_names(char *out, size_t n)
{
    char dir[PATH_MAX];
    struct dirent **e = NULL;
    size_t used = 0;
    const int count = list(dir, sizeof dir, &e);
    out[0] = '\0';
    for (int i = 0; i < count; i++) {
        if (used + (size_t)stem(e[i]) + 3 < n)
            used += (size_t)snprintf(out + used, n - used, "%s%.*s", used ? ", " : "", stem(e[i]), e[i]->d_name);
        free(e[i]);
    }
    free(e);
}

static int unknown_preset(const char *name)
{
    char names[900];
    presets_names(names, sizeof names);
    return cli_error(2, "--config: %s: no such file, and no preset has this name%s%s", name, names[0] ? "; presets: " : "", names);
}

int presets_path(const char *name, char *path, size_t n)
{
    char relative[256];
    const size_t len = strlen(name);
    const int is_file = strchr(name, '/') || len >= 100 || (len > 5 && strcmp(name + len - 5, ".json") == 0) || access(name, F_OK) == 0;
    if (is_file) {
        const int printed = snprintf(path, n, "%s", name);
        return printed < 0 || (size_t)printed >= n ? cli_error(2, "--config: the path is too long") : 0;
    }
    snprintf(relative, sizeof relative, "configs/presets/%s.json", name);
    return cli_find_data(relative, path, n) ? 0 : unknown_preset(name);
}
