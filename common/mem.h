/*
 * Memory: small allocations that cannot fail, large ones that can, and a
 * growable byte buffer.
 *
 * mem_alloc() and friends serve start-up and readers, with sizes this program
 * has already checked against a limit. If the machine has none left they print
 * one sentence and exit 1: nothing sensible can be done with ten bytes missing.
 * What is large or sized by the user (parameters, activations, tables over the
 * corpus) comes from mem_map(), which returns an error. Nothing is allocated
 * inside the training loop.
 */
#ifndef COMMON_MEM_H
#define COMMON_MEM_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t bytes);                /* not cleared; never NULL */
void *mem_zalloc(size_t count, size_t bytes); /* cleared; product checked */
void *mem_realloc(void *p, size_t bytes);     /* p may be NULL */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t len);

/* Makes room for `need` elements of `size` bytes in *array, doubling. *array and
 * *capacity belong together; both may start as NULL and 0. Returns the new array. */
void *mem_grow(void *array, size_t *capacity, size_t need, size_t size);

/* Zeroed pages straight from the system, 2 MiB aligned and advised to use huge
 * pages. Returns NULL and a sentence that names `what` if there is not enough. */
void *mem_map(size_t bytes, const char *what, struct err *e);
void mem_unmap(void *p, size_t bytes); /* p may be NULL */

/* Bytes that mem_map() has been asked for and mem_unmap() has not yet been given back. */
uint64_t mem_mapped(void);

/* Resident memory of this process now, and the most there was so far, in bytes; 0 if unknown. */
uint64_t mem_resident(void);
uint64_t mem_resident_peak(void);

/* --- growable bytes ------------------------------------------------------
 * data is never NULL after the first append and always has a NUL at data[len],
 * so text can be printed. `struct buf b = {0};` is an empty one. */
struct buf {
    char *data;
    size_t len;
    size_t capacity;
};

void buf_reserve(struct buf *b, size_t extra); /* room for extra bytes and the NUL */
void buf_add(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_clear(struct buf *b);   /* keeps the memory */
void buf_release(struct buf *b); /* frees it; b is empty again */

#endif
