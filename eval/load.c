/*
 * Checkpoint folder → model and tokenizer; see load.h.
 */
#include "eval/load.h"

#include "checkpoints/checkpoint.h"
#include "checkpoints/tensor.h"
#include "common/fs.h"
#include "common/hash.h"
#include "common/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define JSON_FILE_MAX ((size_t)64 << 20) /* bytes */

/* --- facts ---------------------------------------------------------------------- */

static bool has_file(const char *folder, const char *name)
{
    char *path = fs_join(folder, "%s", name);
    bool there = fs_exists(path);
    free(path);
    return there;
}

/* Reads step and tokens from the top level of a JSON file, where they are numbers. */
static int read_facts(struct checkpoint_facts *f, const char *folder, const char *name,
                      struct err *e)
{
    struct buf text = {0};
    struct json j;
    char key[32], *path = fs_join(folder, "%s", name);
    int more = 0, failed = fs_read(&text, path, JSON_FILE_MAX, e);
    if (!failed) {
        json_open(&j, text.data, text.len);
        if (json_object(&j) == 0)
            while ((more = json_next_key(&j, key, sizeof(key))) > 0) {
                bool number = json_peek(&j) == JSON_NUMBER;
                uint64_t *to = number && !strcmp(key, "step")     ? &f->step
                               : number && !strcmp(key, "tokens") ? &f->tokens
                                                                  : NULL;
                if (to ? json_u64(&j, to) : json_skip(&j))
                    break;
            }
        if (j.error || json_end(&j))
            failed = json_report(&j, path, e);
    }
    buf_release(&text);
    free(path);
    return failed;
}

int checkpoint_facts(struct checkpoint_facts *f, const char *folder, struct err *e)
{
    uint64_t bytes;
    memset(f, 0, sizeof(*f));
    if (!fs_is_folder(folder))
        return err_set(e, "%s is not a checkpoint folder: there is no such folder", folder);
    if (!has_file(folder, "model.safetensors"))
        return err_set(e, "%s is not a checkpoint folder: it holds no model.safetensors", folder);
    if (has_file(folder, "manifest.json") &&
        (checkpoint_verify(folder, e) || read_facts(f, folder, "manifest.json", e)))
        return -1;
    if (has_file(folder, "trainer/state.json") && read_facts(f, folder, "trainer/state.json", e))
        return -1;
    char *path = fs_join(folder, "model.safetensors");
    int failed = hash_file(path, &f->weights_hash, &bytes, e);
    free(path);
    return failed;
}

/* --- loading ---------------------------------------------------------------------- */

static int load_weights(struct model *m, const char *folder, struct err *e)
{
    struct safetensors s;
    char *path = fs_join(folder, "model.safetensors");
    int failed = safetensors_open(&s, path, e);
    if (failed) {
        free(path);
        return -1;
    }
    for (size_t i = 0; i < m->tensor_count && !failed; i++) {
        const struct model_tensor *t = &m->tensors[i];
        failed = safetensors_load_f32(&s, t->name, t->rows, t->cols, t->data, e);
    }
    for (size_t i = 0; i < s.count && !failed; i++)
        if (!model_find(m, s.tensors[i].name))
            failed = err_set(e, "%s: tensor %s is not part of the model config.json describes",
                             path, s.tensors[i].name);
    safetensors_close(&s);
    free(path);
    return failed;
}

/* The member "tokenizer" of our manifest: the hash of the tokenizer trained with, in hex. A
 * folder without one passes. */
static int check_tokenizer_hash(const struct tokenizer *t, const char *folder, struct err *e)
{
    struct buf text = {0}, hex = {0};
    struct json j;
    char key[32];
    if (!has_file(folder, "manifest.json"))
        return 0;
    char *path = fs_join(folder, "manifest.json");
    int failed = fs_read(&text, path, JSON_FILE_MAX, e);
    if (!failed) {
        json_open(&j, text.data, text.len);
        if (json_object(&j) == 0)
            while (json_next_key(&j, key, sizeof(key)) > 0)
                if (!strcmp(key, "tokenizer") ? json_string(&j, &hex) : json_skip(&j))
                    break;
        if (j.error)
            failed = json_report(&j, path, e);
        else if (hex.len && strtoull(hex.data, NULL, 16) != tokenizer_hash(t))
            failed = err_set(e,
                             "the tokenizer in %s does not match the model: it was trained with "
                             "tokenizer %s, this one is %016" PRIx64,
                             folder, hex.data, tokenizer_hash(t));
    }
    buf_release(&text);
    buf_release(&hex);
    free(path);
    return failed;
}

/* vocab_size may be padded: the ids rounded up to a multiple of at most ROWS_SPARE_MAX. */
#define ROWS_SPARE_MAX 256

static int load_tokenizer(struct loaded *l, const char *folder, struct err *e)
{
    if (!has_file(folder, "tokenizer.json"))
        return err_set(e, "%s holds no tokenizer.json; copy the tokenizer's files there", folder);
    if (tokenizer_load(&l->tokenizer, folder, e))
        return -1;
    int64_t ids = tokenizer_vocab_size(l->tokenizer), V = l->model.config.vocab_size;
    if (ids > V || V - ids >= ROWS_SPARE_MAX)
        return err_set(e,
                       "the tokenizer in %s does not match the model: it has %lld ids, the model's "
                       "vocab_size is %lld",
                       folder, (long long)ids, (long long)V);
    return check_tokenizer_hash(l->tokenizer, folder, e);
}

int load_checkpoint(struct loaded *l, const char *folder, struct err *e)
{
    struct model_config config;
    memset(l, 0, sizeof(*l));
    if (!fs_is_folder(folder))
        return err_set(e, "%s is not a checkpoint folder: there is no such folder", folder);
    if (has_file(folder, "manifest.json") && checkpoint_verify(folder, e))
        return -1;
    char *path = fs_join(folder, "config.json");
    int failed = model_config_read_json(&config, path, e);
    free(path);
    if (failed || model_init(&l->model, &config, e))
        return -1;
    if (load_weights(&l->model, folder, e) || load_tokenizer(l, folder, e)) {
        loaded_release(l);
        return -1;
    }
    return 0;
}

void loaded_release(struct loaded *l)
{
    model_release(&l->model);
    tokenizer_free(l->tokenizer);
    memset(l, 0, sizeof(*l));
}
