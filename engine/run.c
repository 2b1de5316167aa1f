/* The run of a job: text, the only sampler loop, decoding into the outputs. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/core/device.h"
#include "engine/core/rng.h"
#include "job.h"
#include "tap.h"

double prxi_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int check_cancel(prx_job *j)
{
    return atomic_load(&j->cancel) ? prxi_fail(&j->ctx, PRX_ECANCELED, "cancelled") : PRX_OK;
}

/* ---- start ---- */

static int open_writer(prx_job *j)
{
    const char *path = j->text[PRXI_TEXT_OUTPUT];
    if (!path || !*path)
        return PRX_OK;
    cJSON *request = prxi_request_json(j);
    char *comment = request ? cJSON_PrintUnformatted(request) : NULL;
    cJSON_Delete(request);
    if (!comment)
        return prxi_fail_nomem(&j->ctx, "comment tag", 0);
    const prxi_video_spec spec = { .width = (int)j->set.width, .height = (int)j->set.height, .fps_num = (int)j->set.fps,
                                   .fps_den = 1, .frames = j->set.frames, .comment = comment, .crf = (int)j->set.crf };
    const int err = prxi_writer_open(&j->ctx, &j->writer, NULL, path, &spec);
    cJSON_free(comment);
    return err;
}

static int open_dump(prx_job *j)
{
    const char *path = j->text[PRXI_TEXT_DUMP];
    if (!path || !*path)
        return PRX_OK;
    const int steps = (int)j->set.steps, n = steps + 7;
    prxi_tensor_out *list = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, (size_t)n, sizeof *list);
    if (!list)
        return prxi_fail_nomem(&j->ctx, "dump", (size_t)n * sizeof *list);
    const int64_t dim = j->model->dit_cfg[0].text_dim;
    int k = 0;
    list[k++] = (prxi_tensor_out) { "prompt_embeds", PRXI_F32, 3, { 1, j->set.max_text, dim }, NULL };
    if (j->branches == 2)
        list[k++] = (prxi_tensor_out) { "negative_prompt_embeds", PRXI_F32, 3, { 1, j->set.max_text, dim }, NULL };
    for (int i = 0; i <= steps; i++, k++) {
        list[k] = (prxi_tensor_out) { "", PRXI_F32, 5, { 1, j->channels, j->clip.frames, j->clip.height, j->clip.width },
                                      NULL };
        snprintf(list[k].name, sizeof list[k].name, "latents.%03d", i);
    }
    list[k++] = (prxi_tensor_out) { "frames", PRXI_U8, 4, { j->set.frames, j->set.height, j->set.width, 3 }, NULL };
    if (prxi_tap_on(j))
        k = prxi_tap_tensors(j, list, k);
    const int err = prxi_dump_open(&j->ctx, &j->dump, path, list, k);
    prxi_free(j->ctx.mem, list);
    return err;
}

static int dump_text(prx_job *j)
{
    static const char *const names[PRXI_BRANCHES] = { "prompt_embeds", "negative_prompt_embeds" };
    const size_t row = (size_t)j->model->dit_cfg[0].text_dim * sizeof(float);
    int err = PRX_OK;
    for (int b = 0; j->dump && b < j->branches && err == PRX_OK; b++)
        err = prxi_dump_write(&j->ctx, j->dump, names[b], 0, j->prompts[b].out, (size_t)j->prompts[b].rows * row);
    return err;
}

static int dump_latents(prx_job *j, int index)
{
    char name[32];
    if (!j->dump)
        return PRX_OK;
    snprintf(name, sizeof name, "latents.%03d", index);
    return prxi_dump_write(&j->ctx, j->dump, name, 0, prxi_run_latents(j), j->latent_elems * sizeof(float));
}

