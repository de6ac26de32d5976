/* The order of data: every window once an epoch, the same from any position, targets one ahead. */
#include "tests/test.h"

#include "common/mem.h"
#include "common/rng.h"
#include "train/loader.h"

/* Documents of 1 … 40 tokens; token i of the stream has id i mod 50,000, so that content tells
 * the place. */
static void write_shards(const char *prefix, uint64_t tokens)
{
    struct err e;
    struct shard_writer *w;
    struct rng rng;
    uint32_t doc[40];
    rng_init(&rng, 1, 0);
    assert_int_equal(shard_writer_open(&w, prefix, 50000, 77, &e), 0);
    for (uint64_t at = 0, n = 0; at < tokens; n++) {
        size_t len = 1 + (size_t)rng_below(&rng, 40);
        char id[32];
        if (len > tokens - at)
            len = (size_t)(tokens - at);
        for (size_t i = 0; i < len; i++)
            doc[i] = (uint32_t)((at + i) % 50000);
        snprintf(id, sizeof(id), "doc-%d", (int)n);
        assert_int_equal(shard_writer_add(w, id, strlen(id), doc, len, len, &e), 0);
        at += len;
    }
    assert_int_equal(shard_writer_commit(w, &e), 0);
}

static void open_shards(struct shard *s, uint64_t tokens)
{
    struct err e;
    char *prefix = fs_join(test_folder(), "t%d", (int)tokens);
    if (!shard_exists(prefix))
        write_shards(prefix, tokens);
    assert_int_equal(shard_open(s, prefix, &e), 0);
    free(prefix);
}

static void test_every_window_once(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {9, 17, 25, 33, 1000, 5001, 40000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct shard s;
        struct loader l;
        struct err e;
        open_shards(&s, sizes[i]);
        assert_int_equal(loader_init(&l, &s, 8, 3407, &e), 0);
        assert_int_equal(l.window_count, (sizes[i] - 1) / 8);
        unsigned char *seen = mem_zalloc(l.window_count, 1);
        for (unsigned epoch = 0; epoch < 3; epoch++)
            for (uint64_t n = 0; n < l.window_count; n++) {
                uint64_t w = loader_window(&l, epoch * l.window_count + n);
                assert_true(w < l.window_count);
                assert_int_equal(seen[w], epoch); /* not yet in this epoch, once in each before */
                seen[w]++;
            }
        free(seen);
        shard_close(&s);
    }
}

/* Orders of epochs and of seeds differ, and neighbours do not stay together. */
static void test_shuffled(void **state)
{
    (void)state;
    struct shard s;
    struct loader a, b;
    struct err e;
    open_shards(&s, 40000);
    assert_int_equal(loader_init(&a, &s, 8, 1, &e), 0);
    assert_int_equal(loader_init(&b, &s, 8, 2, &e), 0);
    uint64_t N = a.window_count, same_epoch = 0, same_seed = 0, neighbours = 0;
    for (uint64_t n = 0; n < N; n++) {
        same_epoch += loader_window(&a, n) == loader_window(&a, N + n);
        same_seed += loader_window(&a, n) == loader_window(&b, n);
        neighbours += loader_window(&a, n) + 1 == loader_window(&a, n + 1);
    }
    /* of two random permutations one place agrees on average */
    assert_true(same_epoch < 10 && same_seed < 10 && neighbours < 10);
    shard_close(&s);
}

static void test_targets(void **state)
{
    (void)state;
    enum { T = 8, B = 3 };
    struct shard s;
    struct loader l;
    struct err e;
    uint32_t in[B * T], out[B * T];
    open_shards(&s, 1000);
    assert_int_equal(loader_init(&l, &s, T, 5, &e), 0);
    for (uint64_t step = 0; step < 100; step++) {
        assert_int_equal(loader_next(&l, B, in, out, &e), 0);
        for (uint64_t b = 0; b < B; b++) {
            uint64_t at = loader_window(&l, step * B + b) * T;
            for (uint64_t t = 0; t < T; t++) {
                assert_int_equal(in[b * T + t], at + t);
                assert_int_equal(out[b * T + t], at + t + 1);
            }
        }
    }
    assert_int_equal(l.position, 300);
    shard_close(&s);
}

/* A loader that starts at a saved position sees what the first one would have seen. */
static void test_resume(void **state)
{
    (void)state;
    enum { T = 8, B = 5, STEPS = 40 };
    struct shard s;
    struct loader whole, part;
    struct err e;
    uint32_t in[B * T], out[B * T], in2[B * T], out2[B * T];
    open_shards(&s, 1000); /* 124 windows: the epoch ends within a step */
    assert_int_equal(loader_init(&whole, &s, T, 5, &e), 0);
    for (int step = 0; step < STEPS; step++) {
        assert_int_equal(loader_init(&part, &s, T, 5, &e), 0);
        part.position = whole.position;
        assert_int_equal(loader_next(&whole, B, in, out, &e), 0);
        assert_int_equal(loader_next(&part, B, in2, out2, &e), 0);
        assert_memory_equal(in, in2, sizeof(in));
        assert_memory_equal(out, out2, sizeof(out));
    }
    shard_close(&s);
}

static void test_documents(void **state)
{
    (void)state;
    struct shard s;
    struct loader l;
    struct err e;
    open_shards(&s, 1000);
    assert_int_equal(loader_init(&l, &s, 8, 5, &e), 0);
    for (uint64_t w = 0; w < l.window_count; w++) {
        uint64_t first, last;
        loader_documents(&l, w, &first, &last);
        assert_true(first <= last && last < s.doc_count);
        assert_true(s.doc_start[first] <= w * 8 && w * 8 < s.doc_start[first + 1]);
        assert_true(s.doc_start[last] <= w * 8 + 8 && w * 8 + 8 < s.doc_start[last + 1]);
    }
    shard_close(&s);
}

static void test_too_short(void **state)
{
    (void)state;
    struct shard s;
    struct loader l;
    struct err e;
    open_shards(&s, 9);
    assert_int_equal(loader_init(&l, &s, 8, 5, &e), 0);
    assert_fails(loader_init(&l, &s, 9, 5, &e), e, "holds 9 tokens, one window needs 10");
    shard_close(&s);
}

/* Without data: tokens of the vocabulary, small ones more often, targets the next inputs, and the
 * same again for the same seed. */
static void test_random(void **state)
{
    (void)state;
    enum { T = 64, B = 8 };
    struct loader a, b;
    struct err e;
    uint32_t inputs[B * T], targets[B * T], again[B * T];
    int small = 0;
    loader_init_random(&a, 1000, T, 5);
    loader_init_random(&b, 1000, T, 5);
    assert_works(loader_next(&a, B, inputs, targets, &e), e);
    assert_int_equal(a.position, B);
    for (int i = 0; i < B * T; i++) {
        assert_true(inputs[i] < 1000);
        small += inputs[i] < 31; /* half of all: exp(½ log 1000) = 31.6 */
        if (i % T)
            assert_int_equal(inputs[i], targets[i - 1]);
    }
    assert_true(small > B * T * 2 / 5 && small < B * T * 3 / 5);
    assert_works(loader_next(&b, B, again, targets, &e), e);
    assert_memory_equal(inputs, again, sizeof(inputs));
    assert_works(loader_next(&b, B, again, targets, &e), e);
    assert_memory_not_equal(inputs, again, sizeof(inputs));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_window_once),
        cmocka_unit_test(test_shuffled),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
