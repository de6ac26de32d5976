/*
 * Linear head, weighted cross entropy and their gradients; see head.h.
 */
#include "eval/head.h"

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"

#include <math.h>
#include <stdlib.h>

#define HEAD_RNG_STREAM 0x68656164 /* "head" */

void head_init(struct head *h, int64_t K, int64_t C, uint64_t seed)
{
    struct rng rng;
    double w_bound = sqrt(6.0 / (double)(K + C)), b_bound = 1 / sqrt((double)C);
    h->K = K;
    h->C = C;
    h->param_count = (size_t)(K * C + K);
    h->params = mem_alloc(h->param_count * sizeof(float));
    rng_init(&rng, seed, HEAD_RNG_STREAM);
    for (int64_t i = 0; i < K * C; i++)
        h->params[i] = (float)((2 * rng_f64(&rng) - 1) * w_bound);
    for (int64_t k = 0; k < K; k++)
        h->params[K * C + k] = (float)((2 * rng_f64(&rng) - 1) * b_bound);
}

void head_release(struct head *h)
{
    free(h->params);
    h->params = NULL;
}

void head_forward(const struct head *h, const float *pooled, size_t n, float *logits)
{
    const float *bias = h->params + h->K * h->C;
    for (size_t i = 0; i < n; i++)
        for (int64_t k = 0; k < h->K; k++) {
            const float *w = h->params + k * h->C, *x = pooled + (int64_t)i * h->C;
            double sum = 0;
            for (int64_t c = 0; c < h->C; c++)
                sum += (double)w[c] * (double)x[c];
            logits[(int64_t)i * h->K + k] = (float)(sum + (double)bias[k]);
        }
}

void head_backward(const struct head *h, const float *pooled, const float *d_logits, size_t n,
                   float *grads, float *d_pooled)
{
    float *d_bias = grads + h->K * h->C;
    for (size_t i = 0; i < n; i++) {
        const float *x = pooled + (int64_t)i * h->C, *dz = d_logits + (int64_t)i * h->K;
        float *dx = d_pooled + (int64_t)i * h->C;
        for (int64_t c = 0; c < h->C; c++)
            dx[c] = 0;
        for (int64_t k = 0; k < h->K; k++) {
            const float *w = h->params + k * h->C;
            float *dw = grads + k * h->C;
            for (int64_t c = 0; c < h->C; c++) {
                dw[c] += dz[k] * x[c];
                dx[c] += dz[k] * w[c];
            }
            d_bias[k] += dz[k];
        }
    }
}

void head_probabilities(const float *logits, int64_t K, double *out)
{
    double max = (double)logits[head_decide(logits, K)], sum = 0;
    for (int64_t k = 0; k < K; k++)
        sum += out[k] = exp((double)logits[k] - max);
    for (int64_t k = 0; k < K; k++)
        out[k] /= sum;
}

double head_loss(const float *logits, const int32_t *targets, const double *weights, size_t n,
                 int64_t K, float *d_logits)
{
    double loss = 0;
    double *p = mem_alloc((size_t)K * sizeof(*p));
    for (size_t i = 0; i < n; i++) {
        const float *z = logits + (int64_t)i * K;
        MW_ASSERT(targets[i] >= 0 && targets[i] < K);
        double max = (double)z[head_decide(z, K)], sum = 0, w = weights[targets[i]];
        for (int64_t k = 0; k < K; k++)
            sum += p[k] = exp((double)z[k] - max);
        loss += w * (max + log(sum) - (double)z[targets[i]]);
        if (!d_logits)
            continue;
        for (int64_t k = 0; k < K; k++)
            d_logits[(int64_t)i * K + k] = (float)(w * (p[k] / sum - (k == targets[i])));
    }
    free(p);
    return loss;
}

int32_t head_decide(const float *logits, int64_t K)
{
    int32_t best = 0;
    for (int64_t k = 1; k < K; k++)
        if (logits[k] > logits[best])
            best = (int32_t)k;
    return best;
}

void class_weights(const uint64_t *counts, int32_t K, double *weights)
{
    uint64_t N = 0;
    for (int32_t c = 0; c < K; c++)
        N += counts[c];
    for (int32_t c = 0; c < K; c++)
        weights[c] = counts[c] ? (double)N / ((double)K * (double)counts[c]) : 0;
}
