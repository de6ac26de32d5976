/*
 * What a run will take, computed from its settings before anything is reserved:
 * `train --plan` prints it, and a run prints its memory before it starts.
 */
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include "train/settings.h"

struct plan {
    uint64_t params;
    int64_t T;              /* tokens in a sequence */
    int64_t sequences;      /* in an optimiser step */
    int64_t micro_batch;    /* sequences in a forward pass */
    int64_t micro_steps;    /* forward passes in an optimiser step */
    double flops_per_token; /* model FLOPs, forward and backward */
    uint64_t tokens;        /* of the whole run */
    uint64_t weights_bytes; /* fp32 masters */
    uint64_t gradients_bytes;
    uint64_t moments_bytes; /* both of AdamW */
    uint64_t activations_bytes;
    uint64_t memory_bytes;   /* sum of the four above */
    uint64_t snapshots;      /* over the whole run */
    uint64_t snapshots_full; /* of them, at most, with what resuming needs */
    uint64_t snapshot_bytes; /* weights in bf16 */
    uint64_t state_bytes;    /* masters and moments */
    uint64_t logs_bytes;     /* data.log, metrics and events, roughly */
    uint64_t disk_bytes;     /* snapshots and logs */
};

/* s->model.vocab_size must be set. */
void plan_make(struct plan *p, const struct settings *s);
/* Many lines for people; `assumed` says that the vocabulary is a guess. */
void plan_print(const struct plan *p, const struct settings *s, bool assumed, struct buf *out);
/* The largest resident size this machine offers, bytes; 0 if unknown. */
uint64_t plan_machine_memory(void);

#endif
