/*
 * Owns compressed files: ISA-L for gzip, libzstd for zstd. No other file includes
 * their headers.
 */
#include "common/stream.h"

#include "common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum {
    CHUNK = 256 << 10, /* of compressed input, of output */
    KEPT = 8           /* bytes before the chunk: ISA-L's bit buffer may reach back so far */
};

#define ZSTD_WINDOW_LOG_MAX 27 /* 128 MiB: a frame cannot ask for more memory */
#define ZSTD_LEVEL          3

struct stream_codec {
    struct inflate_state inflate;
    ZSTD_DStream *zstd_in;
    ZSTD_CStream *zstd_out;
    bool in_frame;  /* inside a gzip member or zstd frame */
    bool any_frame; /* at least one was finished */
    bool file_ended;
    size_t at, filled; /* of what lies in input, counted from its chunk's start */
    unsigned char memory[KEPT + CHUNK + KEPT];
};

static unsigned char *input(struct stream_codec *c)
{
    return c->memory + KEPT;
}

/* Next chunk of the file. Returns bytes now unread, 0 at the end, -1. */
static ssize_t fill(struct reader *r, struct err *e)
{
    struct stream_codec *c = r->codec;
    if (c->at < c->filled)
        return (ssize_t)(c->filled - c->at);
    if (c->file_ended)
        return 0;
    memmove(c->memory, c->memory + c->filled, KEPT);
    ssize_t n;
    do
        n = read(r->fd, input(c), CHUNK);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_set(e, "cannot read %s at byte %llu: %s", r->path,
                       (unsigned long long)r->bytes_in, strerror(errno));
    c->at = 0;
    c->filled = (size_t)n;
    c->file_ended = n == 0;
    r->bytes_in += (uint64_t)n;
    return n;
}

static int damaged(const struct reader *r, const char *why, struct err *e)
{
    const struct stream_codec *c = r->codec;
    return err_set(e, "%s: byte %llu: %s", r->path,
                   (unsigned long long)(r->bytes_in - (c->filled - c->at)), why);
}

static void gzip_member_start(struct stream_codec *c)
{
    isal_inflate_reset(&c->inflate);
    c->inflate.crc_flag = ISAL_GZIP;
    c->in_frame = true;
}

int reader_open(struct reader *r, const char *path, struct err *e)
{
    *r = (struct reader){.fd = -1};
    bool is_stdin = !strcmp(path, "-");
    int fd = is_stdin ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, "cannot open %s: %s", is_stdin ? "standard input" : path,
                       strerror(errno));
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        close(fd);
        return err_set(e, "%s is a folder", path);
    }
    r->fd = fd;
    r->path = mem_strdup(is_stdin ? "standard input" : path);
    r->file_bytes = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    struct stream_codec *c = r->codec = mem_zalloc(1, sizeof(*c));
    if (fill(r, e) < 0) {
        reader_close(r);
        return -1;
    }
    /* A pipe may deliver the first bytes one by one. */
    while (c->filled < 4 && !c->file_ended) {
        ssize_t n = read(r->fd, input(c) + c->filled, CHUNK - c->filled);
        if (n < 0 && errno != EINTR)
            break;
        c->file_ended = n == 0;
        if (n > 0) {
            c->filled += (size_t)n;
            r->bytes_in += (uint64_t)n;
        }
    }
    const unsigned char *head = input(c);
    if (c->filled >= 2 && head[0] == 0x1F && head[1] == 0x8B) {
        r->format = STREAM_GZIP;
        isal_inflate_init(&c->inflate);
    } else if (c->filled >= 4 && head[1] == 0xB5 && head[2] == 0x2F && head[3] == 0xFD &&
               head[0] == 0x28) {
        r->format = STREAM_ZSTD;
        c->zstd_in = ZSTD_createDStream();
        MW_ASSERT(c->zstd_in);
        ZSTD_DCtx_setParameter(c->zstd_in, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    }
    return 0;
}

