/* Owns the curve of the learning rate. */
#include "train/schedule.h"

#include <math.h>

double schedule_lr(const struct schedule *s, int64_t step)
{
    if (step < s->warmup_steps)
        return s->lr * (double)step / (double)s->warmup_steps;
    if (s->name == SCHEDULE_CONSTANT)
        return s->lr;
    if (step >= s->steps)
        return s->min_lr;
    double done = (double)(step - s->warmup_steps) / (double)(s->steps - s->warmup_steps);
    return s->min_lr + 0.5 * (1.0 + cos(3.14159265358979323846 * done)) * (s->lr - s->min_lr);
}
