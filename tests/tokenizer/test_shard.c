/* Token shards: what was packed comes back; what was damaged is named. */
#include "common/hash.h"
#include "common/mem.h"
#include "common/rng.h"
#include "common/seal.h"
#include "tests/test.h"
#include "tokenizer/shard.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder;
static char *prefix; /* of a shard of DOCS documents, made once */

#define DOCS        300
#define VOCAB_SMALL 32000

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    prefix = fs_join(folder, "corpus");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unit_folder_remove(folder);
    free(prefix);
    return 0;
}

/* Document i: its length, ids and name follow from i alone. */
static size_t doc_tokens(uint32_t **out, size_t i, uint32_t vocab)
{
    struct rng r;
    rng_init(&r, 7, i);
    size_t count = i == 5 ? 40000 : i == 6 ? 0 : 2 + rng_below(&r, 400);
    *out = mem_alloc(4 * count + 4);
    for (size_t k = 0; k < count; k++)
        (*out)[k] = (uint32_t)rng_below(&r, vocab);
    return count;
}

static void write_shard(const char *path, uint32_t vocab, size_t docs)
{
    struct shard_writer *w;
    struct err e = {0};
    assert_int_equal(shard_writer_open(&w, path, vocab, 0xfeedu, &e), 0);
    for (size_t i = 0; i < docs; i++) {
        uint32_t *tokens;
        char id[64];
        size_t count = doc_tokens(&tokens, i, vocab);
        int len = snprintf(id, sizeof(id), "2023-14/%04zu/de_head.json.gz/%zu", i % 9, i);
        assert_int_equal(
            shard_writer_add(w, id, i == 3 ? 0 : (size_t)len, tokens, count, 5 * i, &e), 0);
        free(tokens);
    }
    assert_int_equal(shard_writer_commit(w, &e), 0);
}

static void check_shard(const char *path, uint32_t vocab, unsigned token_bytes)
{
    struct shard s;
    struct err e = {0};
    assert_int_equal(shard_open(&s, path, &e), 0);
    assert_int_equal(s.doc_count, DOCS);
    assert_int_equal(s.token_bytes, token_bytes);
    assert_int_equal(s.vocab_size, vocab);
    assert_true(s.tokenizer_hash == 0xfeedu);
    assert_int_equal(s.bytes, 5 * DOCS * (DOCS - 1) / 2);
    uint64_t at = 0;
    for (size_t i = 0; i < DOCS; i++) {
        uint32_t *want, *got;
        size_t len, count = doc_tokens(&want, i, vocab);
        char id[64];
        got = mem_alloc(4 * count + 4);
        snprintf(id, sizeof(id), "2023-14/%04zu/de_head.json.gz/%zu", i % 9, i);
        assert_int_equal(s.doc_start[i], at);
        assert_int_equal(shard_tokens(&s, at, count, got, &e), 0);
        assert_memory_equal(got, want, 4 * count);
        assert_int_equal(shard_doc_bytes(&s, i), 5 * i);
        const char *name = shard_doc_id(&s, i, &len);
        assert_int_equal(len, i == 3 ? 0 : strlen(id));
        assert_memory_equal(name, id, len);
        if (count) {
            assert_int_equal(shard_doc_at(&s, at), i);
            assert_int_equal(shard_doc_at(&s, at + count - 1), i);
        }
        at += count;
        free(want);
        free(got);
    }
    assert_int_equal(s.doc_start[DOCS], at);
    assert_int_equal(s.token_count, at);
    shard_close(&s);
}

static void returns_what_was_packed(void **state)
{
    (void)state;
    char *wide = fs_join(folder, "new/folder/wide");
    write_shard(prefix, VOCAB_SMALL, DOCS);
    check_shard(prefix, VOCAB_SMALL, 2);
    write_shard(wide, 70000, DOCS);
    check_shard(wide, 70000, 4);
    write_shard(wide, 65536, DOCS); /* over an older one */
    check_shard(wide, 65536, 2);
    free(wide);
}

