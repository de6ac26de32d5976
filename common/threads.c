/* Owns the number of threads. */
#include "common/threads.h"

#include "common/cpu.h"

#include <omp.h>

void threads_init(int count)
{
    omp_set_dynamic(0);
    omp_set_num_threads(count > 0 ? count : cpu_count());
}

int threads_count(void)
{
    return omp_get_max_threads();
}
