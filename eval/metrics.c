/*
 * F1, accuracy and their bootstrap. Everything is counted from one table of
 * (true positives, gold, predicted) per label.
 */
#include "eval/metrics.h"

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"
#include "eval/stats.h"

#include <stdlib.h>
#include <string.h>

struct label_count {
    uint64_t both, gold, pred;
};

const char *metric_name(enum metric m)
{
    static const char *const names[] = {"macro_f1", "micro_f1", "accuracy"};
    return names[m];
}

double metrics_get(const struct metrics *m, enum metric which)
{
    return which == METRIC_MACRO_F1   ? m->macro_f1
           : which == METRIC_MICRO_F1 ? m->micro_f1
                                      : m->accuracy;
}

/* The three scores from the counts per label. */
static struct metrics metrics_from_counts(const struct label_count *c, int32_t K, uint64_t right,
                                          size_t n)
{
    struct metrics m = {0, 0, 0};
    uint64_t both = 0, sides = 0, labels = 0;
    double f1_sum = 0;
    for (int32_t k = 0; k < K; k++) {
        uint64_t s = c[k].gold + c[k].pred; /* = 2 TP + FP + FN */
        if (s == 0)
            continue;
        labels++;
        f1_sum += 2.0 * (double)c[k].both / (double)s;
        both += c[k].both;
        sides += s;
    }
    if (labels) {
        m.macro_f1 = f1_sum / (double)labels;
        m.micro_f1 = 2.0 * (double)both / (double)sides;
    }
    if (n)
        m.accuracy = (double)right / (double)n;
    return m;
}

static void count_item(struct label_count *c, uint64_t *right, int32_t gold, int32_t pred)
{
    if (gold != METRICS_NONE)
        c[gold].gold++;
    if (pred != METRICS_NONE)
        c[pred].pred++;
    if (gold == pred) {
        ++*right;
        if (gold != METRICS_NONE)
            c[gold].both++;
    }
}

struct metrics metrics_classify(const int32_t *gold, const int32_t *pred, size_t n, int32_t K)
{
    struct label_count *c = mem_zalloc((size_t)K + 1, sizeof(*c));
    uint64_t right = 0;
    for (size_t i = 0; i < n; i++) {
        MW_ASSERT(gold[i] >= METRICS_NONE && gold[i] < K);
        MW_ASSERT(pred[i] >= METRICS_NONE && pred[i] < K);
        count_item(c, &right, gold[i], pred[i]);
    }
    struct metrics m = metrics_from_counts(c, K, right, n);
    free(c);
    return m;
}

static struct metrics bootstrap_round(const int32_t *gold, const int32_t *pred, size_t n, int32_t K,
                                      uint64_t seed, uint64_t round)
{
    struct label_count *c = mem_zalloc((size_t)K + 1, sizeof(*c));
    struct rng rng;
    uint64_t right = 0;
    rng_init(&rng, seed, round);
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)rng_below(&rng, n);
        count_item(c, &right, gold[at], pred[at]);
    }
    struct metrics m = metrics_from_counts(c, K, right, n);
    free(c);
    return m;
}

struct metrics metrics_bootstrap(const int32_t *gold, const int32_t *pred, size_t n, int32_t K,
                                 size_t rounds, uint64_t seed)
{
    double *scores = mem_alloc((rounds + 1) * 3 * sizeof(*scores));
    double *macro = scores, *micro = scores + rounds, *accuracy = scores + 2 * rounds;
    if (n == 0)
        rounds = 0;
#pragma omp parallel for schedule(dynamic, 16)
    for (size_t r = 0; r < rounds; r++) {
        struct metrics m = bootstrap_round(gold, pred, n, K, seed, r);
        macro[r] = m.macro_f1;
        micro[r] = m.micro_f1;
        accuracy[r] = m.accuracy;
    }
    struct metrics out = {
        .macro_f1 = stats_deviation(macro, rounds),
        .micro_f1 = stats_deviation(micro, rounds),
        .accuracy = stats_deviation(accuracy, rounds),
    };
    free(scores);
    return out;
}
