/*
 * The loop of finetune.h. Nothing is allocated while it runs, except the order of
 * an epoch.
 */
#include "eval/finetune.h"

#include "common/mem.h"
#include "common/rng.h"
#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Streams of the fine-tuning's seed; epoch e shuffles with STREAM_ORDER + e. */
#define STREAM_DROPOUT 0x64726f70u
#define STREAM_ORDER   0x6f7264650000u

/* flair leaves these at bitsandbytes' defaults. */
#define BETA1 0.9
#define BETA2 0.999
#define EPS   1e-8

uint64_t finetune_schedule_steps(uint64_t n, int64_t batch, int64_t epochs)
{
    return (uint64_t)(((double)n + (double)batch - 1) / (double)batch * (double)epochs);
}

double finetune_rate(double lr, double warmup_share, uint64_t T, uint64_t s)
{
    uint64_t W = (uint64_t)(warmup_share * (double)T);
    if (s < W)
        return lr * ((double)s / (double)W);
    if (s >= T)
        return 0;
    return lr * ((double)(T - s) / (double)(T - W));
}

static float *zero_floats(size_t count)
{
    return mem_zalloc(count, sizeof(float));
}

int finetune_init(struct finetune *f, const struct model *m, const struct finetune_options *o,
                  int64_t K, size_t longest, struct err *e)
{
    int64_t C = m->config.hidden_size;
    size_t rows = (size_t)o->batch * longest;
    MW_ASSERT(K >= 2 && longest >= 1 && o->batch >= 1);
    memset(f, 0, sizeof(*f));
    f->options = *o;
    f->model = m;
    f->longest = longest;
    if (lora_init(&f->lora, &m->config, o->lora_rank, o->lora_alpha, o->lora_dropout, o->seed, e))
        return -1;
    head_init(&f->head, K, C, o->seed);
    struct workspace_options wo = {.B = o->batch,
                                   .T = (int64_t)longest,
                                   .precision = o->precision,
                                   .backward = true,
                                   .hidden_rows = true,
                                   .lora = &f->lora};
    if (workspace_init(&f->workspace, m, &wo, e)) {
        finetune_release(f);
        return -1;
    }
    f->tokens = mem_zalloc(rows, sizeof(*f->tokens));
    f->d_hidden = zero_floats(rows * (size_t)C);
    f->pooled = zero_floats((size_t)(o->batch * C));
    f->d_pooled = zero_floats((size_t)(o->batch * C));
    f->logits = zero_floats((size_t)(o->batch * K));
    f->d_logits = zero_floats((size_t)(o->batch * K));
    f->targets = mem_zalloc((size_t)o->batch, sizeof(*f->targets));
    f->lora_grads = zero_floats(f->lora.param_count);
    f->lora_m = zero_floats(f->lora.param_count);
    f->lora_v = zero_floats(f->lora.param_count);
    f->head_grads = zero_floats(f->head.param_count);
    f->head_m = zero_floats(f->head.param_count);
    f->head_v = zero_floats(f->head.param_count);
    return 0;
}

void finetune_release(struct finetune *f)
{
    workspace_free(f->workspace);
    lora_release(&f->lora);
    head_release(&f->head);
    void *const buffers[] = {f->tokens,     f->d_hidden, f->pooled,     f->d_pooled, f->logits,
                             f->d_logits,   f->targets,  f->lora_grads, f->lora_m,   f->lora_v,
                             f->head_grads, f->head_m,   f->head_v};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
        free(buffers[i]);
    memset(f, 0, sizeof(*f));
}

/* Runs the body on `n` items (numbers order[0 … n-1]) padded on the right, and the head on
 * their last tokens. Returns the tokens of a sequence, T. */
static size_t forward(struct finetune *f, const struct example *items, const uint32_t *order,
                      size_t n, struct rng *dropout)
{
    size_t longest = 0, C = (size_t)f->model->config.hidden_size;
    for (size_t i = 0; i < n; i++) {
        MW_ASSERT(items[order[i]].count >= 1 && items[order[i]].count <= f->longest);
        if (items[order[i]].count > longest)
            longest = items[order[i]].count;
    }
    size_t T = longest;
    memset(f->tokens, 0, n * T * sizeof(*f->tokens)); /* any id serves as padding */
    for (size_t i = 0; i < n; i++)
        memcpy(f->tokens + i * T, items[order[i]].ids, items[order[i]].count * sizeof(uint32_t));
    model_forward(f->model, f->workspace, f->tokens, (int64_t)n, (int64_t)T,
                  f->lora.dropout > 0 ? dropout : NULL);
    const float *hidden = model_hidden(f->model, f->workspace);
    for (size_t i = 0; i < n; i++)
        memcpy(f->pooled + i * C, hidden + (i * T + items[order[i]].count - 1) * C,
               C * sizeof(float));
    head_forward(&f->head, f->pooled, n, f->logits);
    return T;
}

