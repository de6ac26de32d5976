/* Owns the words and shares of the table of --profile. */
#include "train/profile_table.h"

#include "model/kernels/peak.h"
#include "model/kernels/profile.h"

#include <stdio.h>

static const double PEAK_SECONDS = 0.1;

int profile_peaks(struct profile_peaks *p, enum kernel_precision precision, struct err *e)
{
    p->flops = peak_flops(peak_unit_real(precision), PEAK_SECONDS);
    return peak_triad(&p->bytes, e);
}

/* Kernels that are bound by arithmetic show FLOP/s, the others bytes per second: whichever is
 * the larger share of what the machine can do. */
static void put_rate(struct buf *out, const struct profile_counter *c,
                     const struct profile_peaks *p)
{
    double flops = c->flops / c->seconds, bytes = c->bytes / c->seconds;
    double of_flops = p->flops > 0 ? flops / p->flops : 0;
    double of_bytes = p->bytes > 0 ? bytes / p->bytes : 0;
    if (of_flops >= of_bytes && flops > 0)
        buf_printf(out, "%8.3g TFLOP/s", 1e-12 * flops);
    else if (bytes > 0)
        buf_printf(out, "%8.3g GB/s   ", 1e-9 * bytes);
    else
        return;
    double share = of_flops >= of_bytes ? of_flops : of_bytes;
    if (share > 0)
        buf_printf(out, " %5.1f %%", 100 * share);
}

static void put_row(struct buf *out, const char *phase, const char *kernel, double seconds,
                    uint64_t steps, double all)
{
    buf_printf(out, "%-10s%-20s%10.2f %6.1f %% ", phase, kernel, 1e3 * seconds / (double)steps,
               100 * seconds / all);
}

void profile_table(struct buf *out, uint64_t steps, double seconds, const struct profile_peaks *p)
{
    double counted = 0;
    if (!steps || !(seconds > 0))
        return;
    buf_printf(out, "%-10s%-20s%10s %8s %16s %7s\n", "phase", "kernel", "ms/step", "share", "rate",
               "of peak");
    for (int phase = 0; phase < PHASE_COUNT; phase++)
        for (int kernel = 0; kernel < PROFILE_KERNEL_COUNT; kernel++) {
            const struct profile_counter *c = profile_get((enum profile_phase)phase,
                                                          (enum profile_kernel)kernel);
            if (!c->calls || !(c->seconds > 0))
                continue;
            put_row(out, profile_phase_name((enum profile_phase)phase),
                    profile_kernel_name((enum profile_kernel)kernel), c->seconds, steps, seconds);
            put_rate(out, c, p);
            buf_putc(out, '\n');
            counted += c->seconds;
        }
    put_row(out, "", "outside kernels", seconds - counted, steps, seconds);
    buf_putc(out, '\n');
    put_row(out, "", "all", seconds, steps, seconds);
    buf_putc(out, '\n');
}
