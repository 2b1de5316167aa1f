/* praxino schedule show: a graph and schedules as text and as a picture. */
#include <cjson/cJSON.h>
#include <langinfo.h>
#include <locale.h>
#include <string.h>

#include "app.h"
#include "schedule.h"

static const cJSON *get(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = get(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static void print_head(const cJSON *g)
{
    printf("%s: %.0f steps, jumps of at most %.0f", get(g, "path")->valuestring, number(g, "steps"), number(g, "max_gap"));
    if (get(g, "model"))
        printf(", model %s", get(g, "model")->valuestring);
    if (get(g, "reuse"))
        printf(", %s reused", get(g, "reuse")->valuestring);
    if (get(g, "boundary_step"))
        printf(", low-noise expert from step %.0f", number(g, "boundary_step"));
    if (get(g, "samples"))
        printf(", mean of %.0f sample%s", number(g, "samples"), number(g, "samples") == 1 ? "" : "s");
    printf("\n");
}

/* A row for each step that is reused, a column for each length of a jump from there. */
static void print_weights(const cJSON *g)
{
    enum { MAX_COLUMNS = 15 };
    const int gap = (int)number(g, "max_gap"), columns = gap < MAX_COLUMNS ? gap : MAX_COLUMNS;
    const cJSON *row, *sigma = get(g, "sigmas")->child, *w;
    const int has_sigmas = sigma != NULL;
    int i = 0;
    printf("\nmean absolute change of the final latents, by the step that is reused and the length of the jump\n");
    printf("%5s  %6s", "step", has_sigmas ? "sigma" : "");
    for (int k = 2; k <= columns; k++)
        printf("  %8d", k);
    printf("%s\n", columns < gap ? "  (longer ones: --json)" : "");
    cJSON_ArrayForEach(row, get(g, "weights"))
    {
        int k = 2;
        printf("%5d  ", i++);
        if (has_sigmas)
            printf("%6.4f", sigma->valuedouble);
        else
            printf("%6s", "");
        sigma = sigma ? sigma->next : NULL;
        cJSON_ArrayForEach(w, row)
        {
            if (k++ > columns)
                break;
            if (cJSON_IsNumber(w))
                printf("  %8.3g", w->valuedouble);
            else
                printf("  %8s", "-");
        }
        printf("\n");
    }
}

/* A box for each step, numbers below every fifth. */
static void print_schedule(const cJSON *s, int steps, int utf8)
{
    const cJSON *at = get(s, "computed")->child, *experts = get(s, "computed_by_expert");
    printf("\n%s: %.0f of %d steps computed", get(s, "path")->valuestring, number(s, "budget"), steps);
    if (experts)
        printf(" (%d high-noise, %d low-noise)", experts->child->valueint, experts->child->next->valueint);
    if (get(s, "worst_edge"))
        printf(", worst jump %.3g (%.0f to %.0f), sum %.3g", number(s, "worst_edge"), number(s, "worst_from"), number(s, "worst_to"),
               number(s, "sum"));
    if (number(s, "unknown_jumps") > 0)
        printf(", %.0f jumps that the graph does not have", number(s, "unknown_jumps"));
    printf("\n  ");
    for (int i = 0; i < steps; i++) {
        const int computed = at && at->valueint == i;
        printf("%s ", computed ? utf8 ? "\xe2\x96\xa0" : "#" : utf8 ? "\xe2\x96\xa1" : ".");
        if (computed)
            at = at->next;
    }
    printf("\n  ");
    for (int i = 0; i < steps; i += 5)
        printf("%-10d", i);
    printf("\n");
}

static int print_text(const char *json)
{
    setlocale(LC_CTYPE, "");
    const int utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    cJSON *root = cJSON_Parse(json);
    const cJSON *g = get(root, "graph"), *s;
    if (!g)
        return cli_error(1, "internal error: the library gave text that is not JSON");
    print_head(g);
    print_weights(g);
    cJSON_ArrayForEach(s, get(root, "schedules")) print_schedule(s, (int)number(g, "steps"), utf8);
    cJSON_Delete(root);
    return fflush(stdout) != 0 ? cli_error(1, "standard output: write failed") : 0;
}

int schedule_show(const cli_args *a)
{
    const char *json = cli_value(a, "json"), *png = cli_value(a, "png");
    prx_engine *e = NULL;
    char *text = NULL;
    int code = json ? cli_check_writable("--json", json) : 0;
    if (!code && png)
        code = cli_check_writable("--png", png);
    if (!code)
        code = cli_open_engine(&e, a);
    if (!code) {
        const int err = prx_schedule_show(e, a->words[1], a->words + 2, a->n_words - 2, png, &text);
        if (err < 0)
            code = cli_fail(err, prx_engine_last_error(e));
        else if (json)
            code = cli_write_text("--json", json, text);
        else
            code = print_text(text);
    }
    prx_text_free(e, text);
    prx_engine_close(&e);
    return code;
}
