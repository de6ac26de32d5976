/*
 * A strict JSON walker (RFC 8259) and the few writers this program needs. Strings are
 * scanned eight bytes at a time to the next byte that needs thought: quote, backslash,
 * control character or a byte of a multi-byte character.
 */
#include "common/json.h"

#include "common/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

void json_open(struct json *j, const char *text, size_t len)
{
    j->text = text;
    j->len = len;
    j->at = 0;
    j->depth = 0;
    j->error = NULL;
    j->error_at = 0;
}

int json_fail(struct json *j, const char *why)
{
    if (!j->error) {
        j->error = why;
        j->error_at = j->at;
    }
    return -1;
}

static void skip_blanks(struct json *j)
{
    while (j->at < j->len) {
        char c = j->text[j->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return;
        j->at++;
    }
}

/* The next byte that is not blank, or -1 at the end of the text. */
static int next_byte(struct json *j)
{
    skip_blanks(j);
    return j->at < j->len ? (unsigned char)j->text[j->at] : -1;
}

enum json_type json_peek(struct json *j)
{
    if (j->error)
        return JSON_NONE;
    int c = next_byte(j);
    switch (c) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return c == '-' || (c >= '0' && c <= '9') ? JSON_NUMBER : JSON_NONE;
    }
}

static int enter(struct json *j, char open, char close, const char *wanted)
{
    if (j->error)
        return -1;
    if (next_byte(j) != open)
        return json_fail(j, wanted);
    if (j->depth == JSON_DEPTH_MAX)
        return json_fail(j, "nested too deeply");
    j->first[j->depth] = true;
    j->close[j->depth] = close;
    j->depth++;
    j->at++;
    return 0;
}

int json_object(struct json *j)
{
    return enter(j, '{', '}', "expected an object");
}

int json_array(struct json *j)
{
    return enter(j, '[', ']', "expected an array");
}

/* Comma or end of the innermost container: 1 = a member follows, 0 = it was closed. */
static int next_member(struct json *j, char close)
{
    if (j->error)
        return -1;
    MW_ASSERT(j->depth > 0 && j->close[j->depth - 1] == close);
    int c = next_byte(j);
    if (c == close) {
        j->at++;
        j->depth--;
        return 0;
    }
    if (!j->first[j->depth - 1]) {
        if (c != ',')
            return json_fail(j, c < 0 ? "unexpected end" : "expected a comma or the end");
        j->at++;
        if (next_byte(j) == close)
            return json_fail(j, "comma before the end");
    }
    j->first[j->depth - 1] = false;
    return next_byte(j) < 0 ? json_fail(j, "unexpected end") : 1;
}

int json_next(struct json *j)
{
    return next_member(j, ']');
}

/* Position of the first byte at or after `at` that is '"', '\\', < 0x20 or >= 0x80. */
static size_t scan_plain(const char *text, size_t at, size_t len)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    while (len - at >= 8) {
        uint64_t w;
        memcpy(&w, text + at, 8);
        uint64_t quote = w ^ (ones * '"'), back = w ^ (ones * '\\');
        uint64_t special = ((quote - ones) & ~quote) | ((back - ones) & ~back) |
                           ((w - ones * 0x20) & ~w) | w;
        if (special & high)
            break;
        at += 8;
    }
    while (at < len) {
        unsigned char c = (unsigned char)text[at];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x80)
            break;
        at++;
    }
    return at;
}

static int hex4(struct json *j, size_t at, uint32_t *value)
{
    if (j->len - at < 4)
        return json_fail(j, "unexpected end");
    *value = 0;
    for (size_t i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)j->text[at + i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (c | 0x20) - 'a' + 10u;
        else
            return json_fail(j, "bad \\u escape");
        *value = *value << 4 | digit;
    }
    return 0;
}

