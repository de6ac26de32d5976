/* Owns allocation: the small kind that cannot fail and the large kind that can. */
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

static atomic_uint_least64_t mapped; /* bytes asked of mem_map() and not given back */

static void out_of_memory(size_t bytes) __attribute__((noreturn));
static void out_of_memory(size_t bytes)
{
    fprintf(stderr, "mundwerk: out of memory: %zu bytes are not to be had\n", bytes);
    exit(1);
}

void *mem_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p)
        out_of_memory(bytes);
    return p;
}

void *mem_zalloc(size_t count, size_t bytes)
{
    void *p = calloc(count ? count : 1, bytes ? bytes : 1);
    if (!p)
        out_of_memory(bytes ? count * bytes : 0);
    return p;
}

void *mem_realloc(void *p, size_t bytes)
{
    p = realloc(p, bytes ? bytes : 1);
    if (!p)
        out_of_memory(bytes);
    return p;
}

char *mem_strndup(const char *s, size_t len)
{
    char *copy = mem_alloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

void *mem_grow(void *array, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return array;
    size_t wanted = *capacity ? *capacity : 16;
    while (wanted < need)
        wanted *= 2;
    size_t bytes;
    if (__builtin_mul_overflow(wanted, size, &bytes))
        out_of_memory(SIZE_MAX);
    *capacity = wanted;
    return mem_realloc(array, bytes);
}

/* Whole huge pages, so that the tail of a block shares none with a stranger. */
static size_t map_size(size_t bytes)
{
    return (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

void *mem_map(size_t bytes, const char *what, struct err *e)
{
    size_t size = map_size(bytes ? bytes : 1);
    if (bytes > SIZE_MAX - 2 * HUGE_PAGE) {
        err_set(e, "cannot reserve %zu bytes for %s", bytes, what);
        return NULL;
    }
    /* Ask for one huge page more and give back what lies outside the alignment. */
    char *p = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);
    if (p == MAP_FAILED) {
        err_set(e, "cannot reserve %zu bytes for %s: %s", bytes, what, strerror(errno));
        return NULL;
    }
    size_t before = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (before)
        munmap(p, before);
    if (before < HUGE_PAGE)
        munmap(p + before + size, HUGE_PAGE - before);
    madvise(p + before, size, MADV_HUGEPAGE);
    atomic_fetch_add(&mapped, bytes);
    return p + before;
}

void mem_unmap(void *p, size_t bytes)
{
    if (!p)
        return;
    munmap(p, map_size(bytes ? bytes : 1));
    atomic_fetch_sub(&mapped, bytes);
}

uint64_t mem_mapped(void)
{
    return atomic_load(&mapped);
}

/* Reads /proc by hand: a run asks at every step, and fopen() would allocate. */
static uint64_t read_status(const char *key)
{
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    if (len <= 0)
        return 0;
    text[len] = '\0';
    const char *line = strstr(text, key);
    return line ? strtoull(line + strlen(key), NULL, 10) * 1024 : 0;
}

uint64_t mem_resident(void)
{
    return read_status("VmRSS:");
}

uint64_t mem_resident_peak(void)
{
    return read_status("VmHWM:");
}

void buf_reserve(struct buf *b, size_t extra)
{
    if (extra > SIZE_MAX - b->len - 1)
        out_of_memory(SIZE_MAX);
    b->data = mem_grow(b->data, &b->capacity, b->len + extra + 1, 1);
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    buf_reserve(b, len);
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    MW_ASSERT(len >= 0);
    buf_reserve(b, (size_t)len);
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)len + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)len;
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void buf_release(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}
