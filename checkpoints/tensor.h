/*
 * Named tensors in memory and in safetensors files (reliability.md §3). This
 * folder knows tensors, not the model.
 *
 *   8 bytes   N, u64 little-endian
 *   N bytes   JSON: {"name": {"dtype", "shape", "data_offsets"}, …, "__metadata__"}
 *   rest      data, row-major, little-endian, without holes
 *
 * The reader accepts only what follows all thirteen rules of §3; each broken rule
 * has its own sentence. Of the format's dtypes it knows those of enum tensor_dtype.
 */
#ifndef CHECKPOINTS_TENSOR_H
#define CHECKPOINTS_TENSOR_H

#include "common/err.h"
#include "common/file.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tensor_dtype { TENSOR_F32, TENSOR_BF16, TENSOR_U8, TENSOR_I64 };

#define TENSOR_RANK_MAX   4
#define TENSOR_HEADER_MAX ((uint64_t)100000000) /* bytes of JSON; the reference reader's limit */
#define TENSOR_NAME_MAX   1000                  /* bytes of a name */

/* Where tensors that lie in memory in another order or precision come from, and go to: rows
 * [row, row + count) of the owner's tensor number `index`, fp32, one after the other. The first
 * dimension counts the rows; a scalar or a vector is one row. Files are written and read a few
 * rows at a time, in order: `row` is a multiple of 32, and `count` too unless the tensor ends. */
typedef void tensor_get(const void *owner, size_t index, int64_t row, int64_t count, float *rows);
typedef void tensor_put(void *owner, size_t index, int64_t row, int64_t count, const float *rows);

#define TENSOR_CHUNK ((size_t)1 << 18) /* values at a time, or 32 rows if these have more */

struct tensor {
    const char *name;               /* borrowed by writers, owned by the file for readers */
    enum tensor_dtype dtype;        /* of the file */
    int rank;                       /* 0: a scalar */
    int64_t shape[TENSOR_RANK_MAX]; /* a zero dimension is allowed and takes no bytes */
    const void *data;               /* readers: may be unaligned */
    bool from_f32; /* writers: data is float[], to be rounded to nearest even on the way out */
    /* Writers only: gives the values in place of data, for F32 and BF16. BF16 is rounded to
     * nearest even, which changes nothing where the owner keeps bf16. */
    tensor_get *get;
    const void *owner;
    size_t index;
};

uint64_t tensor_count(const struct tensor *t); /* values */
uint64_t tensor_bytes(const struct tensor *t); /* in the file */
/* Round to nearest even; NaN stays NaN. And back, exactly. */
void tensor_to_bf16(uint16_t *out, const float *in, size_t count);
void tensor_from_bf16(float *out, const uint16_t *in, size_t count);

/* Writes all tensors as one safetensors file (header padded to 8 bytes, __metadata__ format pt,
 * order: widest dtype first, then by name), streaming: no second copy in memory beyond
 * TENSOR_CHUNK values. fsynced. The path must not exist yet. Not atomic by itself: the checkpoint
 * folder's rename is. Names must differ. */
int safetensors_write(const char *path, const struct tensor *tensors, size_t count, struct err *e);
/* The same into a file the caller has created and will finish. */
int safetensors_put(struct file_out *f, const struct tensor *tensors, size_t count, struct err *e);
uint64_t safetensors_bytes(const struct tensor *tensors, size_t count); /* the file will take */

/* A mapped file whose thirteen rules (reliability.md §3) have all been checked. */
struct safetensors {
    struct tensor *tensors; /* in the order of the data, which points into the mapping */
    size_t count;
    struct file_map map;
    char *path;
};
int safetensors_open(struct safetensors *s, const char *path, struct err *e);
void safetensors_close(struct safetensors *s);
/* The same checks on bytes in memory, borrowed until close; path is for messages. */
int safetensors_parse(struct safetensors *s, const char *path, const void *data, size_t len,
                      struct err *e);
const struct tensor *safetensors_find(const struct safetensors *s, const char *name); /* or NULL */
/* Copies a tensor into float[count], widening BF16; shape must match rows x cols, or [cols]
 * where rows is 1. */
int safetensors_load_f32(const struct safetensors *s, const char *name, int64_t rows, int64_t cols,
                         float *out, struct err *e);
/* The same without an array: the rows go to put(owner, index, …). */
int safetensors_stream_f32(const struct safetensors *s, const char *name, int64_t rows,
                           int64_t cols, tensor_put *put, void *owner, size_t index, struct err *e);

#endif
