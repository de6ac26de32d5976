/* Snapshots: saved whole, verified to the byte, found, pruned, and safe from a second writer. */
#include "checkpoints/checkpoint.h"
#include "checkpoints/manifest.h"
#include "common/seal.h"
#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *run; /* a fresh run folder for each test */

static int make_run(void **state)
{
    (void)state;
    char *tok;
    struct err e;
    run = unit_folder();
    tok = fs_join(run, "tok");
    int r = fs_mkdirs(tok, &e);
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    for (size_t i = 0; i < 3; i++) {
        char *path = fs_join(tok, "%s", names[i]);
        r = r || fs_write(path, names[i], strlen(names[i]), &e);
        free(path);
    }
    free(tok);
    return r;
}

static int remove_run(void **state)
{
    (void)state;
    unit_folder_remove(run);
    return 0;
}

static int save_with(uint64_t step, const struct tensor *weights, struct err *e)
{
    float values[600];
    for (size_t i = 0; i < 600; i++)
        values[i] = (float)step + (float)i / 8;
    struct tensor tensors[] = {
        {.name = "w",
         .dtype = TENSOR_BF16,
         .rank = 2,
         .shape = {20, 30},
         .data = values,
         .from_f32 = true},
    };
    struct tensor state[] = {
        {.name = "w", .dtype = TENSOR_F32, .rank = 2, .shape = {20, 30}, .data = values},
    };
    char text[64];
    int len = snprintf(text, sizeof(text), "{\"step\": %llu}\n", (unsigned long long)step);
    const struct checkpoint_file files[] = {
        {"config.json", "{}\n", 3},
        {"trainer/state.json", text, (size_t)len},
    };
    char *tok = fs_join(run, "tok");
    struct checkpoint_content c = {.step = step,
                                   .files = files,
                                   .file_count = 2,
                                   .copy_folder = tok,
                                   .weights = weights ? weights : tensors,
                                   .weight_count = 1,
                                   .state = state,
                                   .state_count = 1,
                                   .manifest_extra = "\"tokenizer\": \"00ff\""};
    int r = checkpoint_save(run, &c, e);
    free(tok);
    return r;
}

static void save(uint64_t step)
{
    struct err e = {0};
    if (save_with(step, NULL, &e))
        fail_msg("%s", e.msg);
}

/* run/checkpoints/step-N/name; caller frees. */
static char *in_step(uint64_t step, const char *name)
{
    return fs_join(run, "checkpoints/step-%07llu/%s", (unsigned long long)step, name);
}

static void assert_verifies(uint64_t step)
{
    struct err e = {0};
    char *path = in_step(step, "");
    if (checkpoint_verify(path, &e))
        fail_msg("%s", e.msg);
    free(path);
}

static void assert_damaged(uint64_t step, const char *says)
{
    struct err e = {0};
    char *path = in_step(step, "");
    assert_int_equal(checkpoint_verify(path, &e), -1);
    assert_says(&e, says);
    free(path);
}

static size_t entries_of(const char *name)
{
    struct fs_list l = {0};
    struct err e;
    char *path = fs_join(run, "%s", name);
    assert_int_equal(fs_list_folder(&l, path, &e), 0);
    size_t n = l.count;
    fs_list_release(&l);
    free(path);
    return n;
}

static void saves_what_it_was_given(void **state)
{
    (void)state;
    struct err e = {0};
    struct safetensors s;
    struct buf b = {0};
    float w[600];
    save(1000);
    assert_verifies(1000);
    assert_int_equal(entries_of("checkpoints"), 1);
    assert_int_equal(entries_of("checkpoints/step-0001000"),
                     7); /* 4 files, weights, manifest, trainer */
    assert_int_equal(entries_of("checkpoints/step-0001000/trainer"), 2);
    char *weights = in_step(1000, "model.safetensors"), *tok = in_step(1000, "tokenizer.json");
    char *manifest = in_step(1000, "manifest.json");
    assert_int_equal(safetensors_open(&s, weights, &e), 0);
    assert_int_equal(safetensors_load_f32(&s, "w", 20, 30, w, &e), 0);
    assert_true(w[0] == 1000);
    safetensors_close(&s);
    assert_int_equal(fs_read(&b, tok, 100, &e), 0);
    assert_string_equal(b.data, "tokenizer.json");
    assert_int_equal(fs_read(&b, manifest, 10000, &e), 0);
    assert_non_null(strstr(b.data, "\"tokenizer\": \"00ff\""));
    buf_release(&b);
    free(weights);
    free(tok);
    free(manifest);
}

