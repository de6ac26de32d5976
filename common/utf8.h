/*
 * UTF-8, decided once at the border. Overlong forms, surrogates and values
 * beyond U+10FFFF are invalid (RFC 3629).
 */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Offset of the first byte that is not part of valid UTF-8; len if all is valid. */
size_t utf8_invalid_at(const char *s, size_t len);
/* Decodes one code point. Returns its length 1…4, or 0 if invalid or cut off. len > 0. */
size_t utf8_decode(const char *s, size_t len, uint32_t *cp);
/* Writes 1…4 bytes, returns how many; 0 if cp is not a Unicode scalar value. */
size_t utf8_encode(uint32_t cp, char out[4]);
/* Length of the longest prefix that does not end inside a sequence that could still
 * become valid: what a stream may print now. At most three bytes are held back. */
size_t utf8_complete_prefix(const char *s, size_t len);
/* White space as Python's str.split() and Unicode see it (corpus.md §2.1). */
bool utf8_is_space(uint32_t cp);
/* Words between white space, as Python's len(text.split()); text must be valid UTF-8. */
size_t utf8_count_words(const char *s, size_t len);

#endif
