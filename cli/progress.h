/* Progress on stderr (a bar, plain lines, JSON lines or nothing) and the signals that interrupt a job. One per
 * process. */
#ifndef PRX_CLI_PROGRESS_H
#define PRX_CLI_PROGRESS_H

#include <praxino/praxino.h>

/* mode: "auto", "bar", "json", "none". Starts the thread that redraws and waits for SIGINT, SIGTERM, SIGHUP: call it
 * before anything else starts threads, which inherit the blocked signals. 0, or an exit code after a message. */
int progress_start(const char *mode);
/* The job that a signal cancels; NULL: a signal ends the program at once. */
void progress_set_job(prx_job *j);
/* The same for a sweep. */
void progress_set_sweep(prx_sweep *s);
/* prx_sweep_fn: one bar for all rows. */
int progress_sweep(void *cookie, const prx_sweep_progress *p);
/* The same for a search for settings. */
void progress_set_tune(prx_tune *t);
/* prx_tune_fn: the phase, and the time left of the budget. */
int progress_tune(void *cookie, const prx_tune_progress *p);
/* prx_progress_fn. */
int progress_update(void *cookie, const prx_progress *p);
/* Stops the thread and takes the bar away. */
void progress_stop(void);
/* Wipes the bar, if there is one, before another line is printed. Callable at any time. */
void progress_clear_line(void);
/* One line of information, where the mode shows any: "bar" and plain lines, not "json" or "none". */
void progress_note(const char *text);
/* Non-zero in JSON mode. */
int progress_is_json(void);
int progress_interrupted(void);

#endif
