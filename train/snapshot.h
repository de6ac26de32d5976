/*
 * A run's snapshots: what of a trainer goes into a checkpoint folder
 * (checkpoints/checkpoint.h writes it), and how a trainer goes on from one.
 *
 *   config.json, generation_config.json, tokenizer files, model.safetensors (bf16)
 *   trainer/state.safetensors   fp32: weight.NAME, exp_avg.NAME, exp_avg_sq.NAME for each tensor
 *   trainer/state.json          step, updates, tokens, position (windows taken: the state of the
 *                               data's order; nothing else in a run is random), skipped, seconds,
 *                               lengths of the record's files, fingerprints of data and
 *                               tokenizer, the settings that decide the bits, CPU level
 */
#ifndef TRAIN_SNAPSHOT_H
#define TRAIN_SNAPSHOT_H

#include "train/record.h"
#include "train/trainer.h"

/* What else a snapshot names and compares; borrowed. */
struct snapshot_source {
    const char *run;           /* folder */
    const char *tokenizer_dir; /* its files are copied; NULL = none */
    uint64_t tokenizer_hash;
    uint64_t data_fingerprint;
};

/* Writes RUN/checkpoints/step-NNNNNNN. The record has been synced. */
int snapshot_save(const struct trainer *t, const struct record *r,
                  const struct snapshot_source *src, struct err *e);

/* Brings a fresh trainer to where the newest good snapshot is. 1 and the record's lengths if
 * there was one, 0 if there is none, -1 with a sentence: the data, the tokenizer or a setting is
 * another, or no snapshot could be read. */
int snapshot_restore(struct trainer *t, const struct snapshot_source *src,
                     struct record_lengths *lengths, struct err *e);

#endif
