/*
 * Results on disk: JSON lines under RUN/eval/.
 *
 *   bpb.jsonl, tasks.jsonl, samples.jsonl   summaries, what the report reads: one line a
 *                                           snapshot (and task, seed; or prompt, mode)
 *   items/TASK/step-NNNNNNN[-seed-S].jsonl  what each number was made of: one line a
 *                                           document or item
 *
 * Every summary line holds "step", "checkpoint_hash" (XXH3-64 of model.safetensors, 16 hex
 * digits) and "settings" (a sentence of everything that decides the result), so that a
 * result is found again and is not made twice. Item files are written whole, before the
 * summary line that rests on them; summary files are replaced whole, by rename. So an
 * interruption loses only the snapshot in work, and nothing half-written looks whole.
 */
#ifndef EVAL_STORE_H
#define EVAL_STORE_H

#include "common/err.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stdint.h>

struct store_line {
    char *text; /* one JSON object, without the line end */
    size_t len;
    uint64_t step;
    char *task;   /* NULL if the line has none */
    int64_t seed; /* -1 if it has none */
    char *hash;   /* "" if it has none, and so below */
    char *settings;
    uint64_t tokens;     /* 0 if it has none */
    double value, error; /* "bits_per_byte" or "score", and "stderr"; NaN if it has none */
};

/* A summary file in memory, lines ordered by (step, task, seed), equals as added. */
struct store {
    char *path;
    struct store_line *lines;
    size_t count, capacity;
};

/* Reads a file; one that is not there is empty. A line that is no JSON object with a step
 * is an error that names it. */
int store_open(struct store *s, const char *path, struct err *e);
void store_release(struct store *s);

/* Which lines are meant: task NULL = any, seed -1 = any. */
struct store_key {
    uint64_t step;
    const char *task;
    int64_t seed;
};
/* Number of lines for the key that have this hash and these settings. */
size_t store_current(const struct store *s, const struct store_key *key, const char *hash,
                     const char *settings);
/* Removes all lines for the key. */
void store_remove(struct store *s, const struct store_key *key);
/* Adds a line (copied); it must be what store_open() would accept. */
void store_add(struct store *s, const char *line, size_t len);
/* Replaces the file. */
int store_save(const struct store *s, struct err *e);

#endif
