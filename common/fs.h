/*
 * Paths, folders and whole small files.
 */
#ifndef COMMON_FS_H
#define COMMON_FS_H

#include "common/err.h"
#include "common/mem.h"

#include <stdint.h>

struct fs_list {
    char **paths;
    size_t count;
    size_t capacity;
};

/* Turns files and folders into a sorted list of regular files (byte order of the
 * path; folders are walked to the bottom; names beginning with '.' and symbolic
 * links to folders are left out). A path that does not exist is an error. The
 * order of the arguments does not matter; a file named twice appears once. */
int fs_list_files(struct fs_list *list, char *const *paths, size_t count, struct err *e);
/* The entries of one folder, sorted, names only. */
int fs_list_folder(struct fs_list *list, const char *path, struct err *e);
void fs_list_release(struct fs_list *list);

bool fs_exists(const char *path);
bool fs_is_folder(const char *path);
int fs_size(const char *path, uint64_t *bytes, struct err *e);
int fs_mkdirs(const char *path, struct err *e);               /* like mkdir -p */
int fs_remove_tree(const char *path, struct err *e);          /* does not follow links */
int fs_copy(const char *from, const char *to, struct err *e); /* regular file; fsynced */
int fs_sync_folder(const char *path,
                   struct err *e); /* so that a rename in it survives power loss */

/* The folder `fresh` takes the place `to`. If something lies there already, both are exchanged
 * in one call where the file system can; else the old one is first moved to `old`, so that a
 * crash may leave `to` empty and `old` whole. The old one is removed only after the new name is
 * on the disk; if that fails it stays at `old`, with a warning. All three lie in one folder, and
 * nothing lies at `old`. */
int fs_replace_folder(const char *fresh, const char *to, const char *old, struct err *e);

/* Reads a whole file into out (replacing it); more than `limit` bytes is an error. */
int fs_read(struct buf *out, const char *path, size_t limit, struct err *e);
/* Writes a whole file by temporary name, fsync, rename, fsync of the folder. */
int fs_write(const char *path, const void *data, size_t len, struct err *e);

/* "a/b" from "a" and "b"; caller frees. Takes printf arguments for the second. */
char *fs_join(const char *folder, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The part after the last '/'; borrowed from path. */
const char *fs_base(const char *path);

#endif