static uint64_t word(const char *p, size_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

/* The bytes Megatron-LM's indexed_dataset.py expects, written out by hand. */
static void index_is_megatrons(void **state)
{
    (void)state;
    char *path = fs_join(folder, "tiny"), *idx = fs_join(folder, "tiny.idx"),
         *bin = fs_join(folder, "tiny.bin");
    struct shard_writer *w;
    struct buf b = {0};
    struct err e = {0};
    assert_int_equal(shard_writer_open(&w, path, 1000, 1, &e), 0);
    assert_int_equal(shard_writer_add(w, "a", 1, (uint32_t[]){1, 500, 2}, 3, 4, &e), 0);
    assert_int_equal(shard_writer_add(w, "b", 1, (uint32_t[]){1, 2}, 2, 0, &e), 0);
    assert_int_equal(shard_writer_commit(w, &e), 0);
    assert_int_equal(fs_read(&b, idx, 1000, &e), 0);
    assert_int_equal(b.len, 34 + 2 * 4 + 2 * 8 + 3 * 8);
    assert_memory_equal(b.data, "MMIDIDX\0\0\1\0\0\0\0\0\0\0\10", 18);
    assert_int_equal(word(b.data + 18, 8), 2);
    assert_int_equal(word(b.data + 26, 8), 3);
    assert_int_equal(word(b.data + 34, 4), 3);
    assert_int_equal(word(b.data + 38, 4), 2);
    assert_int_equal(word(b.data + 42, 8), 0);
    assert_int_equal(word(b.data + 50, 8), 6);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(word(b.data + 58 + 8 * i, 8), i);
    assert_int_equal(fs_read(&b, bin, 1000, &e), 0);
    assert_int_equal(b.len, 10);
    assert_memory_equal(b.data, "\1\0\xf4\1\2\0\1\0\2\0", 10);
    buf_release(&b);
    free(path);
    free(idx);
    free(bin);
}

static void writes_the_same_bytes_twice(void **state)
{
    (void)state;
    struct shard a, b;
    struct err e = {0};
    char *other = fs_join(folder, "again");
    write_shard(prefix, VOCAB_SMALL, DOCS);
    write_shard(other, VOCAB_SMALL, DOCS);
    assert_int_equal(shard_open(&a, prefix, &e), 0);
    assert_int_equal(shard_open(&b, other, &e), 0);
    assert_true(a.fingerprint == b.fingerprint);
    shard_close(&b);
    write_shard(other, VOCAB_SMALL, DOCS - 1);
    assert_int_equal(shard_open(&b, other, &e), 0);
    assert_true(a.fingerprint != b.fingerprint);
    shard_close(&a);
    shard_close(&b);
    free(other);
}

/* Shards of the first released format stay readable. */
static void old_shards_stay_readable(void **state)
{
    (void)state;
    struct shard s;
    struct err e = {0};
    uint32_t tokens[3000];
    if (shard_open(&s, "tests/golden/shard-v1", &e) || shard_tokens(&s, 0, 3000, tokens, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(s.doc_count, 3);
    for (uint32_t i = 0; i < 3000; i++)
        assert_int_equal(tokens[i], (i / 1000 * 31 + i % 1000 * 7) % 1000);
    shard_close(&s);
}

static void an_empty_shard_is_a_shard(void **state)
{
    (void)state;
    struct shard s;
    struct err e = {0};
    char *path = fs_join(folder, "empty");
    write_shard(path, 100, 0);
    assert_true(shard_exists(path));
    assert_int_equal(shard_open(&s, path, &e), 0);
    assert_int_equal(s.doc_count, 0);
    assert_int_equal(shard_tokens(&s, 0, 0, NULL, &e), 0);
    shard_close(&s);
    free(path);
}

static void odd_names_stay_one_line(void **state)
{
    (void)state;
    struct shard s;
    struct shard_writer *w;
    struct err e = {0};
    size_t len;
    char *path = fs_join(folder, "odd");
    assert_int_equal(shard_writer_open(&w, path, 100, 1, &e), 0);
    assert_int_equal(shard_writer_add(w, "a\nb\tü", 6, (uint32_t[]){1, 2}, 2, 0, &e), 0);
    assert_int_equal(shard_writer_commit(w, &e), 0);
    assert_int_equal(shard_open(&s, path, &e), 0);
    const char *id = shard_doc_id(&s, 0, &len);
    assert_int_equal(len, 10);
    assert_memory_equal(id, "a%0Ab%09ü", 10);
    shard_close(&s);
    free(path);
}

/* --- what goes wrong ----------------------------------------------------------- */

static void abort_and_bad_id_keep_the_old_shard(void **state)
{
    (void)state;
    struct shard_writer *w;
    struct fs_list names = {0};
    struct err e = {0};
    char *path = fs_join(folder, "kept/shard"), *inside = fs_join(folder, "kept");
    write_shard(path, VOCAB_SMALL, DOCS);
    assert_int_equal(shard_writer_open(&w, path, 100, 1, &e), 0);
    assert_int_equal(shard_writer_add(w, "x", 1, (uint32_t[]){1, 100}, 2, 0, &e), -1);
    assert_says(&e, "document x: token 1 is id 100, but the vocabulary ends at 99");
    assert_int_equal(shard_writer_commit(w, &e), -1);
    assert_int_equal(shard_writer_open(&w, path, 100, 1, &e), 0);
    shard_writer_abort(w);
    check_shard(path, VOCAB_SMALL, 2);
    assert_int_equal(fs_list_folder(&names, inside, &e), 0);
    assert_int_equal(names.count, 6); /* nothing half-written lies about */
    fs_list_release(&names);
    free(path);
    free(inside);
}

/* Opens and reads all tokens: 0, or -1 and the sentence. */
static int use_shard(const char *path, struct err *e)
{
    struct shard s;
    if (shard_open(&s, path, e))
        return -1;
    uint32_t *out = mem_alloc(4 * s.token_count + 4);
    int r = shard_tokens(&s, 0, s.token_count, out, e);
    free(out);
    shard_close(&s);
    return r;
}

/* Without fsync, unlike fs_write(): there are hundreds. */
static void put_file(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* One flipped bit, at many places of each file: refused, and the sentence names the file. */
static void every_flipped_bit_is_found(void **state)
{
    (void)state;
    static const char *const parts[] = {"bin", "idx", "ids", "bytes", "sum", "json"};
    char *path = fs_join(folder, "flip");
    struct err e = {0};
    write_shard(path, VOCAB_SMALL, 40);
    assert_int_equal(use_shard(path, &e), 0);
    for (size_t i = 0; i < 6; i++) {
        char *file = fs_join(folder, "flip.%s", parts[i]);
        struct buf b = {0};
        assert_int_equal(fs_read(&b, file, 1 << 22, &e), 0);
        size_t stride = b.len < 200 ? 1 : b.len / 97;
        for (size_t at = 0; at < b.len; at += stride) {
            char bit = (char)(1 << at % 8);
            b.data[at] ^= bit;
            put_file(file, b.data, b.len);
            if (!use_shard(path, &e))
                fail_msg("%s: flipped bit in byte %zu was not found", file, at);
            assert_says(&e, path);
            b.data[at] ^= bit;
        }
        put_file(file, b.data, b.len);
        buf_release(&b);
        free(file);
    }
    assert_int_equal(use_shard(path, &e), 0);
    free(path);
}

static void cut_files_are_found(void **state)
{
    (void)state;
    static const char *const parts[] = {"bin", "idx", "ids", "bytes", "sum", "json"};
    char *path = fs_join(folder, "cut");
    struct err e = {0};
    write_shard(path, VOCAB_SMALL, 40);
    for (size_t i = 0; i < 6; i++) {
        char *file = fs_join(folder, "cut.%s", parts[i]);
        struct buf b = {0};
        assert_int_equal(fs_read(&b, file, 1 << 22, &e), 0);
        size_t lens[] = {0, 1, b.len / 2, b.len - 1};
        for (size_t k = 0; k < 4; k++) {
            put_file(file, b.data, lens[k]);
            assert_int_equal(use_shard(path, &e), -1);
            assert_says(&e, i == 5 ? "cut.json" : parts[i]);
        }
        assert_int_equal(unlink(file), 0);
        assert_int_equal(use_shard(path, &e), -1);
        assert_says(&e, "No such file");
        put_file(file, b.data, b.len);
        buf_release(&b);
        free(file);
    }
    free(path);
}

/* A shard whose hashes are all right but whose contents are not: the border checks alone
 * stand between such a file and the program. */
struct forged {
    const char *part;
    size_t at;
    uint64_t value;
    size_t bytes;
    const char *says;
};

static void put_u64(char *p, uint64_t v, size_t bytes)
{
    memcpy(p, &v, bytes);
}

static void write_forged_json(const char *path, const char *counts)
{
    static const char *const parts[] = {"bin", "idx", "ids", "bytes", "sum"};
    struct buf b = {0};
    struct err e = {0};
    buf_printf(&b, "{\"format\":\"mundwerk-shard\",\"version\":1,\"tokenizer\":\"%016x\",%s,", 1u,
               counts);
    buf_puts(&b, "\"files\":{");
    for (size_t i = 0; i < 5; i++) {
        char *file = fs_join(folder, "forged.%s", parts[i]);
        uint64_t hash, bytes;
        assert_int_equal(hash_file(file, &hash, &bytes, &e), 0);
        buf_printf(&b, "%s\"%s\":{\"bytes\":%llu,\"xxh3_64\":\"%016llx\"}", i ? "," : "", parts[i],
                   (unsigned long long)bytes, (unsigned long long)hash);
        free(file);
    }
    buf_puts(&b, "},\n");
    seal_put(&b, 0);
    char *file = fs_join(folder, "%s.json", path);
    put_file(file, b.data, b.len);
    free(file);
    buf_release(&b);
}

#define COUNTS "\"vocab_size\":1000,\"documents\":2,\"tokens\":5,\"bytes\":4"

static void forged_files_are_refused(void **state)
{
    (void)state;
    static const struct forged cases[] = {
        {"idx", 0, 'X', 1, "not a Megatron index"},
        {"idx", 9, 0x0100000000000000u, 8, "version is not 1 in little-endian"},
        {"idx", 17, 4, 1, "dtype code 4, but the vocabulary needs 8"},
        {"idx", 18, 3, 8, "number of documents differs"},
        {"idx", 34, 0xffffffffu, 4, "document 0 does not follow"},
        {"idx", 34, 6, 4, "document 0 does not follow"},
        {"idx", 38, 1, 4, "documents hold 4 tokens"},
        {"idx", 50, 8, 8, "document 1 does not follow"},
        {"idx", 58, 1, 8, "document 0 does not follow"},
        {"idx", 74, 9, 8, "documents hold 5 tokens"},
        {"bytes", 0, UINT64_MAX, 8, "sizes sum to"},
        {"bytes", 8, UINT64_MAX, 8, "sum of the sizes is too large"},
        {"ids", 1, 'x', 1, "has 1 lines for 2 documents"},
        {"ids", 0, '\n', 1, "more lines than documents"},
        {"ids", 3, 'x', 1, "last line has no end"},
        {"sum", 0, 0, 8, "do not have their hash"},
    };
    char *path = fs_join(folder, "forged");
    struct err e = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct forged *c = &cases[i];
        struct shard_writer *w;
        struct buf b = {0};
        char *file = fs_join(folder, "forged.%s", c->part);
        assert_int_equal(shard_writer_open(&w, path, 1000, 1, &e), 0);
        assert_int_equal(shard_writer_add(w, "a", 1, (uint32_t[]){1, 500, 2}, 3, 4, &e), 0);
        assert_int_equal(shard_writer_add(w, "b", 1, (uint32_t[]){1, 2}, 2, 0, &e), 0);
        assert_int_equal(shard_writer_commit(w, &e), 0);
        assert_int_equal(fs_read(&b, file, 1000, &e), 0);
        put_u64(b.data + c->at, c->value, c->bytes);
        put_file(file, b.data, b.len);
        write_forged_json("forged", COUNTS);
        assert_int_equal(use_shard(path, &e), -1);
        assert_says(&e, c->says);
        buf_release(&b);
        free(file);
    }
    free(path);
}

static void forged_counts_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"\"vocab_size\":1000,\"documents\":3,\"tokens\":5,\"bytes\":4", "sizes do not agree"},
        {"\"vocab_size\":1000,\"documents\":18446744073709551615,\"tokens\":5,\"bytes\":4",
         "more documents or tokens than bytes"},
        {"\"vocab_size\":1000,\"documents\":2,\"tokens\":9223372036854775813,\"bytes\":4",
         "more documents or tokens than bytes"},
        {"\"vocab_size\":1000,\"documents\":2,\"tokens\":6,\"bytes\":4", "number of tokens"},
        {"\"vocab_size\":0,\"documents\":2,\"tokens\":5,\"bytes\":4",
         "vocab_size 0 is out of range"},
        {"\"vocab_size\":100000,\"documents\":2,\"tokens\":5,\"bytes\":4", "number of tokens"},
        {"\"vocab_size\":500,\"documents\":2,\"tokens\":5,\"bytes\":4",
         "byte 2: id 500, but the vocabulary ends at 499"},
        {"\"vocab_size\":1000,\"documents\":2,\"documents\":2,\"tokens\":5,\"bytes\":4",
         "duplicate key"},
        {"\"vocab_size\":1000,\"documents\":2,\"tokens\":5", "a key is missing"},
        {"\"vocab_size\":1000,\"documents\":2,\"tokens\":-5,\"bytes\":4", "at least 0"},
        {"\"vocab_size\":1000,\"documents\":2,\"tokens\":5,\"bytes\":4,\"more\":1", "unknown key"},
    };
    char *path = fs_join(folder, "forged");
    struct err e = {0};
    struct shard_writer *w;
    assert_int_equal(shard_writer_open(&w, path, 1000, 1, &e), 0);
    assert_int_equal(shard_writer_add(w, "a", 1, (uint32_t[]){1, 500, 2}, 3, 4, &e), 0);
    assert_int_equal(shard_writer_add(w, "b", 1, (uint32_t[]){1, 2}, 2, 0, &e), 0);
    assert_int_equal(shard_writer_commit(w, &e), 0);
    write_forged_json("forged", COUNTS);
    assert_int_equal(use_shard(path, &e), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        write_forged_json("forged", cases[i][0]);
        assert_int_equal(use_shard(path, &e), -1);
        assert_says(&e, cases[i][1]);
    }
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(returns_what_was_packed),
        cmocka_unit_test(index_is_megatrons),
        cmocka_unit_test(writes_the_same_bytes_twice),
        cmocka_unit_test(old_shards_stay_readable),
        cmocka_unit_test(an_empty_shard_is_a_shard),
        cmocka_unit_test(odd_names_stay_one_line),
        cmocka_unit_test(abort_and_bad_id_keep_the_old_shard),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(cut_files_are_found),
        cmocka_unit_test(forged_files_are_refused),
        cmocka_unit_test(forged_counts_are_refused),
    };
    return cmocka_run_group_tests_name("shard", tests, make_folder, remove_folder);
}