/* Gradients of the batch's summed loss into lora_grads and head_grads; returns the loss. */
static double batch_gradients(struct finetune *f, const struct example *items,
                              const uint32_t *order, size_t n, const double *weights,
                              struct rng *dropout)
{
    size_t C = (size_t)f->model->config.hidden_size;
    size_t T = forward(f, items, order, n, dropout);
    for (size_t i = 0; i < n; i++)
        f->targets[i] = items[order[i]].label;
    double loss = head_loss(f->logits, f->targets, weights, n, f->head.K, f->d_logits);
    memset(f->head_grads, 0, f->head.param_count * sizeof(float));
    memset(f->lora_grads, 0, f->lora.param_count * sizeof(float));
    memset(f->d_hidden, 0, n * T * C * sizeof(float));
    head_backward(&f->head, f->pooled, f->d_logits, n, f->head_grads, f->d_pooled);
    for (size_t i = 0; i < n; i++)
        memcpy(f->d_hidden + (i * T + items[order[i]].count - 1) * C, f->d_pooled + i * C,
               C * sizeof(float));
    model_backward(f->model, f->workspace, f->d_hidden, NULL, f->lora_grads);
    return loss;
}

/* One step of AdamW over LoRA and head together; t counts from 1. */
static void update(struct finetune *f, uint64_t t, double lr)
{
    const struct adamw adamw = {BETA1, BETA2, EPS, f->options.weight_decay};
    double a = grad_norm(f->lora_grads, f->lora.param_count);
    double b = grad_norm(f->head_grads, f->head.param_count);
    double norm = sqrt(a * a + b * b), scale = 1, clip = f->options.grad_clip;
    if (clip > 0 && norm + 1e-6 > clip) /* torch's clip_grad_norm_ */
        scale = clip / (norm + 1e-6);
    adamw_step(&adamw, f->lora.params, f->lora_grads, f->lora_m, f->lora_v, f->lora.param_count, t,
               lr, scale);
    adamw_step(&adamw, f->head.params, f->head_grads, f->head_m, f->head_v, f->head.param_count, t,
               lr, scale);
}

int finetune_train(struct finetune *f, const struct example *items, size_t n, const double *weights,
                   struct progress *p, struct err *e)
{
    const struct finetune_options *o = &f->options;
    uint64_t T = finetune_schedule_steps(n, o->batch, o->epochs), s = 0;
    uint64_t done = p ? p->done : 0;
    uint32_t *order = mem_alloc((n + 1) * sizeof(*order));
    struct rng dropout, shuffle;
    rng_init(&dropout, o->seed, STREAM_DROPOUT);
    for (int64_t epoch = 0; epoch < o->epochs; epoch++) {
        double loss_sum = 0;
        for (size_t i = 0; i < n; i++)
            order[i] = (uint32_t)i;
        rng_init(&shuffle, o->seed, STREAM_ORDER + (uint64_t)epoch);
        rng_shuffle(&shuffle, order, n);
        for (size_t at = 0; at < n; at += (size_t)o->batch, s++) {
            size_t count = n - at < (size_t)o->batch ? n - at : (size_t)o->batch;
            double loss = batch_gradients(f, items, order + at, count, weights, &dropout);
            if (!isfinite(loss)) {
                free(order);
                return err_set(e,
                               "the loss is not finite at step %llu of fine-tuning: the "
                               "checkpoint is broken or the learning rate too high",
                               (unsigned long long)s);
            }
            update(f, s + 1, finetune_rate(o->lr, o->warmup_share, T, s));
            loss_sum += loss;
            if (p)
                progress_update(p, done += count, NULL);
        }
        f->epoch_loss = loss_sum / (double)n;
    }
    free(order);
    return 0;
}

struct by_length {
    size_t count;
    uint32_t index;
};

static int compare_length(const void *a, const void *b)
{
    const struct by_length *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

void finetune_predict(struct finetune *f, const struct example *items, size_t n, float *logits,
                      struct progress *p)
{
    size_t K = (size_t)f->head.K, batch = (size_t)f->options.batch;
    uint64_t done = p ? p->done : 0;
    struct by_length *sorted = mem_alloc((n + 1) * sizeof(*sorted));
    uint32_t *order = mem_alloc((n + 1) * sizeof(*order));
    for (size_t i = 0; i < n; i++)
        sorted[i] = (struct by_length){items[i].count, (uint32_t)i};
    qsort(sorted, n, sizeof(*sorted), compare_length);
    for (size_t i = 0; i < n; i++)
        order[i] = sorted[i].index;
    for (size_t at = 0; at < n; at += batch) {
        size_t count = n - at < batch ? n - at : batch;
        forward(f, items, order + at, count, NULL);
        for (size_t i = 0; i < count; i++)
            memcpy(logits + order[at + i] * K, f->logits + i * K, K * sizeof(float));
        if (p)
            progress_update(p, done += count, NULL);
    }
    free(sorted);
    free(order);
}
