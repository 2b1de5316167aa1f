/* The schedulers there are, and the life of a scheduler's state: open, step, save, restore. */
#include "sched_priv.h"

#include <math.h>
#include <string.h>

static const prxi_scheduler *const all[] = { &prxi_sched_unipc, &prxi_sched_euler, &prxi_sched_dpmpp };
#define COUNT ((int)(sizeof all / sizeof *all))

const prxi_scheduler *prxi_scheduler_at(int i)
{
    return i >= 0 && i < COUNT ? all[i] : NULL;
}

const prxi_scheduler *prxi_scheduler_find(const char *name)
{
    for (int i = 0; i < COUNT; i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}

const prxi_scheduler *prxi_scheduler_for_class(const char *diffusers_class)
{
    for (int i = 0; i < COUNT; i++)
        if (!strcmp(all[i]->diffusers_class, diffusers_class))
            return all[i];
    return NULL;
}

static int check(prxi_ctx *c, const prxi_scheduler *which, const prxi_sched_config *cfg, int steps)
{
    if (!(cfg->shift >= 0.01 && cfg->shift <= 100))
        return prxi_fail(c, PRX_EINVAL, "shift %g: must be 0.01 to 100", cfg->shift);
    if (which->max_order && (cfg->order < 1 || cfg->order > which->max_order))
        return prxi_fail(c, PRX_EINVAL, "solver order %d: %s has 1 to %d", cfg->order, which->name, which->max_order);
    if (cfg->train_timesteps < 2 || cfg->train_timesteps > 1000000)
        return prxi_fail(c, PRX_EINVAL, "num_train_timesteps %d: must be 2 to 1000000", cfg->train_timesteps);
    if (steps < 1 || steps > cfg->train_timesteps)
        return prxi_fail(c, PRX_EINVAL, "steps %d: must be 1 to %d", steps, cfg->train_timesteps);
    return PRX_OK;
}

static int allocate(prxi_ctx *c, prxi_sched *st)
{
    st->sigmas = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)st->steps + 1, sizeof(float));
    st->timesteps = prxi_calloc(c->mem, PRXI_MEM_MISC, (size_t)st->steps, sizeof(float));
    if (!st->sigmas || !st->timesteps)
        return prxi_fail_nomem(c, "scheduler tables", ((size_t)st->steps + 1) * sizeof(float));
    for (size_t k = 0; k < st->which->state_tensors; k++) {
        st->state[k] = prxi_device_alloc(c, st->s->device, PRXI_MEM_ACTIVATIONS, prxi_mul(st->n, sizeof(float)));
        if (!st->state[k] || prxi_device_zero(c, st->s->device, st->state[k], st->n * sizeof(float)) < 0)
            return prxi_fail_nomem(c, "scheduler state", prxi_mul(st->n, sizeof(float)));
    }
    return PRX_OK;
}

int prxi_sched_open(prxi_ctx *c, prxi_sched **out, const prxi_scheduler *which, const prxi_sched_config *cfg,
                    int steps, size_t latent_elems)
{
    prxi_latent_ops ops;
    prxi_latent_init_ref(&ops);
    return prxi_sched_open_on(c, out, which, cfg, steps, latent_elems, NULL, &ops);
}

int prxi_sched_open_on(prxi_ctx *c, prxi_sched **out, const prxi_scheduler *which, const prxi_sched_config *cfg, int steps,
                       size_t latent_elems, prxi_stream *s, const prxi_latent_ops *ops)
{
    *out = NULL;
    int rc = check(c, which, cfg, steps);
    if (rc < 0)
        return rc;
    if (!latent_elems)
        return prxi_fail(c, PRX_EINVAL, "scheduler: the latents are empty");
    prxi_sched *st = prxi_calloc(c->mem, PRXI_MEM_MISC, 1, sizeof *st);
    if (!st)
        return prxi_fail_nomem(c, "scheduler", sizeof *st);
    st->which = which;
    st->cfg = *cfg;
    st->steps = steps;
    st->n = latent_elems;
    prxi_stream_init(&st->host, c, 1);
    st->s = s ? s : &st->host;
    st->ops = *ops;
    rc = allocate(c, st);
    if (rc == PRX_OK)
        rc = which->tables(c, cfg, steps, st->sigmas, st->timesteps);
    if (rc < 0) {
        prxi_sched_close(c, &st);
        return rc;
    }
    *out = st;
    return PRX_OK;
}

