/* Owns the reading of /sys/devices/system. */
#include "common/topology.h"

#include "common/cpu.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* The first CPU of the core a CPU belongs to: the first number of "0,64" or "0-1". */
static int first_sibling(const char *sys, int cpu)
{
    char path[PATH_MAX];
    int first = cpu;
    snprintf(path, sizeof(path), "%s/cpu/cpu%d/topology/thread_siblings_list", sys, cpu);
    FILE *f = fopen(path, "r");
    if (!f)
        return cpu;
    if (fscanf(f, "%d", &first) != 1)
        first = cpu;
    fclose(f);
    return first >= 0 && first < CPU_SETSIZE ? first : cpu;
}

static int count_nodes(const char *sys)
{
    char path[PATH_MAX];
    int nodes = 0;
    for (int i = 0; i < 1024; i++) { /* numbers may have gaps */
        snprintf(path, sizeof(path), "%s/node/node%d", sys, i);
        nodes += access(path, F_OK) == 0;
    }
    return nodes ? nodes : 1;
}

void topology_read(struct topology *t, const char *sys)
{
    cpu_set_t allowed, seen;
    CPU_ZERO(&seen);
    *t = (struct topology){1, 1, count_nodes(sys)};
    if (!cpu_allowed(&allowed))
        return;
    t->cpus = CPU_COUNT(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            CPU_SET(first_sibling(sys, cpu), &seen);
    t->cores = CPU_COUNT(&seen);
}
