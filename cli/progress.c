/* Progress on stderr and signals. One helper thread waits for signals with a timeout and redraws the bar between
 * the calls of the job, so that the clock runs during long steps and no signal handler is needed. */
#include "progress.h"

#include <langinfo.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "app.h"

enum mode { MODE_NONE, MODE_BAR, MODE_LINES, MODE_JSON };

static struct {
    pthread_mutex_t lock;
    pthread_t thread;
    int running, stop;
    enum mode mode;
    int utf8;
    prx_job *job;
    prx_sweep *sweep;
    prx_tune *tune;
    const char *tune_phase;
    int signals;
    int drawn;                   /* a bar stands on the line of the cursor */
    int have;                    /* last is valid */
    prx_progress last;
    double last_at;              /* clock at the last call */
    double phase_at;             /* elapsed when the phase began */
    int phase_step;              /* and how many of its steps were done: not 0 after a resume */
    double line_at;              /* plain lines: when the last was printed */
} g = { .lock = PTHREAD_MUTEX_INITIALIZER };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { PHASE_ROWS = PRX_PHASE_MEASURE + 1,       /* of a sweep: steps are rows */
       PHASE_TUNE };                              /* of a search: its own names, steps are its parts */

static const char *phase_name(int phase)
{
    static const char *const names[] = { "load", "text", "denoise", "decode", "done", "measure" };
    if (phase == PHASE_ROWS)
        return "sweep";
    if (phase == PHASE_TUNE)
        return g.tune_phase;
    return phase >= 0 && phase <= PRX_PHASE_MEASURE ? names[phase] : "work";
}

