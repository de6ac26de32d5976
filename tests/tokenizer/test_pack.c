/* Packing: what stands in the shards, which documents are held out, what goes wrong. */
#include "tests/test.h"

#include "common/hash.h"
#include "common/log.h"
#include "common/threads.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/pack.h"
#include "tokenizer/shard.h"

#include <fcntl.h>
#include <sys/file.h>

static char *folder;
static struct tokenizer *tok;

static char *write_docs(const char *name, int first, int count)
{
    struct buf b = {0};
    struct err e;
    char *path = fs_join(folder, "%s", name);
    for (int i = first; i < first + count; i++)
        buf_printf(&b,
                   "{\"id\":\"doc-%d\",\"text\":\"Dokument %d \\u00fcber \\ud83d\\ude00 <s>\"}\n",
                   i, i * i);
    if (fs_write(path, b.data, b.len, &e))
        fail_msg("%s", e.msg);
    buf_release(&b);
    return path;
}

static int setup(void **state)
{
    (void)state;
    struct bpe_train_options o = {300, 0, NULL};
    struct bpe_trainer *trainer;
    struct err e;
    log_quiet(true);
    folder = unit_folder();
    if (bpe_trainer_new(&trainer, &o, &e) ||
        bpe_trainer_feed(trainer, "Dokument Dokument", 17, &e) ||
        bpe_trainer_train(trainer, &tok, &e))
        return -1;
    bpe_trainer_free(trainer);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_free(tok);
    unit_folder_remove(folder);
    return 0;
}

