/* safetensors: bytes out, bytes in, and a sentence for each of the thirteen rules. */
#include "checkpoints/tensor.h"
#include "common/rng.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

static char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unit_folder_remove(folder);
    return 0;
}

/* --- bf16 ------------------------------------------------------------------------ */

static float from_bits(uint32_t x)
{
    float f;
    memcpy(&f, &x, sizeof(f));
    return f;
}

static void rounds_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        uint32_t in;
        uint16_t out;
    } cases[] = {
        {0x3f800000, 0x3f80},                                             /* 1 */
        {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f807fff, 0x3f80}, /* half, even below */
        {0x3f818000, 0x3f82}, {0x3f817fff, 0x3f81},                       /* half, odd below */
        {0x3fffffff, 0x4000},                                             /* into the exponent */
        {0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x00000001, 0x0000}, /* zeros */
        {0x00008001, 0x0001}, {0x7f7fffff, 0x7f80}, /* subnormal; to infinity */
        {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, /* infinities */
        {0x7fc00000, 0x7fc0}, {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff}, /* NaNs stay NaN */
        {0x7fffffff, 0x7fff},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        float in = from_bits(cases[i].in);
        uint16_t out;
        tensor_to_bf16(&out, &in, 1);
        assert_int_equal(out, cases[i].out);
    }
}

/* Every bf16 value survives the way through fp32, and rounding is never further than the
 * neighbour: checked against arithmetic in double. */
static void widening_is_exact(void **state)
{
    (void)state;
    for (uint32_t x = 0; x < 0x10000; x++) {
        uint16_t in = (uint16_t)x, out;
        float wide;
        tensor_from_bf16(&wide, &in, 1);
        tensor_to_bf16(&out, &wide, 1);
        if (isnan(wide))
            assert_int_equal(out, in | 0x40);
        else
            assert_int_equal(out, in);
    }
    struct rng r;
    rng_init(&r, 1, 0);
    for (int i = 0; i < 100000; i++) {
        float in = from_bits((uint32_t)rng_u64(&r) & 0xbfffffffu), got, up, down;
        uint16_t h, next, before;
        tensor_to_bf16(&h, &in, 1);
        next = (uint16_t)(h + 1);
        before = (uint16_t)(h & 0x7fff ? h - 1 : h);
        tensor_from_bf16(&got, &h, 1);
        tensor_from_bf16(&up, &next, 1);
        tensor_from_bf16(&down, &before, 1);
        assert_true(fabs((double)got - (double)in) <= fabs((double)up - (double)in));
        assert_true(fabs((double)got - (double)in) <= fabs((double)down - (double)in));
    }
}

/* --- writing and reading ------------------------------------------------------------ */

static void writes_the_expected_bytes(void **state)
{
    (void)state;
    static const float values[] = {1, -2, 0.5f};
    static const uint8_t bytes[] = {7, 8};
    static const struct tensor tensors[] = {
        {.name = "u", .dtype = TENSOR_U8, .rank = 1, .shape = {2}, .data = bytes},
        {.name = "b",
         .dtype = TENSOR_BF16,
         .rank = 2,
         .shape = {1, 3},
         .data = values,
         .from_f32 = true},
        {.name = "a\"", .dtype = TENSOR_F32, .rank = 1, .shape = {3}, .data = values},
    };
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"a\\\"\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,3],\"data_offsets\":[12,18]},"
        "\"u\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[18,20]}}";
    char *path = fs_join(folder, "small");
    struct buf b = {0};
    struct err e = {0};
    uint64_t n;
    assert_int_equal(safetensors_write(path, tensors, 3, &e), 0);
    assert_int_equal(fs_read(&b, path, 10000, &e), 0);
    assert_int_equal(b.len, safetensors_bytes(tensors, 3));
    memcpy(&n, b.data, 8);
    assert_int_equal(n % 8, 0);
    assert_true(n >= sizeof(header) - 1 && n < sizeof(header) - 1 + 8);
    assert_memory_equal(b.data + 8, header, sizeof(header) - 1);
    for (size_t i = sizeof(header) - 1; i < n; i++)
        assert_int_equal(b.data[8 + i], ' ');
    assert_memory_equal(b.data + 8 + n, values, 12);
    assert_memory_equal(b.data + 8 + n + 12, "\x80\x3f\x00\xc0\x00\x3f\7\10", 8);
    assert_int_equal(safetensors_write(path, tensors, 3, &e), -1); /* never over an old file */
    assert_says(&e, "File exists");
    buf_release(&b);
    free(path);
}

