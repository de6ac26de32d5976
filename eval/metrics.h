/*
 * Classification scores as flair 0.15.1 computes them over scikit-learn's
 * classification_report (spec evaluation.md §1.7).
 *
 * An item is a document, span or token; gold[i] and pred[i] are label numbers
 * 0 … K-1, or METRICS_NONE where only the other side has the item ("O"). A label
 * takes part if any item has it on either side, so a label that is never gold but
 * predicted once enters the macro average with F1 0. F1 without any true positive
 * is 0.
 */
#ifndef EVAL_METRICS_H
#define EVAL_METRICS_H

#include <stddef.h>
#include <stdint.h>

#define METRICS_NONE (-1)

enum metric { METRIC_MACRO_F1, METRIC_MICRO_F1, METRIC_ACCURACY };
/* Words for configuration rows, in the order of the enum; and one of them. */
#define METRIC_WORDS "macro_f1|micro_f1|accuracy"
const char *metric_name(enum metric m);

struct metrics {
    double macro_f1; /* unweighted mean of F1 over the labels that take part */
    double micro_f1; /* 2 TP / (2 TP + FP + FN), summed over those labels */
    double accuracy; /* share of items with gold == pred */
};

/* All three for n items; zeros for n = 0. */
struct metrics metrics_classify(const int32_t *gold, const int32_t *pred, size_t n, int32_t K);
double metrics_get(const struct metrics *m, enum metric which);

/* Standard error by the bootstrap over items: the standard deviation (n-1) of the score
 * over `rounds` samples of n items drawn with replacement (round r from the random
 * stream (seed, r)). Parallel over rounds; the same bits for any number of threads. */
struct metrics metrics_bootstrap(const int32_t *gold, const int32_t *pred, size_t n, int32_t K,
                                 size_t rounds, uint64_t seed);

#endif
