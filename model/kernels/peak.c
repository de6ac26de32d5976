/*
 * Owns the measurement of peaks: threads, ranges and repetitions around the loops of
 * peak_body.h.
 */
#include "model/kernels/peak.h"

#include "common/mem.h"
#include "model/kernels/table.h"

#include <omp.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REPEATS = 16 };
#define RANGE_MAX   ((int64_t)1 << 29)
#define MEASURE_FOR 0.005 /* seconds of one repetition within a cache */

static double best(const double *x, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* Of the CPU, not of the clock on the wall: what else runs on the machine does not count. */
static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- operations --------------------------------------------------------------- */

typedef double spin_fn(int64_t rounds);

static spin_fn *spin_of(enum peak_unit unit)
{
    spin_fn *const spins[] = {
        [PEAK_FP32] = kernels.peak.fp32,
        [PEAK_AMX_NOMINAL] = kernels.peak.amx_nominal,
        [PEAK_AMX_GAUSSIAN] = kernels.peak.amx_gaussian,
    };
    return spins[unit];
}

/* FLOP/s of all threads in one go of `rounds`. */
static double spin_once(spin_fn *spin, int64_t rounds)
{
    double rate = 0;
#pragma omp parallel num_threads(kernels_threads()) reduction(+ : rate)
    {
        double start = thread_seconds();
        rate += spin(rounds) / (thread_seconds() - start);
    }
    return rate;
}

double peak_flops(enum peak_unit unit, double seconds)
{
    spin_fn *spin = spin_of(unit);
    double results[REPEATS];
    int64_t rounds = 1000;
    if (!spin)
        return 0;
    for (double took = 0; took < seconds / REPEATS; rounds *= 2) { /* also wakes the threads */
        double start = omp_get_wtime();
        spin_once(spin, rounds);
        took = omp_get_wtime() - start;
    }
    for (int i = 0; i < REPEATS; i++)
        results[i] = spin_once(spin, rounds);
    return best(results, REPEATS);
}

static bool has_amx(enum kernel_precision precision)
{
    return precision == KERNEL_BF16 && kernels.peak.amx_nominal;
}

enum peak_unit peak_unit_nominal(enum kernel_precision precision)
{
    return has_amx(precision) ? PEAK_AMX_NOMINAL : PEAK_FP32;
}

enum peak_unit peak_unit_real(enum kernel_precision precision)
{
    return has_amx(precision) ? PEAK_AMX_GAUSSIAN : PEAK_FP32;
}

/* --- bytes --------------------------------------------------------------------- */

/* Each thread reads its own part of the first `bytes` bytes, `times` times over; bytes/s. */
static double load_once(const float *p, int64_t bytes, int64_t times)
{
    const int threads = kernels_threads();
    const int64_t part = bytes / threads / 512 * 128; /* floats, whole steps of load() */
    double rate = 0;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
    {
        volatile float sink = 0;
        double start = thread_seconds();
        for (int64_t i = 0; i < times; i++)
            sink = sink + kernels.peak.load(p + omp_get_thread_num() * part, part);
        rate += (double)(4 * part * times) / (thread_seconds() - start);
    }
    return rate;
}

/* Best of several repetitions; within a cache each is long enough to be measured. */
static double load_bandwidth(const float *p, int64_t bytes)
{
    double results[REPEATS];
    if (bytes <= 0)
        return 0;
    double first = load_once(p, bytes, 1); /* fills the cache */
    int64_t times = 1 + (int64_t)(first * MEASURE_FOR / (double)bytes);
    for (int i = 0; i < REPEATS; i++)
        results[i] = load_once(p, bytes, times);
    return best(results, REPEATS);
}

static double triad_once(float *p, int64_t bytes)
{
    const int threads = kernels_threads();
    const int64_t part = bytes / 12 / threads / 16 * 16, n = part * threads;
    double rate = 0;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
    {
        int64_t at = omp_get_thread_num() * part;
        double start = thread_seconds();
        kernels.peak.triad(p + at, p + n + at, p + 2 * n + at, 0.5f, part);
        rate += (double)(12 * part) / (thread_seconds() - start);
    }
    return rate;
}

static double triad_bandwidth(float *p, int64_t bytes)
{
    double results[REPEATS];
    for (int i = 0; i < REPEATS; i++)
        results[i] = triad_once(p, bytes);
    return best(results, REPEATS);
}

/* Pages belong to the thread that touches them first: in the parts load_once() reads. */
static void touch(float *p, int64_t bytes)
{
    const int threads = kernels_threads();
    const int64_t part = bytes / threads;
#pragma omp parallel num_threads(threads)
    memset((char *)p + omp_get_thread_num() * part, 1, (size_t)part);
}

/* Reserves and touches twice the last-level cache; *bytes of it. */
static float *map_range(int64_t *bytes, struct err *e)
{
    const int64_t l2 = sysconf(_SC_LEVEL2_CACHE_SIZE) * (int64_t)kernels_threads();
    const int64_t l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    *bytes = 2 * (l3 > l2 ? l3 : l2);
    if (*bytes > RANGE_MAX || *bytes <= 0)
        *bytes = RANGE_MAX;
    float *p = mem_map((size_t)*bytes, "ranges to measure bandwidth with", e);
    if (p)
        touch(p, *bytes);
    return p;
}

int peak_triad(double *bandwidth, struct err *e)
{
    int64_t bytes;
    float *p = map_range(&bytes, e);
    if (!p)
        return -1;
    *bandwidth = triad_bandwidth(p, bytes);
    mem_unmap(p, (size_t)bytes);
    return 0;
}

int peak_bandwidth(struct peak_bandwidth *b, struct err *e)
{
    const int64_t l2 = sysconf(_SC_LEVEL2_CACHE_SIZE) * (int64_t)kernels_threads();
    const int64_t l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const int64_t in_l3 = l3 / 2 < 32 * l2 ? l3 / 2 : 32 * l2;
    int64_t bytes;
    float *p = map_range(&bytes, e);
    if (!p)
        return -1;
    *b = (struct peak_bandwidth){
        .load_l2 = load_bandwidth(p, l2 / 2),
        .load_l3 = load_bandwidth(p, in_l3 >= 4 * l2 ? in_l3 : 0),
        .load_dram = load_bandwidth(p, bytes),
        .triad = triad_bandwidth(p, bytes),
    };
    mem_unmap(p, (size_t)bytes);
    return 0;
}
