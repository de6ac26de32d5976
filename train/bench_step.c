/*
 * `mundwerk bench step`: whole optimiser steps of a configuration, on random weights and random
 * tokens, so that the speed of training is known before there is any data.
 */
#include "common/log.h"
#include "common/threads.h"
#include "model/kernels/peak.h"
#include "train/bench.h"
#include "train/plan.h"
#include "train/profile_table.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PEAK_SECONDS = 0.2;
/* A step takes about so long unless --batch-tokens says otherwise, were this share of the peak
 * reached; one forward pass at least, and not very many. */
static const double STEP_SECONDS = 3, STEP_MFU = 0.35;
enum { PASSES_MAX = 16, STEPS_MAX = 1000, VOCABULARY = 32000 };

struct step_options {
    bool json, profile;
    int64_t threads, steps, micro_batch, batch_tokens;
    char *config, *memory;
    struct config_list set;
};

#define S struct step_options
static const struct config_row rows[] = {
    CONFIG_STR(S, config, "config", NULL, "NAME|FILE", "the configuration that is measured"),
    CONFIG_I64(S, steps, "steps", "3", 1, STEPS_MAX, "measured, after one that is not"),
    CONFIG_I64(S, micro_batch, "micro-batch", "0", 0, 65536,
               "sequences per forward pass; 0 = train.micro_batch"),
    CONFIG_I64(S, batch_tokens, "batch-tokens", "0", 0, 1e12,
               "tokens per step; 0 = some forward passes, for a step of seconds"),
    CONFIG_LIST(S, set, "set", "KEY=VALUE", "change single keys of the configuration"),
    CONFIG_STR(S, memory, "memory", "90%", "BYTES|GiB|%", "as of train"),
    CONFIG_BOOL(S, profile, "profile", "false", "add a table by phase and kernel"),
    CONFIG_BOOL(S, json, "json", "false", "one JSON object instead of lines"),
    CONFIG_I64(S, threads, "threads", "0", 0, 4096, "threads to use; 0 = one for each core"),
    CONFIG_END,
};
#undef S

static const struct config_usage usage = {
    .name = "mundwerk bench step",
    .synopsis = "--config NAME|FILE [options]",
    .about = "Trains a random model for some steps on random tokens (a vocabulary of 32,000) and "
             "says how many tokens a second that makes (the median step), and which share of what "
             "the machine can do: MFU, model FLOPs by nominal peak, and by the peak with real "
             "numbers. Needs neither data nor tokenizer, writes nothing.",
    .examples = "  mundwerk bench step --config german120m\n"
                "  mundwerk bench step --config german1b --steps 1 --profile\n"
                "  mundwerk bench step --config german120m --micro-batch 2 --json\n",
};

struct measured {
    double nominal, real;              /* FLOP/s of the machine */
    double seconds[STEPS_MAX];         /* of each step */
    double phase_seconds[PHASE_COUNT]; /* of all steps */
    double all_seconds;
};

static int read_settings(struct settings *s, const struct step_options *o, struct err *e)
{
    settings_init(s);
    if (!o->config || !*o->config)
        return err_set(e, "--config is missing: name a configuration, e.g. --config german120m");
    free(s->config);
    s->config = mem_strdup(o->config);
    free(s->memory);
    s->memory = mem_strdup(o->memory);
    for (size_t i = 0; i < o->set.count; i++)
        config_list_add(&s->set, o->set.items[i]);
    return settings_resolve(s, e);
}

/* Replaces the batch, which in a real run is far larger, by one that takes seconds. */
static int shorten(struct settings *s, const struct step_options *o, double peak, struct err *e)
{
    settings_vocab(s, VOCABULARY);
    if (o->micro_batch)
        s->micro_batch = o->micro_batch;
    const double pass = (double)(s->micro_batch * s->sequence_length);
    const double flops = pass * model_train_flops(&s->model, s->sequence_length);
    const double passes = floor(STEP_SECONDS * STEP_MFU * peak / flops);
    s->batch_tokens = o->batch_tokens ? o->batch_tokens
                                      : (int64_t)(fmin(PASSES_MAX, fmax(1, passes)) * pass);
    s->steps = o->steps + 1;
    s->warmup_steps = 0;
    s->decay_steps = 0;
    return settings_check(s, e);
}

static int one_step(struct trainer *t, struct err *e)
{
    if (trainer_gradients(t, NULL, e))
        return -1;
    trainer_update(t);
    return t->skipped_last
               ? err_set(e, "loss %g, gradient norm %g: not finite", t->loss, t->grad_norm)
               : 0;
}

