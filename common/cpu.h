/*
 * What this CPU can do, asked once, before threads start.
 */
#ifndef COMMON_CPU_H
#define COMMON_CPU_H

#include <sched.h>
#include <stdbool.h>

enum cpu_level {
    CPU_C,      /* plain C, whatever the machine */
    CPU_AVX2,   /* AVX2, FMA, F16C */
    CPU_AVX512, /* AVX-512 F, BW, DQ, VL */
    CPU_AMX     /* AVX512 level plus AMX tiles with bf16, permitted by the kernel */
};

/* Best level of this machine and of the operating system, capped by the environment
 * variable MUNDWERK_CPU = c | avx2 | avx512 | amx. An unknown value stops the program
 * with a sentence. The first call asks for AMX permission for the whole process. */
enum cpu_level cpu_level(void);
const char *cpu_level_name(enum cpu_level level);
const char *cpu_name(void); /* model name from the system, e.g. for build.txt */
int cpu_count(void);        /* logical CPUs this process may use */
/* Which these are, also where OpenMP has bound the calling thread to one; false = unknown. */
bool cpu_allowed(cpu_set_t *set);

/* For tests: use this level from now on, if the machine has it; returns the level in force. */
enum cpu_level cpu_level_force(enum cpu_level level);

#endif
