/*
 * Pre-tokenization: cuts text into the pieces inside which byte pairs may merge.
 *
 * The cut is a regular expression, run by PCRE2 with its JIT. Each match is a
 * piece and so is the text between two matches (Hugging Face's "Isolated"), so
 * that the pieces joined are the text. A byte that is not part of valid UTF-8 is
 * a piece of its own, and the text on both sides is cut as if it ended there.
 *
 * A pattern is compiled once and then read-only for all threads; a splitter
 * belongs to one thread:
 *
 *     struct splitter *s = splitter_new(pattern);
 *     splitter_start(s, text, len);               text is borrowed
 *     while ((r = splitter_next(s, &piece, e)) > 0) use text[piece.start … + piece.len)
 *
 * Limits: the classes of letters and digits are those of the PCRE2 installed (10.42: Unicode
 * 14, where Hugging Face's Oniguruma has Unicode 16), so code points assigned since may be cut
 * otherwise than there. White space is Oniguruma's.
 */
#ifndef TOKENIZER_PRETOKEN_H
#define TOKENIZER_PRETOKEN_H

#include "common/err.h"

#include <stddef.h>

struct pattern;
struct splitter;

struct piece {
    size_t start; /* byte offset in the text */
    size_t len;   /* > 0 */
};

/* "gpt2|llama3|qwen2|o200k|german", as CONFIG_ENUM and messages want it. */
#define PATTERN_NAMES "gpt2|llama3|qwen2|o200k|german"

/* The expression of a named pattern, NULL if there is none of that name. */
const char *pattern_regex(const char *name);
/* The name of an expression; "custom" if it has none. */
const char *pattern_name(const char *regex);

/* Compiles an expression: what Oniguruma (Ruby syntax, as Hugging Face uses it) and PCRE2 read
 * alike; known differences ("{1,3}+", classes in classes) are refused. "" never matches: the
 * whole text is one piece. The error names the byte of the expression. */
int pattern_compile(struct pattern **p, const char *regex, struct err *e);
void pattern_free(struct pattern *p);

struct splitter *splitter_new(const struct pattern *p); /* p is borrowed until splitter_free() */
void splitter_free(struct splitter *s);
void splitter_start(struct splitter *s, const char *text, size_t len);
/* 1 and the next piece, 0 at the end, -1 if an expression exceeds PCRE2's match limits
 * (the named ones never do). Time and memory are linear in the text for the named ones. */
int splitter_next(struct splitter *s, struct piece *piece, struct err *e);

#endif
