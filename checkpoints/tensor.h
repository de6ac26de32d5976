/*
 * Named tensors in memory and in safetensors files (spec reliability.md §3).
 * This folder knows tensors, not the model.
 */
#ifndef CHECKPOINTS_TENSOR_H
#define CHECKPOINTS_TENSOR_H

#include "common/err.h"
#include "common/mem.h"

#include <stdint.h>

enum tensor_dtype { TENSOR_F32, TENSOR_BF16, TENSOR_U8, TENSOR_I64 };

#define TENSOR_RANK_MAX 4

struct tensor {
    const char *name;        /* borrowed by writers, owned by the file for readers */
    enum tensor_dtype dtype; /* of the file */
    int rank;
    int64_t shape[TENSOR_RANK_MAX];
    const void *data; /* writers: fp32 values are rounded when dtype is BF16 and from_f32 */
    bool from_f32;    /* data is float[], to be rounded to nearest even on the way out */
};

/* Writes all tensors as one safetensors file (header padded to 8 bytes, __metadata__
 * format pt), streaming: no second copy in memory. fsynced. Not atomic by itself: the
 * checkpoint folder's rename is. */
int safetensors_write(const char *path, const struct tensor *tensors, size_t count, struct err *e);

/* A mapped file whose thirteen rules (reliability.md §3) have all been checked. */
struct safetensors {
    struct tensor *tensors; /* data points into the mapping */
    size_t count;
    void *map;
    size_t map_bytes;
    char *path;
};
int safetensors_open(struct safetensors *s, const char *path, struct err *e);
void safetensors_close(struct safetensors *s);
const struct tensor *safetensors_find(const struct safetensors *s, const char *name);
/* Copies a tensor into float[count], widening BF16; shape must match rows x cols, or [cols]
 * where rows is 1. */
int safetensors_load_f32(const struct safetensors *s, const char *name, int64_t rows, int64_t cols,
                         float *out, struct err *e);

#endif
