/*
 * Asks the CPU and the operating system what may be used. On x86-64 both must agree:
 * a CPU can have registers that the system does not save (XGETBV), and AMX tiles need
 * a permission the process has to ask for (arch_prctl, Linux 5.16).
 */
#include "common/cpu.h"

#include "common/mem.h"

#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const level_names[] = {"c", "avx2", "avx512", "amx"};

#if defined(__x86_64__)
#include <cpuid.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18

static uint64_t xgetbv0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static int tile_permission(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static enum cpu_level detect(void)
{
    uint32_t a, b, c, d;
    const uint32_t avx = 1u << 28, osxsave = 1u << 27, fma = 1u << 12, f16c = 1u << 29;
    if (!__get_cpuid(1, &a, &b, &c, &d) ||
        (c & (avx | osxsave | fma | f16c)) != (avx | osxsave | fma | f16c))
        return CPU_C;
    uint64_t saved = xgetbv0();
    if ((saved & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return CPU_C;
    const uint32_t avx2 = 1u << 5, f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    if (!(b & avx2))
        return CPU_C;
    if ((saved & 0xE6) != 0xE6 || (b & (f | dq | bw | vl)) != (f | dq | bw | vl))
        return CPU_AVX2;
    const uint32_t amx_bf16 = 1u << 22, amx_tile = 1u << 24;
    if ((d & (amx_bf16 | amx_tile)) != (amx_bf16 | amx_tile) || (saved & 0x60000) != 0x60000)
        return CPU_AVX512;
    uint32_t a1, b1, c1, d1;
    const uint32_t avx512_bf16 = 1u << 5;
    if (!__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) || !(a1 & avx512_bf16))
        return CPU_AVX512;
    return tile_permission() ? CPU_AMX : CPU_AVX512;
}
#else
static enum cpu_level detect(void)
{
    return CPU_C;
}
#endif

static int level_known;
static enum cpu_level level_machine, level_now;

static enum cpu_level capped(enum cpu_level level)
{
    const char *cap = getenv("MUNDWERK_CPU");
    if (!cap || !*cap)
        return level;
    for (int i = 0; i <= CPU_AMX; i++)
        if (!strcmp(cap, level_names[i]))
            return (enum cpu_level)i < level ? (enum cpu_level)i : level;
    fprintf(stderr, "mundwerk: MUNDWERK_CPU is '%s', but must be c, avx2, avx512 or amx\n", cap);
    exit(2);
}

enum cpu_level cpu_level(void)
{
    if (!level_known) {
        level_machine = detect();
        level_now = capped(level_machine);
        level_known = 1;
    }
    return level_now;
}

enum cpu_level cpu_level_force(enum cpu_level level)
{
    cpu_level();
    level_now = level < level_machine ? level : level_machine;
    return level_now;
}

const char *cpu_level_name(enum cpu_level level)
{
    return level_names[level];
}

const char *cpu_name(void)
{
    static char name[128];
    if (name[0])
        return name;
    snprintf(name, sizeof(name), "unknown CPU");
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof(line), f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        colon += 1 + (colon[1] == ' ');
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(name, sizeof(name), "%s", colon);
        break;
    }
    if (f)
        fclose(f);
    return name;
}

/* OpenMP's places, if it binds threads to them: the first thread is then bound to the first
 * place before main() begins, and its own mask says nothing of the others. */
static bool allowed_by_places(cpu_set_t *set)
{
    if (omp_get_proc_bind() == omp_proc_bind_false)
        return false;
    for (int place = 0; place < omp_get_num_places(); place++) {
        int count = omp_get_place_num_procs(place);
        int *ids = mem_zalloc((size_t)count + 1, sizeof(*ids));
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < count; i++)
            if (ids[i] >= 0 && ids[i] < CPU_SETSIZE)
                CPU_SET(ids[i], set);
        free(ids);
    }
    return CPU_COUNT(set) > 0;
}

bool cpu_allowed(cpu_set_t *set)
{
    CPU_ZERO(set);
    if (allowed_by_places(set))
        return true;
    return sched_getaffinity(0, sizeof(*set), set) == 0 && CPU_COUNT(set) > 0;
}

int cpu_count(void)
{
    cpu_set_t set;
    if (cpu_allowed(&set))
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}
