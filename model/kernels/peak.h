/*
 * What this machine can do at most, measured now: the ceilings that kernels and whole training
 * steps are held against. All threads work at once, each timed by what the CPU gave it; each
 * number is the best of many short repetitions, since whatever disturbs can only lower it. To be
 * called outside parallel regions, after kernels_init().
 */
#ifndef MODEL_KERNELS_PEAK_H
#define MODEL_KERNELS_PEAK_H

#include "common/err.h"
#include "model/kernels/kernels.h"

enum peak_unit {
    PEAK_FP32,         /* multiply-adds of the level's widest vectors, from registers */
    PEAK_AMX_NOMINAL,  /* bf16 tile products from registers that hold zeros: what the unit is
                          built for */
    PEAK_AMX_GAUSSIAN, /* the same with gaussian operands loaded from the first-level cache: with
                          real data the unit draws more power and runs up to a sixth slower */
};

/* FLOP/s of all threads; 0 where the level has no such unit. Takes about 2 * seconds. */
double peak_flops(enum peak_unit unit, double seconds);

/* The peak that training in a precision is a share of (MFU): of the tile unit where there is
 * one and the precision uses it, else of fp32. */
enum peak_unit peak_unit_nominal(enum kernel_precision precision);
enum peak_unit peak_unit_real(enum kernel_precision precision); /* the same with real data */

/* Bytes per second of all threads; 0 = the machine has no such level, or does not say. */
struct peak_bandwidth {
    double load_l2, load_l3, load_dram; /* sums over private ranges of a fitting size */
    double triad; /* a = b + s c beyond the caches, a stored past them: 12 bytes a value */
};
/* Reserves and gives back a range twice the last-level cache, at most 512 MiB. */
int peak_bandwidth(struct peak_bandwidth *b, struct err *e);
int peak_triad(double *bandwidth, struct err *e); /* the triad alone */

#endif
