/* Owns the curve of the learning rate. */
#include "train/schedule.h"

#include <math.h>

/* The share of lr - min_lr that is left after a share `done` of the fall. */
static double cosine_left(double done)
{
    return 0.5 * (1.0 + cos(3.14159265358979323846 * done));
}

static double decay_left(enum schedule_decay decay, double done)
{
    return decay == DECAY_LINEAR ? 1.0 - done : 1.0 - sqrt(done);
}

double schedule_lr(const struct schedule *s, int64_t step)
{
    double left = 1;
    if (step < s->warmup_steps)
        return s->lr * (double)step / (double)s->warmup_steps;
    if (step > s->steps)
        step = s->steps;
    if (s->name == SCHEDULE_COSINE) {
        double fall = (double)(s->steps - s->warmup_steps);
        left = fall > 0 ? cosine_left((double)(step - s->warmup_steps) / fall) : 0;
    } else if (s->name == SCHEDULE_WSD && step > s->steps - s->decay_steps) {
        double done = (double)(step - s->steps + s->decay_steps) / (double)s->decay_steps;
        left = decay_left(s->decay, done);
    }
    return s->min_lr + left * (s->lr - s->min_lr);
}
