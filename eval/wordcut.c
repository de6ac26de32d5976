/*
 * The word rule of wordcut.h as one PCRE2 pattern and a decision about full stops.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "eval/wordcut.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* First branch: a word; second: a run of neither words nor white space. */
#define ALNUM "[\\p{L}\\p{N}]"
#define WORD_PATTERN                                                                               \
    "((?:" ALNUM "\\p{M}*(?:\\.(?!\\.\\.)|[,'\\x{2019}\\-\\x{2010}\\x{2011}](?=" ALNUM "))?)+)"    \
    "|[^\\p{L}\\p{N}\\s]+"

struct wordcut {
    pcre2_code *code;
    pcre2_match_data *match;
};

int wordcut_new(struct wordcut **out, struct err *e)
{
    int code;
    PCRE2_SIZE at;
    struct wordcut *s = mem_zalloc(1, sizeof(*s));
    s->code = pcre2_compile((PCRE2_SPTR)WORD_PATTERN, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code, &at, NULL);
    if (!s->code) {
        wordcut_free(s);
        return err_set(e,
                       "PCRE2 refuses the word pattern at byte %zu (error %d): it was built "
                       "without Unicode support",
                       (size_t)at, code);
    }
    pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* slower but right without */
    s->match = pcre2_match_data_create_from_pattern(s->code, NULL);
    MW_ASSERT(s->match);
    *out = s;
    return 0;
}

void wordcut_free(struct wordcut *s)
{
    if (!s)
        return;
    pcre2_match_data_free(s->match);
    pcre2_code_free(s->code);
    free(s);
}

/* Does the stop at the end of this word belong to it? last: no word follows. */
static bool stop_belongs(const char *word, size_t len, bool last)
{
    bool digits = true;
    size_t letters = 0;
    for (size_t i = 0; i + 1 < len; i++) {
        if (word[i] == '.')
            return true; /* "z.B.", "www.name." is rarer */
        digits = digits && word[i] >= '0' && word[i] <= '9';
        letters += ((unsigned char)word[i] & 0xC0) != 0x80;
    }
    return !last && (digits || letters == 1);
}

static void put_word(struct buf *out, const char *word, size_t len)
{
    buf_putc(out, ' ');
    buf_add(out, word, len);
}

int wordcut_run(struct wordcut *s, const char *text, size_t len, struct buf *out, struct err *e)
{
    const char *held = NULL; /* a word that ends in a stop: decided when the next one is known */
    size_t held_len = 0, at = 0;
    buf_clear(out);
    while (at < len) {
        int r = pcre2_match(s->code, (PCRE2_SPTR)text, len, at, PCRE2_NO_UTF_CHECK, s->match, NULL);
        if (r == PCRE2_ERROR_NOMATCH)
            break;
        if (r < 0)
            return err_set(e, "word splitting failed at byte %zu of a text (PCRE2 error %d)", at,
                           r);
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
        const char *word = text + span[0];
        size_t n = span[1] - span[0];
        at = span[1];
        if (held) {
            bool keep = stop_belongs(held, held_len, false);
            put_word(out, held, held_len - !keep);
            if (!keep)
                put_word(out, ".", 1);
            held = NULL;
        }
        if (r >= 2 && n > 1 && word[n - 1] == '.') {
            held = word;
            held_len = n;
        } else {
            put_word(out, word, n);
        }
    }
    if (held) {
        bool keep = stop_belongs(held, held_len, true);
        put_word(out, held, held_len - !keep);
        if (!keep)
            put_word(out, ".", 1);
    }
    return 0;
}
