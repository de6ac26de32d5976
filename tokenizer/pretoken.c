/*
 * Owns the named pre-tokenizer patterns and everything that knows PCRE2.
 *
 * The text is validated once, run by run: splitter_start() and each invalid byte
 * look for the end of the next valid run, and PCRE2 is then told not to check
 * again (PCRE2_NO_UTF_CHECK; otherwise each match would, and time would be
 * quadratic). Nothing is copied.
 */
#include "tokenizer/pretoken.h"

#include "common/mem.h"
#include "common/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Llama-3's last alternatives, which o200k and the German pattern end with as well. */
#define SPACES       "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER        "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER        "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define LEAD         "[^\\r\\n\\p{L}\\p{N}]?"

static const struct {
    const char *name;
    const char *regex;
} patterns[] = {
    {"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
    {"llama3", CONTRACTIONS "|" LEAD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES},
    {"qwen2", CONTRACTIONS "|" LEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES},
    {"o200k", LEAD "[" UPPER "]*[" LOWER "]+" CONTRACTIONS "?|" LEAD "[" UPPER "]+[" LOWER
                   "]*" CONTRACTIONS "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES},
    {"german", " ?[\\p{L}\\p{M}]+| ?\\p{N}{1,3}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES},
};

#define PATTERN_COUNT (sizeof(patterns) / sizeof(patterns[0]))

/* What the named patterns need grows with the text (a run of spaces is stepped back through
 * once); a hostile custom expression ends in a sentence instead of hours. */
#define MATCH_LIMIT     10000000
#define DEPTH_LIMIT     1000000
#define HEAP_LIMIT_KIB  (256 * 1024)
#define JIT_STACK_BYTES (1024 * 1024)
#define REGEX_BYTES_MAX (64 * 1024)

struct pattern {
    pcre2_code *code; /* NULL for "": nothing matches */
};

struct splitter {
    const struct pattern *pattern;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    const char *text;
    size_t len;
    size_t at;         /* first byte not handed out */
    size_t run;        /* [run, run_end) is valid UTF-8; at lies in it or at its end */
    size_t run_end;    /* an invalid byte or the end of the text */
    struct piece held; /* a match found while its gap was handed out; len 0: none */
};

const char *pattern_regex(const char *name)
{
    for (size_t i = 0; i < PATTERN_COUNT; i++)
        if (!strcmp(patterns[i].name, name))
            return patterns[i].regex;
    return NULL;
}

const char *pattern_name(const char *regex)
{
    for (size_t i = 0; i < PATTERN_COUNT; i++)
        if (!strcmp(patterns[i].regex, regex))
            return patterns[i].name;
    return "custom";
}

/* White space as Oniguruma has it; PCRE2 counts U+180E as well. */
#define WHITE                                                                                      \
    "\\t-\\r "                                                                                     \
    "\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

/* Copies the escape at s with the name in braces that some have; returns its last byte. */
static const char *copy_escape(struct buf *out, const char *s, bool in_class)
{
    const char *end = s + 1;
    if (s[1] == 's' || (s[1] == 'S' && !in_class)) {
        buf_puts(out, in_class ? WHITE : s[1] == 's' ? "[" WHITE "]" : "[^" WHITE "]");
        return end;
    }
    if (strchr("pPxkgN", s[1]) && s[2] == '{' && strchr(s, '}'))
        end = strchr(s, '}');
    buf_add(out, s, (size_t)(end - s) + 1);
    return end;
}

/* Copies an expression with \s and \S spelled out (\S inside a class stays PCRE2's). Refuses
 * what Oniguruma and PCRE2 both accept and read differently: the same file would give other
 * ids here than there. */
static int translate(struct buf *out, const char *regex, struct err *e)
{
    bool in_class = false;
    for (const char *s = regex; *s; s++) {
        const char *refused = NULL;
        if (*s == '\\' && s[1]) {
            s = copy_escape(out, s, in_class);
            continue;
        }
        if (in_class && *s == '[' && s[1] == ':' && strstr(s, ":]")) {
            const char *end = strstr(s, ":]") + 1; /* [:alpha:] */
            buf_add(out, s, (size_t)(end - s) + 1);
            s = end;
            continue;
        }
        if (in_class && (*s == '[' || (*s == '&' && s[1] == '&')))
            refused = "a class inside a class";
        else if (!in_class && *s == '{' && s[1] >= '0' && s[1] <= '9') {
            size_t n = strspn(s + 1, "0123456789,");
            if (s[1 + n] == '}' && s[2 + n] == '+')
                refused = "an interval with a plus behind it";
        }
        if (refused)
            return err_set(e,
                           "the pattern has %s at byte %td, which regular expression engines read "
                           "in different ways",
                           refused, s - regex);
        buf_putc(out, *s);
        if (!in_class && *s == '[') {
            in_class = true;
            if (s[1] == '^')
                buf_putc(out, *++s);
            if (s[1] == ']') /* in front it is itself */
                buf_putc(out, *++s);
        } else if (*s == ']') {
            in_class = false;
        }
    }
    return 0;
}

static pcre2_code *compile_text(const char *regex, size_t len, int *code, PCRE2_SIZE *at)
{
    /* As Oniguruma: ^ and $ at each line, a line ends with LF. \C would match single bytes and
     * end a piece inside a character. */
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    MW_ASSERT(context);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *compiled = pcre2_compile(
        (PCRE2_SPTR)regex, len, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
        code, at, context);
    pcre2_compile_context_free(context);
    return compiled;
}

static pcre2_code *compile(const char *regex, struct err *e)
{
    struct buf text = {0};
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR why[160];
    if (strlen(regex) > REGEX_BYTES_MAX) {
        err_set(e, "the pattern has %zu bytes, more than %d", strlen(regex), REGEX_BYTES_MAX);
        return NULL;
    }
    pcre2_code *compiled = compile_text(regex, strlen(regex), &code, &at);
    if (!compiled) {
        pcre2_get_error_message(code, why, sizeof(why));
        err_set(e, "the pattern is not understood at byte %zu: %s", (size_t)at, (const char *)why);
        return NULL;
    }
    /* It is right as it stands; what runs is its translation. */
    pcre2_code_free(compiled);
    compiled = NULL;
    if (translate(&text, regex, e) == 0) {
        compiled = compile_text(text.data, text.len, &code, &at);
        if (!compiled)
            err_set(e, "the pattern is not understood with its \\s spelled out; put no hyphen "
                       "beside it");
    }
    buf_release(&text);
    return compiled;
}

int pattern_compile(struct pattern **p, const char *regex, struct err *e)
{
    pcre2_code *compiled = NULL;
    *p = NULL;
    if (*regex && !(compiled = compile(regex, e)))
        return -1;
    /* Where there is no JIT the interpreter does the same, a few times slower. */
    if (compiled)
        pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
    *p = mem_zalloc(1, sizeof(**p));
    (*p)->code = compiled;
    return 0;
}

void pattern_free(struct pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    free(p);
}

struct splitter *splitter_new(const struct pattern *p)
{
    struct splitter *s = mem_zalloc(1, sizeof(*s));
    s->pattern = p;
    /* One pair of offsets is enough: no group is asked for. */
    s->match = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    s->stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_BYTES, NULL);
    MW_ASSERT(s->match && s->context);
    pcre2_set_depth_limit(s->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(s->context, HEAP_LIMIT_KIB);
    if (s->stack)
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    return s;
}

void splitter_free(struct splitter *s)
{
    if (!s)
        return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

void splitter_start(struct splitter *s, const char *text, size_t len)
{
    s->text = text;
    s->len = len;
    s->at = 0;
    s->run = 0;
    s->run_end = utf8_invalid_at(text, len);
    s->held.len = 0;
    uint64_t limit = MATCH_LIMIT + 4 * (uint64_t)len;
    pcre2_set_match_limit(s->context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
}

/* Length of the character at `at`, which is valid. */
static size_t char_len(const struct splitter *s, size_t at)
{
    unsigned char c = (unsigned char)s->text[at];
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* Searches from `from` for a match that is not empty or, if empty, lies behind s->at. Sets
 * [*start, *end) to it, or both to the end of the run if there is none. */
static int find_match(struct splitter *s, size_t from, size_t *start, size_t *end, struct err *e)
{
    const char *run = s->text + s->run;
    size_t run_len = s->run_end - s->run;
    *start = *end = s->run_end;
    while (s->pattern->code) {
        int n = pcre2_match(s->pattern->code, (PCRE2_SPTR)run, run_len, from - s->run,
                            PCRE2_NO_UTF_CHECK, s->match, s->context);
        if (n == PCRE2_ERROR_NOMATCH)
            break;
        if (n < 0) {
            PCRE2_UCHAR why[160];
            pcre2_get_error_message(n, why, sizeof(why));
            return err_set(e, "the pattern gives up at byte %zu of a text: %s", from,
                           (const char *)why);
        }
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(s->match);
        /* \K in a lookahead can move the start behind the end. */
        if (s->run + place[0] < from || place[1] < place[0])
            return err_set(e, "the pattern matches backwards at byte %zu of a text", from);
        if (s->run + place[1] > s->at) {
            *start = s->run + place[0];
            *end = s->run + place[1];
            break;
        }
        /* Empty at s->at: as in Oniguruma's find_iter, look again one character on. */
        from = s->at + char_len(s, s->at);
    }
    return 0;
}

static int hand_out(struct splitter *s, struct piece *piece, size_t end)
{
    piece->start = s->at;
    piece->len = end - s->at;
    s->at = end;
    return 1;
}

int splitter_next(struct splitter *s, struct piece *piece, struct err *e)
{
    size_t start, end;
    if (s->held.len) {
        size_t held = s->held.len;
        s->held.len = 0;
        return hand_out(s, piece, s->at + held);
    }
    if (s->at == s->run_end) {
        if (s->at == s->len)
            return 0;
        s->run = s->at + 1;
        s->run_end = s->run + utf8_invalid_at(s->text + s->run, s->len - s->run);
        return hand_out(s, piece, s->at + 1);
    }
    if (find_match(s, s->at, &start, &end, e))
        return -1;
    if (start == s->at)
        return hand_out(s, piece, end);
    s->held.len = end - start;
    return hand_out(s, piece, start);
}
