/*
 * The table of --profile: where the time of some steps went, by phase and kernel, and how near
 * each kernel came to what the machine can do (model/kernels/peak.h): products and attention as
 * a share of the FLOP/s with real numbers, the others of the triad's bytes per second.
 */
#ifndef TRAIN_PROFILE_TABLE_H
#define TRAIN_PROFILE_TABLE_H

#include "common/err.h"
#include "common/mem.h"
#include "model/kernels/kernels.h"

#include <stdint.h>

struct profile_peaks {
    double flops, bytes; /* per second; 0 = not known, no shares */
};

/* Measures both. */
int profile_peaks(struct profile_peaks *p, enum kernel_precision precision, struct err *e);
/* Appends the table of what profile.h counted in `steps` steps that took `seconds` in all. */
void profile_table(struct buf *out, uint64_t steps, double seconds, const struct profile_peaks *p);

#endif
