/*
 * safetensors files: the strict reader, the writer, and bf16 on the way in and
 * out. The reader walks the header once into a table, then checks the table as
 * a whole: names differ, and the data is covered without holes or overlaps.
 */
#include "checkpoints/tensor.h"

#include "common/json.h"
#include "common/utf8.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is little-endian and mapped as it is"
#endif

static const struct {
    const char *name;
    unsigned bytes;
} dtypes[] = {
    [TENSOR_F32] = {"F32", 4},
    [TENSOR_BF16] = {"BF16", 2},
    [TENSOR_U8] = {"U8", 1},
    [TENSOR_I64] = {"I64", 8},
};
#define DTYPE_COUNT (sizeof(dtypes) / sizeof(*dtypes))

uint64_t tensor_count(const struct tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (uint64_t)t->shape[i];
    return n;
}

uint64_t tensor_bytes(const struct tensor *t)
{
    return tensor_count(t) * dtypes[t->dtype].bytes;
}

void tensor_to_bf16(uint16_t *out, const float *in, size_t count)
{
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        uint32_t x;
        memcpy(&x, &in[i], sizeof(x));
        /* half a unit in the last place, less one if the kept part is even; a NaN must not
         * carry into infinity: its quiet bit is set instead */
        uint32_t rounded = x + 0x7fff + (x >> 16 & 1);
        out[i] = (uint16_t)(((x & 0x7fffffff) > 0x7f800000 ? x | 0x400000 : rounded) >> 16);
    }
}

void tensor_from_bf16(float *out, const uint16_t *in, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, (const char *)in + 2 * i, sizeof(h)); /* may be unaligned in a file */
        uint32_t x = (uint32_t)h << 16;
        memcpy(&out[i], &x, sizeof(x));
    }
}

/* --- writing ---------------------------------------------------------------- */

/* Widest first, so that every tensor is aligned; then by name, so that the order of the
 * caller's table does not change the file. */
static int by_width_and_name(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a;
    const struct tensor *y = *(const struct tensor *const *)b;
    if (dtypes[x->dtype].bytes != dtypes[y->dtype].bytes)
        return dtypes[x->dtype].bytes > dtypes[y->dtype].bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct tensor *const *)a)->name,
                  (*(const struct tensor *const *)b)->name);
}

/* Pointers to all tensors in the given order; caller frees. */
static const struct tensor **sorted(const struct tensor *tensors, size_t count,
                                    int (*compare)(const void *, const void *))
{
    const struct tensor **order = mem_zalloc(count + 1, sizeof(*order));
    for (size_t i = 0; i < count; i++)
        order[i] = &tensors[i];
    qsort(order, count, sizeof(*order), compare);
    return order;
}

static void assert_distinct(const struct tensor *tensors, size_t count)
{
    const struct tensor **order = sorted(tensors, count, by_name);
    for (size_t i = 1; i < count; i++)
        MW_ASSERT(strcmp(order[i - 1]->name, order[i]->name) != 0);
    free(order);
}

static void put_header(struct buf *b, const struct tensor *const *order, size_t count)
{
    uint64_t at = 0;
    buf_puts(b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < count; i++) {
        const struct tensor *t = order[i];
        buf_putc(b, ',');
        json_put_cstring(b, t->name);
        buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtypes[t->dtype].name);
        for (int k = 0; k < t->rank; k++)
            buf_printf(b, "%s%lld", k ? "," : "", (long long)t->shape[k]);
        buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                   (unsigned long long)(at + tensor_bytes(t)));
        at += tensor_bytes(t);
    }
    buf_putc(b, '}');
    while (b->len % 8)
        buf_putc(b, ' ');
}

/* fp32 values of memory, as the tensor's dtype wants them. */
static int put_values(struct file_out *f, const struct tensor *t, const float *in, uint64_t left,
                      struct err *e)
{
    uint16_t half[4096];
    if (t->dtype == TENSOR_F32)
        return file_write(f, in, left * sizeof(*in), e);
    for (size_t n; left; left -= n, in += n) {
        n = left < 4096 ? left : 4096;
        tensor_to_bf16(half, in, n);
        if (file_write(f, half, 2 * n, e))
            return -1;
    }
    return 0;
}