void prxi_sched_close(prxi_ctx *c, prxi_sched **st)
{
    if (!*st)
        return;
    for (int k = 0; k < PRXI_SCHED_MAX_STATE; k++)
        prxi_device_free(c, (*st)->s->device, (*st)->state[k]);
    prxi_free(c->mem, (*st)->sigmas);
    prxi_free(c->mem, (*st)->timesteps);
    prxi_free(c->mem, *st);
    *st = NULL;
}

const float *prxi_sched_sigmas(const prxi_sched *st)
{
    return st->sigmas;
}

const float *prxi_sched_timesteps(const prxi_sched *st)
{
    return st->timesteps;
}

void prxi_sched_step(prxi_sched *st, int i, const float *v, float *x)
{
    st->which->step(st, i, v, x);
    st->done++;
}

/* What a saved state begins with; everything but done and order must agree with the job that takes it up. */
typedef struct header {
    char name[16];
    double shift;
    uint64_t elems;
    int32_t solver_order, train_timesteps, old_sigmas, steps;
    int32_t done, order;
} header;

static header make_header(const prxi_sched *st)
{
    header h;
    memset(&h, 0, sizeof h);
    strncpy(h.name, st->which->name, sizeof h.name - 1);
    h.shift = st->cfg.shift;
    h.elems = st->n;
    h.solver_order = st->cfg.order;
    h.train_timesteps = st->cfg.train_timesteps;
    h.old_sigmas = st->cfg.old_sigmas != 0;
    h.steps = st->steps;
    h.done = st->done;
    h.order = st->order;
    return h;
}

size_t prxi_sched_state_size(const prxi_sched *st)
{
    return sizeof(header) + st->which->state_tensors * st->n * sizeof(float);
}

void prxi_sched_save(const prxi_sched *st, void *out)
{
    unsigned char *p = out;
    const header h = make_header(st);
    memcpy(p, &h, sizeof h);
    p += sizeof h;
    for (size_t k = 0; k < st->which->state_tensors; k++, p += st->n * sizeof(float))
        prxi_stream_get(st->s, p, st->state[k], st->n * sizeof(float));
}

int prxi_sched_restore(prxi_ctx *c, prxi_sched *st, const void *in, size_t n)
{
    const unsigned char *p = in;
    if (n != prxi_sched_state_size(st))
        return prxi_fail(c, PRX_EFORMAT, "scheduler state: %zu bytes, but %s with these latents has %zu", n, st->which->name,
                         prxi_sched_state_size(st));
    header h, own = make_header(st);
    memcpy(&h, p, sizeof h);
    own.done = h.done;
    own.order = h.order;
    if (memcmp(&h, &own, sizeof h))
        return prxi_fail(c, PRX_EFORMAT, "scheduler state: made with another scheduler, shift, order, number of steps or size");
    if (h.done < 0 || h.done > st->steps || h.order < 0 || h.order > st->cfg.order || (h.done > 0) != (h.order > 0))
        return prxi_fail(c, PRX_EFORMAT, "scheduler state: %d steps done and order %d cannot be", (int)h.done, (int)h.order);
    p += sizeof h;
    for (size_t k = 0; k < st->which->state_tensors; k++)
        for (size_t i = 0; i < st->n; i++) {
            float f;
            memcpy(&f, p + (k * st->n + i) * sizeof f, sizeof f);
            if (!isfinite(f))
                return prxi_fail(c, PRX_EFORMAT, "scheduler state: holds a value that is not a finite number");
        }
    for (size_t k = 0; k < st->which->state_tensors; k++, p += st->n * sizeof(float))
        prxi_stream_put(st->s, st->state[k], p, st->n * sizeof(float));
    st->done = h.done;
    st->order = h.order;
    return prxi_stream_error(st->s);
}
