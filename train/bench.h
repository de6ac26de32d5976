/*
 * The parts of `mundwerk bench`, each a command of its own, and how they print: one JSON object,
 * or lines for people. Private to train/.
 */
#ifndef TRAIN_BENCH_H
#define TRAIN_BENCH_H

#include "train/settings.h"

#include <stdbool.h>

int bench_peak(int argc, char **argv);
int bench_gemm(int argc, char **argv);
int bench_step(int argc, char **argv);

struct bench_output {
    bool json;
    int count; /* of members so far in the object that is being written */
};

void bench_put_text(struct bench_output *o, const char *key, const char *name, const char *text);
/* x = 0 or less: the machine has no such thing; null in JSON. */
void bench_put_number(struct bench_output *o, const char *key, const char *name, double x,
                      const char *unit);
void bench_put_count(struct bench_output *o, const char *key, const char *name, int64_t n);
/* JSON only: a key whose value the caller writes. */
void bench_put_key(struct bench_output *o, const char *key);
/* CPU, level, threads. */
void bench_put_machine(struct bench_output *o);
void bench_put_end(const struct bench_output *o);

#endif
