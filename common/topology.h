/*
 * How the CPUs that this process may use are put together.
 */
#ifndef COMMON_TOPOLOGY_H
#define COMMON_TOPOLOGY_H

struct topology {
    int cpus;  /* logical CPUs of the affinity mask */
    int cores; /* of these on cores of their own: two threads of a core count once */
    int nodes; /* memory nodes of the machine */
};

/* Reads what Linux says below `sys` ("/sys/devices/system"; tests have trees of their own). What
 * is not said there counts as if every CPU were a core, and as one node. */
void topology_read(struct topology *t, const char *sys);

#endif
