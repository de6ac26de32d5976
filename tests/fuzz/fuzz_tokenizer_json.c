/* Any bytes as tokenizer.json: accepted or refused with a sentence, and what is accepted works. */
#include "tokenizer/tokenizer.h"

#include "common/log.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "Gr\xC3\xB6\xC3\x9F 12 <s> \xFF aaaa\n";
    struct tokenizer *t;
    struct err e = {""};
    log_quiet(true);
    if (tokenizer_parse(&t, (const char *)data, size, "fuzz", &e)) {
        MW_ASSERT(e.msg[0]);
        return 0;
    }
    struct encoder *enc = encoder_new(t);
    struct ids ids = {0};
    struct buf back = {0};
    /* A pattern of the input may give up; ids that come must give the text back. */
    if (encoder_encode(enc, text, sizeof(text) - 1, ENCODE_PLAIN, &ids, &e) == 0) {
        MW_ASSERT(tokenizer_decode(t, ids.v, ids.count, false, &back, &e) == 0);
        MW_ASSERT(back.len == sizeof(text) - 1 && !memcmp(back.data, text, back.len));
    }
    ids_release(&ids);
    buf_release(&back);
    encoder_free(enc);
    tokenizer_free(t);
    return 0;
}