/* How many rows of `cols` values are on their way at a time. */
static int64_t chunk_rows(int64_t rows, int64_t cols)
{
    int64_t n = (int64_t)TENSOR_CHUNK / cols / 32 * 32;
    n = n ? n : 32;
    return n < rows ? n : rows;
}

static int put_rows(struct file_out *f, const struct tensor *t, struct err *e)
{
    const int64_t rows = t->rank > 1 ? t->shape[0] : 1;
    const int64_t cols = (int64_t)tensor_count(t) / rows;
    const int64_t step = chunk_rows(rows, cols);
    float *chunk = mem_zalloc((size_t)(step * cols), sizeof(*chunk));
    int r = 0;
    for (int64_t row = 0; row < rows && !r; row += step) {
        int64_t n = rows - row < step ? rows - row : step;
        t->get(t->owner, t->index, row, n, chunk);
        r = put_values(f, t, chunk, (uint64_t)(n * cols), e);
    }
    free(chunk);
    return r;
}

static int put_data(struct file_out *f, const struct tensor *t, struct err *e)
{
    if (!tensor_count(t))
        return 0;
    if (t->get) {
        MW_ASSERT(t->dtype == TENSOR_F32 || t->dtype == TENSOR_BF16);
        return put_rows(f, t, e);
    }
    if (t->from_f32)
        return put_values(f, t, t->data, tensor_count(t), e);
    return file_write(f, t->data, tensor_bytes(t), e);
}

int safetensors_put(struct file_out *f, const struct tensor *tensors, size_t count, struct err *e)
{
    const struct tensor **order = sorted(tensors, count, by_width_and_name);
    struct buf header = {0};
    assert_distinct(tensors, count);
    put_header(&header, order, count);
    uint64_t len = header.len;
    int r = file_write(f, &len, sizeof(len), e) || file_write(f, header.data, header.len, e);
    for (size_t i = 0; i < count && !r; i++)
        r = put_data(f, order[i], e);
    buf_release(&header);
    free(order);
    return r ? -1 : 0;
}

int safetensors_write(const char *path, const struct tensor *tensors, size_t count, struct err *e)
{
    struct file_out f;
    if (file_create(&f, path, e))
        return -1;
    if (!safetensors_put(&f, tensors, count, e))
        return file_finish(&f, NULL, e);
    file_abort(&f);
    return -1;
}

uint64_t safetensors_bytes(const struct tensor *tensors, size_t count)
{
    const struct tensor **order = sorted(tensors, count, by_width_and_name);
    struct buf header = {0};
    put_header(&header, order, count);
    uint64_t bytes = 8 + header.len;
    for (size_t i = 0; i < count; i++)
        bytes += tensor_bytes(order[i]);
    buf_release(&header);
    free(order);
    return bytes;
}

/* --- reading: the header ------------------------------------------------------ */

/* A tensor as the header tells of it. `t` is first: sorted() and by_name() see it alone. */
struct entry {
    struct tensor t; /* the name is allocated; data is NULL until all rules hold */
    uint64_t begin, end;
};

struct entries {
    struct entry *v;
    size_t count;
    size_t capacity;
    char **metadata; /* keys of __metadata__, which must differ too */
    size_t metadata_count;
    size_t metadata_capacity;
    bool has_metadata;
};

static void entries_release(struct entries *es)
{
    for (size_t i = 0; i < es->count; i++)
        free((char *)(uintptr_t)es->v[i].t.name);
    for (size_t i = 0; i < es->metadata_count; i++)
        free(es->metadata[i]);
    free(es->v);
    free(es->metadata);
}

static int read_dtype(struct json *j, struct tensor *t)
{
    struct buf text = {0};
    size_t i = 0;
    int r = json_string(j, &text);
    while (!r && i < DTYPE_COUNT && strcmp(text.data, dtypes[i].name))
        i++;
    if (!r && i == DTYPE_COUNT)
        r = json_fail(j, "dtype is none of F32, BF16, U8, I64");
    t->dtype = (enum tensor_dtype)i;
    buf_release(&text);
    return r;
}