static void reads_what_it_wrote(void **state)
{
    (void)state;
    enum { ROWS = 123, COLS = 77 };
    float *values = mem_alloc(sizeof(float) * ROWS * COLS), *got;
    int64_t step = -5;
    struct tensor tensors[] = {
        {.name = "m.bf16",
         .dtype = TENSOR_BF16,
         .rank = 2,
         .shape = {ROWS, COLS},
         .data = values,
         .from_f32 = true},
        {.name = "m.f32", .dtype = TENSOR_F32, .rank = 2, .shape = {ROWS, COLS}, .data = values},
        {.name = "empty", .dtype = TENSOR_F32, .rank = 2, .shape = {0, 9}, .data = values},
        {.name = "step", .dtype = TENSOR_I64, .rank = 0, .data = &step},
        {.name = "norm", .dtype = TENSOR_F32, .rank = 1, .shape = {COLS}, .data = values},
    };
    char *path = fs_join(folder, "round");
    struct safetensors s;
    struct err e = {0};
    got = mem_alloc(sizeof(float) * ROWS * COLS);
    for (size_t i = 0; i < ROWS * COLS; i++)
        values[i] = (float)i * 0.37f - 1000;
    assert_int_equal(safetensors_write(path, tensors, 5, &e), 0);
    assert_int_equal(safetensors_open(&s, path, &e), 0);
    assert_int_equal(s.count, 5);
    assert_int_equal(safetensors_load_f32(&s, "m.f32", ROWS, COLS, got, &e), 0);
    assert_memory_equal(got, values, sizeof(float) * ROWS * COLS);
    assert_int_equal(safetensors_load_f32(&s, "norm", 1, COLS, got, &e), 0);
    assert_memory_equal(got, values, sizeof(float) * COLS);
    assert_int_equal(safetensors_load_f32(&s, "m.bf16", ROWS, COLS, got, &e), 0);
    for (size_t i = 0; i < ROWS * COLS; i++)
        assert_true(fabsf(got[i] - values[i]) <= fabsf(values[i]) / 256);
    const struct tensor *t = safetensors_find(&s, "step");
    assert_non_null(t);
    assert_int_equal(tensor_count(t), 1);
    assert_memory_equal(t->data, &step, 8);
    assert_int_equal(tensor_bytes(safetensors_find(&s, "empty")), 0);
    assert_null(safetensors_find(&s, "nothing"));

    assert_int_equal(safetensors_load_f32(&s, "nothing", 1, 1, got, &e), -1);
    assert_says(&e, "tensor nothing is missing");
    assert_int_equal(safetensors_load_f32(&s, "m.f32", COLS, ROWS, got, &e), -1);
    assert_says(&e, "tensor m.f32 has shape [123, 77], expected [77, 123]");
    assert_int_equal(safetensors_load_f32(&s, "norm", COLS, 1, got, &e), -1);
    assert_int_equal(safetensors_load_f32(&s, "step", 1, 1, got, &e), -1);
    assert_says(&e, "shape []");
    safetensors_close(&s);
    free(values);
    free(got);
    free(path);
}

/* An owner that keeps its tensors column by column, and says when rows come out of turn. */
struct columns {
    int64_t rows[2], cols[2];
    float *values[2];
    int64_t next[2];
};