/* "0:07", "12:34", "1:02:03". */
static const char *clock_text(double s, char *buf, size_t n)
{
    const long t = s > 0 ? (long)(s + 0.5) : 0;
    if (t >= 3600)
        snprintf(buf, n, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        snprintf(buf, n, "%ld:%02ld", t / 60, t % 60);
    return buf;
}

/* Seconds per step of this phase so far; 0 when unknown. */
static double pace(const prx_progress *p)
{
    const int done = p->step - g.phase_step;
    return done > 0 && p->elapsed > g.phase_at ? (p->elapsed - g.phase_at) / done : 0;
}

/* ---- the bar ---- */

static int terminal_width(void)
{
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    return 80;
}

/* Can a line be drawn over? */
static int redraws(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && terminal_width() > 1 && term && *term && strcmp(term, "dumb") != 0;
}

static void draw_cells(char *out, size_t n, int cells, double share)
{
    const char *full = g.utf8 ? "\xe2\x94\x81" : "=", *rest = g.utf8 ? "\xe2\x94\x80" : "-";
    const int filled = (int)(share * cells + 0.5);
    size_t used = 0;
    for (int i = 0; i < cells && used + 4 < n; i++) {
        const char *s = i < filled ? full : rest;
        memcpy(out + used, s, strlen(s));
        used += strlen(s);
    }
    out[used] = '\0';
}

/* One write per frame: nothing flickers. Called with the lock held. */
static void draw_bar(void)
{
    if (!g.have || g.last.phase == PRX_PHASE_DONE)
        return;
    const prx_progress *p = &g.last;
    const double since = now() - g.last_at;
    char head[64], tail[96] = "", t1[32], t2[32], cells[512] = "", line[800];
    if (p->steps > 0)
        snprintf(head, sizeof head, "%-7s %*d/%d", phase_name(p->phase), p->steps >= 100 ? 3 : 2, p->step, p->steps);
    else
        snprintf(head, sizeof head, "%-7s", phase_name(p->phase));
    size_t used = (size_t)snprintf(tail, sizeof tail, "%s", clock_text(p->elapsed + since, t1, sizeof t1));
    if (p->remaining >= 0) {
        const double left = p->remaining - since;
        used += (size_t)snprintf(tail + used, sizeof tail - used, ", %s left", clock_text(left, t2, sizeof t2));
    }
    const double per_step = pace(p);
    if (p->phase == PRX_PHASE_DENOISE && per_step > 0)
        snprintf(tail + used, sizeof tail - used, ", %.*f s/step", per_step < 10 ? 2 : 1, per_step);
    const int width = terminal_width() - 1;
    int room = width - (int)strlen(head) - (int)strlen(tail) - 4;
    if (p->steps > 0 && room >= 8)
        draw_cells(cells, sizeof cells, room < 40 ? room : 40, (double)p->step / p->steps);
    snprintf(line, sizeof line, "%s%s%s  %s", head, *cells ? "  " : "", cells, tail);
    if (!*cells && (int)strlen(line) > width && width > 0)
        line[width] = '\0';
    char out[840];
    const int n = snprintf(out, sizeof out, "\r%s\x1b[K", line);
    if (write(STDERR_FILENO, out, (size_t)n) == n)
        g.drawn = 1;
}

static void wipe(void)
{
    if (g.drawn && write(STDERR_FILENO, "\r\x1b[K", 4) == 4)
        g.drawn = 0;
}

void progress_clear_line(void)
{
    pthread_mutex_lock(&g.lock);
    wipe();
    pthread_mutex_unlock(&g.lock);
}

/* ---- lines ---- */

static void print_json(const prx_progress *p)
{
    char remaining[32] = "null";
    if (p->phase == PRX_PHASE_DONE)      /* the command says that itself, with the name of the output */
        return;
    if (p->remaining >= 0)
        snprintf(remaining, sizeof remaining, "%.3f", p->remaining);
    fprintf(stderr, "{\"phase\": \"%s\", \"step\": %d, \"steps\": %d, \"elapsed\": %.3f, \"remaining\": %s}\n",
            phase_name(p->phase), p->step, p->steps, p->elapsed, remaining);
}

/* At a new phase, and at most every five seconds within one: a log stays readable. */
static void print_line(const prx_progress *p, int new_phase)
{
    enum { SECONDS = 5 };
    char t1[32], t2[32], left[48] = "";
    if (p->phase == PRX_PHASE_DONE || (!new_phase && now() - g.line_at < SECONDS))
        return;
    g.line_at = now();
    if (p->remaining >= 0)
        snprintf(left, sizeof left, ", %s left", clock_text(p->remaining, t2, sizeof t2));
    if (p->steps > 0)
        fprintf(stderr, "%s %d/%d, %s%s\n", phase_name(p->phase), p->step, p->steps,
                clock_text(p->elapsed, t1, sizeof t1), left);
    else
        fprintf(stderr, "%s, %s%s\n", phase_name(p->phase), clock_text(p->elapsed, t1, sizeof t1), left);
}

/* Lock held. */
static void take(const prx_progress *p, int new_phase)
{
    g.last = *p;
    g.last_at = now();
    g.have = 1;
    if (g.mode == MODE_BAR)
        draw_bar();
    else if (g.mode == MODE_LINES)
        print_line(p, new_phase);
}

/* What the caller is told: to go on, or to stop. */
static int leave(void)
{
    const int cancel = g.signals > 0;
    pthread_mutex_unlock(&g.lock);
    return cancel;
}

int progress_update(void *cookie, const prx_progress *p)
{
    (void)cookie;
    pthread_mutex_lock(&g.lock);
    const int new_phase = !g.have || g.last.phase != p->phase;
    if (new_phase) {
        g.phase_at = p->elapsed;
        g.phase_step = p->step;
    }
    take(p, new_phase);
    if (g.mode == MODE_JSON)
        print_json(p);
    return leave();
}

int progress_sweep(void *cookie, const prx_sweep_progress *p)
{
    const prx_progress as = { PHASE_ROWS, p->done, p->rows, p->elapsed, p->remaining };
    char remaining[32] = "null";
    (void)cookie;
    if (p->remaining >= 0)
        snprintf(remaining, sizeof remaining, "%.3f", p->remaining);
    pthread_mutex_lock(&g.lock);
    take(&as, !g.have);
    if (g.mode == MODE_JSON && !p->label)
        fprintf(stderr, "{\"phase\": \"sweep\", \"done\": %d, \"rows\": %d, \"failed\": %d, \"elapsed\": %.3f, \"remaining\": %s}\n",
                p->done, p->rows, p->failed, p->elapsed, remaining);
    return leave();
}

int progress_tune(void *cookie, const prx_tune_progress *p)
{
    const prx_progress as = { PHASE_TUNE, p->done, p->total, p->elapsed, p->remaining };
    (void)cookie;
    pthread_mutex_lock(&g.lock);
    const int news = !g.have || !g.tune_phase || strcmp(g.tune_phase, p->phase) != 0, moved = news || g.last.step != p->done;
    g.tune_phase = p->phase;
    take(&as, news);
    if (g.mode == MODE_JSON && moved)
        fprintf(stderr, "{\"phase\": \"%s\", \"done\": %d, \"total\": %d, \"elapsed\": %.3f, \"remaining\": %.3f}\n", p->phase, p->done,
                p->total, p->elapsed, p->remaining);
    return leave();
}

void progress_note(const char *text)
{
    if (g.mode != MODE_BAR && g.mode != MODE_LINES)
        return;
    progress_clear_line();
    fprintf(stderr, "%s\n", text);
}

int progress_is_json(void)
{
    return g.mode == MODE_JSON;
}

/* ---- signals ---- */

/* What was ignored when the program began (nohup, a job in the background of a script) stays ignored. */
static void own_signals(sigset_t *set)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    sigemptyset(set);
    sigaddset(set, SIGUSR1);                 /* wakes the thread when there is nothing more to wait for */
    for (int i = 0; i < 3; i++) {
        struct sigaction before;
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaddset(set, signals[i]);
    }
}

