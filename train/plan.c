/* Owns the arithmetic of a run's size. */
#include "train/plan.h"

#include "common/fs.h"
#include "common/log.h"
#include "model/weights.h"
#include "train/trainer.h" /* trainer_batch_bytes */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    const struct optimizer_options options = settings_optimizer(s);
    uint64_t keep = (uint64_t)s->checkpoints_keep;
    p->snapshots = count_snapshots(s);
    p->snapshots_full = keep && keep < p->snapshots ? keep : p->snapshots;
    p->snapshot_bytes = 2 * p->params;
    p->state_bytes = optimizer_saved_bytes(&s->model, &options);
    p->logs_bytes = times((uint64_t)s->steps,
                          STEP_LOG_BYTES + WINDOW_LOG_BYTES * (uint64_t)p->sequences);
    /* One state more than are kept: the next is written before the oldest is removed. */
    uint64_t states = p->snapshots_full + (p->snapshots_full < p->snapshots);
    p->disk_bytes = plus(
        plus(times(p->snapshots, p->snapshot_bytes), times(states, p->state_bytes)), p->logs_bytes);
}

/* --- memory -------------------------------------------------------------------- */

/* A number with a unit: bytes, KiB … TiB, kB … TB, or % of `whole`. */
static int parse_bytes(const char *text, uint64_t whole, uint64_t *bytes, struct err *e)
{
    static const struct {
        const char *unit;
        double factor; /* 0: percent */
    } units[] = {{"", 1},     {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
                 {"kB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {"%", 0}};
    char *end;
    double number = strtod(text, &end);
    for (size_t i = 0; end != text && i < sizeof(units) / sizeof(*units); i++) {
        double factor = units[i].factor > 0 ? units[i].factor : (double)whole / 100;
        if (strcmp(end, units[i].unit) || !(number * factor >= 1 && number * factor < 0x1p62))
            continue;
        *bytes = (uint64_t)(number * factor);
        return 0;
    }
    return err_set(e, "--memory '%s' is no size: bytes, KiB, MiB, GiB, TiB or %%, as 20GiB or 90%%",
                   text);
}

/* The limit of a container (control groups, version 2); none = UINT64_MAX. */
static uint64_t container_memory(void)
{
    struct buf text = {0};
    struct err ignored;
    uint64_t limit = UINT64_MAX;
    static const char path[] = "/sys/fs/cgroup/memory.max";
    if (fs_exists(path) && !fs_read(&text, path, 64, &ignored) && *text.data >= '0' &&
        *text.data <= '9')
        limit = strtoull(text.data, NULL, 10);
    buf_release(&text);
    return limit;
}

uint64_t plan_machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || size <= 0)
        return 0;
    uint64_t machine = (uint64_t)pages * (uint64_t)size, container = container_memory();
    return machine < container ? machine : container;
}

int plan_memory_limit(const struct settings *s, uint64_t *bytes, struct err *e)
{
    return parse_bytes(s->memory, plan_machine_memory(), bytes, e);
}

static void plan_memory(struct plan *p, const struct settings *s, enum recompute recompute)
{
    const struct optimizer_options options = settings_optimizer(s);
    const struct workspace_options w = settings_workspace(s, recompute);
    const struct optimizer_bytes bytes = optimizer_bytes(&s->model, &options);
    p->recompute = recompute;
    p->panels_bytes = weights_bytes(&s->model, w.precision, true);
    p->masters_bytes = bytes.masters;
    p->gradients_bytes = bytes.grads;
    p->moments_bytes = bytes.moments;
    p->activations_bytes = workspace_bytes(&s->model, &w);
    p->batch_bytes = trainer_batch_bytes(s);
    p->kernels_bytes = kernels_bytes() + bytes.scratch;
    p->memory_bytes = p->panels_bytes + p->masters_bytes + p->gradients_bytes + p->moments_bytes +
                      p->activations_bytes + p->batch_bytes + p->kernels_bytes;
}

/* All choices give the same bits; what is kept need not be computed again. */
static void fit_memory(struct plan *p, const struct settings *s)
{
    if (s->recompute != RECOMPUTE_SETTING_AUTO) {
        plan_memory(p, s, (enum recompute)(s->recompute - RECOMPUTE_SETTING_NONE));
        return;
    }
    for (int r = RECOMPUTE_NONE; r <= RECOMPUTE_FULL; r++) {
        plan_memory(p, s, (enum recompute)r);
        if (p->memory_bytes <= p->memory_limit)
            return;
    }
}

int plan_make(struct plan *p, const struct settings *s, struct err *e)
{
    *p = (struct plan){
        .params = model_param_count(&s->model),
        .T = s->sequence_length,
        .sequences = s->batch_tokens / s->sequence_length,
        .micro_batch = s->micro_batch,
        .flops_per_token = model_train_flops(&s->model, s->sequence_length),
        .tokens = (uint64_t)s->steps * (uint64_t)s->batch_tokens,
    };
    if (plan_memory_limit(s, &p->memory_limit, e))
        return -1;
    p->micro_steps = (p->sequences + p->micro_batch - 1) / p->micro_batch;
    fit_memory(p, s);
    plan_disk(p, s);
    return 0;
}

int plan_check(const struct plan *p, struct err *e)
{
    if (p->memory_bytes <= p->memory_limit)
        return 0;
    return err_set(e, "the run needs %s of memory, --memory allows %s of this machine's %s%s%s",
                   log_bytes(p->memory_bytes), log_bytes(p->memory_limit),
                   log_bytes(plan_machine_memory()),
                   p->recompute < RECOMPUTE_FULL ? ": set train.recompute to full" : "",
                   p->micro_batch > 1 ? ": lower train.micro_batch" : "");
}

const char *plan_recompute_name(enum recompute recompute)
{
    static const char *const names[] = {
        [RECOMPUTE_NONE] = "none", [RECOMPUTE_MLP] = "mlp", [RECOMPUTE_FULL] = "full"};
    return names[recompute];
}

/* --- words ---------------------------------------------------------------------- */

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

/* A guess: what well-fed training reaches. A run shows its own share from the first step on. */
#define EXPECTED_MFU 0.35

static void put_time(const struct plan *p, struct buf *out, double peak)
{
    double rate = EXPECTED_MFU * peak / p->flops_per_token;
    double seconds = (double)p->tokens / rate, years = seconds / (365.25 * 86400);
    char time[32];
    if (years < 2)
        snprintf(time, sizeof(time), "%s", log_duration(seconds));
    else
        snprintf(time, sizeof(time), "%.0f years", years);
    buf_printf(out,
               "%-22s%-10s%s tokens/s, if %.0f %% of the %.3g TFLOP/s measured now is reached\n",
               "time", time, log_count(rate), 100 * EXPECTED_MFU, 1e-12 * peak);
}

static void put_memory(const struct plan *p, const struct settings *s, struct buf *out)
{
    static const char *const moments[] = {"fp32", "bf16", "int8"};
    const struct optimizer_options o = settings_optimizer(s);
    char kept[64], two[64];
    snprintf(two, sizeof(two), "%s, two%s", moments[o.moments],
             o.name == OPTIMIZER_MUON ? ", for the layers one" : "");
    snprintf(kept, sizeof(kept), "recomputed: %s; with the loss's chunk",
             plan_recompute_name(p->recompute));
    put_bytes(out, "memory, weights", p->panels_bytes,
              settings_precision(s) == KERNEL_BF16 ? "bf16, packed for both directions"
                                                   : "fp32, packed for both directions");
    put_bytes(out, "memory, masters", p->masters_bytes,
              o.masters == MASTERS_SPLIT ? "what bf16 weights leave out" : "fp32");
    put_bytes(out, "memory, gradients", p->gradients_bytes, "fp32");
    put_bytes(out, "memory, moments", p->moments_bytes, two);
    put_bytes(out, "memory, activations", p->activations_bytes, kept);
    put_bytes(out, "memory, scratch", p->batch_bytes + p->kernels_bytes,
              "batch, kernels, optimiser");
    buf_printf(out, "%-22s%-10s%s allowed (--memory %s), this machine has %s\n", "memory in all",
               log_bytes(p->memory_bytes), log_bytes(p->memory_limit), s->memory,
               log_bytes(plan_machine_memory()));
}

void plan_print(const struct plan *p, const struct settings *s, bool assumed, double peak,
                struct buf *out)
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
    put_time(p, out, peak);
    put_memory(p, s, out);
    buf_printf(out, "%-22s%s each, %" PRIu64 " of them\n", "disk, snapshots",
               log_bytes(p->snapshot_bytes), p->snapshots);
    buf_printf(out, "%-22s%s each, %" PRIu64 " of them at a time\n", "disk, to resume",
               log_bytes(p->state_bytes), p->snapshots_full);
    put_bytes(out, "disk, logs", p->logs_bytes, "data.log, metrics, events");
    put_bytes(out, "disk in all", p->disk_bytes, "");
}
