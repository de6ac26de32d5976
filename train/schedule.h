/*
 * The learning rate of each step (llammlein.md §3.4), counted in optimiser steps
 * where the released script counts micro-batches:
 *
 *     step <= W   lr · step / W                                     linear warm-up
 *     step <= S   by name:
 *       cosine    min_lr + ½ (1 + cos(π (step-W)/(S-W))) (lr - min_lr)
 *       constant  lr
 *       wsd       lr up to step S-D, then min_lr + d(u) (lr - min_lr), u = (step-(S-D))/D
 *                 linear: d(u) = 1 - u      1-sqrt: d(u) = 1 - sqrt(u)
 *     step >  S   as step S
 *
 * wsd is warm-up, stable, decay (MiniCPM, arXiv 2404.06395), with the shapes of decay of
 * Hägele et al. 2024 (arXiv 2405.18392): a snapshot from before the decay serves runs of any
 * length.
 *
 * Steps are numbered from 1, as in metrics.jsonl and in the names of snapshots:
 * update number t uses schedule_lr(t). So no update is spent at rate 0 (step 0 is
 * the untrained model), update W is the first at the full rate, and the last
 * update, S, runs at min_lr (but for constant).
 */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include <stdint.h>

enum schedule_name { SCHEDULE_COSINE, SCHEDULE_CONSTANT, SCHEDULE_WSD };
enum schedule_decay { DECAY_LINEAR, DECAY_1_SQRT };

struct schedule {
    enum schedule_name name;
    double lr, min_lr;
    int64_t warmup_steps; /* W; 0 = none */
    int64_t steps;        /* S */
    /* wsd only: */
    int64_t decay_steps; /* D, at most S - W; 0 = none */
    enum schedule_decay decay;
};

double schedule_lr(const struct schedule *s, int64_t step);

#endif