static void the_same_state_gives_the_same_bytes(void **state)
{
    (void)state;
    struct buf first = {0}, second = {0};
    struct err e;
    char *path = in_step(5, "manifest.json");
    save(5);
    assert_int_equal(fs_read(&first, path, 10000, &e), 0);
    save(5); /* replaces it */
    assert_verifies(5);
    assert_int_equal(fs_read(&second, path, 10000, &e), 0);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    assert_int_equal(entries_of("checkpoints"), 1); /* the old one is gone */
    buf_release(&first);
    buf_release(&second);
    free(path);
}

/* One byte at a time, at many places of every file: found, and the sentence names the file. */
static void every_flipped_byte_is_found(void **state)
{
    (void)state;
    static const char *const names[] = {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "trainer/state.json",
        "trainer/state.safetensors",
        "manifest.json",
    };
    save(7);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char *path = in_step(7, names[i]);
        struct buf b = {0};
        struct err e = {0};
        assert_int_equal(fs_read(&b, path, 1 << 20, &e), 0);
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        for (size_t at = 0; at < b.len; at += 1 + b.len / 50) {
            char flipped = (char)(b.data[at] ^ 1 << at % 8);
            assert_int_equal(pwrite(fd, &flipped, 1, (off_t)at), 1);
            assert_damaged(7, names[i]);
            assert_int_equal(pwrite(fd, &b.data[at], 1, (off_t)at), 1);
        }
        size_t cuts[] = {0, 1, b.len / 2, b.len - 1};
        for (size_t k = 0; k < 4; k++) {
            assert_int_equal(ftruncate(fd, (off_t)cuts[k]), 0);
            assert_damaged(7, names[i]);
        }
        assert_int_equal(pwrite(fd, b.data, b.len, 0), (ssize_t)b.len);
        assert_verifies(7);
        close(fd);
        assert_int_equal(unlink(path), 0);
        assert_damaged(7, names[i]);
        assert_int_equal(fs_write(path, b.data, b.len, &e), 0);
        buf_release(&b);
        free(path);
    }
    assert_verifies(7);
}

static void what_does_not_belong_is_found(void **state)
{
    (void)state;
    struct err e;
    save(7);
    save(8);
    char *extra = in_step(7, "extra.bin"), *hidden = in_step(7, ".note");
    char *seven = in_step(7, "manifest.json"), *eight = in_step(8, "manifest.json");
    char *config = in_step(7, "config.json");
    assert_int_equal(fs_write(extra, "x", 1, &e), 0);
    assert_damaged(7, "extra.bin is not named in the manifest");
    assert_int_equal(unlink(extra), 0);
    assert_int_equal(fs_write(hidden, "x", 1, &e), 0);
    assert_verifies(7);
    assert_int_equal(rename(config, extra), 0);
    assert_int_equal(symlink("extra.bin", config), 0);
    assert_damaged(7, "config.json is not a regular file");
    assert_int_equal(rename(eight, seven), 0);
    assert_damaged(7, "manifest.json is that of step 8");
    assert_damaged(8, "No such file");
    free(extra);
    free(hidden);
    free(seven);
    free(eight);
    free(config);
}

/* Sealed manifests whose contents are wrong. */
static void bad_manifests_are_refused(void **state)
{
    (void)state;
#define HEAD   "{\"format\": \"mundwerk-checkpoint\", \"version\": 1, \"step\": 3, "
#define FILE_A "{\"path\": \"a\", \"bytes\": 1, \"xxh3_64\": \"0123456789abcdef\"}"
    static const char *const cases[][2] = {
        {"{\"format\": \"x\", \"version\": 1, \"step\": 3, \"files\": [],\n", "format is not"},
        {"{\"format\": \"mundwerk-checkpoint\", \"version\": 2, \"step\": 3, \"files\": [],\n",
         "version is not one"},
        {HEAD "\"step\": 4, \"files\": [],\n", "duplicate key"},
        {HEAD "\"x\": 1,\n", "needs format, version, step and files"},
        {HEAD "\"files\": [" FILE_A ", " FILE_A "],\n", "file is named twice"},
        {HEAD "\"files\": [{\"path\": \"a\", \"bytes\": 1}],\n", "lacks path, bytes or xxh3_64"},
        {HEAD "\"files\": [{\"path\": \"a\", \"xxh3_64\": \"0123456789abcdeF\"}],\n",
         "not 16 hex digits"},
        {HEAD "\"files\": [{\"path\": \"a\", \"mode\": 1}],\n", "unknown key"},
    };
    static const char *const paths[] = {"../x", "/etc/passwd", "a/../../b", "a/./b", "",
                                        "a//b", "a/",          "..",        ".",     "a\\u0000b"};
    struct manifest m;
    struct buf b = {0};
    struct err e = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        buf_clear(&b);
        buf_puts(&b, cases[i][0]);
        seal_put(&b, 0);
        assert_int_equal(manifest_parse(&m, "x", b.data, b.len, &e), -1);
        assert_says(&e, cases[i][1]);
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        buf_clear(&b);
        buf_printf(&b, HEAD "\"files\": [{\"path\": \"%s\", \"bytes\": 1, ", paths[i]);
        buf_puts(&b, "\"xxh3_64\": \"0123456789abcdef\"}],\n");
        seal_put(&b, 0);
        assert_int_equal(manifest_parse(&m, "x", b.data, b.len, &e), -1);
        assert_says(&e, "path leads out of the snapshot");
    }
    buf_clear(&b);
    buf_puts(&b, HEAD "\"new\": [1, {\"a\": null}], \"files\": [" FILE_A "],\n");
    seal_put(&b, 0);
    assert_int_equal(manifest_parse(&m, "x", b.data, b.len, &e), 0);
    assert_int_equal(m.step, 3);
    assert_true(manifest_find(&m, "a")->hash == 0x0123456789abcdefu);
    manifest_release(&m);
    assert_int_equal(manifest_parse(&m, "x", "", 0, &e), -1);
    buf_release(&b);
}

