/*
 * Means, ratios and their standard errors; formulas in stats.h. Plain serial sums
 * in double: n is at most some hundred thousand documents or items.
 */
#include "eval/stats.h"

#include <math.h>

double stats_mean(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / (double)n : NAN;
}

double stats_deviation(const double *x, size_t n)
{
    if (n < 2)
        return NAN;
    double mean = stats_mean(x, n), sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1));
}

double stats_mean_stderr(const double *x, size_t n)
{
    return stats_deviation(x, n) / sqrt((double)n);
}

struct stats_ratio stats_ratio(const double *y, const double *x, size_t n)
{
    struct stats_ratio r = {NAN, NAN};
    double y_sum = 0, x_sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        y_sum += y[i];
        x_sum += x[i];
    }
    if (!(x_sum > 0))
        return r;
    r.value = y_sum / x_sum;
    if (n < 2)
        return r;
    for (size_t i = 0; i < n; i++) {
        double d = y[i] - r.value * x[i];
        squares += d * d;
    }
    r.error = sqrt((double)n / (double)(n - 1) * squares) / x_sum;
    return r;
}
