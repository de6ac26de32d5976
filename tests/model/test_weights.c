/*
 * Block order: every value of every tensor has a place of its own, and comes back from it.
 */
#include "tests/test.h"

#include "model/layers.h"
#include "model/weights.h"

static const struct model_config shapes[] = {
    {.vocab_size = 70,
     .hidden_size = 48,
     .intermediate_size = 56,
     .num_hidden_layers = 2,
     .num_attention_heads = 6,
     .num_key_value_heads = 3,
     .max_position_embeddings = 32,
     .rope_theta = 10000,
     .rms_norm_eps = 1e-5},
    {.vocab_size = 96,
     .hidden_size = 64,
     .intermediate_size = 160,
     .num_hidden_layers = 1,
     .num_attention_heads = 2,
     .num_key_value_heads = 1,
     .max_position_embeddings = 32,
     .rope_theta = 10000,
     .rms_norm_eps = 1e-5},
};

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++) {
        struct err e;
        struct model m;
        assert_works(model_init(&m, &shapes[s], &e), e);
        size_t size = weights_size(&shapes[s]), nonzero = 0;
        float *array = mem_zalloc(size, sizeof(float));
        float *back = mem_zalloc(m.params_size, sizeof(float));
        float next = 1;
        for (size_t i = 0; i < m.tensor_count; i++) {
            struct model_tensor *t = &m.tensors[i];
            struct weights_place at = weights_place(&shapes[s], i);
            assert_int_equal(at.rows, t->rows);
            assert_int_equal(at.cols, t->cols);
            for (int64_t j = 0; j < t->rows * t->cols; j++)
                t->data[j] = next++;
            weights_put(&at, array, 0, 1, t->data); /* in two parts */
            weights_put(&at, array, 1, t->rows - 1, t->data + t->cols);
        }
        weights_get_all(&m, array, back);
        assert_memory_equal(back, m.params, m.params_size * sizeof(float));
        for (size_t i = 0; i < size; i++)
            nonzero += array[i] != 0;
        assert_int_equal(nonzero, m.param_count); /* no two values share a place */
        free(back);
        free(array);
        model_release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