static void finds_the_newest_that_is_whole(void **state)
{
    (void)state;
    struct checkpoint_list list;
    struct err e = {0};
    uint64_t step = 0;
    char *path;
    assert_int_equal(checkpoint_find(&list, run, &e), 0);
    assert_int_equal(list.count, 0);
    assert_int_equal(checkpoint_latest(run, &path, &step, &e), 0);
    save(20);
    save(3);
    save(12345678); /* more digits than the name is padded to */
    static const char *const noise[] = {"checkpoints/step-",         "checkpoints/step-12",
                                        "checkpoints/step-00000020", "checkpoints/tmp-0000099",
                                        "checkpoints/step-000002x",  "checkpoints/other"};
    for (size_t i = 0; i < 6; i++) {
        char *other = fs_join(run, "%s", noise[i]);
        assert_int_equal(mkdir(other, 0777), 0);
        free(other);
    }
    assert_int_equal(checkpoint_find(&list, run, &e), 0);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.entries[0].step, 3);
    assert_int_equal(list.entries[1].step, 20);
    assert_int_equal(list.entries[2].step, 12345678);
    checkpoint_list_release(&list);

    assert_int_equal(checkpoint_latest(run, &path, &step, &e), 1);
    assert_int_equal(step, 12345678);
    free(path);
    static const uint64_t steps[] = {12345678, 20, 3};
    for (size_t i = 0; i < 3; i++) { /* damage one after the other */
        char *config = in_step(steps[i], "config.json");
        assert_int_equal(fs_write(config, "[]\n", 3, &e), 0);
        free(config);
        int r = checkpoint_latest(run, &path, &step, &e);
        assert_int_equal(r, i < 2 ? 1 : -1);
        if (i < 2)
            assert_int_equal(step, steps[i + 1]);
        else
            assert_says(&e, "none of the 3 snapshots");
        free(path);
    }
}

static void prune_takes_the_trainer_state_only(void **state)
{
    (void)state;
    struct err e = {0};
    uint64_t step, before, after;
    char *path, *three = in_step(3, "");
    for (uint64_t i = 1; i <= 5; i++)
        save(i);
    assert_int_equal(checkpoint_bytes(three, &before, &e), 0);
    assert_int_equal(checkpoint_prune(run, 0, &e), 0);
    assert_int_equal(checkpoint_prune(run, 2, &e), 0);
    assert_int_equal(checkpoint_bytes(three, &after, &e), 0);
    assert_true(after < before);
    struct checkpoint_list list;
    assert_int_equal(checkpoint_find(&list, run, &e), 0);
    assert_int_equal(list.count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(list.entries[i].has_trainer, i >= 3);
        assert_verifies(list.entries[i].step);
    }
    checkpoint_list_release(&list);
    assert_int_equal(entries_of("checkpoints"), 5);
    assert_int_equal(checkpoint_remove(run, 5, &e), 0);
    assert_int_equal(checkpoint_latest(run, &path, &step, &e), 1);
    assert_int_equal(step, 4);
    assert_int_equal(checkpoint_remove(run, 99, &e), -1);
    assert_says(&e, "has no snapshot of step 99");
    free(path);
    free(three);
}

/* Prunes step 7 while `path` is being opened: a lease lets open() wait until it is given up.
 * Says on `ready` whether the file system has leases. */
