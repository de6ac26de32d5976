/*
 * Shares the blocks of an optimiser step among the threads. Each value depends on itself alone
 * (and, with MOMENTS_INT8, on its block), so the bits do not depend on who computes it.
 */
#include "model/kernels/update.h"

#include "model/kernels/table.h"

#include <omp.h>

enum { RUN = 16 }; /* blocks of a task: 64 KiB of gradients */

static void run_all(const struct update *updates, int64_t n, enum update_pass pass,
                    const struct update_rule *rule)
{
#pragma omp parallel num_threads(kernels_threads())
    for (int64_t i = 0; i < n; i++) {
        const struct update *u = &updates[i];
#pragma omp for schedule(static) nowait
        for (int64_t b = 0; b < u->count; b += RUN)
            kernels.update(u, pass, rule, b, b + RUN < u->count ? b + RUN : u->count);
    }
}

void update_adamw(const struct update *updates, int64_t n, const struct update_rule *rule)
{
    run_all(updates, n, UPDATE_ADAMW, rule);
}

void update_momentum(const struct update *updates, int64_t n, const struct update_rule *rule)
{
    run_all(updates, n, UPDATE_MOMENTUM, rule);
}

void update_apply(const struct update *updates, int64_t n, const struct update_rule *rule)
{
    run_all(updates, n, UPDATE_APPLY, rule);
}

void update_pack(const struct update *updates, int64_t n)
{
    run_all(updates, n, UPDATE_PACK, NULL);
}
