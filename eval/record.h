/*
 * From results to lines in files: what stands in RUN/eval/ (eval/store.h).
 *
 * Items are written first, whole, then the summary line that rests on them.
 */
#ifndef EVAL_RECORD_H
#define EVAL_RECORD_H

#include "common/err.h"
#include "eval/bpb.h"
#include "eval/classify.h"
#include "eval/samples.h"
#include "eval/store.h"
#include "eval/task.h"
#include "tokenizer/shard.h"

/* The snapshot a result is of, and the settings it was made with. */
struct record_source {
    const char *folder; /* RUN/eval */
    uint64_t step, tokens;
    const char *checkpoint_hash; /* 16 hex digits */
    const char *settings;
};

/* RUN/eval/items/TASK/step-NNNNNNN.jsonl, seed < 0 = none; caller frees. */
char *record_items_path(const char *folder, const char *task, uint64_t step, int64_t seed);

/* Each replaces what `store` (bpb.jsonl, tasks.jsonl, samples.jsonl) holds for the same
 * snapshot (and task, seed) and saves it. */
int record_bpb(struct store *store, const struct record_source *src, const struct bpb_set *set,
               const struct shard *shard, struct err *e);
int record_task(struct store *store, const struct record_source *src, const struct task *t,
                const struct task_data *d, const struct classify_result *r, uint64_t seed,
                struct err *e);
int record_samples(struct store *store, const struct record_source *src,
                   const struct sample *samples, struct err *e);

#endif