int prxi_run_alloc(prx_job *j)
{
    const size_t bytes = j->latent_elems * sizeof(float), steps = (size_t)j->set.steps;
    prxi_device *device = j->stream.device;
    j->latents = prxi_device_alloc(&j->ctx, device, PRXI_MEM_ACTIVATIONS, bytes);
    for (int b = 0; b < j->branches; b++)
        j->v[b] = prxi_device_alloc(&j->ctx, device, PRXI_MEM_ACTIVATIONS, bytes);
    j->before = prxi_device_alloc(&j->ctx, device, PRXI_MEM_ACTIVATIONS, bytes);
    if (device && !(j->host_latents = prxi_alloc(j->ctx.mem, PRXI_MEM_ACTIVATIONS, bytes)))
        return prxi_fail_nomem(&j->ctx, "latents", bytes);
    j->stats = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, steps, sizeof *j->stats);
    j->density = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, steps * (size_t)j->branches,
                             (size_t)j->model->dit_cfg[0].layers * sizeof *j->density);
    j->probes = prxi_calloc(j->ctx.mem, PRXI_MEM_MISC, steps * (size_t)j->branches,
                            (size_t)j->model->dit_cfg[0].layers * sizeof *j->probes);
    for (size_t i = 0; j->density && j->probes && i < steps * (size_t)j->branches * (size_t)j->model->dit_cfg[0].layers; i++) {
        j->density[i] = NAN;        /* attention has not run */
        j->probes[i] = (prxi_attn_probe) { NAN, NAN };
    }
    if (!j->latents || !j->before || !j->v[0] || (j->branches == 2 && !j->v[1]) || !j->stats || !j->density || !j->probes)
        return prxi_fail_nomem(&j->ctx, "latents", 4 * bytes);
    return PRX_OK;
}

const float *prxi_run_latents(prx_job *j)
{
    if (!j->host_latents)
        return j->latents;
    prxi_stream_get(&j->stream, j->host_latents, j->latents, j->latent_elems * sizeof(float));
    return j->host_latents;
}

void prxi_run_set_latents(prx_job *j, const float *x)
{
    prxi_stream_put(&j->stream, j->latents, x, j->latent_elems * sizeof(float));
}

/* The generator is the host's: its numbers are those of torch. */
void prxi_run_noise(prx_job *j)
{
    float *x = j->host_latents ? j->host_latents : j->latents;
    prxi_rng rng;
    prxi_rng_seed(&rng, (uint64_t)j->set.seed);
    prxi_rng_normal(&rng, x, j->latent_elems);
    if (x != j->latents)
        prxi_run_set_latents(j, x);
}

static int start_latents(prx_job *j)
{
    if (j->text[PRXI_TEXT_RESUME])
        return prxi_state_load(j);
    if (j->user_latents)
        prxi_run_set_latents(j, j->user_latents);
    else if (j->text[PRXI_TEXT_LATENTS])
        return prxi_latents_load(j);
    else
        prxi_run_noise(j);
    return dump_latents(j, 0);
}

static int embed_prompts(prx_job *j)
{
    const double t = prxi_now();
    j->prompts[0].text = j->text[PRXI_TEXT_PROMPT];
    j->prompts[1].text = j->text[PRXI_TEXT_NEGATIVE] ? j->text[PRXI_TEXT_NEGATIVE] : "";
    int err = prxi_model_embed(&j->ctx, &j->stream, j->model, (int)j->set.max_text, j->prompts, j->branches);
    j->phases.text = prxi_now() - t;
    return err < 0 ? err : dump_text(j);
}

/* Outputs first: a path that cannot be written is told before any work. */
int prxi_run_start(prx_job *j)
{
    int err;
    j->expert = -1;
    if ((err = open_writer(j)) < 0 || (err = open_dump(j)) < 0 || (err = prxi_run_alloc(j)) < 0 ||
        (err = start_latents(j)) < 0 || (err = embed_prompts(j)) < 0 || (err = check_cancel(j)) < 0)
        return err;
    return PRX_OK;
}

/* ---- denoise ---- */

void prxi_run_drop_network(prx_job *j, int keep)
{
    prxi_dit_run_close(&j->ctx, &j->dit_run);
    if (j->expert >= 0 && j->dit)
        prxi_model_release_dit(j->model, j->expert, keep);
    j->dit = NULL;
    j->expert = -1;
}

