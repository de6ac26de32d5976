/*
 * Owns the bytes of TensorBoard's event files: three protobuf messages and the
 * TFRecord frame around them. Numbers are written byte by byte, so the file is
 * little-endian on any machine.
 */
#include "train/tensorboard.h"

#include <string.h>

/* A TFRecord: length (8), its checksum (4), payload, its checksum (4). */
enum { HEAD_BYTES = 12 };
/* Protobuf wire types, and the field numbers of Event, Summary and Summary.Value. */
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE_VALUE = 2 };

uint32_t tensorboard_crc32c(const void *data, size_t len)
{
    const unsigned char *p = data;
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1u)));
    }
    return ~crc;
}

static uint32_t masked_crc(const void *data, size_t len)
{
    uint32_t crc = tensorboard_crc32c(data, len);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void store(char *out, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (char)(unsigned char)(x >> (8 * i));
}

static void put_fixed(struct buf *out, uint64_t x, int bytes)
{
    char fixed[8];
    store(fixed, x, bytes);
    buf_add(out, fixed, (size_t)bytes);
}

static void put_varint(struct buf *out, uint64_t x)
{
    while (x >= 0x80) {
        buf_putc(out, (char)(unsigned char)(x | 0x80));
        x >>= 7;
    }
    buf_putc(out, (char)x);
}

static void put_key(struct buf *out, unsigned field, unsigned wire)
{
    put_varint(out, field << 3 | wire);
}

static void put_bytes(struct buf *out, unsigned field, const void *data, size_t len)
{
    put_key(out, field, WIRE_BYTES);
    put_varint(out, len);
    buf_add(out, data, len);
}

static void put_wall_time(struct buf *out, double wall_time)
{
    uint64_t bits;
    memcpy(&bits, &wall_time, sizeof(bits));
    put_key(out, EVENT_WALL_TIME, WIRE_FIXED64);
    put_fixed(out, bits, 8);
}

/* Room for the length and its checksum, which frame_end() fills in. */
static size_t frame_begin(struct buf *out)
{
    static const char room[HEAD_BYTES];
    size_t start = out->len;
    buf_add(out, room, HEAD_BYTES);
    return start;
}

static void frame_end(struct buf *out, size_t start)
{
    char *head = out->data + start;
    size_t len = out->len - start - HEAD_BYTES;
    store(head, len, 8);
    store(head + 8, masked_crc(head, 8), 4);
    put_fixed(out, masked_crc(head + HEAD_BYTES, len), 4);
}

void tensorboard_header(struct buf *out, double wall_time)
{
    static const char version[] = "brain.Event:2";
    size_t start = frame_begin(out);
    put_wall_time(out, wall_time);
    put_bytes(out, EVENT_FILE_VERSION, version, sizeof(version) - 1);
    frame_end(out, start);
}

static size_t varint_size(uint64_t x)
{
    size_t n = 1;
    for (; x >= 0x80; x >>= 7)
        n++;
    return n;
}

void tensorboard_scalar(struct buf *out, double wall_time, uint64_t step, const char *tag,
                        float value)
{
    size_t tag_len = strlen(tag);
    size_t value_len = 1 + varint_size(tag_len) + tag_len + 1 + 4;
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));

    size_t start = frame_begin(out);
    put_wall_time(out, wall_time);
    put_key(out, EVENT_STEP, WIRE_VARINT);
    put_varint(out, step);
    put_key(out, EVENT_SUMMARY, WIRE_BYTES);
    put_varint(out, 1 + varint_size(value_len) + value_len);
    put_key(out, SUMMARY_VALUE, WIRE_BYTES);
    put_varint(out, value_len);
    put_bytes(out, VALUE_TAG, tag, tag_len);
    put_key(out, VALUE_SIMPLE_VALUE, WIRE_FIXED32);
    put_fixed(out, bits, 4);
    frame_end(out, start);
}
