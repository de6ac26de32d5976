/*
 * Cores and memory nodes out of trees like that below /sys/devices/system.
 */
#include "tests/test.h"

#include "common/cpu.h"
#include "common/topology.h"

#include <sched.h>

static void put(const char *dir, const char *name, const char *text)
{
    struct err e;
    char *path = fs_join(dir, "%s", name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_works(fs_mkdirs(path, &e), e);
    *slash = '/';
    assert_works(fs_write(path, text, strlen(text), &e), e);
    free(path);
}

static void test_trees(void **state)
{
    (void)state;
    struct topology t;
    struct err e;
    char *dir = fs_join(test_folder(), "sys"), name[80];
    assert_works(fs_mkdirs(dir, &e), e);
    topology_read(&t, dir); /* says nothing */
    assert_int_equal(t.cpus, cpu_count());
    assert_int_equal(t.cores, t.cpus);
    assert_int_equal(t.nodes, 1);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) { /* all are threads of CPU 0's core */
        snprintf(name, sizeof(name), "cpu/cpu%d/topology/thread_siblings_list", cpu);
        put(dir, name, "0-1023\n");
    }
    put(dir, "node/node0/cpulist", "0\n");
    put(dir, "node/node2/cpulist", "1\n");
    topology_read(&t, dir);
    assert_int_equal(t.cpus, cpu_count());
    assert_int_equal(t.cores, 1);
    assert_int_equal(t.nodes, 2);
    free(dir);
}

static void test_this_machine(void **state)
{
    (void)state;
    struct topology t;
    topology_read(&t, "/sys/devices/system");
    assert_true(t.cores >= 1 && t.cores <= t.cpus && t.nodes >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees),
        cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests_name("common/topology", tests, NULL, test_folder_remove);
}