/* Two experts are never held at once: each is as large as the model. */
static int use_expert(prx_job *j, int expert)
{
    if (j->expert == expert)
        return PRX_OK;
    const double t = prxi_now();
    prxi_run_drop_network(j, 0);
    prxi_dit_clip clip = { j->clip.frames, j->clip.height, j->clip.width, j->branches, { 0 }, { NULL },
                           (int)j->set.max_text };
    for (int b = 0; b < j->branches; b++) {
        clip.text_len[b] = j->prompts[b].rows;
        clip.text[b] = j->prompts[b].out;
    }
    int err = prxi_model_acquire_dit(&j->ctx, j->model, expert, j->quant, j->weight_bytes, &j->dit);
    if (err == PRX_OK) {
        j->expert = expert;
        err = prxi_dit_run_open(&j->ctx, &j->stream, &j->dit_run, j->dit, &clip);
    }
    if (err == PRX_OK) {
        prxi_dit_prepare(&j->stream, j->dit_run, j->attn, j->attn_priv);
        err = prxi_stream_error(&j->stream);
    }
    j->phases.load += prxi_now() - t;
    return err;
}

/* Runs the step's network again, everything of it and no cache, to see where the first value that is not finite comes from. */
static int find_cause(prx_job *j, const prxi_step *st, int64_t first)
{
    prxi_cache_report reports[PRXI_BRANCHES];
    const prxi_dit_hooks hooks = { prxi_plan_attention(j, st->index), j->attn_priv, prxi_cache_policy_find("none"), NULL, reports, NULL,
                                   NULL };
    const char *where = prxi_dit_find_bad(&j->stream, j->dit_run, st, j->before, &hooks, j->v);
    const int err = prxi_stream_error(&j->stream);
    if (err < 0)
        return err;
    if (!where)
        return prxi_fail(&j->ctx, PRX_ENUMERIC, "step %d: the network's output is not finite (value %lld); computed again, with cache "
                         "none, it is; cache %s", j->step, (long long)first, j->cache->name);
    return prxi_fail(&j->ctx, PRX_ENUMERIC, "step %d: the network's output is not finite (value %lld); it begins in %s; try --dtype f32",
                     j->step, (long long)first, where);
}

/* The values after a step, and whether the network was the cause. */
static int check_finite(prx_job *j, const prxi_step *st)
{
    const prxi_latent_ops *ops = &prxi_job_kernels(j)->latent;
    const int64_t n = (int64_t)j->latent_elems, bad = ops->bad(&j->stream, n, j->latents);
    if (bad < 0)
        return prxi_stream_error(&j->stream);
    const int64_t first = ops->bad(&j->stream, n, j->v[0]);
    if (first >= 0 && j->dit_run)
        return find_cause(j, st, first);
    return prxi_fail(&j->ctx, PRX_ENUMERIC, "step %d: the latents are not finite (value %lld); the scheduler %s made them of the network's "
                     "output, which is", j->step, (long long)bad, j->scheduler->name);
}

static int run_network(prx_job *j, const prxi_step *st, prxi_step_stat *stat)
{
    const size_t first = (size_t)j->step * (size_t)j->branches * (size_t)j->model->dit_cfg[0].layers;
    const int tap = prxi_tap_on(j), recorded = j->trace != NULL;
    const prxi_attn_policy *attn = prxi_plan_attention(j, j->step);
    const prxi_dit_hooks hooks = { tap ? &prxi_attn_tap : attn, tap ? j : j->attn_priv, recorded ? &prxi_trace_policy : j->cache,
                                   recorded ? j->trace : j->cache_priv, stat->reports, j->density + first, j->probes + first };
    prxi_dit_run_wide(j->dit_run, j->quant == PRXI_QUANT_FP8_BESIDE && prxi_plan_wide(j, j->step));
    prxi_dit_forward(&j->stream, j->dit_run, st, j->latents, &hooks, j->v);
    int err = prxi_stream_error(&j->stream);
    if (err < 0 || (err = check_cancel(j)) < 0)
        return err;
    if (j->cache->at_output)
        j->cache->at_output(j->cache_priv, &j->stream, st, j->v);
    const double g = st->expert && j->set.guidance_2 >= 0 ? j->set.guidance_2 : j->set.guidance;
    if (j->branches == 2)
        prxi_job_kernels(j)->latent.guide(&j->stream, (int64_t)j->latent_elems, j->v[0], j->v[1], (float)g);
    if (j->cache->end_step)
        j->cache->end_step(j->cache_priv, &j->stream, st, j->v[0]);
    return prxi_stream_error(&j->stream);
}

