/*
 * Text cut into words, because SuperGLEBer's models never see the raw string: flair
 * cuts it with segtok, and each word goes to the subword tokenizer with a blank in
 * front (spec evaluation.md §1.2).
 *
 * The rule here, which is simpler than segtok's: white space separates; a word is
 * letters and digits, joined inside by one of . , - ' ’ (z.B, 3,5, E-Mail, geht’s);
 * what stands between words ("?!", "#", "...") is a word of its own. A full stop
 * behind a word stays with it if it closes an abbreviation (one letter or a stop
 * inside: "z.B.") or an ordinal ("3.") that more text follows; otherwise it is cut
 * off. Deviations from segtok: it keeps the stop of any word it does not take for
 * the end of a sentence, cuts English contractions ("can't"), and has rules for units
 * and chemical formulas.
 */
#ifndef EVAL_WORDCUT_H
#define EVAL_WORDCUT_H

#include "common/err.h"
#include "common/mem.h"

struct wordcut; /* the compiled pattern and its scratch; one per thread */
int wordcut_new(struct wordcut **s, struct err *e);
void wordcut_free(struct wordcut *s); /* s may be NULL */

/* Replaces out by the words of valid UTF-8 text, each with one blank in front; empty if
 * there is none. Fails only if the pattern's limits are exceeded. */
int wordcut_run(struct wordcut *s, const char *text, size_t len, struct buf *out, struct err *e);

#endif