static int read_shape(struct json *j, struct tensor *t)
{
    int r = json_array(j);
    t->rank = 0;
    while (!r && (r = json_next(j)) > 0) {
        uint64_t n;
        if (t->rank == TENSOR_RANK_MAX)
            return json_fail(j, "shape has more than 4 dimensions");
        r = json_u64(j, &n);
        if (!r && n > INT64_MAX)
            r = json_fail(j, "dimension is larger than 2^63 - 1");
        if (!r)
            t->shape[t->rank++] = (int64_t)n;
    }
    return r;
}

static int read_offsets(struct json *j, struct entry *t)
{
    if (json_array(j))
        return -1;
    if (json_next(j) != 1 || json_u64(j, &t->begin) || json_next(j) != 1 || json_u64(j, &t->end) ||
        json_next(j) != 0)
        return j->error ? -1 : json_fail(j, "data_offsets is not a pair");
    return 0;
}

static int read_entry(struct json *j, struct entry *t)
{
    char key[32];
    uint64_t seen = 0;
    int r = json_object(j);
    while (!r && (r = json_next_key(j, key, sizeof(key))) > 0) {
        if (!strcmp(key, "dtype"))
            r = json_seen(j, &seen, 0) || read_dtype(j, &t->t);
        else if (!strcmp(key, "shape"))
            r = json_seen(j, &seen, 1) || read_shape(j, &t->t);
        else if (!strcmp(key, "data_offsets"))
            r = json_seen(j, &seen, 2) || read_offsets(j, t);
        else
            r = json_fail(j, "key is none of dtype, shape, data_offsets");
    }
    if (r)
        return -1;
    return seen == 7 ? 0 : json_fail(j, "tensor lacks dtype, shape or data_offsets");
}

static int read_metadata(struct json *j, struct entries *es)
{
    char key[TENSOR_NAME_MAX + 2];
    struct buf value = {0};
    int r = es->has_metadata ? json_fail(j, "__metadata__ occurs twice") : 0;
    es->has_metadata = true;
    if (!r && json_peek(j) != JSON_OBJECT)
        r = json_fail(j, "__metadata__ is not an object");
    if (!r)
        r = json_object(j);
    while (!r && (r = json_next_key(j, key, sizeof(key))) > 0) {
        es->metadata = mem_grow(es->metadata, &es->metadata_capacity, es->metadata_count + 1,
                                sizeof(*es->metadata));
        es->metadata[es->metadata_count++] = mem_strdup(key);
        r = json_peek(j) == JSON_STRING ? json_string(j, &value)
                                        : json_fail(j, "__metadata__ maps a name to no string");
    }
    buf_release(&value);
    return r;
}

static int read_header(struct json *j, struct entries *es)
{
    char key[TENSOR_NAME_MAX + 2];
    int r = json_object(j);
    while (!r && (r = json_next_key(j, key, sizeof(key))) > 0) {
        if (strlen(key) > TENSOR_NAME_MAX)
            return json_fail(j, "name is longer than 1000 bytes");
        if (!strcmp(key, "__metadata__")) {
            r = read_metadata(j, es);
            continue;
        }
        es->v = mem_grow(es->v, &es->capacity, es->count + 1, sizeof(*es->v));
        struct entry *t = &es->v[es->count++];
        memset(t, 0, sizeof(*t));
        t->t.name = mem_strdup(key);
        r = read_entry(j, t);
    }
    if (r)
        return -1;
    for (size_t i = j->at; i < j->len; i++)
        if (j->text[i] != ' ')
            return json_fail(j, "something other than spaces follows the header's object");
    return 0;
}

/* --- reading: the table as a whole -------------------------------------------- */

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Rule 7. */
static int check_names(const char *path, const struct entries *es, struct err *e)
{
    char **names = mem_zalloc(es->count + 1, sizeof(*names));
    int r = 0;
    for (size_t i = 0; i < es->count; i++)
        names[i] = (char *)(uintptr_t)es->v[i].t.name;
    qsort(names, es->count, sizeof(*names), compare_strings);
    if (es->metadata_count)
        qsort(es->metadata, es->metadata_count, sizeof(*es->metadata), compare_strings);
    for (size_t i = 1; i < es->count && !r; i++)
        if (!strcmp(names[i - 1], names[i]))
            r = err_set(e, "%s: tensor %s occurs twice", path, names[i]);
    for (size_t i = 1; i < es->metadata_count && !r; i++)
        if (!strcmp(es->metadata[i - 1], es->metadata[i]))
            r = err_set(e, "%s: __metadata__ has %s twice", path, es->metadata[i]);
    free(names);
    return r;
}