static ssize_t read_plain(struct reader *r, void *out, size_t capacity, struct err *e)
{
    struct stream_codec *c = r->codec;
    ssize_t have = fill(r, e);
    if (have <= 0)
        return have;
    size_t n = (size_t)have < capacity ? (size_t)have : capacity;
    memcpy(out, input(c) + c->at, n);
    c->at += n;
    return (ssize_t)n;
}

static const char *inflate_error(int code)
{
    switch (code) {
    case ISAL_INCORRECT_CHECKSUM:
        return "gzip checksum is wrong";
    case ISAL_INVALID_WRAPPER:
        return "not a gzip header";
    case ISAL_UNSUPPORTED_METHOD:
        return "unsupported gzip method";
    default:
        return "damaged gzip data";
    }
}

/* Between members: padding with zeros is allowed, another member may follow. 1 = a member
 * begins, 0 = end of file, -1. */
static int gzip_next_member(struct reader *r, struct err *e)
{
    struct stream_codec *c = r->codec;
    for (;;) {
        ssize_t have = fill(r, e);
        if (have <= 0)
            return (int)have;
        if (c->any_frame && input(c)[c->at] == 0) {
            c->at++;
            continue;
        }
        if (input(c)[c->at] != 0x1F)
            return damaged(r, "bytes that are not gzip follow the gzip data", e);
        gzip_member_start(c);
        return 1;
    }
}

static ssize_t read_gzip(struct reader *r, void *out, size_t capacity, struct err *e)
{
    struct stream_codec *c = r->codec;
    if (capacity > UINT32_MAX / 2)
        capacity = UINT32_MAX / 2;
    for (;;) {
        if (!c->in_frame) {
            int member = gzip_next_member(r, e);
            if (member <= 0)
                return member;
        }
        ssize_t have = fill(r, e);
        if (have < 0)
            return -1;
        struct inflate_state *s = &c->inflate;
        s->next_in = input(c) + c->at;
        s->avail_in = (uint32_t)have;
        s->next_out = out;
        s->avail_out = (uint32_t)capacity;
        int code = isal_inflate(s);
        c->at = c->filled - s->avail_in;
        size_t got = capacity - s->avail_out;
        if (code < 0)
            return damaged(r, inflate_error(code), e);
        if (s->block_state == ISAL_BLOCK_FINISH) {
            /* Whole bytes still in the bit buffer belong to what follows. They may lie before
             * the chunk: fill() keeps the last bytes there. */
            size_t back = (size_t)(s->read_in_length > 0 ? s->read_in_length : 0) / 8;
            MW_ASSERT(back <= KEPT);
            if (back > c->at) {
                size_t missing = back - c->at;
                memmove(input(c) + missing, input(c), c->filled);
                memmove(c->memory + missing, c->memory, KEPT);
                c->filled += missing;
                c->at = 0;
            } else {
                c->at -= back;
            }
            c->in_frame = false;
            c->any_frame = true;
        } else if (!got && have == 0) {
            return damaged(r, "the gzip file ends too early", e);
        }
        if (got)
            return (ssize_t)got;
    }
}

static ssize_t read_zstd(struct reader *r, void *out, size_t capacity, struct err *e)
{
    struct stream_codec *c = r->codec;
    for (;;) {
        ssize_t have = fill(r, e);
        if (have < 0)
            return -1;
        ZSTD_inBuffer in = {input(c) + c->at, (size_t)have, 0};
        ZSTD_outBuffer target = {out, capacity, 0};
        if (have == 0 && !c->in_frame)
            return 0;
        size_t code = ZSTD_decompressStream(c->zstd_in, &target, &in);
        c->at += in.pos;
        if (ZSTD_isError(code)) {
            char why[200];
            snprintf(why, sizeof(why), "damaged zstd data (%s)", ZSTD_getErrorName(code));
            return damaged(r, why, e);
        }
        c->in_frame = code != 0;
        if (target.pos)
            return (ssize_t)target.pos;
        if (have == 0)
            return damaged(r, "the zstd file ends too early", e);
    }
}

