/*
 * Any text through the JSON reader: walking it value by value and skipping it whole must
 * agree on what is JSON, and a string that was read, written and read again is the same.
 */
#include "common/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static volatile uint64_t sink;

static void check_string(const struct buf *s)
{
    struct buf text = {0}, again = {0};
    struct json j;
    json_put_string(&text, s->data, s->len);
    json_open(&j, text.data, text.len);
    MW_ASSERT(!json_string(&j, &again) && !json_end(&j));
    MW_ASSERT(again.len == s->len && !memcmp(again.data, s->data, s->len));
    buf_release(&text);
    buf_release(&again);
}

static void check_number(struct json j) /* a copy: what does not fit a type is no error here */
{
    struct json k = j, l = j;
    uint64_t u = 0;
    int64_t i = 0;
    double f = 0;
    if (!json_u64(&j, &u) && u <= INT64_MAX)
        MW_ASSERT(!json_i64(&k, &i) && (uint64_t)i == u);
    if (!json_f64(&l, &f)) {
        struct buf b = {0};
        double again = -1;
        struct json m;
        json_put_f64(&b, f);
        json_open(&m, b.data, b.len);
        MW_ASSERT(!json_f64(&m, &again) && !memcmp(&again, &f, sizeof(f)));
        buf_release(&b);
    }
    sink += u + (uint64_t)i;
}

static int walk(struct json *j)
{
    char key[16];
    struct buf s = {0};
    int r;
    switch (json_peek(j)) {
    case JSON_OBJECT:
        r = json_object(j);
        while (!r && (r = json_next_key(j, key, sizeof(key))) > 0)
            r = walk(j);
        return r;
    case JSON_ARRAY:
        r = json_array(j);
        while (!r && (r = json_next(j)) > 0)
            r = walk(j);
        return r;
    case JSON_STRING:
        r = json_string(j, &s);
        if (!r)
            check_string(&s);
        buf_release(&s);
        return r;
    case JSON_NUMBER:
        check_number(*j);
        return json_skip(j);
    default:
        return json_skip(j);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct json a, b;
    struct err e;
    char *text = mem_alloc(len); /* no NUL behind it */
    memcpy(text, data, len);
    json_open(&a, text, len);
    json_open(&b, text, len);
    int walked = walk(&a) || json_end(&a), skipped = json_skip(&b) || json_end(&b);
    MW_ASSERT(!walked == !skipped);
    if (walked) {
        MW_ASSERT(a.error && a.error_at <= len);
        sink += (uint64_t)json_report(&a, "fuzz", &e);
    }
    free(text);
    return 0;
}
