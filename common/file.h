/*
 * Files that must be whole or absent: written once under a new name, hashed on
 * the way, fsynced before anyone renames them; and files mapped for reading.
 *
 * A file_out is not atomic by itself. The caller writes it under a temporary
 * name (or into a temporary folder), and renames when all belonging together
 * are closed: so a shard of six files or a checkpoint of nine appears at once.
 * For a single compressed or plain file, writer_open() of stream.h is shorter.
 */
#ifndef COMMON_FILE_H
#define COMMON_FILE_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file_out {
    int fd;     /* -1 when closed */
    char *path; /* for messages */
    char *buffer;
    size_t used;    /* bytes waiting in buffer */
    uint64_t bytes; /* handed in so far */
    struct hash_state *hash;
};

/* Creates the file; an existing one, or a symbolic link of that name, is an error. */
int file_create(struct file_out *f, const char *path, struct err *e);
/* The error names the file, the byte, and the reason, e.g. a full disk. */
int file_write(struct file_out *f, const void *data, size_t len, struct err *e);
/* Flush, fsync, close; *hash (XXH3-64 of all bytes) may be NULL. f is closed in any case.
 * After an error the file is lost: the kernel may have dropped its pages. */
int file_finish(struct file_out *f, uint64_t *hash, struct err *e);
/* Closes without fsync and removes the file; safe on a closed or zeroed file_out. */
void file_abort(struct file_out *f);

/* A whole regular file, read-only. data is NULL for an empty one. The file must not be
 * cut while it is mapped. */
struct file_map {
    const unsigned char *data;
    size_t bytes;
};

int file_map(struct file_map *m, const char *path, struct err *e);
void file_unmap(struct file_map *m); /* safe on a zeroed one */

#endif
