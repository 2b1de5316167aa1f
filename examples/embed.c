/* Praxino inside a C program: one model, two jobs. The first writes a file and hands over its frames as they are
 * decoded; the second is cancelled from another thread.
 *
 *     cc embed.c $(pkg-config --cflags --libs praxino) -lpthread -o embed
 *     ./embed models/tiny "a red ball bounces on a blue floor" ball.mp4 [KEY=VALUE ...] */
#include <praxino/praxino.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef struct seen {
    int frames, width, height;
    double sum;                   /* of all samples of all frames */
} seen;

static int on_frame(void *cookie, int index, const uint8_t *rgb, int width, int height)
{
    seen *s = cookie;
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++)
        s->sum += rgb[i];
    s->frames = index + 1;
    s->width = width;
    s->height = height;
    return PRX_OK;
}

static int on_progress(void *cookie, const prx_progress *p)
{
    (void)cookie;
    if (p->phase == PRX_PHASE_DENOISE)
        printf("step %d of %d, %.1f s\n", p->step, p->steps, p->elapsed);
    return 0;                     /* anything else cancels */
}

static void on_log(void *cookie, int level, const char *text)
{
    fprintf(stderr, "%s: %s: %s\n", (const char *)cookie, level == PRX_LOG_ERROR ? "error" : "note", text);
}

static void *cancel_soon(void *job)
{
    prx_job_cancel(job);          /* the one call that may come from any thread */
    return NULL;
}

/* Settings that both jobs share: the prompt and what the command line adds. */
static int configure(prx_job *j, const char *prompt, int n, char **pairs)
{
    int err = prx_job_set(j, "prompt", prompt);
    for (int i = 0; i < n && err == PRX_OK; i++) {
        char key[64];
        const char *value = strchr(pairs[i], '=');
        if (!value || value - pairs[i] >= (long)sizeof key)
            return PRX_EINVAL;
        snprintf(key, sizeof key, "%.*s", (int)(value - pairs[i]), pairs[i]);
        err = prx_job_set(j, key, value + 1);
    }
    return err;
}

static int render(prx_model *m, const char *prompt, const char *output, int n, char **pairs)
{
    seen s = { 0, 0, 0, 0 };
    prx_job *j = NULL;
    int err = prx_job_open(&j, m);
    if (err == PRX_OK)
        err = configure(j, prompt, n, pairs);
    if (err == PRX_OK)
        err = prx_job_set(j, "output", output);
    if (err == PRX_OK) {
        prx_job_on_progress(j, on_progress, NULL);
        prx_job_on_frame(j, on_frame, &s);
        err = prx_job_run(j);
    }
    if (err == PRX_OK)
        printf("%d frames of %dx%d, mean sample %.1f\n", s.frames, s.width, s.height,
               s.sum / ((double)s.frames * s.width * s.height * 3));
    else
        fprintf(stderr, "embed: %s\n", j ? prx_job_last_error(j) : prx_status_text(err));
    prx_job_close(&j);
    return err;
}

static int render_cancelled(prx_model *m, const char *prompt, int n, char **pairs)
{
    pthread_t thread;
    prx_job *j = NULL;
    int err = prx_job_open(&j, m);
    if (err == PRX_OK)
        err = configure(j, prompt, n, pairs);
    if (err == PRX_OK && pthread_create(&thread, NULL, cancel_soon, j) == 0) {
        pthread_join(thread, NULL);       /* a real program would go on; waiting makes the outcome certain */
        err = prx_job_run(j);
        printf("second job: %s\n", prx_status_text(err));
    }
    prx_job_close(&j);
    return err == PRX_ECANCELED ? PRX_OK : PRX_EINTERNAL;
}

int main(int argc, char **argv)
{
    prx_engine_params params;
    prx_engine *e = NULL;
    prx_model *m = NULL;
    if (argc < 4) {
        fprintf(stderr, "usage: embed MODEL PROMPT OUTPUT [KEY=VALUE ...]\n");
        return 2;
    }
    prx_engine_default_params(&params);
    params.log = on_log;
    params.log_cookie = "embed";
    int err = prx_engine_open(&e, &params);
    if (err == PRX_OK)
        err = prx_model_open(&m, e, argv[1]);
    if (err != PRX_OK)
        fprintf(stderr, "embed: %s\n", e ? prx_engine_last_error(e) : prx_status_text(err));
    if (err == PRX_OK)
        err = render(m, argv[2], argv[3], argc - 4, argv + 4);
    if (err == PRX_OK)
        err = render_cancelled(m, argv[2], argc - 4, argv + 4);
    prx_model_close(&m);
    prx_engine_close(&e);
    return prx_status_exit_code(err);
}