/* j->at stands on the backslash. Appends what the escape means. */
static int unescape(struct json *j, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (j->len - j->at < 2)
        return json_fail(j, "unexpected end");
    char c = j->text[j->at + 1];
    const char *hit = c ? strchr(from, c) : NULL;
    if (hit) {
        if (out)
            buf_putc(out, to[hit - from]);
        j->at += 2;
        return 0;
    }
    uint32_t cp, low;
    if (c != 'u')
        return json_fail(j, "unknown escape");
    if (hex4(j, j->at + 2, &cp))
        return -1;
    size_t used = 6;
    if (cp >= 0xD800 && cp <= 0xDFFF) {
        if (cp >= 0xDC00 || j->len - j->at < 8 || j->text[j->at + 6] != '\\' ||
            j->text[j->at + 7] != 'u')
            return json_fail(j, "lone surrogate");
        if (hex4(j, j->at + 8, &low))
            return -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return json_fail(j, "lone surrogate");
        cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
        used = 12;
    }
    char bytes[4];
    size_t len = utf8_encode(cp, bytes);
    if (out)
        buf_add(out, bytes, len);
    j->at += used;
    return 0;
}

/* Reads the string at j->at; out may be NULL to check only. */
static int read_string(struct json *j, struct buf *out)
{
    if (j->error)
        return -1;
    if (next_byte(j) != '"')
        return json_fail(j, "expected a string");
    size_t plain = ++j->at;
    for (;;) {
        j->at = scan_plain(j->text, j->at, j->len);
        if (j->at == j->len)
            return json_fail(j, "unexpected end");
        unsigned char c = (unsigned char)j->text[j->at];
        if (c >= 0x80) {
            /* Two bytes: what most letters of European languages beyond ASCII have. */
            if (c >= 0xC2 && c <= 0xDF && j->len - j->at > 1 &&
                ((unsigned char)j->text[j->at + 1] & 0xC0) == 0x80) {
                j->at += 2;
                continue;
            }
            uint32_t cp;
            size_t len = utf8_decode(j->text + j->at, j->len - j->at, &cp);
            if (!len)
                return json_fail(j, "invalid UTF-8");
            j->at += len;
            continue;
        }
        if (c < 0x20)
            return json_fail(j, "control character in a string");
        if (out)
            buf_add(out, j->text + plain, j->at - plain);
        if (c == '"')
            break;
        if (unescape(j, out))
            return -1;
        plain = j->at;
    }
    j->at++;
    return 0;
}

int json_string(struct json *j, struct buf *out)
{
    buf_clear(out);
    buf_reserve(out, 0);
    out->data[0] = '\0';
    return read_string(j, out);
}

int json_next_key(struct json *j, char *key, size_t key_cap)
{
    MW_ASSERT(key_cap > 0);
    int more = next_member(j, '}');
    if (more <= 0)
        return more;
    /* Keys without escapes, nearly all, need no buffer. */
    size_t start = j->at + 1;
    if (j->text[j->at] != '"')
        return json_fail(j, "expected a key");
    size_t end = scan_plain(j->text, start, j->len);
    if (end < j->len && j->text[end] == '"') {
        size_t len = end - start < key_cap - 1 ? end - start : key_cap - 1;
        memcpy(key, j->text + start, len);
        key[len] = '\0';
        j->at = end + 1;
    } else {
        struct buf whole = {0};
        buf_reserve(&whole, 0);
        int failed = read_string(j, &whole);
        if (!failed && memchr(whole.data, '\0', whole.len))
            failed = json_fail(j, "NUL in a key");
        if (!failed) {
            size_t len = whole.len < key_cap - 1 ? whole.len : key_cap - 1;
            memcpy(key, whole.data, len);
            key[len] = '\0';
        }
        buf_release(&whole);
        if (failed)
            return -1;
    }
    if (next_byte(j) != ':')
        return json_fail(j, "expected a colon");
    j->at++;
    return 1;
}

static size_t digits(const struct json *j, size_t at)
{
    while (at < j->len && j->text[at] >= '0' && j->text[at] <= '9')
        at++;
    return at;
}

