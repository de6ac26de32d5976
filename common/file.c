/*
 * Durable writing and mapped reading. Every result of write, fsync and close is
 * looked at: a full disk often shows only at one of the later ones.
 */
#include "common/file.h"

#include "common/hash.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BUFFER_BYTES ((size_t)256 << 10)
#define FILE_WRITE_MAX    ((size_t)64 << 20)  /* per system call: a fault then names a near byte */
#define FILE_WINDOW       ((uint64_t)8 << 20) /* handed to the disk at a time */

int file_create(struct file_out *f, const char *path, struct err *e)
{
    memset(f, 0, sizeof(*f));
    f->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (f->fd < 0)
        return err_set(e, "cannot create %s: %s", path, strerror(errno));
    f->path = mem_strdup(path);
    f->buffer = mem_alloc(FILE_BUFFER_BYTES);
    f->hash = hash_new();
    return 0;
}

/* The file has grown from `from` to `to` bytes. Full windows go to the disk at once; the one
 * before is waited for and leaves the page cache. Gigabytes of unwritten pages would in the end
 * make every writer of the machine wait, and a snapshot would crowd out what is read (measured:
 * 11 GB cost 3.6 s of system time this way, 15 s without). Only about time: file_finish()'s fsync
 * has the last word, on errors too. */
static void write_behind(const struct file_out *f, uint64_t from, uint64_t to)
{
#ifdef SYNC_FILE_RANGE_WRITE
    const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                         SYNC_FILE_RANGE_WAIT_AFTER;
    for (uint64_t w = from / FILE_WINDOW; w < to / FILE_WINDOW; w++) {
        off64_t at = (off64_t)(w * FILE_WINDOW);
        sync_file_range(f->fd, at, FILE_WINDOW, SYNC_FILE_RANGE_WRITE);
        if (!w)
            continue;
        at -= (off64_t)FILE_WINDOW;
        sync_file_range(f->fd, at, FILE_WINDOW, all);
        posix_fadvise(f->fd, at, FILE_WINDOW, POSIX_FADV_DONTNEED);
    }
#else
    (void)f, (void)from, (void)to;
#endif
}

/* `at` is the place in the file, for the sentence. */
static int write_all(const struct file_out *f, const char *data, size_t len, uint64_t at,
                     struct err *e)
{
    while (len) {
        ssize_t n = write(f->fd, data, len < FILE_WRITE_MAX ? len : FILE_WRITE_MAX);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, "cannot write %s at byte %llu: %s", f->path, (unsigned long long)at,
                           n ? strerror(errno) : "nothing was written");
        data += n;
        len -= (size_t)n;
        at += (uint64_t)n;
        write_behind(f, at - (uint64_t)n, at);
    }
    return 0;
}

static int flush(struct file_out *f, struct err *e)
{
    size_t used = f->used;
    f->used = 0;
    return write_all(f, f->buffer, used, f->bytes - used, e);
}

int file_write(struct file_out *f, const void *data, size_t len, struct err *e)
{
    MW_ASSERT(f->fd >= 0);
    hash_add(f->hash, data, len);
    if (len > FILE_BUFFER_BYTES - f->used && flush(f, e))
        return -1;
    f->bytes += len;
    if (len > FILE_BUFFER_BYTES)
        return write_all(f, data, len, f->bytes - len, e);
    if (len)
        memcpy(f->buffer + f->used, data, len);
    f->used += len;
    return 0;
}

static void forget(struct file_out *f)
{
    free(f->path);
    free(f->buffer);
    hash_free(f->hash);
    memset(f, 0, sizeof(*f));
    f->fd = -1;
}

int file_finish(struct file_out *f, uint64_t *hash, struct err *e)
{
    MW_ASSERT(f->fd >= 0);
    int r = flush(f, e);
    if (!r && fsync(f->fd))
        r = err_set(e, "cannot bring %s to the disk (fsync): %s", f->path, strerror(errno));
    if (close(f->fd) && !r)
        r = err_set(e, "cannot close %s: %s", f->path, strerror(errno));
    if (hash)
        *hash = hash_end(f->hash);
    forget(f);
    return r;
}

void file_abort(struct file_out *f)
{
    if (!f->path) /* closed, or never opened */
        return;
    close(f->fd);
    unlink(f->path);
    forget(f);
}

int file_map(struct file_map *m, const char *path, struct err *e)
{
    memset(m, 0, sizeof(*m));
    /* O_NONBLOCK: a FIFO of that name must not hang us before fstat() refuses it */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    struct stat st;
    int r = 0;
    if (fstat(fd, &st)) {
        r = err_set(e, "cannot read the size of %s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        r = err_set(e, "%s is not a regular file", path);
    } else if (st.st_size) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            r = err_set(e, "cannot map %s: %s", path, strerror(errno));
        } else {
            m->data = p;
            m->bytes = (size_t)st.st_size;
        }
    }
    close(fd);
    return r;
}

void file_unmap(struct file_map *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->bytes);
    memset(m, 0, sizeof(*m));
}
