/*
 * Error bars. Every score this folder prints comes with one, and the rule it was
 * made by stands beside the function.
 */
#ifndef EVAL_STATS_H
#define EVAL_STATS_H

#include <stddef.h>
#include <stdint.h>

double stats_mean(const double *x, size_t n); /* NaN for n = 0 */
/* Standard error of the mean: sqrt(Σ (x-μ)² / (n-1)) / sqrt(n); NaN for n < 2. */
double stats_mean_stderr(const double *x, size_t n);
/* Standard deviation with n-1; NaN for n < 2. */
double stats_deviation(const double *x, size_t n);

/* The ratio estimator R = Σy / Σx over n units drawn at random (documents), and its
 * standard error by linearisation (Cochran, Sampling Techniques, 3rd ed., eq. 6.13 without
 * finite-population correction):
 *
 *     se(R) = sqrt( n/(n-1) Σ (y_i - R x_i)² ) / Σ x_i
 *
 * The value is NaN if Σx = 0, the error NaN for n < 2. Sums are taken in order. */
struct stats_ratio {
    double value;
    double error;
};
struct stats_ratio stats_ratio(const double *y, const double *x, size_t n);

#endif
