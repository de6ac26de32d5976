/* The command `mundwerk bench`; returns the exit code. */
#ifndef TRAIN_CMD_BENCH_H
#define TRAIN_CMD_BENCH_H

int cmd_bench(int argc, char **argv);

#endif
