/* Event records byte by byte, against records made by another writer (evaluation.md §4.1). */
#include "train/tensorboard.h"

#include "tests/test.h"
#include <string.h>

static void assert_hex(const struct buf *b, const char *hex)
{
    struct buf got = {0};
    for (size_t i = 0; i < b->len; i++)
        buf_printf(&got, "%02x", (unsigned char)b->data[i]);
    assert_string_equal(got.data, hex);
    buf_release(&got);
}

static void test_crc(void **state)
{
    (void)state;
    assert_int_equal(tensorboard_crc32c("", 0), 0);
    assert_int_equal(tensorboard_crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(tensorboard_crc32c("\0\0\0\0\0\0\0\0", 8), 0x8c28b28a);
}

static void test_header(void **state)
{
    (void)state;
    struct buf b = {0};
    tensorboard_header(&b, 1763800000.25);
    assert_hex(&b, "1800000000000000a37f4b2209000010f05c48da411a0d627261696e2e4576656e743a32"
                   "9c537236");
    buf_release(&b);
}

static void test_scalars(void **state)
{
    (void)state;
    struct buf b = {0};
    tensorboard_scalar(&b, 1763800000.25, 0, "train/loss", 10.5f);
    assert_hex(&b, "200000000000000029eda95009000010f05c48da4110002a130a110a0a747261696e2f6c6f7373"
                   "15000028416fa46118");
    buf_clear(&b);
    tensorboard_scalar(&b, 1763800100.25, 100, "train/loss", 4.25f);
    assert_hex(&b, "200000000000000029eda95009000010095d48da4110642a130a110a0a747261696e2f6c6f7373"
                   "1500008840b5d85d01");
    buf_clear(&b);
    tensorboard_scalar(&b, 1763800100.25, 100, "eval/größe", 0.5f);
    assert_hex(&b, "220000000000000078113dfd09000010095d48da4110642a150a130a0c6576616c2f6772c3b6c3"
                   "9f65150000003fd6b59ef9");
    buf_release(&b);
}

/* A step of several varint bytes, and records one behind the other. */
static void test_sequence(void **state)
{
    (void)state;
    struct buf b = {0};
    tensorboard_scalar(&b, 0, 466509, "a", 0);
    size_t first = b.len;
    assert_memory_equal(b.data + 12, "\x09\0\0\0\0\0\0\0\0\x10\xcd\xbc\x1c\x2a", 14);
    tensorboard_scalar(&b, 0, 466509, "a", 0);
    assert_int_equal(b.len, 2 * first);
    assert_memory_equal(b.data, b.data + first, first);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