ssize_t reader_read(struct reader *r, void *out, size_t capacity, struct err *e)
{
    MW_ASSERT(capacity > 0);
    switch (r->format) {
    case STREAM_GZIP:
        return read_gzip(r, out, capacity, e);
    case STREAM_ZSTD:
        return read_zstd(r, out, capacity, e);
    default:
        return read_plain(r, out, capacity, e);
    }
}

void reader_close(struct reader *r)
{
    if (r->fd >= 0)
        close(r->fd);
    if (r->codec)
        ZSTD_freeDStream(r->codec->zstd_in);
    free(r->codec);
    free(r->path);
    *r = (struct reader){.fd = -1};
}

static bool ends_with(const char *s, size_t len, const char *end)
{
    size_t n = strlen(end);
    return len >= n && !memcmp(s + len - n, end, n);
}

static bool name_says_json(const char *path)
{
    size_t len = strlen(path);
    if (ends_with(path, len, ".gz"))
        len -= strlen(".gz");
    else if (ends_with(path, len, ".zst"))
        len -= strlen(".zst");
    return ends_with(path, len, ".json") || ends_with(path, len, ".jsonl") ||
           ends_with(path, len, ".ndjson");
}

bool stream_holds_json(const char *path, const char *head, size_t len)
{
    size_t at = len >= 3 && !memcmp(head, "\xEF\xBB\xBF", 3) ? 3 : 0;
    while (at < len && strchr(" \t\r\n", head[at]) && head[at])
        at++;
    return (at < len && head[at] == '{') || name_says_json(path);
}

void lines_init(struct lines *l, struct reader *r)
{
    *l = (struct lines){.r = r};
}

void lines_release(struct lines *l)
{
    buf_release(&l->buf);
}

/* Reads more behind what buf holds, after moving the unread rest to its front. */
static int lines_fill(struct lines *l, struct err *e)
{
    if (l->start) {
        memmove(l->buf.data, l->buf.data + l->start, l->buf.len - l->start);
        l->buf.len -= l->start;
        l->searched -= l->start;
        l->start = 0;
    }
    buf_reserve(&l->buf, CHUNK);
    ssize_t n = reader_read(l->r, l->buf.data + l->buf.len, CHUNK, e);
    if (n < 0)
        return -1;
    l->buf.len += (size_t)n;
    l->at_end = n == 0;
    return 0;
}

static void lines_deliver(struct lines *l, size_t len)
{
    l->number++;
    l->offset = l->next_offset;
    l->next_offset += len;
    l->start += len;
    l->searched = l->start;
}

/* Drops a line that is too long, keeping count of its bytes. */
static enum lines_result lines_skip_long(struct lines *l, size_t *len, struct err *e)
{
    size_t dropped = 0;
    for (;;) {
        char *newline = l->buf.len > l->start
                            ? memchr(l->buf.data + l->start, '\n', l->buf.len - l->start)
                            : NULL;
        if (newline || l->at_end) {
            size_t part = newline ? (size_t)(newline - l->buf.data) + 1 - l->start
                                  : l->buf.len - l->start;
            lines_deliver(l, part);
            l->next_offset += dropped;
            *len = dropped + part;
            return LINES_TOO_LONG;
        }
        dropped += l->buf.len - l->start;
        l->start = l->searched = l->buf.len;
        if (lines_fill(l, e))
            return LINES_ERROR;
    }
}

enum lines_result lines_next(struct lines *l, const char **line, size_t *len, struct err *e)
{
    *line = NULL;
    *len = 0;
    for (;;) {
        char *newline = l->buf.len > l->searched
                            ? memchr(l->buf.data + l->searched, '\n', l->buf.len - l->searched)
                            : NULL;
        size_t have = l->buf.len - l->start;
        if (newline || (l->at_end && have)) {
            *line = l->buf.data + l->start;
            *len = newline ? (size_t)(newline - *line) + 1 : have;
            lines_deliver(l, *len);
            return LINES_LINE;
        }
        if (l->at_end)
            return LINES_END;
        l->searched = l->buf.len;
        if (have > STREAM_LINE_MAX)
            return lines_skip_long(l, len, e);
        if (lines_fill(l, e))
            return LINES_ERROR;
    }
}

