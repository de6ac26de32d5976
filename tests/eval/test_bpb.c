/*
 * Bits per byte: windows against lm-eval's, sums against a plain loop over one document
 * at a time, the same bits for any batch size and number of threads.
 */
#include "tests/test.h"

#include "common/mem.h"
#include "common/rng.h"
#include "common/threads.h"
#include "eval/bpb.h"
#include "tokenizer/tokenizer.h"

#include <math.h>

enum { VOCAB = 60, L = 17, DOCS = 15 };

static struct model model;
static struct shard shard;

/* vectors/eval/lm_eval/rolling_windows.json, case v1: 34 tokens, L = 10. */
static void windows_of_lm_eval(void **state)
{
    (void)state;
    const struct bpb_window expected[] = {{0, 10, 10}, {10, 10, 10}, {20, 10, 10}, {24, 10, 4}};
    for (uint64_t k = 0; k < 4; k++) {
        struct bpb_window w = bpb_window(34, 10, k);
        assert_int_equal(w.from, expected[k].from);
        assert_int_equal(w.count, expected[k].count);
        assert_int_equal(w.scored, expected[k].scored);
    }
    struct bpb_window w = bpb_window(3, 10, 0); /* shorter than the context */
    assert_true(w.from == 0 && w.count == 3 && w.scored == 3);
    w = bpb_window(20, 10, 1); /* fits exactly */
    assert_true(w.from == 10 && w.count == 10 && w.scored == 10);
}

static void any_document_is_scored_once(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 50; n++) {
        uint64_t next = 0; /* number of the next token to predict, from 0 */
        for (uint64_t k = 0; k < (n + 9) / 10; k++) {
            struct bpb_window w = bpb_window(n, 10, k);
            assert_true(w.scored >= 1 && w.scored <= w.count && w.count <= 10);
            assert_int_equal(w.from + w.count - w.scored, next);
            next += w.scored;
        }
        assert_int_equal(next, n);
    }
}

/* -ln p of every text token of a document, one window at a time through the logits. */
static double nats_by_hand(const uint32_t *s, uint64_t n)
{
    struct workspace *w;
    struct err e;
    struct workspace_options o = {.B = 1, .T = L, .hidden_rows = true};
    float *logits = mem_alloc(L * VOCAB * sizeof(*logits));
    double nats = 0;
    assert_works(workspace_init(&w, &model, &o, &e), e);
    for (uint64_t done = 0; done < n;) {
        uint64_t end = done + L < n ? done + L : n, from = end > L ? end - L : 0;
        model_forward(&model, w, s + from, 1, (int64_t)(end - from), NULL);
        const float *h = model_hidden(&model, w);
        model_logits(&model, w, h, (int64_t)(end - from), logits);
        for (; done < end; done++) {
            const float *z = logits + (done - from) * VOCAB;
            double sum = 0;
            for (int v = 0; v < VOCAB; v++)
                sum += exp((double)z[v]);
            nats += log(sum) - (double)z[s[done + 1]];
        }
    }
    workspace_free(w);
    free(logits);
    return nats;
}

static void score(struct bpb_set *set, int64_t batch_tokens, enum kernel_precision precision)
{
    struct err e;
    struct bpb_options o = {.batch_tokens = batch_tokens, .precision = precision};
    assert_works(bpb_choose(set, &shard, 0, &e), e);
    assert_works(bpb_score(set, &shard, &model, &o, NULL, &e), e);
}

static void sums_are_right(void **state)
{
    (void)state;
    struct bpb_set set;
    struct err e;
    double nats = 0, bytes = 0;
    score(&set, 64, KERNEL_FP32);
    assert_int_equal(set.count, DOCS - 1); /* one has no text */
    for (size_t d = 0; d < set.count; d++) {
        const struct bpb_document *doc = &set.docs[d];
        uint32_t *s = mem_alloc((doc->tokens + 1) * sizeof(*s));
        s[0] = TOKEN_BOS;
        assert_works(shard_tokens(&shard, doc->from, doc->tokens, s + 1, &e), e);
        assert_float_equal(doc->nats, nats_by_hand(s, doc->tokens), 1e-4 * doc->nats);
        nats += doc->nats;
        bytes += (double)doc->bytes;
        free(s);
    }
    struct stats_ratio r = bpb_result(&set);
    assert_float_equal(r.value, nats / log(2) / bytes, 1e-9);
    assert_true(r.error > 0 && r.error < r.value);
    bpb_set_release(&set);
}

