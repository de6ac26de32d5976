/*
 * From hidden states to logits and losses. Logits (N, V) are the largest tensor
 * of a small model, so they exist only for LOSS_ROWS rows at a time: forward
 * product, softmax, its gradient and both backward products of the head follow
 * one another on the same block.
 */
#include "model/layers.h"
#include "model/workspace.h"

void model_logits(const struct model *m, struct workspace *w, const float *hidden, int64_t rows,
                  float *logits)
{
    const struct model_tensor *head = tensor_head(m); /* (V, C) */
    int64_t V = head->rows, C = head->cols;
    gemm(GEMM_NT, w->options.precision, rows, V, C, hidden, C, head->data, C, logits, V, false);
}

void model_loss(const struct model *m, struct workspace *w, const uint32_t *targets, float *losses,
                float *grads, float scale)
{
    enum kernel_precision precision = w->options.precision;
    const struct model_tensor *head = tensor_head(m); /* (V, C) */
    int64_t N = workspace_rows(w), V = head->rows, C = head->cols;
    MW_ASSERT(N > 0); /* model_forward() comes first */
    MW_ASSERT(!grads || w->options.backward);
    for (int64_t start = 0; start < N; start += LOSS_ROWS) {
        int64_t rows = N - start < LOSS_ROWS ? N - start : LOSS_ROWS;
        const float *hidden = w->hidden + start * C; /* (rows, C) */
        float *logits = w->logits;                   /* (rows, V), then their gradient */
        model_logits(m, w, hidden, rows, logits);
        cross_entropy(logits, targets + start, losses + start, rows, V, grads ? scale : 0);
        if (!grads)
            continue;
        gemm(GEMM_TN, precision, V, C, rows, logits, V, hidden, C, grads + head->offset, C, true);
        gemm(GEMM_NN, precision, rows, C, V, logits, V, head->data, C, w->d_hidden + start * C, C,
             false);
    }
}
