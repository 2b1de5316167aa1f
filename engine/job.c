/* Public functions of a job: a small state machine over the units of work. */
#include "job.h"

#include <string.h>

#include "engine/core/json.h"

PRX_API int prx_job_open(prx_job **out, prx_model *m)
{
    *out = NULL;
    prxi_clear(&m->engine->ctx);
    prx_job *j = prxi_calloc(&m->engine->mem, PRXI_MEM_MISC, 1, sizeof *j);
    if (!j)
        return prxi_fail_nomem(&m->engine->ctx, "job", sizeof *j);
    j->model = m;
    j->engine = m->engine;
    j->expert = -1;
    prxi_ctx_init(&j->ctx, m->engine);
    prxi_stream_init(&j->stream, &j->ctx, m->engine->threads);
    j->stream.device = prxi_engine_model_kernels(m->engine)->device;
    atomic_init(&j->cancel, 0);
    j->stream.cancel = &j->cancel;
    const int err = prxi_settings_open(j);
    if (err < 0) {
        prxi_pass_error(&m->engine->ctx, &j->ctx);
        prx_job_close(&j);
    }
    *out = j;
    return err;
}

PRX_API void prx_job_close(prx_job **jp)
{
    if (!jp || !*jp)
        return;
    prx_job *j = *jp;
    *jp = NULL;
    prxi_run_close(j);
    prxi_unplan(j);
    prxi_settings_close(j);
    prxi_stream_close(&j->stream);
    prxi_free(&j->engine->mem, j);
}

PRX_API const char *prx_job_last_error(const prx_job *j)
{
    return j ? j->ctx.error.text : "out of memory";
}

PRX_API void prx_job_on_progress(prx_job *j, prx_progress_fn fn, void *cookie)
{
    j->on_progress = fn;
    j->progress_cookie = cookie;
}

PRX_API void prx_job_on_frame(prx_job *j, prx_frame_fn fn, void *cookie)
{
    j->on_frame = fn;
    j->frame_cookie = cookie;
}

PRX_API void prx_job_cancel(prx_job *j)
{
    atomic_store(&j->cancel, 1);
}

PRX_API int prx_job_plan(prx_job *j, char **json)
{
    prxi_clear(&j->ctx);
    if (json)
        *json = NULL;
    int err = prxi_plan(j);
    if (err == PRX_OK && json)
        err = prxi_plan_estimate(j);
    return err < 0 || !json ? err : prxi_json_text(&j->ctx, prxi_plan_json(j), json);
}

/* Time left: the mean of what was done, extended over what remains; the decode of a clip not yet begun is unknown. */
static double remaining(const prx_job *j, int phase, int done, int total)
{
    const double spent = phase == PRX_PHASE_DENOISE ? j->phases.denoise : j->phases.decode + j->phases.encode;
    const int measured = phase == PRX_PHASE_DENOISE ? done - j->first_step : done;
    return measured > 0 ? spent / measured * (total - done) : -1.0;
}

static int tell(prx_job *j, int phase, int done, int total)
{
    if (!j->on_progress)
        return PRX_OK;
    const prx_progress p = { phase, done, total, prxi_now() - j->started,
                             phase == PRX_PHASE_DONE ? 0.0 : remaining(j, phase, done, total) };
    if (j->on_progress(j->progress_cookie, &p))
        return prxi_fail(&j->ctx, PRX_ECANCELED, "cancelled");
    return PRX_OK;
}

static int start(prx_job *j)
{
    int err = prxi_plan(j);
    if (err < 0)
        return err;
    j->started = prxi_now();
    if ((err = tell(j, PRX_PHASE_TEXT, 0, 1)) < 0 || (err = prxi_run_start(j)) < 0)
        return err;
    j->state = j->step < (int)j->set.steps ? PRXI_JOB_DENOISE : PRXI_JOB_DECODE;
    return tell(j, PRX_PHASE_DENOISE, j->step, (int)j->set.steps);
}

static int denoise(prx_job *j)
{
    const int err = prxi_run_denoise(j);
    if (err < 0)
        return err;
    if (j->step == (int)j->set.steps)
        j->state = PRXI_JOB_DECODE;
    return tell(j, PRX_PHASE_DENOISE, j->step, (int)j->set.steps);
}

static int decode(prx_job *j)
{
    const int err = prxi_run_decode(j);
    if (err < 0)
        return err;
    if (j->latent_frame == j->clip.frames)
        j->state = PRXI_JOB_FINISH;
    return tell(j, PRX_PHASE_DECODE, j->latent_frame, j->clip.frames);
}

static int finish(prx_job *j)
{
    const int err = prxi_run_finish(j);
    if (err < 0)
        return err;
    j->state = PRXI_JOB_DONE;
    return tell(j, PRX_PHASE_DONE, 1, 1);
}

PRX_API int prx_job_step(prx_job *j)
{
    int err = atomic_load(&j->cancel) ? PRX_ECANCELED : PRX_OK;
    prxi_clear(&j->ctx);
    if (err < 0 && j->state < PRXI_JOB_DONE)
        prxi_fail(&j->ctx, err, "cancelled");
    else
        switch (j->state) {
        case PRXI_JOB_SETUP:
        case PRXI_JOB_PLANNED:
            err = start(j);
            break;
        case PRXI_JOB_DENOISE:
            err = denoise(j);
            break;
        case PRXI_JOB_DECODE:
            err = decode(j);
            break;
        case PRXI_JOB_FINISH:
            err = finish(j);
            break;
        case PRXI_JOB_DONE:
            return 0;
        case PRXI_JOB_FAILED:
            return prxi_fail(&j->ctx, PRX_ESTATE, "the job has failed before");
        }
    if (err < 0) {
        /* Nothing half-written stays, and other jobs get the memory now. Settings errors leave the job usable. */
        if (j->state > PRXI_JOB_PLANNED || err == PRX_ECANCELED || j->latents)
            j->state = PRXI_JOB_FAILED;
        prxi_writer_close(&j->ctx, &j->writer);
        prxi_dump_close(&j->ctx, &j->dump);
        return err;
    }
    return j->state != PRXI_JOB_DONE;
}

PRX_API int prx_job_run(prx_job *j)
{
    int err;
    while ((err = prx_job_step(j)) > 0) {
    }
    return err;
}

PRX_API int prx_job_get_latents(prx_job *j, const float **data, int64_t shape[4])
{
    prxi_clear(&j->ctx);
    *data = j->latents ? prxi_run_latents(j) : NULL;
    if (!j->latents)
        return prxi_fail(&j->ctx, PRX_ESTATE, "latents: the job has not begun");
    shape[0] = j->channels, shape[1] = j->clip.frames, shape[2] = j->clip.height, shape[3] = j->clip.width;
    return PRX_OK;
}

PRX_API int prx_job_stats(prx_job *j, char **json)
{
    prxi_clear(&j->ctx);
    *json = NULL;
    if (!j->stats)
        return prxi_fail(&j->ctx, PRX_ESTATE, "stats: the job has not begun");
    return prxi_json_text(&j->ctx, prxi_stats_json(j), json);
}
