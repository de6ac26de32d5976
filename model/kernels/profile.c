/* Owns the counters of time, operations and bytes. */
#include "model/kernels/profile.h"

#include <string.h>
#include <time.h>

static struct profile_counter counters[PHASE_COUNT][PROFILE_KERNEL_COUNT];
static enum profile_phase phase_now = PHASE_OTHER;
static bool enabled;

void profile_enable(bool on)
{
    enabled = on;
}

bool profile_enabled(void)
{
    return enabled;
}

void profile_reset(void)
{
    memset(counters, 0, sizeof(counters));
}

void profile_set_phase(enum profile_phase phase)
{
    phase_now = phase;
}

const struct profile_counter *profile_get(enum profile_phase phase, enum profile_kernel kernel)
{
    return &counters[phase][kernel];
}

const char *profile_phase_name(enum profile_phase phase)
{
    static const char *const names[PHASE_COUNT] = {"forward", "loss", "backward", "update",
                                                   "other"};
    return names[phase];
}

const char *profile_kernel_name(enum profile_kernel kernel)
{
    static const char *const names[PROFILE_KERNEL_COUNT] = {
        "linear forward",
        "linear backward",
        "linear gradient",
        "head forward",
        "softmax",
        "attention forward",
        "attention backward",
        "norm",
        "rope",
        "embedding",
        "gradient norm",
        "optimizer",
        "pack",
        "data",
    };
    return names[kernel];
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double profile_start(void)
{
    return enabled ? now() : 0;
}

void profile_stop(enum profile_kernel kernel, double start, double flops, double bytes)
{
    if (!enabled)
        return;
    struct profile_counter *c = &counters[phase_now][kernel];
    c->seconds += now() - start;
    c->flops += flops;
    c->bytes += bytes;
    c->calls++;
}