static void get_columns(const void *owner, size_t index, int64_t row, int64_t count, float *rows)
{
    const struct columns *c = owner;
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < c->cols[index]; k++)
            *rows++ = c->values[index][k * c->rows[index] + row + i];
}

static void put_columns(void *owner, size_t index, int64_t row, int64_t count, const float *rows)
{
    struct columns *c = owner;
    assert_int_equal(row, c->next[index]);
    assert_true(count > 0 && row + count <= c->rows[index]);
    assert_true(row % 32 == 0 && (count % 32 == 0 || row + count == c->rows[index]));
    c->next[index] += count;
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < c->cols[index]; k++)
            c->values[index][k * c->rows[index] + row + i] = *rows++;
}

static void make_columns(struct columns *c, int64_t rows, int64_t cols)
{
    *c = (struct columns){.rows = {rows, 1}, .cols = {cols, cols}};
    for (int t = 0; t < 2; t++)
        c->values[t] = mem_zalloc((size_t)(c->rows[t] * cols), sizeof(float));
}

static void assert_same_files(const char *one, const char *two)
{
    struct buf a = {0}, b = {0};
    struct err e = {0};
    assert_works(fs_read(&a, one, (size_t)1 << 30, &e), e);
    assert_works(fs_read(&b, two, (size_t)1 << 30, &e), e);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    buf_release(&a);
    buf_release(&b);
}

/* The same file from values in memory and from c, given row by row. */
static void write_both_ways(const struct columns *c, const float *values, const char *path)
{
    const int64_t rows = c->rows[0], cols = c->cols[0];
    char *direct = fs_join(folder, "direct");
    struct err e = {0};
    struct tensor tensors[] = {
        {.name = "w", .dtype = TENSOR_BF16, .rank = 2, .shape = {rows, cols}, .from_f32 = true},
        {.name = "m", .dtype = TENSOR_F32, .rank = 2, .shape = {rows, cols}},
        {.name = "norm", .dtype = TENSOR_F32, .rank = 1, .shape = {cols}},
        {.name = "empty", .dtype = TENSOR_F32, .rank = 2, .shape = {0, 9}},
    };
    for (int t = 0; t < 4; t++)
        tensors[t].data = values;
    assert_works(safetensors_write(direct, tensors, 4, &e), e);
    for (int t = 0; t < 4; t++) {
        tensors[t].data = NULL;
        tensors[t].from_f32 = false;
        tensors[t].get = get_columns;
        tensors[t].owner = c;
        tensors[t].index = t == 2;
    }
    assert_works(safetensors_write(path, tensors, 4, &e), e);
    assert_same_files(direct, path);
    assert_int_equal(unlink(direct), 0);
    free(direct);
}

static void read_back(const struct columns *c, const char *path)
{
    const int64_t rows = c->rows[0], cols = c->cols[0];
    struct columns back;
    struct safetensors s;
    struct err e = {0};
    make_columns(&back, rows, cols);
    assert_works(safetensors_open(&s, path, &e), e);
    assert_works(safetensors_stream_f32(&s, "m", rows, cols, put_columns, &back, 0, &e), e);
    assert_works(safetensors_stream_f32(&s, "norm", 1, cols, put_columns, &back, 1, &e), e);
    assert_int_equal(back.next[0], rows);
    assert_memory_equal(back.values[0], c->values[0], (size_t)(rows * cols) * sizeof(float));
    assert_memory_equal(back.values[1], c->values[1], (size_t)cols * sizeof(float));
    back.next[0] = 0;
    assert_works(safetensors_stream_f32(&s, "w", rows, cols, put_columns, &back, 0, &e), e);
    for (int64_t k = 0; k < rows * cols; k++) {
        float got = back.values[0][k], want = c->values[0][k];
        assert_true(fabsf(got - want) <= fabsf(want) / 256);
    }
    assert_works(safetensors_stream_f32(&s, "empty", 0, 9, put_columns, &back, 0, &e), e);
    assert_fails(safetensors_stream_f32(&s, "m", cols, rows, put_columns, &back, 0, &e), e,
                 "tensor m has shape");
    safetensors_close(&s);
    for (int t = 0; t < 2; t++)
        free(back.values[t]);
}

