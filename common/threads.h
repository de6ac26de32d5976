/*
 * Threads are OpenMP's. This file only decides how many, and says what holds
 * everywhere: work is cut into blocks whose number and borders do not depend on
 * the number of threads, and sums over blocks are taken in block order. So the
 * result is the same, to the bit, for any number of threads.
 */
#ifndef COMMON_THREADS_H
#define COMMON_THREADS_H

/* 0 = all CPUs this process may use. Call once at start, before any parallel work. A thread that
 * is not OpenMP's calls it too: the number holds for the parallel work of the calling thread. */
void threads_init(int count);
int threads_count(void);
/* The same for work that fills the units of a core: 0 = one thread a core, where a core has two. */
void threads_init_cores(int count);

/* Call first in main(). libgomp reads how long waiting threads spin before main() begins, and
 * its default, some 14 ms, makes every barrier wait for the scheduler as soon as anything else
 * runs on the machine (docs/LOG.md has the numbers). So unless the user has set OMP_WAIT_POLICY
 * or GOMP_SPINCOUNT, this sets a short spin and starts the program anew in its place. Where the
 * machine has several memory nodes it also binds threads to cores, unless the user has set
 * OMP_PROC_BIND or OMP_PLACES: memory lies where the thread that first touched it ran. */
void threads_settle(char **argv);

#endif
