/*
 * Batches from token shards.
 *
 * The documents of a shard, each <s> … </s>, are one stream of tokens, cut without
 * regard to their borders (llammlein.md §3.5a). Window w of N covers tokens
 * w·T … w·T + T: T inputs and T targets, each target the token after its input. The
 * windows share one token with their neighbours, so every token but the stream's first
 * is a target exactly once in an epoch; less than T tokens at the end are left out.
 *
 * Each epoch takes the windows in another order: a keyed permutation (a Feistel network
 * on the window's number, cycle-walking down to N), computed where it is needed. So the
 * whole state of the loader is one integer, the number of windows taken since the
 * beginning, and what any step saw can be told from the step alone.
 */
#ifndef TRAIN_LOADER_H
#define TRAIN_LOADER_H

#include "common/err.h"
#include "tokenizer/shard.h"

#include <stdint.h>

struct loader {
    const struct shard *shard; /* borrowed; NULL = random tokens */
    uint32_t random_vocab;     /* … below this */
    int64_t T;                 /* tokens in a window */
    uint64_t window_count;     /* N */
    uint64_t seed;
    uint64_t position; /* windows taken so far, over all epochs: the state */
};

/* Fails, with a sentence, if the shard does not hold one window. */
int loader_init(struct loader *l, const struct shard *shard, int64_t T, uint64_t seed,
                struct err *e);

/* No data: tokens as frequent as words are (the n-th about 1/n), each batch another one. */
void loader_init_random(struct loader *l, uint32_t vocab_size, int64_t T, uint64_t seed);

/* The window taken at a position (position / N is its epoch). */
uint64_t loader_window(const struct loader *l, uint64_t position);
/* First and last document (counted from 0) whose tokens are in a window. */
void loader_documents(const struct loader *l, uint64_t window, uint64_t *first, uint64_t *last);

/* Copies a window. inputs, targets: (T). Fails where the shard was damaged. */
int loader_read(const struct loader *l, uint64_t window, uint32_t *inputs, uint32_t *targets,
                struct err *e);
/* Takes the next B windows. inputs, targets: (B, T). If it fails the position stays. */
int loader_next(struct loader *l, int64_t B, uint32_t *inputs, uint32_t *targets, struct err *e);

#endif