/* What is given row by row makes the same file as what lies in memory, and comes back the same
 * way: for tensors of less than a chunk, of several, and where 32 rows are more than a chunk. */
static void streams_rows_both_ways(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{45, 7}, {1000, 999}, {50, TENSOR_CHUNK / 20}};
    char *path = fs_join(folder, "streamed");
    for (size_t i = 0; i < 3; i++) {
        const int64_t rows = sizes[i][0], cols = sizes[i][1];
        float *values = mem_zalloc((size_t)(rows * cols), sizeof(float));
        struct columns c;
        for (int64_t k = 0; k < rows * cols; k++)
            values[k] = (float)(k % 100003) * 0.37f - 1000;
        make_columns(&c, rows, cols);
        put_columns(&c, 0, 0, rows, values);
        put_columns(&c, 1, 0, 1, values);
        write_both_ways(&c, values, path);
        read_back(&c, path);
        assert_int_equal(unlink(path), 0);
        for (int t = 0; t < 2; t++)
            free(c.values[t]);
        free(values);
    }
    free(path);
}

/* --- the thirteen rules ---------------------------------------------------------------- */

/* A header, spaces for how much data follows, and what the reader must say. */
struct bad {
    int rule;
    const char *header;
    size_t data_bytes;
    const char *says;
};

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct bad bad_headers[] = {
    {4, "{\"\xff\":1}", 0, "byte 10: header is not UTF-8"},
    {4, "{\"\xed\xa0\x80\":1}", 0, "byte 10: header is not UTF-8"},
    {5, "", 0, "byte 8: header does not begin with {"},
    {5, " {}", 0, "byte 8: header does not begin with {"},
    {5, "[]", 0, "byte 8: header does not begin with {"},
    {6, "{", 0, "byte 9: unexpected end"},
    {6, "{} x", 0, "byte 10: something other than spaces follows"},
    {6, "{}\n", 0, "byte 10: something other than spaces follows"},
    {6, "{}{}", 0, "byte 10: something other than spaces follows"},
    {6, "{" T("a", "U8", "[1]", "[0,1]") ",}", 1, "comma before the end"},
    {6, "{'a':1}", 0, "expected a key"},
    {6, "{\"a\":[[[[[[]]]]]]}", 0, "expected an object"},
    {7, "{" T("a", "U8", "[1]", "[0,1]") "," T("a", "U8", "[1]", "[1,2]") "}", 2,
     "tensor a occurs twice"},
    {7, "{" T("a", "U8", "[1]", "[0,1]") "," T("\\u0061", "U8", "[1]", "[1,2]") "}", 2,
     "tensor a occurs twice"},
    {7, "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "duplicate key"},
    {7, "{\"__metadata__\":{\"x\":\"1\",\"y\":\"1\",\"x\":\"2\"}}", 0, "__metadata__ has x twice"},
    {7, "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ occurs twice"},
    {8, "{\"__metadata__\":{\"x\":1}}", 0, "maps a name to no string"},
    {8, "{\"__metadata__\":{\"x\":null}}", 0, "maps a name to no string"},
    {8, "{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
    {9, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "lacks dtype, shape or data_offsets"},
    {9, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1,
     "key is none of dtype"},
    {9, "{" T("a", "F99", "[1]", "[0,1]") "}", 1, "dtype is none of"},
    {9, "{" T("a", "u8", "[1]", "[0,1]") "}", 1, "dtype is none of"},
    {9, "{" T("a", "U8", "[-1]", "[0,1]") "}", 1, "integer of at least 0"},
    {9, "{" T("a", "U8", "[1.0]", "[0,1]") "}", 1, "integer of at least 0"},
    {9, "{" T("a", "U8", "[1]", "[0,1,2]") "}", 1, "data_offsets is not a pair"},
    {9, "{" T("a", "U8", "[1]", "[0]") "}", 1, "data_offsets is not a pair"},
    {9, "{" T("a", "U8", "[1]", "[-1,0]") "}", 1, "integer of at least 0"},
    {9, "{" T("a", "U8", "[1]", "[0,18446744073709551616]") "}", 1, "integer too large"},
    {9, "{" T("a", "U8", "[1,1,1,1,1]", "[0,1]") "}", 1, "more than 4 dimensions"},
    {9, "{" T("a", "U8", "[9223372036854775808]", "[0,1]") "}", 1, "larger than 2^63 - 1"},
    {10, "{" T("a", "U8", "[4294967296,4294967296]", "[0,0]") "}", 0, "product of the shape"},
    {10, "{" T("a", "F32", "[4611686018427387904]", "[0,0]") "}", 0, "product of the shape"},
    {10, "{" T("a", "I64", "[3,1152921504606846976]", "[0,0]") "}", 0, "product of the shape"},
    {11, "{" T("a", "U8", "[1]", "[5,4]") "}", 1, "data ends at 4, before it begins at 5"},
    {11, "{" T("a", "F32", "[2]", "[0,4]") "}", 4, "need 8 bytes, data_offsets give 4"},
    {11, "{" T("a", "F32", "[]", "[0,8]") "}", 8, "need 4 bytes, data_offsets give 8"},
    {12, "{" T("a", "U8", "[1]", "[1,2]") "}", 2, "the first must begin at"},
    {12, "{" T("a", "U8", "[1]", "[0,1]") "," T("b", "U8", "[1]", "[2,3]") "}", 3,
     "tensor b: data begins at byte"},
    {12, "{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[1,3]") "}", 3,
     "tensor b: data begins at byte"},
    {12, "{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[0,2]") "}", 2,
     "tensor b: data begins at byte"},
    {13, "{" T("a", "U8", "[2]", "[0,2]") "}", 3, "1 bytes follow the last tensor"},
    {13, "{" T("a", "U8", "[2]", "[0,2]") "}", 1, "but the file has"},
    {13, "{}", 1, "1 bytes follow the last tensor"},
};

