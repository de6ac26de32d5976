/*
 * The learning rate of each step (llammlein.md §3.4), counted in optimiser steps
 * where the released script counts micro-batches:
 *
 *     step <= W   lr · step / W                                     linear warm-up
 *     step <= S   min_lr + ½ (1 + cos(π (step-W)/(S-W))) (lr - min_lr)      cosine
 *     step >  S   min_lr
 *
 * Steps are numbered from 1, as in metrics.jsonl and in the names of snapshots:
 * update number t uses schedule_lr(t). So no update is spent at rate 0 (step 0 is
 * the untrained model), update W is the first at the full rate, and the last
 * update, S, runs at min_lr.
 */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include <stdint.h>

enum schedule_name { SCHEDULE_COSINE, SCHEDULE_CONSTANT }; /* constant: lr after the warm-up */

struct schedule {
    enum schedule_name name;
    double lr, min_lr;
    int64_t warmup_steps; /* W; 0 = none */
    int64_t steps;        /* S */
};

double schedule_lr(const struct schedule *s, int64_t step);

#endif
