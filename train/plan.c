/* Owns the arithmetic of a run's size. */
#include "train/plan.h"

#include "common/log.h"

#include <inttypes.h>
#include <unistd.h>

/* Bytes of a run's log lines, measured: a step's metrics and events; a window in data.log. */
enum { STEP_LOG_BYTES = 500, WINDOW_LOG_BYTES = 24 };

/* Snapshots of every one of 10^12 steps are more bytes than 64 bits count: the most is said. */
static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t r;
    return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    uint64_t r;
    return __builtin_add_overflow(a, b, &r) ? UINT64_MAX : r;
}

static uint64_t count_snapshots(const struct settings *s)
{
    if (!s->checkpoints_every)
        return 0;
    uint64_t every = (uint64_t)s->checkpoints_every, steps = (uint64_t)s->steps;
    uint64_t n = 1 + steps / every + (steps % every != 0);
    if (s->snapshot_schedule == SNAPSHOT_LOG)
        for (uint64_t step = 1; step <= 512 && step < steps; step *= 2)
            n += step % every != 0;
    return n;
}

static void plan_disk(struct plan *p, const struct settings *s)
{
    uint64_t keep = (uint64_t)s->checkpoints_keep;
    p->snapshots = count_snapshots(s);
    p->snapshots_full = keep && keep < p->snapshots ? keep : p->snapshots;
    p->snapshot_bytes = 2 * p->params;
    p->state_bytes = 12 * p->params;
    p->logs_bytes = times((uint64_t)s->steps,
                          STEP_LOG_BYTES + WINDOW_LOG_BYTES * (uint64_t)p->sequences);
    /* One state more than are kept: the next is written before the oldest is removed. */
    uint64_t states = p->snapshots_full + (p->snapshots_full < p->snapshots);
    p->disk_bytes = plus(
        plus(times(p->snapshots, p->snapshot_bytes), times(states, p->state_bytes)), p->logs_bytes);
}

void plan_make(struct plan *p, const struct settings *s)
{
    const struct workspace_options o = {
        .B = s->micro_batch,
        .T = s->sequence_length,
        .precision = settings_precision(s),
        .backward = true,
    };
    *p = (struct plan){
        .params = model_param_count(&s->model),
        .T = s->sequence_length,
        .sequences = s->batch_tokens / s->sequence_length,
        .micro_batch = s->micro_batch,
        .flops_per_token = model_train_flops(&s->model, s->sequence_length),
        .tokens = (uint64_t)s->steps * (uint64_t)s->batch_tokens,
        .activations_bytes = workspace_bytes(&s->model, &o),
    };
    p->micro_steps = (p->sequences + p->micro_batch - 1) / p->micro_batch;
    p->weights_bytes = 4 * p->params;
    p->gradients_bytes = 4 * p->params;
    p->moments_bytes = 8 * p->params;
    p->memory_bytes = p->weights_bytes + p->gradients_bytes + p->moments_bytes +
                      p->activations_bytes;
    plan_disk(p, s);
}

uint64_t plan_machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

/* 124668672 as "124,668,672". */
static void put_grouped(struct buf *out, uint64_t n)
{
    if (n >= 1000) {
        put_grouped(out, n / 1000);
        buf_printf(out, ",%03u", (unsigned)(n % 1000));
    } else {
        buf_printf(out, "%u", (unsigned)n);
    }
}

static void put_row(struct buf *out, const char *name, uint64_t n, const char *note)
{
    buf_printf(out, "%-22s", name);
    put_grouped(out, n);
    buf_printf(out, "%s\n", note);
}

static void put_bytes(struct buf *out, const char *name, uint64_t bytes, const char *note)
{
    buf_printf(out, "%-22s%-10s%s\n", name, log_bytes(bytes), note);
}

void plan_print(const struct plan *p, const struct settings *s, bool assumed, struct buf *out)
{
    const struct model_config *m = &s->model;
    put_row(out, "parameters", p->params, "");
    buf_printf(out,
               "%-22shidden %" PRId64 ", layers %" PRId64 ", heads %" PRId64 " (%" PRId64
               " for keys and values), feed-forward %" PRId64 "\n",
               "model", m->hidden_size, m->num_hidden_layers, m->num_attention_heads,
               m->num_key_value_heads, m->intermediate_size);
    put_row(out, "vocabulary", (uint64_t)m->vocab_size,
            assumed ? " (assumed: no tokenizer there yet)" : "");
    put_row(out, "steps", (uint64_t)s->steps, "");
    put_row(out, "tokens per step", (uint64_t)s->batch_tokens, "");
    buf_printf(out,
               "%-22s%" PRId64 " sequences of %" PRId64 " tokens in %" PRId64
               " forward passes of up to %" PRId64 "\n",
               "  which are", p->sequences, p->T, p->micro_steps, p->micro_batch);
    put_row(out, "tokens in all", p->tokens, "");
    buf_printf(out, "%-22s%.1f million, forward and backward\n", "FLOPs per token",
               p->flops_per_token / 1e6);
    buf_printf(out, "%-22s%.3g\n", "FLOPs in all", p->flops_per_token * (double)p->tokens);
    put_bytes(out, "memory, weights", p->weights_bytes, "fp32");
    put_bytes(out, "memory, gradients", p->gradients_bytes, "fp32");
    put_bytes(out, "memory, moments", p->moments_bytes, "fp32, two");
    put_bytes(out, "memory, activations", p->activations_bytes, "and scratch");
    buf_printf(out, "%-22s%-10sthis machine has %s\n", "memory in all", log_bytes(p->memory_bytes),
               log_bytes(plan_machine_memory()));
    buf_printf(out, "%-22s%s each, %" PRIu64 " of them\n", "disk, snapshots",
               log_bytes(p->snapshot_bytes), p->snapshots);
    buf_printf(out, "%-22s%s each, %" PRIu64 " of them at a time\n", "disk, to resume",
               log_bytes(p->state_bytes), p->snapshots_full);
    put_bytes(out, "disk, logs", p->logs_bytes, "data.log, metrics, events");
    put_bytes(out, "disk in all", p->disk_bytes, "");
}
