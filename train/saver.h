/*
 * One piece of work at a time on a thread of its own, while the caller goes on: how a snapshot
 * gets to the disk without stopping the training.
 *
 *     saver_start(&s, write_snapshot, owner);   after the update of step s
 *     trainer_gradients(…);                     of step s + 1: changes nothing that is saved
 *     saver_wait(&s, e);                        a failure comes out here
 *     trainer_update(…);
 *
 * What the work reads must stay as it is until saver_wait() has returned.
 */
#ifndef TRAIN_SAVER_H
#define TRAIN_SAVER_H

#include "common/err.h"

#include <pthread.h>
#include <stdbool.h>

typedef int saver_work(void *owner, struct err *e);

/* A zeroed one is idle. */
struct saver {
    saver_work *work;
    void *owner;
    pthread_t thread;
    bool busy;      /* started and not waited for */
    bool in_thread; /* else the work was done by saver_start() */
    int result;
    struct err err;
    double seconds; /* that the last work took */
};

/* Calls work(owner, …) on another thread, where parallel loops run on that thread alone; if none
 * can be had, here and now. Not while busy. */
void saver_start(struct saver *s, saver_work *work, void *owner);
/* What the work returned, and its sentence; 0 if none was started. */
int saver_wait(struct saver *s, struct err *e);

#endif
