/*
 * `mundwerk eval run`: tasks over the snapshots of a run, or over one checkpoint.
 *
 * Everything that can be wrong before a model runs is found first: unknown tasks,
 * missing data, unreadable results. Then snapshot by snapshot: verify, skip what is
 * there already for the same weights and settings, run the rest, store each result as
 * soon as it exists.
 */
#ifndef EVAL_RUN_H
#define EVAL_RUN_H

#include "common/err.h"
#include "common/mem.h"
#include "model/kernels/kernels.h"

#include <stdbool.h>
#include <stdint.h>

/* As given on the command line; strings are borrowed, NULL or "" = not given. */
struct run_options {
    char *run;             /* a run folder, or … */
    char *checkpoint;      /* … one checkpoint folder */
    char *tasks;           /* names, separated by commas */
    char *task_data;       /* a copy of SuperGLEBer's data/ */
    char *data;            /* PREFIX of held-out shards PREFIX.valid.* */
    char *out;             /* folder for the results; else RUN/eval, or RUN/eval/trial */
    int64_t max_tokens;    /* of held-out text; -1 = the run's eval.tokens, 0 = all */
    int64_t batch_tokens;  /* in a forward pass of bpb */
    int64_t sample_tokens; /* new tokens a sample */
    int64_t seed, seeds;   /* first seed and how many, for fine-tuning and samples */
    int64_t epochs, limit; /* of fine-tuning, 0 = the task's, all items */
    int precision;         /* enum kernel_precision */
    bool force;            /* make again what is there */
};

/* 0; or -1 with a sentence and *code = 2 if the caller must give something else, 1 if
 * something failed. A snapshot that cannot be evaluated is reported when it is met, the
 * others go on; then the result is -1 too. `table` receives one line a result, old or new. */
int run_evaluation(const struct run_options *o, struct buf *table, int *code, struct err *e);

#endif