/* Rules 10 and 11. */
static int check_size(const char *path, const struct entry *t, struct err *e)
{
    uint64_t bytes = dtypes[t->t.dtype].bytes;
    for (int k = 0; k < t->t.rank; k++)
        if (__builtin_mul_overflow(bytes, (uint64_t)t->t.shape[k], &bytes))
            return err_set(e, "%s: tensor %s: product of the shape is too large", path, t->t.name);
    if (t->end < t->begin)
        return err_set(e, "%s: tensor %s: data ends at %llu, before it begins at %llu", path,
                       t->t.name, (unsigned long long)t->end, (unsigned long long)t->begin);
    if (t->end - t->begin != bytes)
        return err_set(e, "%s: tensor %s: shape and dtype need %llu bytes, data_offsets give %llu",
                       path, t->t.name, (unsigned long long)bytes,
                       (unsigned long long)(t->end - t->begin));
    return 0;
}

/* An empty tensor sorts before the one that begins where it lies. */
static int by_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->t.name, y->t.name);
}

/* Rules 12 and 13; data_at is where the data begins in the file. */
static int check_cover(const char *path, struct entries *es, uint64_t data_at, uint64_t data_bytes,
                       struct err *e)
{
    uint64_t at = 0;
    if (es->count)
        qsort(es->v, es->count, sizeof(*es->v), by_offset);
    for (size_t i = 0; i < es->count; i++) {
        const struct entry *t = &es->v[i];
        if (t->begin != at)
            return err_set(e, "%s: tensor %s: data begins at byte %llu, but %s %llu", path,
                           t->t.name, (unsigned long long)(data_at + t->begin),
                           i ? "the tensor before it ends at" : "the first must begin at",
                           (unsigned long long)(data_at + at));
        if (t->end > data_bytes)
            return err_set(e, "%s: tensor %s: data ends at byte %llu, but the file has %llu", path,
                           t->t.name, (unsigned long long)(data_at + t->end),
                           (unsigned long long)(data_at + data_bytes));
        at = t->end;
    }
    if (at != data_bytes)
        return err_set(e, "%s: %llu bytes follow the last tensor at byte %llu", path,
                       (unsigned long long)(data_bytes - at), (unsigned long long)(data_at + at));
    return 0;
}

/* Rules 1 to 6; *header_bytes is N. */
static int check_frame(const char *path, const char *text, size_t len, uint64_t *header_bytes,
                       struct err *e)
{
    uint64_t n;
    if (len < sizeof(n))
        return err_set(e, "%s: %zu bytes are too few for a safetensors file", path, len);
    memcpy(&n, text, sizeof(n));
    if (n > TENSOR_HEADER_MAX)
        return err_set(e, "%s: byte 0: header of %llu bytes is larger than the limit of %llu", path,
                       (unsigned long long)n, (unsigned long long)TENSOR_HEADER_MAX);
    if (n > len - sizeof(n))
        return err_set(e, "%s: byte 0: header of %llu bytes, but the file has only %zu", path,
                       (unsigned long long)n, len);
    size_t bad = utf8_invalid_at(text + sizeof(n), n);
    if (bad < n)
        return err_set(e, "%s: byte %zu: header is not UTF-8", path, bad + sizeof(n));
    if (n == 0 || text[8] != '{')
        return err_set(e, "%s: byte 8: header does not begin with {", path);
    *header_bytes = n;
    return 0;
}

