/*
 * Where the time goes: each parallel kernel adds its time, operations and bytes to a counter of
 * its own in the phase that runs, if profiling is on. Off, it costs one comparison a call.
 *
 *     double t = profile_start();
 *     …
 *     profile_stop(PROFILE_GRADIENT, t, flops, bytes);
 *
 * To be used outside parallel regions, by one thread.
 */
#ifndef MODEL_KERNELS_PROFILE_H
#define MODEL_KERNELS_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

enum profile_phase {
    PHASE_FORWARD,
    PHASE_LOSS,
    PHASE_BACKWARD,
    PHASE_UPDATE,
    PHASE_OTHER,
    PHASE_COUNT
};

enum profile_kernel {
    PROFILE_LINEAR_FORWARD,
    PROFILE_LINEAR_BACKWARD,
    PROFILE_LINEAR_GRADIENT,
    PROFILE_HEAD,
    PROFILE_SOFTMAX,
    PROFILE_ATTENTION_FORWARD,
    PROFILE_ATTENTION_BACKWARD,
    PROFILE_NORM,
    PROFILE_ROPE,
    PROFILE_EMBED,
    PROFILE_NORM_OF_GRADIENT,
    PROFILE_OPTIMIZER,
    PROFILE_PACK,
    PROFILE_DATA,
    PROFILE_KERNEL_COUNT
};

struct profile_counter {
    double seconds, flops, bytes;
    uint64_t calls;
};

void profile_enable(bool on);
bool profile_enabled(void);
void profile_reset(void);
void profile_set_phase(enum profile_phase phase);
const struct profile_counter *profile_get(enum profile_phase phase, enum profile_kernel kernel);
const char *profile_phase_name(enum profile_phase phase);
const char *profile_kernel_name(enum profile_kernel kernel);

double profile_start(void); /* seconds; 0 when off */
void profile_stop(enum profile_kernel kernel, double start, double flops, double bytes);

#endif
