/* Any bytes as text: a tokenizer learned from them gives them back (first byte: the pattern). */
#include "tokenizer/bpe_train.h"

#include "common/log.h"
#include "common/threads.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"gpt2", "llama3", "qwen2", "o200k", "german"};
    const char *text = (const char *)data;
    struct bpe_train_options o = {300, 0, names[size ? data[0] % 5 : 0]};
    struct bpe_trainer *trainer;
    struct tokenizer *t;
    struct ids ids = {0};
    struct buf back = {0};
    struct err e;
    log_quiet(true);
    threads_init(1); /* starting threads would cost more than the work */
    MW_ASSERT(bpe_trainer_new(&trainer, &o, &e) == 0);
    MW_ASSERT(bpe_trainer_feed(trainer, text, size, &e) == 0);
    MW_ASSERT(bpe_trainer_train(trainer, &t, &e) == 0);
    struct encoder *enc = encoder_new(t);
    MW_ASSERT(encoder_encode(enc, text, size, ENCODE_PLAIN, &ids, &e) == 0);
    MW_ASSERT(tokenizer_decode(t, ids.v, ids.count, false, &back, &e) == 0);
    MW_ASSERT(back.len == size && (!size || !memcmp(back.data, text, size)));
    ids_release(&ids);
    buf_release(&back);
    encoder_free(enc);
    tokenizer_free(t);
    bpe_trainer_free(trainer);
    return 0;
}
