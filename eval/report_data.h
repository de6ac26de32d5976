/*
 * What a run has left behind, read back for the report: metrics.jsonl and the
 * results under eval/ (files of one flat JSON object a line).
 */
#ifndef EVAL_REPORT_DATA_H
#define EVAL_REPORT_DATA_H

#include "common/err.h"
#include "common/mem.h"

#include <stddef.h>
#include <stdint.h>

/* The members the report knows. Numbers that are absent are NaN, strings NULL. */
struct result {
    double step, tokens;
    double loss, valid_loss, lr, grad_norm, tokens_per_s, seconds; /* metrics.jsonl */
    double bits_per_byte, stderr, documents, bytes;                /* eval/bpb.jsonl */
    double score, seed, n;                                         /* eval/tasks.jsonl */
    double temperature, top_nsigma;                                /* eval/samples.jsonl */
    char *task, *metric;
    char *prompt, *mode, *text; /* eval/samples.jsonl */
};

struct results {
    struct result *v;
    size_t count;
    size_t capacity;
    size_t bad_lines; /* left out: not such an object (a torn last line, for example) */
};

/* A file that is not there gives no results and no error. Sorted by step, otherwise in the
 * order of the file. */
int results_read(struct results *r, const char *path, struct err *e);
void results_release(struct results *r);

#endif