static void prune_when_opened(const char *path, int ready)
{
    struct err e = {0};
    sigset_t set;
    int signal, fd = open(path, O_RDONLY);
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigprocmask(SIG_BLOCK, &set, NULL);
    char granted = fd >= 0 && !fcntl(fd, F_SETLEASE, F_WRLCK) ? 'y' : 'n';
    if (write(ready, &granted, 1) != 1 || granted != 'y')
        _exit(1);
    alarm(20); /* for a test that never opens it */
    sigwait(&set, &signal);
    int r = checkpoint_remove_trainer(run, 7, &e);
    fcntl(fd, F_SETLEASE, F_UNLCK);
    _exit(r ? 1 : 0);
}

/* A run goes on while someone verifies its snapshots: pruned halfway is still whole. */
static void pruned_while_it_is_verified(void **state)
{
    (void)state;
    int ready[2], status;
    char granted = 'n';
    save(7);
    char *path = in_step(7, "tokenizer.json"); /* read before trainer/state.safetensors */
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0)
        prune_when_opened(path, ready[1]);
    free(path);
    close(ready[1]);
    ssize_t n = read(ready[0], &granted, 1);
    close(ready[0]);
    if (n == 1 && granted == 'y')
        assert_verifies(7);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (granted != 'y') {
        print_message("skipped: the file system has no leases\n");
        skip();
    }
    assert_int_equal(status, 0);
    path = in_step(7, "trainer");
    assert_false(fs_exists(path));
    free(path);
}

static void leftovers_are_cleared_away(void **state)
{
    (void)state;
    struct err e = {0};
    save(1);
    static const char *const left[] = {"checkpoints/tmp-0000002/trainer",
                                       "checkpoints/dead-0000003",
                                       "checkpoints/dead-0000001-trainer"};
    for (size_t i = 0; i < 3; i++) {
        char *path = fs_join(run, "%s", left[i]), *file = fs_join(path, "x");
        assert_int_equal(fs_mkdirs(path, &e), 0);
        assert_int_equal(fs_write(file, "x", 1, &e), 0);
        free(path);
        free(file);
    }
    save(2);
    assert_int_equal(entries_of("checkpoints"), 2);
    /* what a save leaves that died between its two renames */
    char *one = in_step(1, ""), *dead = fs_join(run, "checkpoints/dead-0000001");
    one[strlen(one) - 1] = '\0';
    assert_int_equal(rename(one, dead), 0);
    assert_int_equal(checkpoint_clean(run, &e), 0);
    assert_verifies(1);
    free(one);
    free(dead);
}

static void a_failed_save_harms_nothing(void **state)
{
    (void)state;
    struct err e = {0};
    save(1);
    char *tok = fs_join(run, "tok/tokenizer_config.json");
    assert_int_equal(unlink(tok), 0);
    assert_int_equal(save_with(2, NULL, &e), -1);
    assert_says(&e, "snapshot of step 2: ");
    assert_says(&e, "tokenizer_config.json: No such file");
    assert_verifies(1);
    assert_int_equal(entries_of("checkpoints"), 1);
    free(tok);
}

static void asks_for_room_first(void **state)
{
    (void)state;
    static const float one = 1;
    struct err e = {0};
    /* nothing of it is read: the question comes before */
    struct tensor huge = {.name = "w",
                          .dtype = TENSOR_F32,
                          .rank = 2,
                          .shape = {(int64_t)1 << 30, (int64_t)1 << 28},
                          .data = &one};
    assert_int_equal(save_with(1, &huge, &e), -1);
    assert_says(&e, "no room for step 1: it takes");
    assert_says(&e, "mundwerk checkpoints prune");
    assert_int_equal(entries_of("checkpoints"), 0);
}

static void the_lock_keeps_a_second_writer_out(void **state)
{
    (void)state;
    int fd, status;
    struct err e = {0};
    char *fresh = fs_join(run, "runs/new"), expected[64];
    assert_int_equal(run_lock(fresh, &fd, &e), 0);
    snprintf(expected, sizeof(expected), "held by process %ld", (long)getpid());
    pid_t child = fork();
    if (child == 0) { /* another process */
        int second;
        int r = run_lock(fresh, &second, &e);
        _exit(r == -1 && strstr(e.msg, expected) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    run_unlock(fd);
    assert_int_equal(run_lock(fresh, &fd, &e), 0);
    run_unlock(fd);
    free(fresh);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_run, remove_run)
    const struct CMUnitTest tests[] = {
        TEST(saves_what_it_was_given),
        TEST(the_same_state_gives_the_same_bytes),
        TEST(every_flipped_byte_is_found),
        TEST(what_does_not_belong_is_found),
        TEST(bad_manifests_are_refused),
        TEST(finds_the_newest_that_is_whole),
        TEST(prune_takes_the_trainer_state_only),
        TEST(pruned_while_it_is_verified),
        TEST(leftovers_are_cleared_away),
        TEST(a_failed_save_harms_nothing),
        TEST(asks_for_room_first),
        TEST(the_lock_keeps_a_second_writer_out),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
