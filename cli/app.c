/* Messages, engine options and files for all commands. */
#include "app.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "progress.h"

#ifndef PRX_DATADIR
#define PRX_DATADIR "/usr/local/share/praxino"
#endif

/* ---- messages ---- */

/* A message is one line, whatever a file name holds. */
static void one_line(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

int cli_error(int code, const char *fmt, ...)
{
    char text[1400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    one_line(text);
    progress_clear_line();
    fprintf(stderr, "praxino: %s\n", text);
    return code;
}

int cli_fail(int status, const char *text)
{
    return cli_error(prx_status_exit_code(status), "%s", text && *text ? text : prx_status_text(status));
}

static void print_log(void *cookie, int level, const char *text)
{
    static const char *const names[] = { "error", "warning", "info", "debug" };
    (void)cookie;
    progress_clear_line();
    fprintf(stderr, "praxino: %s: %s\n", level >= 0 && level <= PRX_LOG_DEBUG ? names[level] : "note", text);
}

/* ---- engine ---- */

static int parse_threads(const char *text, int *out)
{
    char *end;
    errno = 0;
    const long n = strtol(text, &end, 10);
    if (end == text || *end || errno || text[0] == ' ' || n < 0 || n > 1024)
        return cli_error(2, "--threads: '%s' is not accepted: must be a whole number from 0 to 1024", text);
    *out = (int)n;
    return 0;
}

int cli_engine_params(prx_engine_params *p, const cli_args *a)
{
    prx_engine_default_params(p);
    if (cli_value(a, "device"))
        p->device = cli_value(a, "device");
    if (cli_value(a, "isa"))
        p->isa = cli_value(a, "isa");
    if (cli_value(a, "dtype"))
        p->dtype = cli_value(a, "dtype");
    if (cli_value(a, "threads") && parse_threads(cli_value(a, "threads"), &p->threads))
        return 2;
    p->log = print_log;
    p->log_level = cli_value(a, "verbose") ? PRX_LOG_DEBUG : PRX_LOG_WARN;
    return 0;
}

int cli_open_engine(prx_engine **e, const cli_args *a)
{
    prx_engine_params p;
    *e = NULL;
    if (cli_engine_params(&p, a))
        return 2;
    const int err = prx_engine_open(e, &p);
    return err < 0 ? cli_fail(err, *e ? prx_engine_last_error(*e) : "engine: out of memory") : 0;
}

/* ---- files ---- */

static int exists_below(const char *dir, const char *name, char *path, size_t n)
{
    const int len = snprintf(path, n, "%s/%s", dir, name);
    return len > 0 && (size_t)len < n && access(path, F_OK) == 0;
}

int cli_find_data(const char *name, char *path, size_t n)
{
    const char *env = getenv("PRAXINO_DATA");
    if (env && *env)
        return exists_below(env, name, path, n);
    char exe[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (len > 0) {
        /* installed; a build folder in the tree */
        static const char *const beside[] = { "/../share/praxino", "/.." };
        exe[len] = '\0';
        const char *dir = dirname(exe);
        for (int i = 0; i < 2; i++) {
            char base[PATH_MAX + 32];
            snprintf(base, sizeof base, "%s%s", dir, beside[i]);
            if (exists_below(base, name, path, n))
                return 1;
        }
    }
    return exists_below(PRX_DATADIR, name, path, n);
}

/* The folder of a path, "." when it names none. */
static void folder_of(const char *path, char *dir, size_t n)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(dir, n, ".");
    else
        snprintf(dir, n, "%.*s", (int)(slash == path ? 1 : slash - path), path);
}

/* Work is written under a longer name beside the file. */
enum { LONGEST_NAME = NAME_MAX - 32 };

int cli_check_writable(const char *option, const char *path)
{
    struct stat st;
    char dir[PATH_MAX];
    if (strcmp(path, "-") == 0)
        return 0;
    if (*path == '\0' || strlen(path) >= PATH_MAX - 32)
        return cli_error(2, "%s: '%.80s' is no file name", option, path);
    const char *slash = strrchr(path, '/');
    const size_t name = strlen(slash ? slash + 1 : path);
    if (name > LONGEST_NAME)
        return cli_error(2, "%s: '%.80s...': a name of %zu bytes; at most %d expected", option, path, name, LONGEST_NAME);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return cli_error(2, "%s: %s: is a folder", option, path);
    folder_of(path, dir, sizeof dir);
    if (access(dir, W_OK | X_OK) != 0)
        return cli_error(2, "%s: %s: cannot write into %s: %s", option, path, dir, strerror(errno));
    return 0;
}

/* Text and newline to an open stream, which is closed. 0 on success. */
static int put_text(FILE *f, const char *text)
{
    int bad = fputs(text, f) == EOF || fputc('\n', f) == EOF;
    bad |= fflush(f) != 0;
    if (f != stdout) {
        /* pipes and devices have no fsync */
        if (!bad && fsync(fileno(f)) != 0 && errno != EINVAL && errno != EROFS)
            bad = 1;
        bad |= fclose(f) != 0;
    }
    return bad;
}

static int write_failed(const char *option, const char *path)
{
    return cli_error(errno == ENOSPC || errno == EDQUOT ? 3 : 1, "%s: %s: %s", option, path, strerror(errno));
}

int cli_write_text(const char *option, const char *path, const char *text)
{
    struct stat st;
    if (strcmp(path, "-") == 0)
        return put_text(stdout, text) ? write_failed(option, "standard output") : 0;
    /* A device or a pipe cannot be replaced by a rename. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        FILE *f = fopen(path, "w");
        return !f || put_text(f, text) ? write_failed(option, path) : 0;
    }
    char tmp[PATH_MAX];
    snprintf(tmp, sizeof tmp, "%.*s.%ld.tmp", PATH_MAX - 32, path, (long)getpid());
    FILE *f = fopen(tmp, "wx");
    if (!f)
        return write_failed(option, path);
    if (put_text(f, text) || rename(tmp, path) != 0) {
        const int code = write_failed(option, path);
        unlink(tmp);
        return code;
    }
    return 0;
}

int cli_read_text(const char *option, const char *path, size_t max, char **text, size_t *len)
{
    const int from_stdin = strcmp(path, "-") == 0;
    FILE *f = from_stdin ? stdin : fopen(path, "rb");
    *text = NULL;
    if (!f)
        return cli_error(2, "%s: %s: %s", option, path, strerror(errno));
    int code = 0;
    char *buf = malloc(max + 2);
    errno = 0;
    const size_t n = buf ? fread(buf, 1, max + 1, f) : 0;
    if (!buf)
        code = cli_error(3, "%s: %s: out of memory", option, path);
    else if (ferror(f))
        code = cli_error(2, "%s: %s: %s", option, path, strerror(errno));
    else if (n > max)
        code = cli_error(2, "%s: %s: longer than %zu bytes", option, path, max);
    else if (memchr(buf, '\0', n))
        code = cli_error(2, "%s: %s: holds a NUL byte: not text", option, path);
    if (!from_stdin)
        fclose(f);
    if (code) {
        free(buf);
        return code;
    }
    buf[n] = '\0';
    *text = buf;
    *len = n;
    return 0;
}

int cli_split_pair(const char *pair, char key[CLI_KEY_MAX], const char **value)
{
    const size_t n = strcspn(pair, "=");
    if (n >= CLI_KEY_MAX)
        return cli_error(2, "--set: '%.40s...': no setting has so long a name", pair);
    memcpy(key, pair, n);
    key[n] = '\0';
    *value = pair + n + 1;
    return 0;
}

char *cli_join_sets(const cli_args *a, const char *prefix, char separator)
{
    const size_t skip = strlen(prefix);
    size_t n = 1;
    for (int i = 0; i < a->n_sets; i++)
        n += strlen(a->sets[i]) + 1;
    char *text = malloc(n), *p = text;
    for (int i = 0; text && i < a->n_sets; i++) {
        const char *pair = a->sets[i] + (strncmp(a->sets[i], prefix, skip) == 0 ? skip : 0);
        const size_t len = strlen(pair);
        memcpy(p, pair, len);
        p += len;
        *p++ = separator;
    }
    if (text)
        *p = '\0';
    return text;
}
