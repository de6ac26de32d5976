/* Owns the number of threads. */
#include "common/threads.h"

#include "common/cpu.h"
#include "common/topology.h"

#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

/* About 50 µs: longer than the gap between two parallel loops, shorter than a time slice. */
#define SPIN_COUNT "2000"

#define SYSTEM "/sys/devices/system"

void threads_init(int count)
{
    omp_set_dynamic(0);
    omp_set_num_threads(count > 0 ? count : cpu_count());
}

void threads_init_cores(int count)
{
    struct topology t;
    topology_read(&t, SYSTEM);
    threads_init(count > 0 ? count : t.cores);
}

int threads_count(void)
{
    return omp_get_max_threads();
}

void threads_settle(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT"))
        return;
    struct topology t;
    topology_read(&t, SYSTEM);
    if (t.nodes > 1 && !getenv("OMP_PROC_BIND") && !getenv("OMP_PLACES")) {
        setenv("OMP_PLACES", "cores", 1);
        setenv("OMP_PROC_BIND", "close", 1);
    }
    setenv("GOMP_SPINCOUNT", SPIN_COUNT, 1);
    execv("/proc/self/exe", argv); /* where that fails, slower threads are still right */
}
