/* Owns the thread that writes while training goes on. */
#include "train/saver.h"

#include "common/cpu.h"
#include "common/log.h"
#include "common/threads.h"

static int work_timed(struct saver *s)
{
    double start = log_seconds();
    int r = s->work(s->owner, &s->err);
    s->seconds = log_seconds() - start;
    return r;
}

/* Parallel loops stay on this thread: all others are busy with gradients. It may run on any CPU,
 * whatever the thread that made it is bound to. */
static void *run(void *arg)
{
    struct saver *s = arg;
    cpu_set_t all;
    if (cpu_allowed(&all))
        sched_setaffinity(0, sizeof(all), &all);
    threads_init(1);
    s->result = work_timed(s);
    return NULL;
}

void saver_start(struct saver *s, saver_work *work, void *owner)
{
    MW_ASSERT(!s->busy);
    *s = (struct saver){.work = work, .owner = owner, .busy = true};
    s->in_thread = !pthread_create(&s->thread, NULL, run, s);
    if (!s->in_thread)
        s->result = work_timed(s);
}

int saver_wait(struct saver *s, struct err *e)
{
    if (!s->busy)
        return 0;
    if (s->in_thread)
        MW_ASSERT(!pthread_join(s->thread, NULL));
    s->busy = false;
    if (s->result)
        *e = s->err;
    return s->result;
}
