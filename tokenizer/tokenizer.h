/*
 * A byte-level BPE tokenizer: text to ids and back, without loss on any bytes.
 *
 * A tokenizer is loaded once and then read-only, so all threads share it. What
 * encoding needs to remember (PCRE2 match data, the piece cache) lives in an
 * encoder, one per thread.
 *
 *     struct tokenizer *t;
 *     if (tokenizer_load(&t, "runs/tok", e)) ...
 *     struct encoder *enc = encoder_new(t);
 *     encoder_encode(enc, text, len, &ids, e);      appends to ids
 *
 * Ids are those of Hugging Face `tokenizers` on the folder's tokenizer.json.
 * Special tokens <unk> 0, <s> 1, </s> 2, <pad> 3: none is added, and text that
 * spells one is ordinary text, unless the caller asks (DESIGN: "Special ids").
 */
#ifndef TOKENIZER_TOKENIZER_H
#define TOKENIZER_TOKENIZER_H

#include "common/err.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stdint.h>

enum { TOKEN_UNK = 0, TOKEN_BOS = 1, TOKEN_EOS = 2, TOKEN_PAD = 3, TOKEN_SPECIAL_COUNT = 4 };

#define TOKENIZER_VOCAB_MAX (1 << 24)

struct tokenizer;
struct encoder;

struct ids {
    uint32_t *v;
    size_t count;
    size_t capacity;
};

void ids_add(struct ids *ids, uint32_t id);
void ids_release(struct ids *ids);

/* Reads DIR/tokenizer.json (as written by `tokenizer train`, or any byte-level BPE
 * file of that form). Errors name the file and the byte. */
int tokenizer_load(struct tokenizer **t, const char *dir, struct err *e);
/* The same from the text of a tokenizer.json in memory; `name` opens error sentences. */
int tokenizer_parse(struct tokenizer **t, const char *json, size_t len, const char *name,
                    struct err *e);
void tokenizer_free(struct tokenizer *t);

uint32_t tokenizer_vocab_size(const struct tokenizer *t); /* ids are 0 … this-1 */
/* XXH3-64 of tokenizer.json: checkpoints and shards name the tokenizer by it. */
uint64_t tokenizer_hash(const struct tokenizer *t);
const char *
tokenizer_pattern_name(const struct tokenizer *t); /* "llama3", "german", … or "custom" */
/* The bytes a token stands for (specials: their spelling). Borrowed. */
const char *tokenizer_token(const struct tokenizer *t, uint32_t id, size_t *len);
/* Whether ids 0 … 3 are <unk> <s> </s> <pad>; files made elsewhere may have others. */
bool tokenizer_has_specials(const struct tokenizer *t);
/* Writes tokenizer.json (the bytes it was loaded from), tokenizer_config.json and
 * special_tokens_map.json to a folder, which is made if it is missing. */
int tokenizer_copy(const struct tokenizer *t, const char *dir, struct err *e);

enum encode_flags {
    ENCODE_PLAIN = 0,
    ENCODE_BOS = 1,          /* <s> in front */
    ENCODE_EOS = 2,          /* </s> behind */
    ENCODE_ALLOW_SPECIAL = 4 /* text that spells a special token becomes it */
};

struct encoder *encoder_new(const struct tokenizer *t); /* t is borrowed until encoder_free() */
void encoder_free(struct encoder *enc);
/* Appends the ids of text to *ids. Bytes that are not UTF-8 are encoded too (as pieces of
 * their own). Fails only if the pattern's match limits are exceeded, if a piece is longer
 * than 2^31 bytes, or if <s> or </s> is asked of a tokenizer without them. */
int encoder_encode(struct encoder *enc, const char *text, size_t len, unsigned flags,
                   struct ids *ids, struct err *e);

/* Whether text, encoded ENCODE_PLAIN, has more than `most` tokens: 1, 0, or -1. Stops as soon as
 * that is certain, since no rest of a text has more tokens than bytes. ids is scratch. */
int encoder_exceeds(struct encoder *enc, const char *text, size_t len, size_t most, struct ids *ids,
                    struct err *e);

/* Appends the bytes of ids to out. skip_special leaves out special tokens. An id outside
 * the vocabulary is an error. */
int tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t count,
                     bool skip_special, struct buf *out, struct err *e);

#endif
