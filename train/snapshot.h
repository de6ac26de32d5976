/*
 * A run's snapshots: what of a trainer goes into a checkpoint folder
 * (checkpoints/checkpoint.h writes it), and how a trainer goes on from one.
 *
 *   config.json, generation_config.json, tokenizer files, model.safetensors (bf16)
 *   trainer/state.safetensors   weight.NAME, exp_avg.NAME, exp_avg_sq.NAME for each tensor: fp32,
 *                               or bf16 where the optimiser keeps no more (precision.moments);
 *                               no exp_avg_sq where it keeps none (Muon's matrices)
 *   trainer/state.json          step, updates, tokens, position (windows taken: the state of the
 *                               data's order; nothing else in a run is random), skipped, seconds,
 *                               lengths of the record's files, fingerprints of data and
 *                               tokenizer, the settings that decide the bits, CPU level
 */
#ifndef TRAIN_SNAPSHOT_H
#define TRAIN_SNAPSHOT_H

#include "checkpoints/tensor.h"
#include "train/record.h"
#include "train/trainer.h"

/* What else a snapshot names and compares; borrowed. */
struct snapshot_source {
    const char *run;           /* folder */
    const char *tokenizer_dir; /* its files are copied; NULL = none */
    uint64_t tokenizer_hash;
    uint64_t data_fingerprint;
};

/* One snapshot on its way to the disk. What a run changes while it goes on (counters, place in the
 * data, lengths of the record) was copied when it was taken; weights and moments are read where
 * they are, a few rows at a time. */
struct snapshot {
    uint64_t step;
    uint64_t bytes; /* of its tensors */
    const struct snapshot_source *source;
    struct tensor *weights, *state;
    size_t weight_count, state_count;
    struct snapshot_name {
        char text[96];
    } * names; /* of state */
    struct buf config, generation, progress, manifest;
};

/* Of the trainer's state now. The record has been synced. Trainer and source are borrowed. */
void snapshot_take(struct snapshot *s, const struct trainer *t, const struct record *r,
                   const struct snapshot_source *src);
/* Writes RUN/checkpoints/step-NNNNNNN. Until it returns no trainer_update() may run, but
 * trainer_gradients() may: on another thread. */
int snapshot_write(const struct snapshot *s, struct err *e);
void snapshot_release(struct snapshot *s); /* safe on a zeroed one */

/* Brings a fresh trainer to where the newest good snapshot is. 1 and the record's lengths if
 * there was one, 0 if there is none, -1 with a sentence: the data, the tokenizer or a setting is
 * another, or no snapshot could be read. */
int snapshot_restore(struct trainer *t, const struct snapshot_source *src,
                     struct record_lengths *lengths, struct err *e);

#endif
