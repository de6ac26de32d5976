/*
 * What check_transformers.py needs of Mundwerk that no command offers: a checkpoint
 * folder with random weights, and raw logits.
 *
 *     peer_model make DIR              snapshot DIR/checkpoints/step-0000000
 *     peer_model logits DIR TOKENS OUT  TOKENS: u32 ids of one sequence; OUT: f32 (T, V)
 */
#include "checkpoints/checkpoint.h"
#include "common/fs.h"
#include "common/stream.h"
#include "common/threads.h"
#include "eval/load.h"
#include "tokenizer/bpe_train.h"

#include <stdio.h>
#include <string.h>

static const char text[] = "Das Mundwerk ist die Gabe, viel zu reden. Wer ein gutes Mundwerk hat, "
                           "der redet viel und gern, und wer viel redet, der hat viel zu sagen.";

static int make_tokenizer(struct tokenizer **t, const char *dir, struct err *e)
{
    struct bpe_train_options o = {.vocab_size = 300, .pattern = "llama3"};
    struct bpe_trainer *trainer;
    if (bpe_trainer_new(&trainer, &o, e))
        return -1;
    int rc = bpe_trainer_feed(trainer, text, strlen(text), e) || bpe_trainer_train(trainer, t, e);
    bpe_trainer_free(trainer);
    return rc || fs_mkdirs(dir, e) || tokenizer_copy(*t, dir, e) ? -1 : 0;
}

static int save(const struct model *m, const char *run, const char *tokenizer_dir, struct err *e)
{
    static const char generation[] = "{\"bos_token_id\": 1, \"eos_token_id\": 2, "
                                     "\"pad_token_id\": 3}\n";
    struct buf config = {0};
    struct tensor *weights = mem_zalloc(m->tensor_count, sizeof(*weights));
    for (size_t i = 0; i < m->tensor_count; i++) {
        const struct model_tensor *p = &m->tensors[i];
        weights[i] = (struct tensor){.name = p->name,
                                     .dtype = TENSOR_BF16,
                                     .rank = p->is_norm ? 1 : 2,
                                     .shape = {p->is_norm ? p->cols : p->rows, p->cols},
                                     .data = p->data,
                                     .from_f32 = true};
    }
    model_config_put_json(&m->config, &config);
    struct checkpoint_file files[] = {
        {"config.json", config.data, config.len},
        {"generation_config.json", generation, sizeof(generation) - 1}};
    struct checkpoint_content c = {.files = files,
                                   .file_count = 2,
                                   .copy_folder = tokenizer_dir,
                                   .weights = weights,
                                   .weight_count = m->tensor_count};
    int lock, rc = run_lock(run, &lock, e);
    if (!rc) {
        rc = checkpoint_save(run, &c, e);
        run_unlock(lock);
    }
    free(weights);
    buf_release(&config);
    return rc;
}

static int make(const char *run, struct err *e)
{
    struct tokenizer *t;
    struct model m;
    char *dir = fs_join(run, "tok");
    if (make_tokenizer(&t, dir, e))
        return -1;
    struct model_config c = {.vocab_size = tokenizer_vocab_size(t),
                             .hidden_size = 256,
                             .intermediate_size = 688,
                             .num_hidden_layers = 6,
                             .num_attention_heads = 8,
                             .num_key_value_heads = 2,
                             .max_position_embeddings = 1024,
                             .rope_theta = 20000,
                             .rms_norm_eps = 1e-5};
    if (model_init(&m, &c, e))
        return -1;
    model_randomize(&m, 1);
    for (size_t i = 0; i < m.params_size; i++) /* a trained model is far from its beginning */
        m.params[i] *= m.params[i] == 1 ? 1 : 2;
    int rc = save(&m, run, dir, e);
    model_release(&m);
    tokenizer_free(t);
    free(dir);
    return rc;
}

static int write_logits(const struct model *m, const uint32_t *tokens, int64_t T, const char *path,
                        struct err *e)
{
    struct workspace_options o = {.B = 1, .T = T, .precision = KERNEL_FP32, .hidden_rows = true};
    struct workspace *w;
    if (kernels_init(e) || workspace_init(&w, m, &o, e))
        return -1;
    size_t bytes = (size_t)(T * m->config.vocab_size) * sizeof(float);
    float *logits = mem_map(bytes, "logits", e);
    int rc = logits ? 0 : -1;
    if (!rc) {
        model_forward(m, w, tokens, 1, T, NULL);
        model_logits(m, w, model_hidden(m, w), T, logits);
        rc = fs_write(path, logits, bytes, e);
    }
    mem_unmap(logits, bytes);
    workspace_free(w);
    return rc;
}

static int logits(const char *dir, const char *tokens, const char *out, struct err *e)
{
    struct loaded l;
    struct buf ids = {0};
    if (fs_read(&ids, tokens, 1 << 24, e) || load_checkpoint(&l, dir, e))
        return -1;
    int rc = write_logits(&l.model, (const uint32_t *)(const void *)ids.data,
                          (int64_t)(ids.len / sizeof(uint32_t)), out, e);
    buf_release(&ids);
    loaded_release(&l);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e;
    int rc;
    threads_init(0);
    if (argc == 3 && !strcmp(argv[1], "make"))
        rc = make(argv[2], &e);
    else if (argc == 5 && !strcmp(argv[1], "logits"))
        rc = logits(argv[2], argv[3], argv[4], &e);
    else {
        fprintf(stderr, "usage: peer_model make DIR | logits DIR TOKENS OUT\n");
        return 2;
    }
    if (rc)
        fprintf(stderr, "peer_model: %s\n", e.msg);
    return rc ? 1 : 0;
}
