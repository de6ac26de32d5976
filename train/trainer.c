/* Owns the training step: from a batch to changed weights. */
#include "train/trainer.h"

#include "common/log.h"
#include "train/plan.h" /* which activations are kept */
#include "model/weights.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static size_t micro_tokens(const struct settings *s)
{
    return (size_t)s->micro_batch * (size_t)s->sequence_length;
}

uint64_t trainer_batch_bytes(const struct settings *s)
{
    return micro_tokens(s) * (2 * sizeof(uint32_t) + sizeof(float));
}

/* --- memory ------------------------------------------------------------------------ */

/* Pages belong to the memory of the thread that touches them first: all threads touch equal
 * parts, in the order in which the optimiser hands them out. */
static void touch(void *memory, uint64_t bytes)
{
    enum { PART = 2 << 20, PAGE = 4096 };
    char *pages = memory;
#pragma omp parallel for schedule(static)
    for (uint64_t part = 0; part < bytes; part += PART)
        for (uint64_t at = part; at < bytes && at < part + PART; at += PAGE)
            pages[at] = 0;
}

static int reserve_batch(struct trainer *t, struct err *e)
{
    size_t n = micro_tokens(t->settings);
    t->inputs = mem_map(trainer_batch_bytes(t->settings), "batches", e);
    if (!t->inputs)
        return -1;
    t->targets = t->inputs + n;
    t->losses = (float *)(void *)(t->targets + n);
    return 0;
}

static int reserve_all(struct trainer *t, struct err *e)
{
    const struct settings *s = t->settings;
    const struct optimizer_options optimizer = settings_optimizer(s);
    struct plan plan;
    if (plan_make(&plan, s, e) || model_init_shape(&t->model, &s->model, e) ||
        weights_init(&t->weights, &s->model, settings_precision(s), true, e) ||
        optimizer_init(&t->optimizer, &t->weights, &optimizer, e) || reserve_batch(t, e))
        return -1;
    struct workspace_options workspace = settings_workspace(s, plan.recompute);
    workspace.weights = &t->weights;
    if (workspace_init(&t->workspace, &t->model, &workspace, e))
        return -1;
    touch(t->weights.memory, t->weights.bytes);
    touch(t->optimizer.masters, t->optimizer.bytes.masters);
    touch(t->optimizer.moments, t->optimizer.bytes.moments);
    touch(t->optimizer.grads, t->optimizer.bytes.grads);
    touch(t->optimizer.scratch, t->optimizer.bytes.scratch);
    return 0;
}

/* Some rows at a time: the parameters never lie in memory as floats of their own. */
static void randomize(struct trainer *t)
{
    enum { STRIP_ROWS = 1024 };
    const struct model *m = &t->model;
    int64_t widest = 0;
    for (size_t i = 0; i < m->tensor_count; i++)
        widest = m->tensors[i].cols > widest ? m->tensors[i].cols : widest;
    float *rows = mem_zalloc((size_t)(STRIP_ROWS * widest), sizeof(*rows));
    for (size_t i = 0; i < m->tensor_count; i++) {
        for (int64_t row = 0; row < m->tensors[i].rows; row += STRIP_ROWS) {
            int64_t left = m->tensors[i].rows - row;
            int64_t count = left < STRIP_ROWS ? left : STRIP_ROWS;
            model_random_rows(m, i, (uint64_t)t->settings->seed, row, count, rows);
            optimizer_put(&t->optimizer, OPTIMIZER_MASTER, i, row, count, rows);
        }
    }
    free(rows);
    optimizer_pack(&t->optimizer);
}

static int check_ids(const struct settings *s, const struct shard *shard, struct err *e)
{
    if ((int64_t)shard->vocab_size <= s->model.vocab_size)
        return 0;
    return err_set(e, "%s has ids up to %" PRIu32 ", the model's vocabulary is %" PRId64,
                   shard->prefix, shard->vocab_size - 1, s->model.vocab_size);
}

int trainer_init(struct trainer *t, const struct settings *s, const struct shard *data,
                 const struct shard *valid, struct err *e)
{
    *t = (struct trainer){
        .settings = s,
        .schedule = settings_schedule(s),
        .sequences = s->batch_tokens / s->sequence_length,
    };
    if (!data)
        loader_init_random(&t->loader, (uint32_t)s->model.vocab_size, s->sequence_length,
                           (uint64_t)s->seed);
    else if (check_ids(s, data, e) ||
             loader_init(&t->loader, data, s->sequence_length, (uint64_t)s->seed, e))
        return err_add(e, "training data");
    if (valid &&
        (check_ids(s, valid, e) || loader_init(&t->valid, valid, s->sequence_length, 0, e)))
        return err_add(e, "validation data");
    if (reserve_all(t, e)) {
        trainer_release(t);
        return -1;
    }
    randomize(t);
    return 0;
}

void trainer_release(struct trainer *t)
{
    if (t->settings)
        mem_unmap(t->inputs, trainer_batch_bytes(t->settings));
    workspace_free(t->workspace);
    optimizer_release(&t->optimizer);
    weights_release(&t->weights);
    model_release(&t->model);
    *t = (struct trainer){0};
}

/* --- a step ------------------------------------------------------------------------ */

/* Ends one phase, which began at *clock, and begins the next. */
static void enter(struct trainer *t, enum profile_phase ended, enum profile_phase next,
                  double *clock)
{
    double now = log_seconds();
    t->phase_seconds[ended] += now - *clock;
    *clock = now;
    profile_set_phase(next);
}

