/* Owns the number of threads. */
#include "common/threads.h"

#include "common/cpu.h"

#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

/* About 50 µs: longer than the gap between two parallel loops, shorter than a time slice. */
#define SPIN_COUNT "2000"

void threads_init(int count)
{
    omp_set_dynamic(0);
    omp_set_num_threads(count > 0 ? count : cpu_count());
}

int threads_count(void)
{
    return omp_get_max_threads();
}

void threads_settle(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT"))
        return;
    setenv("GOMP_SPINCOUNT", SPIN_COUNT, 1);
    execv("/proc/self/exe", argv); /* where that fails, slower threads are still right */
}