/* One step of the only sampler loop in the project. */
int prxi_run_denoise(prx_job *j)
{
    const int i = j->step, expert = j->step_expert[i];
    int err = use_expert(j, expert);
    if (err < 0)
        return err;
    const double t = prxi_now();
    const float *sigmas = prxi_sched_sigmas(j->sched);
    const prxi_step st = { i, (int)j->set.steps, sigmas[i], sigmas[i + 1], prxi_sched_timesteps(j->sched)[i], expert,
                           j->expert_index[i], j->expert_steps[expert], j->latents };
    prxi_step_stat *stat = &j->stats[i];
    for (int b = 0; b < j->branches; b++)
        stat->reports[b] = (prxi_cache_report) { .reason = "no cache", .diff = NAN };
    stat->sigma = st.sigma;
    stat->timestep = st.timestep;
    prxi_stream_copy(&j->stream, j->before, j->latents, j->latent_elems * sizeof(float));
    if (!j->cache->begin_step || !j->cache->begin_step(j->cache_priv, &j->stream, &st, j->v[0], stat->reports))
        err = run_network(j, &st, stat);
    if (err == PRX_OK)
        err = prxi_stream_error(&j->stream);
    if (err < 0)
        return err;
    prxi_sched_step(j->sched, i, j->v[0], j->latents);
    j->step++;
    err = check_finite(j, &st);         /* waits for a device: the only wait of a step whose cache decides nothing */
    stat->seconds = prxi_now() - t;
    j->phases.denoise += stat->seconds;
    if (err < 0 || (err = dump_latents(j, j->step)) < 0)
        return err;
    const int last = j->step == (int)j->set.steps;
    if (j->text[PRXI_TEXT_SAVE_STATE] && (last || (j->step - j->first_step) % j->set.save_every == 0))
        err = prxi_state_save(j);
    return err;
}

/* ---- decode ---- */

/* Room for the frames of a latent, where the decoder puts them, and for one as bytes. */
static int open_frames(prx_job *j)
{
    const size_t pixels = (size_t)j->set.width * (size_t)j->set.height * 3;
    const size_t n = pixels * (size_t)j->model->vae_info.scale_temporal;
    j->rgb_device = prxi_decoder_device(j->vae, &j->clip);
    j->rgb = prxi_device_alloc(&j->ctx, j->rgb_device, PRXI_MEM_FRAMES, n * sizeof(float));
    const size_t planes = prxi_yuv420_bytes((int)j->set.width, (int)j->set.height);
    j->yuv = j->rgb_device && j->writer && prxi_writer_takes_yuv(j->writer) && !prxi_plan_rgb(j);
    j->rgb8 = prxi_alloc(j->ctx.mem, PRXI_MEM_FRAMES, pixels);
    if (j->rgb_device)
        j->rgb8_device = prxi_device_alloc(&j->ctx, j->rgb_device, PRXI_MEM_FRAMES, pixels + (j->yuv ? planes : 0));
    if (!j->rgb || !j->rgb8 || (j->rgb_device && !j->rgb8_device))
        return prxi_fail_nomem(&j->ctx, "frames", n * sizeof(float));
    return PRX_OK;
}

static int start_decode(prx_job *j)
{
    const double t = prxi_now();
    prxi_plan_close_policies(j);
    prxi_run_drop_network(j, j->set.keep_weights && j->model->experts == 1 && (!j->engine->cuda || j->keep_in_decode));
    int err = prxi_model_acquire_vae(&j->ctx, j->model, &j->vae);
    if (err == PRX_OK)
        err = open_frames(j);
    if (err == PRX_OK)
        err = prxi_decoder_open(&j->ctx, &j->decoder, j->vae, &j->clip);
    j->phases.load += prxi_now() - t;
    return err;
}