/* Losses are added in the order of the tokens, in double: one order for any thread count. */
static double sum_losses(const float *losses, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)losses[i];
    return sum;
}

/* What an update reads and writes: gradients once, what is kept twice, packed weights written in
 * both forms, of which split masters read one first. */
static double update_bytes(const struct trainer *t)
{
    const struct optimizer_bytes *b = &t->optimizer.bytes;
    bool split = t->optimizer.options.masters == MASTERS_SPLIT;
    return (double)b->grads + 2 * (double)(b->masters + b->moments) +
           (split ? 1.5 : 1) * (double)t->weights.bytes;
}

static void clear_gradients(struct trainer *t)
{
    double clock = log_seconds();
    profile_set_phase(PHASE_UPDATE);
    double start = profile_start();
    optimizer_clear(&t->optimizer);
    profile_stop(PROFILE_OPTIMIZER, start, 0, (double)t->optimizer.bytes.grads);
    enter(t, PHASE_UPDATE, PHASE_OTHER, &clock);
}

static int next_batch(struct trainer *t, int64_t B, struct err *e)
{
    double start = profile_start();
    int r = loader_next(&t->loader, B, t->inputs, t->targets, e);
    profile_stop(PROFILE_DATA, start, 0, (double)(B * t->loader.T * 8));
    return r;
}

/* Forward, loss and backward pass of B sequences; returns the sum of their losses. */
static double micro_step(struct trainer *t, int64_t B)
{
    const int64_t T = t->settings->sequence_length;
    const float scale = (float)(1.0 / (double)t->settings->batch_tokens);
    float *grads = t->optimizer.grads;
    double clock = log_seconds();
    profile_set_phase(PHASE_FORWARD);
    model_forward(&t->model, t->workspace, t->inputs, B, T, NULL);
    enter(t, PHASE_FORWARD, PHASE_LOSS, &clock);
    model_loss(&t->model, t->workspace, t->targets, t->losses, grads, scale);
    enter(t, PHASE_LOSS, PHASE_BACKWARD, &clock);
    model_backward(&t->model, t->workspace, NULL, grads, NULL);
    enter(t, PHASE_BACKWARD, PHASE_OTHER, &clock);
    return sum_losses(t->losses, (size_t)(B * T));
}

int trainer_gradients(struct trainer *t, const volatile sig_atomic_t *stop, struct err *e)
{
    const struct settings *s = t->settings;
    const uint64_t position = t->loader.position;
    double loss_sum = 0;

    clear_gradients(t);
    for (int64_t done = 0; done < t->sequences;) {
        if (stop && *stop) {
            t->loader.position = position;
            return 1;
        }
        int64_t left = t->sequences - done;
        int64_t B = left < s->micro_batch ? left : s->micro_batch;
        if (next_batch(t, B, e)) {
            t->loader.position = position;
            return -1;
        }
        loss_sum += micro_step(t, B);
        done += B;
    }
    t->loss = loss_sum / (double)s->batch_tokens;
    return 0;
}

void trainer_update(struct trainer *t)
{
    const struct settings *s = t->settings;
    double clock = log_seconds();

    profile_set_phase(PHASE_UPDATE);
    t->step++;
    t->tokens += (uint64_t)s->batch_tokens;
    t->lr = schedule_lr(&t->schedule, (int64_t)t->step);
    double start = profile_start();
    t->grad_norm = optimizer_norm(&t->optimizer);
    profile_stop(PROFILE_NORM_OF_GRADIENT, start, 0, (double)t->optimizer.bytes.grads);
    t->skipped_last = !isfinite(t->loss) || !isfinite(t->grad_norm);
    if (t->skipped_last) {
        t->skipped++;
        t->skipped_row++;
    } else {
        bool clip = s->grad_clip > 0 && t->grad_norm > s->grad_clip;
        t->skipped_row = 0;
        t->updates++;
        start = profile_start();
        optimizer_step(&t->optimizer, t->updates, t->lr, clip ? s->grad_clip / t->grad_norm : 1);
        profile_stop(PROFILE_OPTIMIZER, start, 0, update_bytes(t));
    }
    enter(t, PHASE_UPDATE, PHASE_OTHER, &clock);
}

int trainer_valid_loss(struct trainer *t, double *loss, struct err *e)
{
    const struct settings *s = t->settings;
    const int64_t T = s->sequence_length;
    double loss_sum = 0;
    int64_t windows;

    *loss = NAN;
    if (!t->valid.shard)
        return 0;
    windows = (s->eval_tokens + T - 1) / T;
    if ((uint64_t)windows > t->valid.window_count)
        windows = (int64_t)t->valid.window_count;
    for (int64_t done = 0; done < windows;) {
        int64_t left = windows - done;
        int64_t B = left < s->micro_batch ? left : s->micro_batch;
        for (int64_t b = 0; b < B; b++)
            if (loader_read(&t->valid, (uint64_t)(done + b), t->inputs + b * T, t->targets + b * T,
                            e))
                return -1;
        model_forward(&t->model, t->workspace, t->inputs, B, T, NULL);
        model_loss(&t->model, t->workspace, t->targets, t->losses, NULL, 0);
        loss_sum += sum_losses(t->losses, (size_t)(B * T));
        done += B;
    }
    *loss = loss_sum / (double)(windows * T);
    return 0;
}
