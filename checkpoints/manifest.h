/*
 * manifest.json: what a snapshot consists of. It is sealed (common/seal.h), so that
 * a damaged manifest is not mistaken for damaged files.
 *
 *   {
 *     "format": "mundwerk-checkpoint",
 *     "version": 1,
 *     "step": 1000,
 *     (members of the caller)
 *     "files": [
 *       {"path": "config.json", "bytes": 651, "xxh3_64": "0123456789abcdef"},
 *       …
 *     ],
 *     "sealed_xxh3_64": "0123456789abcdef"
 *   }
 */
#ifndef CHECKPOINTS_MANIFEST_H
#define CHECKPOINTS_MANIFEST_H

#include "common/err.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MANIFEST_NAME      "manifest.json"
#define MANIFEST_BYTES_MAX ((size_t)4 << 20)
#define MANIFEST_FILES_MAX 10000

struct manifest {
    uint64_t step;
    struct manifest_file {
        char *path; /* relative to the snapshot; never absolute, no "." or ".." parts */
        uint64_t bytes;
        uint64_t hash; /* XXH3-64 */
    } * files;
    size_t count;
    size_t capacity;
};

void manifest_add(struct manifest *m, const char *path, uint64_t bytes, uint64_t hash);
const struct manifest_file *manifest_find(const struct manifest *m, const char *path); /* or NULL */
void manifest_release(struct manifest *m);

/* `extra`: more members, without the comma behind, or NULL. */
void manifest_print(const struct manifest *m, const char *extra, struct buf *out);
/* path is for messages. Members it does not know are left to their owners. */
int manifest_parse(struct manifest *m, const char *path, const char *text, size_t len,
                   struct err *e);
int manifest_read(struct manifest *m, const char *path, struct err *e);

#endif
