/* Files written once and files mapped: whole, hashed, or a sentence. */
#include "common/file.h"
#include "common/hash.h"
#include "common/mem.h"
#include "tests/test.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unit_folder_remove(folder);
    return 0;
}

/* Small and large pieces, so that both the buffer and the direct way are gone. */
static void writes_and_hashes(void **state)
{
    (void)state;
    size_t len = 3000000;
    char *data = mem_alloc(len), *path = fs_join(folder, "a");
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    struct file_out f;
    struct err e = {0};
    uint64_t hash = 0;
    assert_int_equal(file_create(&f, path, &e), 0);
    assert_int_equal(file_write(&f, data, 7, &e), 0);
    assert_int_equal(file_write(&f, data + 7, 1000000, &e), 0);
    for (size_t at = 1000007; at < len; at += 1)
        assert_int_equal(file_write(&f, data + at, 1, &e), 0);
    assert_int_equal(f.bytes, len);
    assert_int_equal(file_finish(&f, &hash, &e), 0);
    assert_int_equal(hash, hash64(data, len));

    struct file_map m;
    assert_int_equal(file_map(&m, path, &e), 0);
    assert_int_equal(m.bytes, len);
    assert_memory_equal(m.data, data, len);
    file_unmap(&m);
    free(data);
    free(path);
}

static void refuses_what_is_there(void **state)
{
    (void)state;
    char *path = fs_join(folder, "b"), *link = fs_join(folder, "link");
    struct file_out f;
    struct err e = {0};
    assert_int_equal(file_create(&f, path, &e), 0);
    assert_int_equal(file_finish(&f, NULL, &e), 0);
    assert_int_equal(file_create(&f, path, &e), -1);
    assert_non_null(strstr(e.msg, "File exists"));
    assert_int_equal(symlink("target", link), 0);
    assert_int_equal(file_create(&f, link, &e), -1);
    file_abort(&f); /* of one that never opened: nothing happens */
    assert_true(fs_exists(path));
    free(path);
    free(link);
}

static void abort_leaves_nothing(void **state)
{
    (void)state;
    char *path = fs_join(folder, "c");
    struct file_out f;
    struct err e = {0};
    assert_int_equal(file_create(&f, path, &e), 0);
    assert_int_equal(file_write(&f, "x", 1, &e), 0);
    file_abort(&f);
    file_abort(&f);
    assert_false(fs_exists(path));
    free(path);
}

static void maps_only_files(void **state)
{
    (void)state;
    char *empty = fs_join(folder, "empty"), *fifo = fs_join(folder, "fifo");
    struct file_out f;
    struct file_map m;
    struct err e = {0};
    assert_int_equal(file_create(&f, empty, &e), 0);
    assert_int_equal(file_finish(&f, NULL, &e), 0);
    assert_int_equal(file_map(&m, empty, &e), 0);
    assert_null(m.data);
    file_unmap(&m);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(file_map(&m, fifo, &e), -1);
    assert_non_null(strstr(e.msg, "not a regular file"));
    assert_int_equal(file_map(&m, folder, &e), -1);
    assert_int_equal(file_map(&m, "/nonexistent/file", &e), -1);
    assert_non_null(strstr(e.msg, "No such file"));
    free(empty);
    free(fifo);
}

/* A limit on the size of files stands in for a full disk. */
static void names_file_and_byte_when_full(void **state)
{
    (void)state;
    char *path = fs_join(folder, "full"), *data = mem_zalloc(1, 1 << 20);
    struct rlimit old, small;
    struct file_out f;
    struct err e = {0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 400000;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(file_create(&f, path, &e), 0);
    int r = file_write(&f, data, 1 << 20, &e);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, before);
    assert_int_equal(r, -1);
    assert_non_null(strstr(e.msg, path));
    assert_non_null(strstr(e.msg, "at byte 400000: File too large"));
    file_abort(&f);
    free(path);
    free(data);
}

static void parses_hashes(void **state)
{
    (void)state;
    uint64_t h = 0;
    assert_int_equal(hash_parse("0123456789abcdef", 16, &h), 0);
    assert_true(h == 0x0123456789abcdefu);
    assert_int_equal(hash_parse("0123456789abcdeF", 16, &h), -1);
    assert_int_equal(hash_parse("0123456789abcde", 15, &h), -1);
    assert_int_equal(hash_parse("0123456789abcdeg", 16, &h), -1);
    assert_int_equal(hash_parse("+123456789abcdef", 16, &h), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_hashes),    cmocka_unit_test(refuses_what_is_there),
        cmocka_unit_test(abort_leaves_nothing), cmocka_unit_test(maps_only_files),
        cmocka_unit_test(parses_hashes),        cmocka_unit_test(names_file_and_byte_when_full),
    };
    return cmocka_run_group_tests_name("file", tests, make_folder, remove_folder);
}
