/*
 * Bytes in and out of files: plain, gzip or zstd, recognised by content.
 *
 * A reader streams with bounded memory and accepts concatenated gzip members
 * and zstd frames. A truncated or damaged file is an error that names file and
 * byte offset in the compressed file; everything delivered before it was good
 * (gzip checks a member's CRC only at its end, so the last block of a damaged
 * member may already have been delivered).
 *
 *     struct reader r;
 *     if (reader_open(&r, path, e)) return -1;
 *     while ((n = reader_read(&r, chunk, sizeof(chunk), e)) > 0) ...
 *     reader_close(&r);
 *
 * A writer writes to a temporary name beside the target and renames on
 * writer_commit(), after fsync: a reader of the folder sees the old file or the
 * whole new one, never a half.
 */
#ifndef COMMON_STREAM_H
#define COMMON_STREAM_H

#include "common/err.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STREAM_LINE_MAX ((size_t)256 << 20) /* longest line lines_next() returns whole, bytes */

enum stream_format { STREAM_PLAIN, STREAM_GZIP, STREAM_ZSTD };

struct reader {
    int fd;
    enum stream_format format;
    char *path;          /* for messages */
    uint64_t bytes_in;   /* read from the file so far (compressed) */
    uint64_t file_bytes; /* size of the file; 0 for a pipe */
    struct stream_codec *codec;
};

int reader_open(struct reader *r, const char *path, struct err *e);               /* "-" is stdin */
ssize_t reader_read(struct reader *r, void *out, size_t capacity, struct err *e); /* 0 at the end */
void reader_close(struct reader *r);

/* Whether a file holds JSON lines, each an object: its name says so (.json, .jsonl or .ndjson,
 * also before .gz or .zst), or '{' is the first visible byte of `head`, its first bytes
 * uncompressed, after a byte-order mark if there is one. */
bool stream_holds_json(const char *path, const char *head, size_t len);

/* Lines of a reader. The line includes its '\n' where the file has one, so that
 * joining all lines gives the file back. */
struct lines {
    struct reader *r; /* borrowed */
    struct buf buf;
    size_t start;    /* of the next line in buf */
    size_t searched; /* bytes of buf known to hold no further '\n' */
    uint64_t number; /* of the line last returned, counted from 1 */
    uint64_t offset; /* of its first byte in the uncompressed file */
    uint64_t next_offset;
    bool at_end;
};

enum lines_result { LINES_ERROR = -1, LINES_END = 0, LINES_LINE = 1, LINES_TOO_LONG = 2 };

void lines_init(struct lines *l, struct reader *r);
/* The line stays valid until the next call. LINES_TOO_LONG: a line of more than
 * STREAM_LINE_MAX bytes was skipped; *line is NULL, *len its length; go on. */
enum lines_result lines_next(struct lines *l, const char **line, size_t *len, struct err *e);
void lines_release(struct lines *l);

/* Files out. The format follows from the name's end: ".zst" or plain. */
struct writer {
    int fd;
    char *path;
    char *path_tmp;
    uint64_t bytes_out;         /* handed in so far (uncompressed) */
    struct stream_codec *codec; /* NULL for plain */
};

int writer_open(struct writer *w, const char *path, struct err *e);
/* The same, but the bytes handed in are written as they are, whatever the name's end says:
 * for frames of stream_zstd_frame(). */
int writer_open_packed(struct writer *w, const char *path, struct err *e);
int writer_write(struct writer *w, const void *data, size_t len, struct err *e);
int writer_commit(struct writer *w, struct err *e); /* flush, fsync, rename; closes in any case */
void writer_abort(struct writer *w); /* removes the temporary file; safe after commit */

/* One complete zstd frame (level 3, checksum) of data appended to out. Frames may be
 * concatenated, so blocks can be compressed in parallel and written in order. */
void stream_zstd_frame(struct buf *out, const void *data, size_t len);

#endif
