/*
 * What a run will take, computed from its settings before anything is reserved:
 * `train --plan` prints it, and a run prints its memory before it starts.
 *
 * The budget is exact: its sum is what the trainer and the kernels ask the system for
 * (mem_mapped()). What is resident may be less, where a page was never touched, and is
 * more by the program itself and the token shards that were read, which are files.
 */
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include "train/settings.h"

struct plan {
    uint64_t params;
    int64_t T;                /* tokens in a sequence */
    int64_t sequences;        /* in an optimiser step */
    int64_t micro_batch;      /* sequences in a forward pass */
    int64_t micro_steps;      /* forward passes in an optimiser step */
    double flops_per_token;   /* model FLOPs, forward and backward */
    uint64_t tokens;          /* of the whole run */
    enum recompute recompute; /* as set, or the least that fits memory_limit */
    uint64_t panels_bytes;    /* packed weights, forward and backward */
    uint64_t masters_bytes;   /* what is kept beside them */
    uint64_t gradients_bytes;
    uint64_t moments_bytes;
    uint64_t activations_bytes;
    uint64_t batch_bytes;    /* tokens, targets, losses */
    uint64_t kernels_bytes;  /* scratch of all threads; 0 before kernels_init() */
    uint64_t memory_bytes;   /* sum of the seven above */
    uint64_t memory_limit;   /* what --memory allows */
    uint64_t snapshots;      /* over the whole run */
    uint64_t snapshots_full; /* of them, at most, with what resuming needs */
    uint64_t snapshot_bytes; /* weights in bf16 */
    uint64_t state_bytes;    /* masters and moments */
    uint64_t logs_bytes;     /* data.log, metrics and events, roughly */
    uint64_t disk_bytes;     /* snapshots and logs */
};

/* s->model.vocab_size must be set. Fails if --memory is no size. */
int plan_make(struct plan *p, const struct settings *s, struct err *e);
/* 0, or a sentence if the run does not fit what --memory allows. */
int plan_check(const struct plan *p, struct err *e);
/* Many lines for people; `assumed` says that the vocabulary is a guess, `peak` is what the
 * machine's FLOP/s were measured to be, for an estimate of the time. */
void plan_print(const struct plan *p, const struct settings *s, bool assumed, double peak,
                struct buf *out);
/* What --memory allows, in bytes. */
int plan_memory_limit(const struct settings *s, uint64_t *bytes, struct err *e);
/* What the machine, or the container the program runs in, offers, bytes; 0 if unknown. */
uint64_t plan_machine_memory(void);

/* "none", "mlp", "full" */
const char *plan_recompute_name(enum recompute recompute);

#endif