static int emit_frame(prx_job *j, const float *rgb)
{
    const size_t pixels = (size_t)j->set.width * (size_t)j->set.height * 3;
    const double t = prxi_now();
    int err = PRX_OK;
    if (j->yuv)
        prxi_job_kernels(j)->latent.planes(&j->stream, (int)j->set.width, (int)j->set.height, rgb, j->rgb8_device, j->rgb8);
    else if (j->rgb_device)
        prxi_job_kernels(j)->latent.bytes(&j->stream, (int64_t)pixels, rgb, j->rgb8_device, j->rgb8);
    else
        prxi_rgb_to_u8(rgb, pixels, j->rgb8);
    if ((err = prxi_stream_error(&j->stream)) == PRX_OK && j->writer)
        err = (j->yuv ? prxi_writer_frame_yuv : prxi_writer_frame)(&j->ctx, j->writer, j->rgb8);
    if (err == PRX_OK && j->dump)
        err = prxi_dump_write(&j->ctx, j->dump, "frames", (size_t)j->frame * pixels, j->rgb8, pixels);
    if (err == PRX_OK && j->on_frame) {
        const int stop = j->on_frame(j->frame_cookie, j->frame, j->rgb8, (int)j->set.width, (int)j->set.height);
        if (stop < 0)
            err = prxi_fail(&j->ctx, stop, "frame %d: the receiver stopped the job", j->frame);
    }
    j->frame++;
    j->phases.encode += prxi_now() - t;
    return err;
}

int prxi_run_decode(prx_job *j)
{
    int n = 0, err = j->decoder ? PRX_OK : start_decode(j);
    if (err < 0)
        return err;
    const double t = prxi_now();
    err = prxi_decoder_next(&j->ctx, &j->stream, j->decoder, j->latents, j->latent_frame, j->rgb, &n);
    prxi_stream_wait(&j->stream);       /* whose time it is; the first frame would wait next */
    j->phases.decode += prxi_now() - t;
    if (err < 0 || (err = prxi_stream_error(&j->stream)) < 0)
        return err;
    const size_t pixels = (size_t)j->set.width * (size_t)j->set.height * 3;
    for (int i = 0; i < n && err == PRX_OK; i++)
        err = emit_frame(j, j->rgb + (size_t)i * pixels);
    j->latent_frame++;
    return err < 0 ? err : check_cancel(j);
}

/* ---- end ---- */

int prxi_run_finish(prx_job *j)
{
    const double t = prxi_now();
    int err = prxi_tap_finish(j);
    if (err == PRX_OK && j->trace)
        err = prxi_trace_write(j, j->text[PRXI_TEXT_TRACE]);
    if (err == PRX_OK && j->writer)
        err = prxi_writer_finish(&j->ctx, j->writer);
    if (err == PRX_OK && j->dump)
        err = prxi_dump_finish(&j->ctx, j->dump);
    j->phases.encode += prxi_now() - t;
    return err;
}

void prxi_run_close(prx_job *j)
{
    prxi_writer_close(&j->ctx, &j->writer);
    prxi_dump_close(&j->ctx, &j->dump);
    prxi_decoder_close(&j->ctx, &j->decoder);
    if (j->vae)
        prxi_model_release_vae(j->model, j->set.keep_weights);
    j->vae = NULL;
    prxi_run_drop_network(j, j->set.keep_weights && j->model->experts == 1);
    for (int b = 0; b < PRXI_BRANCHES; b++) {
        prxi_free(j->ctx.mem, j->prompts[b].out);
        prxi_device_free(&j->ctx, j->stream.device, j->v[b]);
    }
    prxi_device_free(&j->ctx, j->stream.device, j->latents);
    prxi_device_free(&j->ctx, j->stream.device, j->before);
    prxi_free(j->ctx.mem, j->host_latents);
    prxi_free(j->ctx.mem, j->stats);
    prxi_free(j->ctx.mem, j->density);
    prxi_free(j->ctx.mem, j->probes);
    prxi_device_free(&j->ctx, j->rgb_device, j->rgb);
    prxi_device_free(&j->ctx, j->rgb_device, j->rgb8_device);
    prxi_free(j->ctx.mem, j->rgb8);
}
