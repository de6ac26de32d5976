/*
 * Threads are OpenMP's. This file only decides how many, and says what holds
 * everywhere: work is cut into blocks whose number and borders do not depend on
 * the number of threads, and sums over blocks are taken in block order. So the
 * result is the same, to the bit, for any number of threads.
 */
#ifndef COMMON_THREADS_H
#define COMMON_THREADS_H

/* 0 = all CPUs this process may use. Call once at start, before any parallel work. */
void threads_init(int count);
int threads_count(void);

#endif