int safetensors_parse(struct safetensors *s, const char *path, const void *data, size_t len,
                      struct err *e)
{
    struct entries es = {0};
    struct json j;
    uint64_t n = 0;
    memset(s, 0, sizeof(*s));
    if (check_frame(path, data, len, &n, e))
        return -1;
    json_open(&j, (const char *)data + 8, n);
    int r = read_header(&j, &es);
    if (r) {
        j.error_at += 8; /* the place in the file */
        json_report(&j, path, e);
    }
    if (!r)
        r = check_names(path, &es, e);
    for (size_t i = 0; i < es.count && !r; i++)
        r = check_size(path, &es.v[i], e);
    if (!r)
        r = check_cover(path, &es, 8 + n, len - 8 - n, e);
    if (!r) {
        s->path = mem_strdup(path);
        s->tensors = mem_zalloc(es.count + 1, sizeof(*s->tensors));
        s->count = es.count;
        for (size_t i = 0; i < es.count; i++) {
            s->tensors[i] = es.v[i].t;
            s->tensors[i].data = (const char *)data + 8 + n + es.v[i].begin;
        }
        es.count = 0; /* the names belong to s now */
    }
    entries_release(&es);
    return r;
}

int safetensors_open(struct safetensors *s, const char *path, struct err *e)
{
    struct file_map map;
    memset(s, 0, sizeof(*s));
    if (file_map(&map, path, e))
        return -1;
    int r = safetensors_parse(s, path, map.data, map.bytes, e);
    if (r)
        file_unmap(&map);
    else
        s->map = map;
    return r;
}

void safetensors_close(struct safetensors *s)
{
    for (size_t i = 0; i < s->count; i++)
        free((char *)(uintptr_t)s->tensors[i].name);
    free(s->tensors);
    free(s->path);
    file_unmap(&s->map);
    memset(s, 0, sizeof(*s));
}

const struct tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->tensors[i].name, name))
            return &s->tensors[i];
    return NULL;
}

static void put_shape(struct buf *b, const struct tensor *t)
{
    buf_putc(b, '[');
    for (int i = 0; i < t->rank; i++)
        buf_printf(b, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    buf_putc(b, ']');
}

/* The tensor of that name, shape and a dtype that widens to fp32; NULL with a sentence. */
static const struct tensor *find_f32(const struct safetensors *s, const char *name, int64_t rows,
                                     int64_t cols, struct err *e)
{
    const struct tensor *t = safetensors_find(s, name);
    if (!t) {
        err_set(e, "%s: tensor %s is missing", s->path, name);
        return NULL;
    }
    bool fits = (t->rank == 2 && t->shape[0] == rows && t->shape[1] == cols) ||
                (t->rank == 1 && rows == 1 && t->shape[0] == cols);
    if (!fits) {
        struct buf shape = {0};
        put_shape(&shape, t);
        err_set(e, "%s: tensor %s has shape %s, expected [%lld, %lld]", s->path, name, shape.data,
                (long long)rows, (long long)cols);
        buf_release(&shape);
        return NULL;
    }
    if (t->dtype != TENSOR_F32 && t->dtype != TENSOR_BF16) {
        err_set(e, "%s: tensor %s is %s, expected F32 or BF16", s->path, name,
                dtypes[t->dtype].name);
        return NULL;
    }
    return t;
}

/* `count` values from value number `at` on. */
static void widen(const struct tensor *t, size_t at, size_t count, float *out)
{
    const char *from = (const char *)t->data + at * dtypes[t->dtype].bytes;
    if (t->dtype == TENSOR_F32)
        memcpy(out, from, count * sizeof(*out));
    else
        tensor_from_bf16(out, (const uint16_t *)(const void *)from, count);
}

int safetensors_load_f32(const struct safetensors *s, const char *name, int64_t rows, int64_t cols,
                         float *out, struct err *e)
{
    const struct tensor *t = find_f32(s, name, rows, cols, e);
    if (!t)
        return -1;
    widen(t, 0, tensor_count(t), out);
    return 0;
}

int safetensors_stream_f32(const struct safetensors *s, const char *name, int64_t rows,
                           int64_t cols, tensor_put *put, void *owner, size_t index, struct err *e)
{
    const struct tensor *t = find_f32(s, name, rows, cols, e);
    if (!t)
        return -1;
    if (!tensor_count(t))
        return 0;
    const int64_t step = chunk_rows(rows, cols);
    float *chunk = mem_zalloc((size_t)(step * cols), sizeof(*chunk));
    for (int64_t row = 0; row < rows; row += step) {
        int64_t n = rows - row < step ? rows - row : step;
        widen(t, (size_t)(row * cols), (size_t)(n * cols), chunk);
        put(owner, index, row, n, chunk);
    }
    free(chunk);
    return 0;
}
