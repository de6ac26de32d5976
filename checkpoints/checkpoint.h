/*
 * Snapshots of a run: runs/NAME/checkpoints/step-0001000/.
 *
 * A snapshot is a Hugging Face model folder (config.json, generation_config.json,
 * model.safetensors in bf16, tokenizer files) plus trainer/ (fp32 masters, moments,
 * state.json) plus manifest.json with the size and XXH3-64 of every file, written
 * last. Protocol (reliability.md §5): everything goes to tmp-0001000, each file is
 * fsynced, then the manifest, then the folder, then rename, then the parent folder.
 * So a step-* folder is whole, unless the disk changed it later, which
 * checkpoint_verify() finds. What is removed is renamed to dead-* first.
 *
 * trainer/ may be absent as a whole: pruning takes it away by one rename and leaves
 * the manifest as it is. Such a snapshot verifies, but no run can go on from it.
 *
 * One process at a time writes to a run: it holds run_lock(). Reading needs no lock.
 */
#ifndef CHECKPOINTS_CHECKPOINT_H
#define CHECKPOINTS_CHECKPOINT_H

#include "checkpoints/tensor.h"

/* Takes runs/NAME/run.lock (flock; the system releases it when the process dies), making
 * the run folder if there is none. If another process holds it the sentence names that
 * process. *fd goes to run_unlock(). */
int run_lock(const char *run, int *fd, struct err *e);
void run_unlock(int fd);

/* What a snapshot holds; all borrowed for the time of the call. */
struct checkpoint_file {
    const char *name; /* "config.json" or "trainer/state.json": at most one folder deep */
    const void *data;
    size_t len;
};

struct checkpoint_content {
    uint64_t step;
    const struct checkpoint_file *files; /* small files, written as they are */
    size_t file_count;
    const char *copy_folder;      /* tokenizer folder whose three files are copied; NULL = none */
    const struct tensor *weights; /* model.safetensors */
    size_t weight_count;
    const struct tensor *state; /* trainer/state.safetensors; count 0 = weights only */
    size_t state_count;
    const char
        *manifest_extra; /* more members for manifest.json: "\"tokenizer\": \"…\"", or NULL */
};

/* Writes runs/NAME/checkpoints/step-NNNNNNN. An existing one of that step is replaced only
 * by rename. Before, it clears away what a killed save or prune left, and asks whether the
 * disk has room. On error the earlier snapshots are untouched. Needs the run's lock. */
int checkpoint_save(const char *run, const struct checkpoint_content *c, struct err *e);

/* Whether a tokenizer's folder has all that snapshots copy from it (copy_folder): asked before
 * a run reserves anything, the first snapshot need not find out. */
int checkpoint_check_tokenizer(const char *folder, struct err *e);

/* Checks the manifest: every file present (or trainer/ absent as a whole), size and hash
 * right, nothing that the manifest does not name (names that begin with a dot excepted).
 * The sentence names the file and what differs. */
int checkpoint_verify(const char *folder, struct err *e);

/* Folders of a run, oldest first: names "step-0001000", and their steps. */
struct checkpoint_list {
    struct checkpoint_entry {
        uint64_t step;
        char *path;       /* run/checkpoints/step-NNNNNNN */
        bool has_trainer; /* trainer/ is there: the run can go on from here */
    } * entries;
    size_t count;
    size_t capacity;
};
int checkpoint_find(struct checkpoint_list *list, const char *run,
                    struct err *e); /* 0 found is no error */
void checkpoint_list_release(struct checkpoint_list *list);

/* The newest snapshot that can be resumed and verifies; older ones are tried, each failure
 * warned about. Returns 1 and the path (caller frees), 0 if the run has no snapshot with
 * trainer state, -1 on error: also if there are some, but none is whole. */
int checkpoint_latest(const char *run, char **path, uint64_t *step, struct err *e);

/* Removes the trainer state of all but the newest `keep` snapshots that have one (0 = removes
 * nothing), never weights. Needs the run's lock. */
int checkpoint_prune(const char *run, uint64_t keep, struct err *e);
/* The same for one snapshot, whether or not a newer one is left to go on from. */
int checkpoint_remove_trainer(const char *run, uint64_t step, struct err *e);
/* Removes one snapshot, weights and all. Needs the run's lock. */
int checkpoint_remove(const char *run, uint64_t step, struct err *e);
/* Removes what killed saves and prunes left: tmp-* and dead-*. Needs the run's lock. */
int checkpoint_clean(const char *run, struct err *e);
/* Bytes of all files of a snapshot, without hidden ones. */
int checkpoint_bytes(const char *folder, uint64_t *bytes, struct err *e);

#endif