static void put_bad(struct buf *b, const struct bad *c)
{
    uint64_t n = strlen(c->header);
    buf_clear(b);
    buf_add(b, &n, 8);
    buf_puts(b, c->header);
    for (size_t i = 0; i < c->data_bytes; i++)
        buf_putc(b, 'x');
}

static void each_broken_rule_has_its_sentence(void **state)
{
    (void)state;
    char *path = fs_join(folder, "bad.safetensors");
    struct buf b = {0};
    for (size_t i = 0; i < sizeof(bad_headers) / sizeof(*bad_headers); i++) {
        struct safetensors s;
        struct err e = {0};
        put_bad(&b, &bad_headers[i]);
        assert_int_equal(fs_write(path, b.data, b.len, &e), 0);
        if (!safetensors_open(&s, path, &e))
            fail_msg("rule %d: accepted %s", bad_headers[i].rule, bad_headers[i].header);
        assert_says(&e, bad_headers[i].says);
        assert_says(&e, path);
    }
    buf_release(&b);
    free(path);
}

/* Rules 1 to 3 are about the first eight bytes. */
static void refuses_wrong_header_lengths(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        size_t len;
        const char *says;
    } cases[] = {
        {2, 0, "0 bytes are too few"},
        {2, 7, "7 bytes are too few"},
        {100000001, 10, "larger than the limit of 100000000"},
        {UINT64_MAX, 10, "larger than the limit"},
        {UINT64_MAX - 7, 10, "larger than the limit"},
        {3, 10, "header of 3 bytes, but the file has only 10"},
        {100000000, 10, "header of 100000000 bytes, but the file has only 10"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct safetensors s;
        struct err e = {0};
        char bytes[10] = {0};
        memcpy(bytes, &cases[i].n, 8);
        memcpy(bytes + 8, "{}", 2);
        char *exact = mem_alloc(cases[i].len); /* so that ASan sees a read behind it */
        memcpy(exact, bytes, cases[i].len);
        assert_int_equal(safetensors_parse(&s, "x", exact, cases[i].len, &e), -1);
        assert_says(&e, cases[i].says);
        free(exact);
    }
}

