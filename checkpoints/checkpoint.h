/*
 * Snapshots of a run: runs/NAME/checkpoints/step-0001000/.
 *
 * A snapshot is a Hugging Face model folder (config.json, generation_config.json,
 * model.safetensors in bf16, tokenizer files) plus trainer/ (fp32 masters, moments,
 * state.json) plus manifest.json with the size and XXH3-64 of every file, written
 * last. Protocol (reliability.md §5): everything goes to tmp-0001000, each file is
 * fsynced, then the manifest, then the folder, then rename, then the parent folder.
 * So a step-* folder is whole, unless the disk changed it later, which
 * checkpoint_verify() finds. Pruning renames to dead-* first.
 */
#ifndef CHECKPOINTS_CHECKPOINT_H
#define CHECKPOINTS_CHECKPOINT_H

#include "checkpoints/tensor.h"

/* What a snapshot holds; all borrowed for the time of the call. */
struct checkpoint_file {
    const char *name; /* relative, e.g. "config.json" or "trainer/state.json" */
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
 * by rename. On error the earlier snapshots are untouched and tmp-* may remain. */
int checkpoint_save(const char *run, const struct checkpoint_content *c, struct err *e);

/* Checks the manifest: every file present, size and hash right, nothing extra that the
 * manifest does not name. The sentence names the file and what differs. */
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
 * warned about. Returns 1 and the path (caller frees), 0 if there is none, -1 on error. */
int checkpoint_latest(const char *run, char **path, uint64_t *step, struct err *e);

/* Removes the trainer state of all but the newest `keep` snapshots (0 = nothing), never
 * weights. */
int checkpoint_prune(const char *run, uint64_t keep, struct err *e);

#endif
