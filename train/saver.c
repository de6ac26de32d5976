/* Owns the thread that writes while training goes on. */
#include "train/saver.h"

#include "common/log.h"

static void *run(void *arg)
{
    struct saver *s = arg;
    double start = log_seconds();
    s->result = s->work(s->owner, &s->err);
    s->seconds = log_seconds() - start;
    return NULL;
}

void saver_start(struct saver *s, saver_work *work, void *owner)
{
    MW_ASSERT(!s->busy);
    *s = (struct saver){.work = work, .owner = owner, .busy = true};
    s->in_thread = !pthread_create(&s->thread, NULL, run, s);
    if (!s->in_thread)
        run(s);
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