static void accepts_the_odd_but_right(void **state)
{
    (void)state;
    static const struct bad good[] = {
        {0, "{}", 0, NULL},
        {0, "{}     ", 0, NULL},
        {0, "{\"__metadata__\":{\"format\":\"pt\"}}", 0, NULL},
        {0,
         "{ \"b\" : {\"shape\":[ ],\"dtype\":\"U8\", \"data_offsets\":[1,2]}, " T("a", "U8", "[1]",
                                                                                  "[0,1]") "}",
         2, NULL},
        {0, "{" T("z", "F32", "[0,3]", "[1,1]") "," T("a", "U8", "[1]", "[0,1]") "}", 1, NULL},
        {0, "{" T("\xc3\xbc", "BF16", "[1,1,1,1]", "[0,2]") "}", 2, NULL},
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct safetensors s;
        struct err e = {0};
        put_bad(&b, &good[i]);
        if (safetensors_parse(&s, "x", b.data, b.len, &e))
            fail_msg("%s: %s", good[i].header, e.msg);
        safetensors_close(&s);
    }
    buf_release(&b);
}

static void a_name_may_be_long_but_not_too_long(void **state)
{
    (void)state;
    for (size_t len = TENSOR_NAME_MAX - 1; len <= TENSOR_NAME_MAX + 2; len++) {
        struct safetensors s;
        struct err e = {0};
        struct buf b = {0};
        uint64_t n;
        buf_add(&b, "12345678{\"", 10);
        for (size_t i = 0; i < len; i++)
            buf_putc(&b, 'n');
        buf_puts(&b, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        n = b.len - 8;
        memcpy(b.data, &n, 8);
        int r = safetensors_parse(&s, "x", b.data, b.len, &e);
        assert_int_equal(r, len <= TENSOR_NAME_MAX ? 0 : -1);
        if (r)
            assert_says(&e, "name is longer than 1000 bytes");
        else
            safetensors_close(&s);
        buf_release(&b);
    }
}

/* A file another program wrote. */
static void reads_the_reference_file(void **state)
{
    (void)state;
    static const char path[] = "../shared/vectors/eval/formats/mini.safetensors";
    struct safetensors s;
    struct err e = {0};
    if (!fs_exists(path)) {
        printf("skipped: %s is not here\n", path);
        skip();
    }
    if (safetensors_open(&s, path, &e))
        fail_msg("%s", e.msg);
    float out[6];
    assert_int_equal(s.count, 2);
    assert_int_equal(safetensors_load_f32(&s, "model.embed_tokens.weight", 2, 3, out, &e), 0);
    assert_int_equal(safetensors_load_f32(&s, "model.norm.weight", 1, 3, out, &e), 0);
    safetensors_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_to_nearest_even),
        cmocka_unit_test(widening_is_exact),
        cmocka_unit_test(writes_the_expected_bytes),
        cmocka_unit_test(reads_what_it_wrote),
        cmocka_unit_test(streams_rows_both_ways),
        cmocka_unit_test(each_broken_rule_has_its_sentence),
        cmocka_unit_test(refuses_wrong_header_lengths),
        cmocka_unit_test(accepts_the_odd_but_right),
        cmocka_unit_test(a_name_may_be_long_but_not_too_long),
        cmocka_unit_test(reads_the_reference_file),
    };
    return cmocka_run_group_tests_name("tensor", tests, make_folder, remove_folder);
}
