/*
 * Loss spikes: steps whose loss lies far above those before it, and the documents behind them,
 * since a spike is often a document (Chowdhery et al. 2022, PaLM §5.1).
 *
 * A loss is a spike if it exceeds the mean of the last SPIKE_WINDOW finite losses by more than
 * sigma of their standard deviations; the first SPIKE_LEAST losses only fill the window. A line
 * of RUN/spikes.jsonl is
 *
 *     {"step": 71, "loss": 9.1, "mean": 4.2, "deviation": 0.3, "documents": ["id", …]}
 *
 * The window is read back from metrics.jsonl when a run goes on, so the same steps are found.
 */
#ifndef TRAIN_SPIKES_H
#define TRAIN_SPIKES_H

#include "common/err.h"
#include "train/loader.h"

#include <stdbool.h>
#include <stdint.h>

enum { SPIKE_WINDOW = 128, SPIKE_LEAST = 32 };

struct spikes {
    double sigma; /* 0 = off */
    double losses[SPIKE_WINDOW];
    uint64_t count;         /* of finite losses so far */
    double mean, deviation; /* that spikes_check() held the last loss against */
};

void spikes_init(struct spikes *s, double sigma);
/* Takes up what RUN/metrics.jsonl says, which ends with `step`, and cuts later steps off
 * RUN/spikes.jsonl. */
int spikes_resume(struct spikes *s, const char *run, uint64_t step, struct err *e);
/* Whether this loss is a spike; it enters the window in any case, unless it is not finite. */
bool spikes_check(struct spikes *s, double loss);
/* Appends the line of a spike; the step took `count` windows from `position` on. */
int spikes_write(const struct spikes *s, const char *run, uint64_t step, double loss,
                 const struct loader *loader, uint64_t position, int64_t count, struct err *e);

#endif
