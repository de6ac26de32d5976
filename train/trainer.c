/* Owns the training step: from a batch to changed weights. */
#include "train/trainer.h"

#include "common/log.h"
#include "model/weights.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static size_t micro_tokens(const struct settings *s)
{
    return (size_t)s->micro_batch * (size_t)s->sequence_length;
}

/* One mapping that holds `floats` floats. */
static float *reserve(size_t floats, const char *what, struct err *e)
{
    return mem_map(floats * sizeof(float), what, e);
}

static int reserve_all(struct trainer *t, struct err *e)
{
    const struct settings *s = t->settings;
    const struct workspace_options o = {
        .B = s->micro_batch,
        .T = s->sequence_length,
        .precision = settings_precision(s),
        .backward = true,
    };
    size_t n = micro_tokens(s);
    if (model_init(&t->model, &s->model, e))
        return -1;
    t->in_blocks = reserve(weights_size(&s->model), "gradients", e);
    t->grads = t->in_blocks ? reserve(t->model.params_size, "gradients", e) : NULL;
    t->m = t->grads ? reserve(t->model.params_size, "first moments", e) : NULL;
    t->v = t->m ? reserve(t->model.params_size, "second moments", e) : NULL;
    if (!t->v)
        return -1;
    t->inputs = mem_zalloc(n, sizeof(*t->inputs));
    t->targets = mem_zalloc(n, sizeof(*t->targets));
    t->losses = mem_zalloc(n, sizeof(*t->losses));
    return workspace_init(&t->workspace, &t->model, &o, e);
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
    if (check_ids(s, data, e) ||
        loader_init(&t->loader, data, s->sequence_length, (uint64_t)s->seed, e))
        return err_add(e, "training data");
    if (valid &&
        (check_ids(s, valid, e) || loader_init(&t->valid, valid, s->sequence_length, 0, e)))
        return err_add(e, "validation data");
    if (reserve_all(t, e)) {
        trainer_release(t);
        return -1;
    }
    model_randomize(&t->model, (uint64_t)s->seed);
    workspace_params_changed(t->workspace, &t->model);
    return 0;
}

void trainer_release(struct trainer *t)
{
    size_t bytes = t->model.params_size * sizeof(float);
    workspace_free(t->workspace);
    if (t->in_blocks)
        mem_unmap(t->in_blocks, weights_size(&t->model.config) * sizeof(float));
    mem_unmap(t->grads, bytes);
    mem_unmap(t->m, bytes);
    mem_unmap(t->v, bytes);
    free(t->inputs);
    free(t->targets);
    free(t->losses);
    model_release(&t->model);
    *t = (struct trainer){0};
}

/* Losses are added in the order of the tokens, in double: one order for any thread count. */
static double sum_losses(const float *losses, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)losses[i];
    return sum;
}

int trainer_gradients(struct trainer *t, const volatile sig_atomic_t *stop, struct err *e)
{
    const struct settings *s = t->settings;
    const int64_t T = s->sequence_length;
    const float scale = (float)(1.0 / (double)s->batch_tokens);
    const uint64_t position = t->loader.position;
    double loss_sum = 0;

    memset(t->in_blocks, 0, weights_size(&s->model) * sizeof(float));
    for (int64_t done = 0; done < t->sequences;) {
        if (stop && *stop) {
            t->loader.position = position;
            return 1;
        }
        int64_t left = t->sequences - done;
        int64_t B = left < s->micro_batch ? left : s->micro_batch;
        if (loader_next(&t->loader, B, t->inputs, t->targets, e)) {
            t->loader.position = position;
            return -1;
        }
        model_forward(&t->model, t->workspace, t->inputs, B, T, NULL);
        model_loss(&t->model, t->workspace, t->targets, t->losses, t->in_blocks, scale);
        model_backward(&t->model, t->workspace, NULL, t->in_blocks, NULL);
        loss_sum += sum_losses(t->losses, (size_t)(B * T));
        done += B;
    }
    t->loss = loss_sum / (double)s->batch_tokens;
    return 0;
}

void trainer_update(struct trainer *t)
{
    const struct settings *s = t->settings;
    const size_t n = t->model.params_size;

    t->step++;
    t->tokens += (uint64_t)s->batch_tokens;
    t->lr = schedule_lr(&t->schedule, (int64_t)t->step);
    weights_get_all(&t->model, t->in_blocks, t->grads);
    t->grad_norm = grad_norm(t->grads, n);
    t->skipped_last = !isfinite(t->loss) || !isfinite(t->grad_norm);
    if (t->skipped_last) {
        t->skipped++;
        t->skipped_row++;
        return;
    }
    double clip = s->grad_clip > 0 && t->grad_norm > s->grad_clip ? s->grad_clip / t->grad_norm : 1;
    t->skipped_row = 0;
    t->updates++;
    adamw_step(&s->adamw, t->model.params, t->grads, t->m, t->v, n, t->updates, t->lr, clip);
    workspace_params_changed(t->workspace, &t->model);
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
