/* Reads JSONL results through one table of the members the report knows. */
#include "eval/report_data.h"

#include "common/fs.h"
#include "common/json.h"
#include "common/stream.h"

#include <math.h>
#include <string.h>

struct member {
    const char *name;
    size_t offset;
    bool is_text;
};

#define NUMBER(field)                                                                              \
    {                                                                                              \
#field, offsetof(struct result, field), false                                              \
    }
#define TEXT(field)                                                                                \
    {                                                                                              \
#field, offsetof(struct result, field), true                                               \
    }

static const struct member members[] = {
    NUMBER(step),        NUMBER(tokens),       NUMBER(loss),
    NUMBER(valid_loss),  NUMBER(lr),           NUMBER(grad_norm),
    NUMBER(seconds),     NUMBER(tokens_per_s), NUMBER(bits_per_byte),
    NUMBER(stderr),      NUMBER(documents),    NUMBER(bytes),
    NUMBER(score),       NUMBER(seed),         NUMBER(n),
    NUMBER(temperature), NUMBER(top_nsigma),   TEXT(task),
    TEXT(metric),        TEXT(prompt),         TEXT(mode),
    TEXT(text),
};

enum { MEMBER_COUNT = sizeof(members) / sizeof(*members) };

static void *member_at(struct result *r, const struct member *m)
{
    return (char *)r + m->offset;
}

static void result_release(struct result *r)
{
    for (int i = 0; i < MEMBER_COUNT; i++)
        if (members[i].is_text)
            free(*(char **)member_at(r, &members[i]));
}

static int read_member(struct json *j, struct result *r, const char *key, struct buf *text)
{
    enum json_type type = json_peek(j);
    for (int i = 0; i < MEMBER_COUNT; i++) {
        if (strcmp(key, members[i].name) != 0)
            continue;
        if (!members[i].is_text && type == JSON_NUMBER)
            return json_f64(j, member_at(r, &members[i]));
        if (members[i].is_text && type == JSON_STRING) {
            if (json_string(j, text))
                return -1;
            char **field = member_at(r, &members[i]);
            free(*field);
            *field = mem_strndup(text->data, text->len);
            return 0;
        }
    }
    return json_skip(j);
}

static int read_result(const char *line, size_t len, struct result *r, struct buf *text)
{
    struct json j;
    char key[64];
    int more;
    json_open(&j, line, len);
    if (json_object(&j))
        return -1;
    while ((more = json_next_key(&j, key, sizeof(key))) > 0)
        if (read_member(&j, r, key, text))
            return -1;
    return more < 0 || json_end(&j) || isnan(r->step) ? -1 : 0;
}

static struct result empty_result(void)
{
    struct result r = {0};
    for (int i = 0; i < MEMBER_COUNT; i++)
        if (!members[i].is_text)
            *(double *)member_at(&r, &members[i]) = NAN;
    return r;
}

/* A merge sort keeps the order of equal steps, which qsort() does not promise. */
static void sort_by_step(struct result *v, size_t count, struct result *spare)
{
    if (count < 2)
        return;
    size_t half = count / 2, a = 0, b = half, to = 0;
    sort_by_step(v, half, spare);
    sort_by_step(v + half, count - half, spare);
    while (a < half && b < count)
        spare[to++] = v[b].step < v[a].step ? v[b++] : v[a++];
    memcpy(spare + to, v + a, (half - a) * sizeof(*v));
    memcpy(v, spare, (to + half - a) * sizeof(*v));
}

int results_read(struct results *r, const char *path, struct err *e)
{
    *r = (struct results){0};
    if (!fs_exists(path))
        return 0;
    struct reader file;
    struct lines lines;
    struct buf text = {0};
    const char *line;
    size_t len;
    enum lines_result got;
    if (reader_open(&file, path, e))
        return -1;
    lines_init(&lines, &file);
    while ((got = lines_next(&lines, &line, &len, e)) > 0) {
        struct result one = empty_result();
        if (got == LINES_TOO_LONG || read_result(line, len, &one, &text)) {
            result_release(&one);
            r->bad_lines++;
            continue;
        }
        r->v = mem_grow(r->v, &r->capacity, r->count + 1, sizeof(*r->v));
        r->v[r->count++] = one;
    }
    lines_release(&lines);
    reader_close(&file);
    buf_release(&text);
    struct result *spare = mem_zalloc(r->count, sizeof(*spare));
    sort_by_step(r->v, r->count, spare);
    free(spare);
    return got == LINES_ERROR ? -1 : 0;
}

void results_release(struct results *r)
{
    for (size_t i = 0; i < r->count; i++)
        result_release(&r->v[i]);
    free(r->v);
    *r = (struct results){0};
}