static struct pack_stats pack(char *const *paths, size_t count, const char *prefix, double share)
{
    struct pack_stats stats;
    struct corpus c;
    struct err e;
    if (corpus_init(&c, paths, count, &e) || pack_corpus(tok, &c, prefix, share, &stats, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(c.bad, 0);
    corpus_release(&c);
    return stats;
}

/* Each document of a shard is <s>, the ids of its text, </s>; *sum adds up its number. */
static void check_shard(const char *prefix, bool held_out, double share, uint64_t *sum)
{
    struct shard s;
    struct encoder *enc = encoder_new(tok);
    struct ids want = {0};
    struct err e;
    if (shard_open(&s, prefix, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(s.tokenizer_hash, tokenizer_hash(tok));
    for (uint64_t d = 0; d < s.doc_count; d++) {
        size_t id_len, count = (size_t)(s.doc_start[d + 1] - s.doc_start[d]);
        const char *id = shard_doc_id(&s, d, &id_len);
        long number = strtol(id + 4, NULL, 10);
        char text[64];
        int len = snprintf(text, sizeof(text), "Dokument %ld über 😀 <s>", number * number);
        uint32_t *got = mem_alloc(count * sizeof(*got));
        assert_int_equal(pack_holds_out(id, id_len, share), held_out);
        assert_int_equal((double)hash64(id, id_len) / 0x1p64 < share, held_out);
        want.count = 0;
        assert_int_equal(encoder_encode(enc, text, (size_t)len, ENCODE_BOS | ENCODE_EOS, &want, &e),
                         0);
        assert_int_equal(shard_tokens(&s, s.doc_start[d], count, got, &e), 0);
        assert_int_equal(count, want.count);
        assert_memory_equal(got, want.v, count * sizeof(*got));
        assert_int_equal(shard_doc_bytes(&s, d), len);
        *sum += (uint64_t)number;
        free(got);
    }
    shard_close(&s);
    ids_release(&want);
    encoder_free(enc);
}

static void test_documents_and_split(void **state)
{
    (void)state;
    enum { DOCS = 3000 };
    const double share = 0.2;
    char *a = write_docs("a.jsonl", 0, 1000), *b = write_docs("b.jsonl", 1000, DOCS - 1000);
    char *prefix = fs_join(folder, "p"), *valid = fs_join(folder, "p.valid");
    uint64_t sum = 0;
    for (int threads = 1; threads <= 3; threads++) {
        threads_init(threads);
        struct pack_stats s = pack((char *[]){a, b}, 2, prefix, share);
        assert_int_equal(s.train.documents + s.valid.documents, DOCS);
        assert_in_range(s.valid.documents, DOCS / 6, DOCS / 4);
        sum = 0;
        check_shard(prefix, false, share, &sum);
        check_shard(valid, true, share, &sum);
        assert_int_equal(sum, (uint64_t)DOCS * (DOCS - 1) / 2);
    }
    threads_init(0);
    /* Half the corpus: those of its documents that are held out are the same ones. */
    char *half = fs_join(folder, "half");
    pack((char *[]){b}, 1, half, share);
    sum = 0;
    check_shard(half, false, share, &sum);
    free(half);
    free(a);
    free(b);
    free(prefix);
    free(valid);
}

/* Packed again without held-out documents: those of before are of another split. */
static void test_old_validation_goes(void **state)
{
    (void)state;
    static const char *const parts[] = {"bin", "idx", "ids", "bytes", "sum", "json"};
    char *a = write_docs("again.jsonl", 0, 200), *prefix = fs_join(folder, "again");
    char *valid = fs_join(folder, "again.valid");
    const double none_chosen = 1e-15;
    for (int i = 0; i < 2; i++) {
        pack(&a, 1, prefix, 0.2);
        assert_true(shard_exists(valid));
        struct pack_stats s = pack(&a, 1, prefix, i ? none_chosen : 0);
        assert_int_equal(s.valid.documents, 0);
        assert_true(shard_exists(prefix));
        for (size_t k = 0; k < sizeof(parts) / sizeof(*parts); k++) {
            char *path = fs_join(folder, "again.valid.%s", parts[k]);
            assert_false(fs_exists(path));
            free(path);
        }
    }
    free(a);
    free(prefix);
    free(valid);
}

static void test_one_packing_at_a_time(void **state)
{
    (void)state;
    char *a = write_docs("one.jsonl", 0, 5), *prefix = fs_join(folder, "one");
    char *path = fs_join(folder, "one.lock"), *left = fs_join(folder, "one.bin.new");
    struct pack_stats stats;
    struct corpus c;
    struct err e;
    int fd = open(path, O_RDWR | O_CREAT, 0666); /* the other packing, and what it writes */
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_works(fs_write(left, "x", 1, &e), e);
    assert_works(corpus_init(&c, &a, 1, &e), e);
    assert_fails(pack_corpus(tok, &c, prefix, 0, &stats, &e), e,
                 "one.lock is held: another program packs to this prefix");
    corpus_release(&c);
    assert_true(fs_exists(left));
    close(fd); /* killed: its lock is gone, its files are not */
    pack(&a, 1, prefix, 0);
    assert_true(shard_exists(prefix));
    assert_false(fs_exists(path));
    assert_false(fs_exists(left));
    free(a);
    free(prefix);
    free(path);
    free(left);
}

static void test_lines_of_text(void **state)
{
    (void)state;
    char *path = fs_join(folder, "lines.txt"), *prefix = fs_join(folder, "t");
    struct shard s;
    struct err e;
    size_t len;
    assert_int_equal(fs_write(path, "eins\n\nzwei \xFF\nohne Ende", 22, &e), 0);
    struct pack_stats stats = pack(&path, 1, prefix, 0);
    assert_int_equal(stats.train.documents, 3);
    assert_int_equal(stats.empty, 1);
    assert_int_equal(stats.train.bytes, 4 + 6 + 9);
    assert_int_equal(shard_open(&s, prefix, &e), 0);
    const char *id = shard_doc_id(&s, 1, &len);
    assert_int_equal(len, strlen(path) + 2);
    assert_memory_equal(id, path, strlen(path));
    assert_memory_equal(id + len - 2, ":3", 2);
    assert_int_equal(shard_doc_bytes(&s, 1), 6);
    shard_close(&s);
    free(path);
    free(prefix);
}

static void test_failures(void **state)
{
    (void)state;
    char *path = fs_join(folder, "bad.jsonl"), *prefix = fs_join(folder, "f");
    struct pack_stats stats;
    struct corpus c;
    struct err e;
    assert_int_equal(fs_write(path, "{\"text\":7}\n{\"text\"\n", 19, &e), 0);
    assert_int_equal(corpus_init(&c, &path, 1, &e), 0);
    assert_int_equal(pack_corpus(tok, &c, prefix, 0.1, &stats, &e), -1);
    assert_says(&e, "no text in ");
    assert_says(&e, "2 bad lines");
    assert_int_equal(c.bad, 2);
    assert_false(shard_exists(prefix));
    corpus_release(&c);
    assert_int_equal(corpus_init(&c, NULL, 0, &e), -1);
    free(path);
    free(prefix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents_and_split),
        cmocka_unit_test(test_old_validation_goes),
        cmocka_unit_test(test_one_packing_at_a_time),
        cmocka_unit_test(test_lines_of_text),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
