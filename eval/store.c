/*
 * Reading, ordering and replacing summary files; see store.h.
 */
#include "eval/store.h"

#include "common/fs.h"
#include "common/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SUMMARY_MAX ((size_t)1 << 30) /* bytes */

static void line_release(struct store_line *l)
{
    free(l->text);
    free(l->task);
    free(l->hash);
    free(l->settings);
}

static int read_text(struct json *j, char **out)
{
    struct buf b = {0};
    if (json_string(j, &b)) {
        buf_release(&b);
        return -1;
    }
    free(*out);
    *out = mem_strdup(b.data ? b.data : "");
    buf_release(&b);
    return 0;
}

static int read_member(struct json *j, const char *key, struct store_line *l, bool *has_step)
{
    if (!strcmp(key, "step")) {
        *has_step = true;
        return json_u64(j, &l->step);
    }
    if (!strcmp(key, "tokens"))
        return json_u64(j, &l->tokens);
    if (!strcmp(key, "seed"))
        return json_i64(j, &l->seed);
    bool is_number = json_peek(j) == JSON_NUMBER; /* a score may be null */
    if (is_number && (!strcmp(key, "bits_per_byte") || !strcmp(key, "score")))
        return json_f64(j, &l->value);
    if (is_number && !strcmp(key, "stderr"))
        return json_f64(j, &l->error);
    if (!strcmp(key, "task"))
        return read_text(j, &l->task);
    if (!strcmp(key, "checkpoint_hash"))
        return read_text(j, &l->hash);
    if (!strcmp(key, "settings"))
        return read_text(j, &l->settings);
    return json_skip(j);
}

/* Fills l from one line; on failure j says why and l is released. */
static int parse_line(struct json *j, struct store_line *l, const char *text, size_t len)
{
    char key[32];
    int more = 0;
    bool has_step = false;
    *l = (struct store_line){
        .seed = -1, .hash = mem_strdup(""), .settings = mem_strdup(""), .value = NAN, .error = NAN};
    json_open(j, text, len);
    if (json_object(j) == 0)
        while ((more = json_next_key(j, key, sizeof(key))) > 0)
            if (read_member(j, key, l, &has_step))
                break;
    if (!j->error && json_end(j) == 0 && !has_step)
        json_fail(j, "no member \"step\"");
    if (j->error) {
        line_release(l);
        return -1;
    }
    l->text = mem_strndup(text, len);
    l->len = len;
    return 0;
}

static int compare(const struct store_line *a, const struct store_line *b)
{
    if (a->step != b->step)
        return a->step < b->step ? -1 : 1;
    int r = strcmp(a->task ? a->task : "", b->task ? b->task : "");
    if (r)
        return r;
    return a->seed < b->seed ? -1 : a->seed > b->seed;
}

/* Puts a line behind all that are not greater. */
static void insert(struct store *s, const struct store_line *l)
{
    size_t at = s->count;
    s->lines = mem_grow(s->lines, &s->capacity, s->count + 1, sizeof(*s->lines));
    while (at > 0 && compare(&s->lines[at - 1], l) > 0)
        at--;
    memmove(s->lines + at + 1, s->lines + at, (s->count - at) * sizeof(*s->lines));
    s->lines[at] = *l;
    s->count++;
}

int store_open(struct store *s, const char *path, struct err *e)
{
    struct buf text = {0};
    memset(s, 0, sizeof(*s));
    s->path = mem_strdup(path);
    if (!fs_exists(path))
        return 0;
    if (fs_read(&text, path, SUMMARY_MAX, e)) {
        store_release(s);
        return -1;
    }
    unsigned number = 1;
    for (size_t at = 0; at < text.len; number++) {
        const char *line = text.data + at, *end = memchr(line, '\n', text.len - at);
        size_t len = end ? (size_t)(end - line) : text.len - at;
        struct store_line l;
        struct json j;
        at += len + 1;
        if (len == 0)
            continue;
        if (parse_line(&j, &l, line, len)) {
            err_set(e, "%s:%u: byte %zu: %s; remove the line", path, number, j.error_at, j.error);
            buf_release(&text);
            store_release(s);
            return -1;
        }
        insert(s, &l);
    }
    buf_release(&text);
    return 0;
}

void store_release(struct store *s)
{
    for (size_t i = 0; i < s->count; i++)
        line_release(&s->lines[i]);
    free(s->lines);
    free(s->path);
    memset(s, 0, sizeof(*s));
}

static bool meant(const struct store_line *l, const struct store_key *key)
{
    return l->step == key->step && (key->seed < 0 || l->seed == key->seed) &&
           (!key->task || (l->task && !strcmp(l->task, key->task)));
}

size_t store_current(const struct store *s, const struct store_key *key, const char *hash,
                     const char *settings)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++)
        count += meant(&s->lines[i], key) && !strcmp(s->lines[i].hash, hash) &&
                 !strcmp(s->lines[i].settings, settings);
    return count;
}

void store_remove(struct store *s, const struct store_key *key)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++)
        if (meant(&s->lines[i], key))
            line_release(&s->lines[i]);
        else
            s->lines[kept++] = s->lines[i];
    s->count = kept;
}

void store_add(struct store *s, const char *line, size_t len)
{
    struct json j;
    struct store_line l;
    int failed = parse_line(&j, &l, line, len);
    MW_ASSERT(!failed);
    insert(s, &l);
}

int store_save(const struct store *s, struct err *e)
{
    struct buf out = {0};
    for (size_t i = 0; i < s->count; i++) {
        buf_add(&out, s->lines[i].text, s->lines[i].len);
        buf_putc(&out, '\n');
    }
    int r = fs_write(s->path, out.data ? out.data : "", out.len, e);
    buf_release(&out);
    return r;
}
