/*
 * Padding that keeps bits: the shape of a forward pass in which no sequence's numbers
 * depend on its neighbours or on the padding.
 *
 * Causal attention never looks at the padding on the right, and the kernels sum each
 * element in one order whatever the number of rows, with one exception: a matrix product
 * of at most eight rows runs a kernel of its own (model/kernels/gemm.c). So the rows of
 * a pass, B*T, are kept off such a remainder: T is rounded up to a multiple of 16 or,
 * where the context has no room for that, sequences are added.
 */
#ifndef EVAL_BATCH_H
#define EVAL_BATCH_H

#include <stdint.h>

#define BATCH_MULTIPLE 16

struct batch_shape {
    int64_t B, T;
};

/* The shape for B sequences of at most `longest` tokens in a context of L >= longest. */
struct batch_shape batch_shape(int64_t B, int64_t longest, int64_t L);

#endif