static void bits_do_not_depend_on_batch_or_threads(void **state)
{
    (void)state;
    struct err e;
    enum cpu_level best = cpu_level();
    for (enum cpu_level level = CPU_C; level <= best; level++)
        for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++) {
            static const int64_t batches[] = {1, 64, 300};
            struct bpb_set sets[3];
            cpu_level_force(level);
            for (int i = 0; i < 3; i++) {
                threads_init(1 + i % 2);
                assert_works(kernels_init(&e), e);
                score(&sets[i], batches[i], (enum kernel_precision)precision);
            }
            for (int i = 1; i < 3; i++)
                if (memcmp(sets[0].docs, sets[i].docs, sets[0].count * sizeof(*sets[0].docs)))
                    fail_msg("level %s, precision %d: batch %d changes the sums",
                             cpu_level_name(level), precision, (int)batches[i]);
            for (int i = 0; i < 3; i++)
                bpb_set_release(&sets[i]);
        }
    cpu_level_force(best);
    assert_works(kernels_init(&e), e);
}

static void a_limit_takes_the_same_documents(void **state)
{
    (void)state;
    struct bpb_set all, some, fewer;
    struct err e;
    assert_works(bpb_choose(&all, &shard, 0, &e), e);
    assert_works(bpb_choose(&some, &shard, all.tokens / 2, &e), e);
    assert_works(bpb_choose(&fewer, &shard, all.tokens / 4, &e), e);
    assert_true(some.tokens >= all.tokens / 2 && some.count < all.count);
    assert_true(fewer.count < some.count && fewer.count > 0);
    for (size_t i = 0, k = 0; i < fewer.count; i++) { /* fewer is a part of some, in order */
        while (k < some.count && some.docs[k].doc != fewer.docs[i].doc)
            k++;
        assert_true(k < some.count);
    }
    bpb_set_release(&all);
    bpb_set_release(&some);
    bpb_set_release(&fewer);
}

static int write_shard(const char *prefix, struct err *e)
{
    struct shard_writer *w;
    struct rng rng;
    uint32_t ids[80];
    char id[16];
    rng_init(&rng, 3, 0);
    if (shard_writer_open(&w, prefix, VOCAB, 1, e))
        return -1;
    for (int d = 0; d < DOCS; d++) {
        size_t n = d == 7 ? 0 : 1 + (size_t)rng_below(&rng, 50);
        ids[0] = TOKEN_BOS;
        for (size_t i = 0; i < n; i++)
            ids[1 + i] = TOKEN_SPECIAL_COUNT + (uint32_t)rng_below(&rng, VOCAB - 4);
        ids[1 + n] = TOKEN_EOS;
        snprintf(id, sizeof(id), "doc-%d", d);
        if (shard_writer_add(w, id, strlen(id), ids, n + 2, n * 3, e))
            return -1;
    }
    return shard_writer_commit(w, e);
}

static int setup(void **state)
{
    (void)state;
    struct err e;
    const struct model_config c = {.vocab_size = VOCAB,
                                   .hidden_size = 32,
                                   .intermediate_size = 64,
                                   .num_hidden_layers = 2,
                                   .num_attention_heads = 4,
                                   .num_key_value_heads = 2,
                                   .max_position_embeddings = L,
                                   .rope_theta = 10000,
                                   .rms_norm_eps = 1e-5};
    char *prefix = fs_join(test_folder(), "held");
    threads_init(1);
    if (kernels_init(&e) || model_init(&model, &c, &e) || write_shard(prefix, &e) ||
        shard_open(&shard, prefix, &e)) {
        print_error("%s\n", e.msg);
        return -1;
    }
    model_randomize(&model, 5);
    free(prefix);
    return 0;
}

static int teardown(void **state)
{
    shard_close(&shard);
    model_release(&model);
    return test_folder_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_of_lm_eval),
        cmocka_unit_test(any_document_is_scored_once),
        cmocka_unit_test(sums_are_right),
        cmocka_unit_test(bits_do_not_depend_on_batch_or_threads),
        cmocka_unit_test(a_limit_takes_the_same_documents),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
