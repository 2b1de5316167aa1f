/* Runs `ffmpeg`, which is looked for at run time: nothing here is linked against libvmaf. */
#include "vmaf.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app.h"

extern char **environ;

enum { MAX_OUTPUT = 64 << 20 };

/* The whole file from its beginning, to be freed; NULL when it cannot be read. */
static char *read_all(FILE *f)
{
    if (fseek(f, 0, SEEK_END) != 0)
        return NULL;
    const long n = ftell(f);
    char *text = n >= 0 && n <= MAX_OUTPUT ? malloc((size_t)n + 1) : NULL;
    rewind(f);
    if (text && fread(text, 1, (size_t)n, f) != (size_t)n) {
        free(text);
        return NULL;
    }
    if (text)
        text[n] = '\0';
    return text;
}

/* 0 or an errno; *status as waitpid gives it. */
static int spawn(const char *const *argv, FILE *out, FILE *err, int *status)
{
    posix_spawn_file_actions_t io;
    pid_t pid;
    int bad = posix_spawn_file_actions_init(&io);
    if (bad)
        return bad;
    bad = posix_spawn_file_actions_addopen(&io, 0, "/dev/null", O_RDONLY, 0);
    if (!bad)
        bad = posix_spawn_file_actions_adddup2(&io, fileno(out), 1);
    if (!bad)
        bad = posix_spawn_file_actions_adddup2(&io, fileno(err), 2);
    if (!bad)
        bad = posix_spawnp(&pid, argv[0], &io, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&io);
    if (bad)
        return bad;
    while (waitpid(pid, status, 0) < 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* Runs argv without a shell and gives its standard output, to be freed. 0 or an exit code after a message. */
static int run(const char *const *argv, char **text)
{
    FILE *out = tmpfile(), *err = tmpfile();
    int status = 0, code = 0;
    *text = NULL;
    const int bad = out && err ? spawn(argv, out, err, &status) : errno;
    if (bad == ENOENT && out && err) {
        code = cli_error(4, "--vmaf: VMAF is absent: there is no program ffmpeg");
    } else if (bad) {
        code = cli_error(1, "--vmaf: ffmpeg: %s", strerror(bad));
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        char *said = read_all(err);
        code = cli_error(1, "--vmaf: ffmpeg failed: %.*s", said ? (int)strcspn(said, "\n") : 0, said ? said : "");
        free(said);
    } else if (!(*text = read_all(out))) {
        code = cli_error(1, "--vmaf: what ffmpeg wrote cannot be read");
    }
    if (out)
        fclose(out);
    if (err)
        fclose(err);
    return code;
}

int vmaf_check(void)
{
    static const char *const argv[] = { "ffmpeg", "-v", "error", "-nostdin", "-filters", NULL };
    char *text;
    int code = run(argv, &text);
    if (!code && !strstr(text, " libvmaf "))
        code = cli_error(4, "--vmaf: VMAF is absent: the ffmpeg here was built without libvmaf");
    free(text);
    return code;
}

/* The log of libvmaf into root. 0 if it is not what was expected. */
static int take_log(const char *text, cJSON *root)
{
    cJSON *log = cJSON_Parse(text), *frame;
    const cJSON *pooled = cJSON_GetObjectItemCaseSensitive(log, "pooled_metrics"), *metric;
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(pooled, "vmaf"), *frames = cJSON_GetObjectItemCaseSensitive(log, "frames");
    const cJSON *mean = cJSON_GetObjectItemCaseSensitive(all, "mean"), *harmonic = cJSON_GetObjectItemCaseSensitive(all, "harmonic_mean");
    cJSON *o = cJSON_AddObjectToObject(root, "vmaf");
    int ok = o && cJSON_IsNumber(mean) && cJSON_IsNumber(harmonic) && cJSON_AddNumberToObject(o, "mean", mean->valuedouble) &&
             cJSON_AddNumberToObject(o, "harmonic_mean", harmonic->valuedouble) &&
             cJSON_GetArraySize(frames) == cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(root, "frames"));
    cJSON *list = ok ? cJSON_AddArrayToObject(o, "per_frame") : NULL;
    cJSON_ArrayForEach(frame, frames) {
        metric = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(frame, "metrics"), "vmaf");
        cJSON *v = list && cJSON_IsNumber(metric) ? cJSON_CreateNumber(metric->valuedouble) : NULL;
        ok = ok && v && cJSON_AddItemToArray(list, v);
    }
    cJSON_Delete(log);
    return ok && list;
}

/* `file:` so that no name is taken for an address; a name with % is a sequence, as for the rest of the command. */
static int add_input(const char **argv, int n, const char *path, char *url, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(url, size, "file:%s", path);
    argv[n++] = "-protocol_whitelist";
    argv[n++] = "file,pipe";
    if (strchr(slash ? slash : path, '%')) {
        argv[n++] = "-f";
        argv[n++] = "image2";
    }
    argv[n++] = "-i";
    argv[n++] = url;
    return n;
}

/* Frames of one input as the comparison took them: those that were skipped and left out are gone, and it is scaled if it was. */
static void print_chain(char *out, size_t n, const cJSON *root, int input, char clip)
{
    const cJSON *how = cJSON_GetObjectItemCaseSensitive(root, "alignment"), *resized = cJSON_GetObjectItemCaseSensitive(how, "resized");
    const char *scaled = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(resized, "clip"));
    const cJSON *offset = cJSON_GetObjectItemCaseSensitive(how, "offset");
    const double skip = !cJSON_IsNumber(offset) ? 0 : clip == 'b' ? offset->valuedouble : -offset->valuedouble, first = skip > 0 ? skip : 0;
    char scale[96] = "";
    if (scaled && scaled[0] == clip)
        snprintf(scale, sizeof scale, "format=gbrp,scale=%.0f:%.0f:flags=bicubic,",
                 cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(root, "width")),
                 cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(root, "height")));
    snprintf(out, n, "[%d:v]trim=start_frame=%.0f:end_frame=%.0f,%ssettb=1/25,setpts=N[%c];", input, first,
             first + cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(root, "frames")), scale, clip);
}

int vmaf_add(const char *a, const char *b, cJSON *root)
{
    const char *argv[32] = { "ffmpeg", "-v", "error", "-nostdin" };
    const size_t size = strlen(a) + strlen(b) + 8;
    char *first = malloc(size), *second = malloc(size), *text = NULL;
    if (!first || !second) {
        free(first);
        free(second);
        return cli_error(3, "--vmaf: out of memory");
    }
    int n = add_input(argv, 4, b, first, size);
    n = add_input(argv, n, a, second, size);
    /* The n-th frame goes with the n-th, whatever their times are. */
    char chains[2][256], graph[640];
    print_chain(chains[0], sizeof chains[0], root, 0, 'b');
    print_chain(chains[1], sizeof chains[1], root, 1, 'a');
    snprintf(graph, sizeof graph, "%s%s[b][a]libvmaf=log_fmt=json:log_path=/dev/stdout", chains[0], chains[1]);
    const char *const rest[] = { "-lavfi", graph, "-f", "null", "-", NULL };
    memcpy(argv + n, rest, sizeof rest);
    int code = run(argv, &text);
    if (!code && !take_log(text, root))
        code = cli_error(1, "--vmaf: ffmpeg: its log does not hold a value for each frame");
    free(first);
    free(second);
    free(text);
    return code;
}