int writer_open_packed(struct writer *w, const char *path, struct err *e)
{
    struct buf name = {0};
    buf_printf(&name, "%s.tmp-%ld", path, (long)getpid());
    int fd = open(name.data, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        err_set(e, "cannot write %s: %s", path, strerror(errno));
        buf_release(&name);
        return -1;
    }
    *w = (struct writer){.fd = fd, .path = mem_strdup(path), .path_tmp = name.data};
    return 0;
}

int writer_open(struct writer *w, const char *path, struct err *e)
{
    if (writer_open_packed(w, path, e))
        return -1;
    if (ends_with(path, strlen(path), ".zst")) {
        w->codec = mem_zalloc(1, sizeof(*w->codec));
        w->codec->zstd_out = ZSTD_createCStream();
        MW_ASSERT(w->codec->zstd_out);
        ZSTD_CCtx_setParameter(w->codec->zstd_out, ZSTD_c_compressionLevel, ZSTD_LEVEL);
        ZSTD_CCtx_setParameter(w->codec->zstd_out, ZSTD_c_checksumFlag, 1);
    }
    return 0;
}

static int write_file(struct writer *w, const unsigned char *data, size_t len, struct err *e)
{
    while (len) {
        ssize_t n = write(w->fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, "cannot write %s: %s", w->path, strerror(errno));
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_zstd(struct writer *w, const void *data, size_t len, ZSTD_EndDirective end,
                      struct err *e)
{
    struct stream_codec *c = w->codec;
    ZSTD_inBuffer in = {data, len, 0};
    size_t left;
    do {
        ZSTD_outBuffer out = {c->memory, CHUNK, 0};
        left = ZSTD_compressStream2(c->zstd_out, &out, &in, end);
        MW_ASSERT(!ZSTD_isError(left));
        if (write_file(w, c->memory, out.pos, e))
            return -1;
    } while (end == ZSTD_e_end ? left != 0 : in.pos < in.size);
    return 0;
}

int writer_write(struct writer *w, const void *data, size_t len, struct err *e)
{
    w->bytes_out += len;
    if (w->codec)
        return write_zstd(w, data, len, ZSTD_e_continue, e);
    return write_file(w, data, len, e);
}

static void writer_free(struct writer *w)
{
    if (w->codec)
        ZSTD_freeCStream(w->codec->zstd_out);
    free(w->codec);
    free(w->path);
    free(w->path_tmp);
    *w = (struct writer){.fd = -1};
}

void writer_abort(struct writer *w)
{
    if (!w->path)
        return;
    close(w->fd);
    unlink(w->path_tmp);
    writer_free(w);
}

int writer_commit(struct writer *w, struct err *e)
{
    int failed = w->codec ? write_zstd(w, NULL, 0, ZSTD_e_end, e) : 0;
    if (!failed && fsync(w->fd))
        failed = err_set(e, "cannot sync %s: %s", w->path, strerror(errno));
    if (failed) {
        writer_abort(w);
        return -1;
    }
    if (close(w->fd))
        failed = err_set(e, "cannot write %s: %s", w->path, strerror(errno));
    else if (rename(w->path_tmp, w->path))
        failed = err_set(e, "cannot rename to %s: %s", w->path, strerror(errno));
    if (failed)
        unlink(w->path_tmp);
    const char *slash = strrchr(w->path, '/');
    char *folder = slash ? mem_strndup(w->path, (size_t)(slash - w->path) + 1) : mem_strdup(".");
    if (!failed)
        failed = fs_sync_folder(folder, e);
    free(folder);
    writer_free(w);
    return failed;
}

void stream_zstd_frame(struct buf *out, const void *data, size_t len)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    MW_ASSERT(c);
    ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    size_t bound = ZSTD_compressBound(len);
    buf_reserve(out, bound);
    size_t n = ZSTD_compress2(c, out->data + out->len, bound, data, len);
    MW_ASSERT(!ZSTD_isError(n));
    out->len += n;
    out->data[out->len] = '\0';
    ZSTD_freeCCtx(c);
}