/* Borders of the number at j->at by RFC 8259's grammar; moves j->at behind it. */
static int read_number(struct json *j, size_t *start, bool *integer)
{
    if (j->error)
        return -1;
    if (json_peek(j) != JSON_NUMBER)
        return json_fail(j, "expected a number");
    *start = j->at;
    size_t at = j->at + (j->text[j->at] == '-');
    size_t end = digits(j, at);
    if (end == at || (j->text[at] == '0' && end > at + 1))
        return json_fail(j, "malformed number");
    at = end;
    *integer = true;
    if (at < j->len && j->text[at] == '.') {
        *integer = false;
        end = digits(j, at + 1);
        if (end == at + 1)
            return json_fail(j, "malformed number");
        at = end;
    }
    if (at < j->len && (j->text[at] == 'e' || j->text[at] == 'E')) {
        *integer = false;
        at++;
        if (at < j->len && (j->text[at] == '+' || j->text[at] == '-'))
            at++;
        end = digits(j, at);
        if (end == at)
            return json_fail(j, "malformed number");
        at = end;
    }
    j->at = at;
    return 0;
}

int json_u64(struct json *j, uint64_t *out)
{
    size_t start;
    bool integer;
    if (read_number(j, &start, &integer))
        return -1;
    uint64_t value = 0;
    size_t end = j->at;
    if (!integer || j->text[start] == '-') {
        j->at = start;
        return json_fail(j, "expected an integer of at least 0");
    }
    for (size_t i = start; i < end; i++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(j->text[i] - '0'), &value)) {
            j->at = start;
            return json_fail(j, "integer too large");
        }
    *out = value;
    return 0;
}

int json_i64(struct json *j, int64_t *out)
{
    size_t start;
    bool integer;
    if (read_number(j, &start, &integer))
        return -1;
    bool negative = j->text[start] == '-';
    size_t end = j->at;
    int64_t value = 0;
    if (!integer) {
        j->at = start;
        return json_fail(j, "expected an integer");
    }
    for (size_t i = start + negative; i < end; i++) {
        int64_t digit = j->text[i] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value)) {
            j->at = start;
            return json_fail(j, "integer too large");
        }
    }
    *out = value;
    return 0;
}

int json_f64(struct json *j, double *out)
{
    size_t start;
    bool integer;
    char text[512];
    if (read_number(j, &start, &integer))
        return -1;
    size_t len = j->at - start;
    if (len >= sizeof(text)) {
        j->at = start;
        return json_fail(j, "number too long");
    }
    memcpy(text, j->text + start, len);
    text[len] = '\0';
    *out = strtod(text, NULL);
    if (!isfinite(*out)) {
        j->at = start;
        return json_fail(j, "number too large");
    }
    return 0;
}

static int read_word(struct json *j, const char *word)
{
    if (j->error)
        return -1;
    skip_blanks(j);
    size_t len = strlen(word);
    if (j->len - j->at < len || memcmp(j->text + j->at, word, len) != 0)
        return json_fail(j, "unknown word");
    j->at += len;
    return 0;
}

int json_bool(struct json *j, bool *out)
{
    enum json_type type = json_peek(j);
    if (type != JSON_TRUE && type != JSON_FALSE)
        return json_fail(j, "expected true or false");
    *out = type == JSON_TRUE;
    return read_word(j, *out ? "true" : "false");
}

int json_null(struct json *j)
{
    return json_peek(j) == JSON_NULL ? read_word(j, "null") : json_fail(j, "expected null");
}

/* One value that is not a container. */
static int skip_scalar(struct json *j)
{
    size_t start;
    bool flag;
    switch (json_peek(j)) {
    case JSON_STRING:
        return read_string(j, NULL);
    case JSON_NUMBER:
        return read_number(j, &start, &flag);
    case JSON_TRUE:
    case JSON_FALSE:
        return json_bool(j, &flag);
    case JSON_NULL:
        return json_null(j);
    default:
        return json_fail(j, j->at == j->len ? "unexpected end" : "expected a value");
    }
}

