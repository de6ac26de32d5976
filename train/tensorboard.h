/*
 * Scalars as TensorBoard reads them: protobuf `Event` messages in TFRecord
 * framing (spec evaluation.md §4.1). These functions only build bytes; record.c
 * appends them to RUN/events.out.tfevents.0.mundwerk.
 *
 * A file begins with one tensorboard_header(). Readers skip a cut last record.
 */
#ifndef TRAIN_TENSORBOARD_H
#define TRAIN_TENSORBOARD_H

#include "common/mem.h"

#include <stdint.h>

/* wall_time: seconds since 1970. Both append one record to out. */
void tensorboard_header(struct buf *out, double wall_time);
void tensorboard_scalar(struct buf *out, double wall_time, uint64_t step, const char *tag,
                        float value);

/* CRC-32C (Castagnoli), of which TFRecord stores a masked form. */
uint32_t tensorboard_crc32c(const void *data, size_t len);

#endif