static int measure(struct measured *m, struct trainer *t, const struct step_options *o,
                   struct err *e)
{
    if (one_step(t, e)) /* touches all memory, wakes all threads */
        return -1;
    memset(t->phase_seconds, 0, sizeof(t->phase_seconds));
    profile_enable(o->profile);
    profile_reset();
    for (int64_t i = 0; i < o->steps; i++) {
        double start = log_seconds();
        if (one_step(t, e))
            return -1;
        m->seconds[i] = log_seconds() - start;
        m->all_seconds += m->seconds[i];
    }
    profile_enable(false);
    memcpy(m->phase_seconds, t->phase_seconds, sizeof(m->phase_seconds));
    return 0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof(*x), compare);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void put_phases(struct bench_output *o, const struct measured *m, int64_t steps)
{
    for (int phase = PHASE_FORWARD; phase <= PHASE_UPDATE; phase++) {
        char key[32], name[64];
        const char *word = profile_phase_name((enum profile_phase)phase);
        snprintf(key, sizeof(key), "%s_ms", word);
        snprintf(name, sizeof(name), "%s, a step", word);
        bench_put_number(o, key, name, 1e3 * m->phase_seconds[phase] / (double)steps, "ms");
    }
}

static void put_results(const struct step_options *options, const struct settings *s,
                        const struct plan *p, struct measured *m, const struct trainer *t)
{
    struct bench_output o = {.json = options->json};
    const double rate = (double)s->batch_tokens / median(m->seconds, options->steps);
    bench_put_machine(&o);
    bench_put_text(&o, "config", "configuration", options->config);
    bench_put_text(&o, "precision", "precision",
                   settings_precision(s) == KERNEL_BF16 ? "bf16" : "fp32");
    bench_put_text(&o, "recompute", "recomputed", plan_recompute_name(p->recompute));
    bench_put_count(&o, "sequence_length", "tokens in a sequence", s->sequence_length);
    bench_put_count(&o, "micro_batch", "sequences in a forward pass", s->micro_batch);
    bench_put_count(&o, "batch_tokens", "tokens in a step", s->batch_tokens);
    bench_put_count(&o, "steps", "steps measured", options->steps);
    bench_put_number(&o, "tokens_per_s", "tokens per second, median", rate, "");
    bench_put_number(&o, "flops_per_token", "model FLOPs per token", p->flops_per_token, "");
    bench_put_number(&o, "tflops", "model FLOP/s", 1e-12 * rate * p->flops_per_token, "TFLOP/s");
    bench_put_number(&o, "mfu_nominal", "MFU, of the nominal peak",
                     rate * p->flops_per_token / m->nominal, "");
    bench_put_number(&o, "mfu_gaussian", "MFU, of that with real numbers",
                     rate * p->flops_per_token / m->real, "");
    put_phases(&o, m, options->steps);
    bench_put_number(&o, "memory_bytes", "memory reserved", (double)p->memory_bytes, "bytes");
    bench_put_number(&o, "resident_peak_bytes", "memory, resident at most",
                     (double)mem_resident_peak(), "bytes");
    bench_put_number(&o, "loss", "loss of the last step", t->loss, "");
    bench_put_end(&o);
}

static int put_profile(const struct step_options *options, const struct settings *s,
                       const struct measured *m, struct err *e)
{
    struct profile_peaks peaks;
    struct buf table = {0};
    if (profile_peaks(&peaks, settings_precision(s), e))
        return -1;
    profile_table(&table, (uint64_t)options->steps, m->all_seconds, &peaks);
    FILE *to = options->json ? stderr : stdout;
    fprintf(to, "\n%s", table.data);
    buf_release(&table);
    return 0;
}

static int bench(const struct step_options *o, const struct settings *s, struct measured *m,
                 struct err *e)
{
    struct plan plan;
    struct trainer t;
    if (plan_make(&plan, s, e) || plan_check(&plan, e) || trainer_init(&t, s, NULL, NULL, e))
        return -1;
    int r = measure(m, &t, o, e);
    if (!r)
        put_results(o, s, &plan, m, &t);
    trainer_release(&t);
    return !r && o->profile ? put_profile(o, s, m, e) : r;
}

int bench_step(int argc, char **argv)
{
    static struct measured m;
    struct step_options options;
    struct settings s;
    struct err e;
    config_init(rows, &options);
    int r = config_args(rows, &options, &usage, NULL, argc, argv, &e);
    if (r)
        return r > 0 ? 0 : command_fail(usage.name, &e, 2);
    if (read_settings(&s, &options, &e))
        return command_fail(usage.name, &e, 2);
    threads_init_cores((int)options.threads);
    r = kernels_init(&e);
    if (!r) {
        m.nominal = peak_flops(peak_unit_nominal(settings_precision(&s)), PEAK_SECONDS);
        m.real = peak_flops(peak_unit_real(settings_precision(&s)), PEAK_SECONDS);
        r = shorten(&s, &options, m.nominal, &e) || bench(&options, &s, &m, &e);
    }
    settings_release(&s);
    config_release(rows, &options);
    return r ? command_fail(usage.name, &e, 1) : 0;
}
