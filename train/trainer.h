/*
 * One training run in memory: weights, optimiser, activations, batches, and the few
 * numbers that say how far it is. Everything is reserved by trainer_init(), as
 * much as plan.h says; trainer_gradients() and trainer_update() allocate nothing.
 *
 *     while (t.step < steps) {
 *         if (trainer_gradients(&t, &stop, e)) break;   batches, forward, loss, backward
 *         trainer_update(&t);                           clip, optimiser
 *     }
 *
 * Letters as in model/model.h. A step is train.batch_tokens / T sequences, in forward passes of
 * at most B = micro_batch; each token's gradient weighs 1 / batch_tokens, so the loss is the mean
 * over all tokens of the step, however it is cut into passes.
 */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "model/kernels/profile.h"
#include "model/model.h"
#include "model/weights.h"
#include "train/loader.h"
#include "train/optimizer.h"
#include "train/settings.h"

#include <signal.h>

struct trainer {
    const struct settings *settings; /* borrowed */
    struct model model;              /* shapes and names; the parameters are the optimiser's */
    struct weights weights;          /* as the engine reads them */
    struct optimizer optimizer;      /* masters, moments, gradients */
    struct workspace *workspace;
    struct loader loader;
    struct loader valid; /* of PREFIX.valid; valid.shard is NULL without one */
    struct schedule schedule;
    uint32_t *inputs, *targets; /* (B, T) */
    float *losses;              /* (B, T) */
    int64_t sequences;          /* of a step */

    /* how far the run is: saved with every snapshot, together with loader.position */
    uint64_t step;        /* steps done, skipped ones included */
    uint64_t updates;     /* optimiser steps done: t of optimizer_step() */
    uint64_t tokens;      /* seen */
    uint64_t skipped;     /* steps without a finite loss and gradient */
    uint64_t skipped_row; /* the last so many */
    double seconds;       /* spent on steps */

    /* the last step, for the record */
    double loss, grad_norm, lr;
    bool skipped_last;
    double phase_seconds[PHASE_COUNT]; /* of all steps since trainer_init() */
};

/* Reserves everything, with random weights of train.seed. The settings have passed
 * settings_check() and know the vocabulary; shards are borrowed; valid may be NULL. Fails with a
 * sentence if the machine has not enough memory or a shard not one window, or ids >= V. Without
 * data (NULL) the batches are random tokens: for measuring. */
int trainer_init(struct trainer *t, const struct settings *s, const struct shard *data,
                 const struct shard *valid, struct err *e);
void trainer_release(struct trainer *t);

/* Loss (with loss.z_loss) and gradients of the next step's batch: t->loss, t->optimizer.grads. If
 * *stop (may be NULL) becomes non-zero the step is given up between two forward passes and 1 is
 * returned; -1 if the data is damaged. In both cases weights, moments and position are as before
 * the call. */
int trainer_gradients(struct trainer *t, const volatile sig_atomic_t *stop, struct err *e);
/* Bytes of inputs, targets and losses. */
uint64_t trainer_batch_bytes(const struct settings *s);
/* Clips and applies the gradients and counts the step. If loss or norm is not finite the weights
 * and moments stay as they are and the step is counted as skipped. */
void trainer_update(struct trainer *t);

/* Mean loss (nats per token, without z-loss) on the first eval.tokens tokens of the validation
 * shard; NaN without one. Changes nothing that training sees. */
int trainer_valid_loss(struct trainer *t, double *loss, struct err *e);

#endif