/* The first signal asks the job to stop; the second, or one before there is a job, ends the program. Lock held. */
static void on_signal(int sig)
{
    wipe();
    if ((g.job || g.sweep || g.tune) && g.signals++ == 0) {
        if (g.job)
            prx_job_cancel(g.job);
        if (g.sweep)
            prx_sweep_cancel(g.sweep);
        if (g.tune)
            prx_tune_cancel(g.tune);
        return;
    }
    if (!g.job && !g.sweep && !g.tune)
        _exit(130);
    sigset_t set;
    signal(sig, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, sig);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(sig);
}

static void *watch(void *cookie)
{
    const struct timespec tick = { 0, 100 * 1000 * 1000 };
    sigset_t set;
    (void)cookie;
    own_signals(&set);
    for (;;) {
        const int sig = sigtimedwait(&set, NULL, &tick);
        pthread_mutex_lock(&g.lock);
        const int stop = g.stop;
        if (!stop && sig > 0 && sig != SIGUSR1)
            on_signal(sig);
        else if (!stop && g.mode == MODE_BAR && g.signals == 0)
            draw_bar();
        pthread_mutex_unlock(&g.lock);
        if (stop)
            return NULL;
    }
}

int progress_start(const char *mode)
{
    sigset_t set;
    setlocale(LC_CTYPE, "");
    g.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (strcmp(mode, "none") == 0)
        g.mode = MODE_NONE;
    else if (strcmp(mode, "json") == 0)
        g.mode = MODE_JSON;
    else if (strcmp(mode, "bar") == 0)
        g.mode = MODE_BAR;
    else
        g.mode = redraws() ? MODE_BAR : MODE_LINES;
    signal(SIGPIPE, SIG_IGN);     /* a closed pipe is an error of the write, with a message */
    signal(SIGXFSZ, SIG_IGN);     /* and so is a file at its limit */
    own_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (pthread_create(&g.thread, NULL, watch, NULL) != 0) {
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        return cli_error(1, "progress: cannot start a thread");
    }
    g.running = 1;
    return 0;
}

void progress_set_job(prx_job *j)
{
    pthread_mutex_lock(&g.lock);
    g.job = j;
    pthread_mutex_unlock(&g.lock);
}

void progress_set_sweep(prx_sweep *s)
{
    pthread_mutex_lock(&g.lock);
    g.sweep = s;
    pthread_mutex_unlock(&g.lock);
}

void progress_set_tune(prx_tune *t)
{
    pthread_mutex_lock(&g.lock);
    g.tune = t;
    pthread_mutex_unlock(&g.lock);
}

void progress_stop(void)
{
    if (!g.running)
        return;
    pthread_mutex_lock(&g.lock);
    g.stop = 1;
    wipe();
    pthread_mutex_unlock(&g.lock);
    pthread_kill(g.thread, SIGUSR1);
    pthread_join(g.thread, NULL);
    g.running = 0;
}

int progress_interrupted(void)
{
    pthread_mutex_lock(&g.lock);
    const int n = g.signals;
    pthread_mutex_unlock(&g.lock);
    return n > 0;
}