int json_skip(struct json *j)
{
    unsigned outside = j->depth;
    do {
        enum json_type type = json_peek(j);
        int more = 1;
        if (type == JSON_OBJECT || type == JSON_ARRAY)
            more = type == JSON_OBJECT ? json_object(j) : json_array(j);
        else
            more = skip_scalar(j);
        if (more < 0)
            return -1;
        /* To the next value, out of every container that ends here. */
        while (j->depth > outside) {
            char key[2];
            more = j->close[j->depth - 1] == '}' ? json_next_key(j, key, sizeof(key))
                                                 : json_next(j);
            if (more < 0)
                return -1;
            if (more > 0)
                break;
        }
    } while (j->depth > outside);
    return 0;
}

int json_end(struct json *j)
{
    if (j->error)
        return -1;
    return next_byte(j) < 0 ? 0 : json_fail(j, "bytes after the end");
}

int json_seen(struct json *j, uint64_t *seen, unsigned field)
{
    MW_ASSERT(field < 64);
    if (*seen >> field & 1)
        return json_fail(j, "duplicate key");
    *seen |= (uint64_t)1 << field;
    return 0;
}

int json_report(const struct json *j, const char *path, struct err *e)
{
    return err_set(e, "%s: byte %zu: %s", path, j->error_at,
                   j->error ? j->error : "malformed JSON");
}

/* Position of the first byte at or after `at` that a string must not hold as it is. */
static size_t scan_unescaped(const char *s, size_t at, size_t len)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    for (; len - at >= 8; at += 8) {
        uint64_t w;
        memcpy(&w, s + at, 8);
        uint64_t quote = w ^ (ones * '"'), back = w ^ (ones * '\\'), del = w ^ (ones * 0x7F);
        uint64_t special = ((quote - ones) & ~quote) | ((back - ones) & ~back) |
                           ((del - ones) & ~del) | ((w - ones * 0x20) & ~w);
        if (special & high)
            break;
    }
    for (; at < len; at++) {
        unsigned char c = (unsigned char)s[at];
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F)
            break;
    }
    return at;
}

/* Valid UTF-8 without its quotes. */
static void put_escaped(struct buf *b, const char *s, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0, plain = 0;; plain = ++i) {
        i = scan_unescaped(s, i, len);
        buf_add(b, s + plain, i - plain);
        if (i == len)
            break;
        unsigned char c = (unsigned char)s[i];
        static const char from[] = "\"\\\b\f\n\r\t";
        static const char to[] = "\"\\bfnrt";
        const char *hit = c ? strchr(from, c) : NULL;
        if (hit) {
            buf_putc(b, '\\');
            buf_putc(b, to[hit - from]);
        } else {
            buf_puts(b, "\\u00");
            buf_putc(b, hex[c >> 4]);
            buf_putc(b, hex[c & 15]);
        }
    }
}

void json_put_string(struct buf *b, const char *s, size_t len)
{
    buf_reserve(b, len + 2);
    buf_putc(b, '"');
    while (len) {
        size_t good = utf8_invalid_at(s, len);
        put_escaped(b, s, good);
        if (good < len)
            buf_puts(b, "\xEF\xBF\xBD");
        good += good < len;
        s += good;
        len -= good;
    }
    buf_putc(b, '"');
}

void json_put_cstring(struct buf *b, const char *s)
{
    json_put_string(b, s, strlen(s));
}

void json_put_f64(struct buf *b, double x)
{
    char text[40];
    if (!isfinite(x)) {
        buf_puts(b, "null");
        return;
    }
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(text, sizeof(text), "%.*g", precision, x);
        if (strtod(text, NULL) == x)
            break;
    }
    buf_puts(b, text);
}
