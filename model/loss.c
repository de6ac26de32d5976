/*
 * From hidden states to losses. Logits (N, V) would be the largest tensor of a small
 * model: for LOSS_ROWS rows at a time the head's product leaves exp(l - max) instead, in
 * the precision of activations, and the statistics of its softmax. These become the
 * gradient in place, and both backward products of the head follow. For losses alone
 * nothing of that size is stored.
 */
#include "model/layers.h"
#include "model/workspace.h"

#include <string.h>

void model_logits(const struct model *m, struct workspace *w, const float *hidden, int64_t rows,
                  float *logits)
{
    const struct model_tensor *head = tensor_head(m); /* (V, C) */
    int64_t V = head->rows, C = head->cols;
    gemm(GEMM_NT, w->options.precision, rows, V, C, hidden, C, head->data, C, logits, V, false);
}

/* Losses of rows [row, row + n), and with grads what model_loss() says of them. */
static void loss_of_rows(const struct model *m, struct workspace *w, int64_t row, int64_t n,
                         float *grads, float scale)
{
    const enum kernel_precision p = w->options.precision;
    const struct weights *weights = w->weights;
    const struct weight *head = weights_head(weights); /* (V, C) */
    const void *hidden = act_rows(w, w->hidden, row, head->in);
    const uint32_t *targets = w->targets + row;
    int64_t V = m->config.vocab_size;
    void *e = grads ? w->e : NULL;
    linear_forward_softmax(p, head, hidden, targets, V, e, &w->stats, n);
    softmax_finish(p, targets, V, head->out, e, &w->stats, w->losses + row, scale,
                   grads ? w->options.z_loss : 0, n);
    if (!grads)
        return;
    linear_gradient(p, e, hidden, grads + weights->offsets[weights->count - 1], n, head->out,
                    head->in);
    linear_backward(p, head, e, act_rows(w, w->dh, row, head->in), n);
}

void model_loss(const struct model *m, struct workspace *w, const uint32_t *targets, float *losses,
                float *grads, float scale)
{
    int64_t N = workspace_rows(w), T = w->T, rows = block_up(T);
    MW_ASSERT(N > 0); /* model_forward() comes first */
    MW_ASSERT(!grads || w->options.backward);
    profile_set_phase(PHASE_LOSS);
    for (int64_t n = 0; n < N; n++)
        w->targets[n] = n % rows < T ? targets[n / rows * T + n % rows] : MODEL_IGNORE;
    for (int64_t row = 0; row < N; row += LOSS_ROWS)
        loss_of_rows(m, w, row, N - row < LOSS_ROWS ? N - row : LOSS_ROWS, grads, scale);
    for (int64_t b = 0; b < w->B; b++)
        memcpy(losses + b * T, w->losses + b * rows, (size_t)T * sizeof(float));
}
