/* The saver: work goes on beside its caller, and what came of it is told once. */
#include "tests/test.h"

#include "common/threads.h"
#include "train/saver.h"

#include <semaphore.h>

struct work {
    sem_t begun, may_end;
    pthread_t thread;
    int result, threads;
};

/* Ends only when the caller, going on meanwhile, says so. */
static int wait_for_word(void *owner, struct err *e)
{
    struct work *w = owner;
    w->thread = pthread_self();
    w->threads = threads_count();
    sem_post(&w->begun);
    while (sem_wait(&w->may_end))
        continue;
    return w->result ? err_set(e, "the disk is full") : 0;
}

static void start(struct saver *s, struct work *w, int result)
{
    w->result = result;
    saver_start(s, wait_for_word, w);
    while (sem_wait(&w->begun)) /* returns although the work has not ended */
        continue;
    assert_true(s->busy);
    assert_false(pthread_equal(w->thread, pthread_self()));
    assert_int_equal(w->threads, 1);
    sem_post(&w->may_end);
}

static void test_works_beside_its_caller(void **state)
{
    (void)state;
    struct saver s = {0};
    struct work w;
    struct err e = {0};
    threads_init(3);
    sem_init(&w.begun, 0, 0);
    sem_init(&w.may_end, 0, 0);
    assert_works(saver_wait(&s, &e), e); /* nothing was started */
    start(&s, &w, 0);
    assert_works(saver_wait(&s, &e), e);
    assert_false(s.busy);
    assert_true(s.seconds >= 0);

    start(&s, &w, -1);
    assert_fails(saver_wait(&s, &e), e, "the disk is full");
    assert_false(s.busy);
    e.msg[0] = '\0';
    assert_works(saver_wait(&s, &e), e); /* the failure was told */

    start(&s, &w, 0); /* and does not stick */
    assert_works(saver_wait(&s, &e), e);
    assert_int_equal(threads_count(), 3);
    sem_destroy(&w.begun);
    sem_destroy(&w.may_end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_works_beside_its_caller),
    };
    return cmocka_run_group_tests_name("saver", tests, NULL, NULL);
}
