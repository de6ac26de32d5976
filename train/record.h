/*
 * The files of a run folder that grow with every step:
 *
 *   metrics.jsonl   one object a step: step, tokens, epoch, loss (mean over the step's
 *                   tokens, nats; null and "skipped": true where it was not finite), lr,
 *                   grad_norm (before clipping), valid_loss where it was measured; then
 *                   what the machine decides: seconds (of training so far), tokens_per_s,
 *                   gflops (10⁹ model FLOPs per second), mfu (their share of the matrix
 *                   units' peak, measured at start), memory (resident bytes); and where a
 *                   snapshot was finished in this step: save_seconds (it took, most of them beside
 *                   the training), save_waited (seconds that training stood still for it, which
 *                   the others leave out)
 *   data.log        which documents went into which step. First line: "data" (PREFIX),
 *                   "fingerprint", "documents", "sequence_length", "windows", "seed".
 *                   Then one object a step, {"step":7,"epoch":0,"windows":[[w,first,last],…]}:
 *                   window w (tokens w·T … w·T + T of the stream), and the first and last
 *                   document in it, counted from 0: document d is line d + 1 of PREFIX.ids.
 *                   `train --show-data STEP --out RUN` prints their ids.
 *   events.out.tfevents.0.mundwerk
 *                   the metrics for TensorBoard. The name carries no time and no host, so
 *                   that a resumed run goes on in the same file.
 *
 * A snapshot stores how long each file was; on resume they are cut to that length, so no
 * step appears twice. Lines are written whole, one write(2) each.
 */
#ifndef TRAIN_RECORD_H
#define TRAIN_RECORD_H

#include "common/err.h"
#include "common/mem.h"
#include "train/loader.h"

#include <stdbool.h>
#include <stdint.h>

#define RECORD_EVENTS_FILE "events.out.tfevents.0.mundwerk"

struct record_file {
    int fd; /* 0 = not open */
    char *path;
    uint64_t bytes;
};

struct record {
    struct record_file metrics, data, events;
    struct buf line;
};

/* Lengths to cut the files to: all 0 for a new run. */
struct record_lengths {
    uint64_t metrics, data, events;
};

/* What a step was. NaN = not measured; save_seconds 0 = no snapshot was finished. */
struct step_metrics {
    uint64_t step, tokens, epoch;
    bool skipped;
    double loss, lr, grad_norm, valid_loss;
    double seconds, tokens_per_s, gflops, mfu;
    uint64_t memory;
    double save_seconds, save_waited;
};

/* Opens or makes the three files in an existing folder. For a new run it writes the heads of
 * data.log (about `loader`) and of the events. A file shorter than its length is warned about.
 * Reserves the line for steps of `sequences` windows. */
int record_open(struct record *r, const char *run, const struct record_lengths *at,
                const struct loader *loader, int64_t sequences, struct err *e);
void record_close(struct record *r); /* NULL-safe fields; may be called twice */

int record_metrics(struct record *r, const struct step_metrics *m, struct err *e);
/* The windows [position, position + count) of the loader went into this step. */
int record_data(struct record *r, uint64_t step, const struct loader *loader, uint64_t position,
                int64_t count, struct err *e);
/* fsyncs all three: before a snapshot names their lengths. */
int record_sync(struct record *r, struct err *e);

/* Appends "window TAB document TAB id" lines for a step, from RUN/data.log and the shard it
 * names (or `prefix`, if not empty, where the shards have moved). */
int record_show_data(const char *run, const char *prefix, uint64_t step, struct buf *out,
                     struct err *e);

#endif
