/*
 * GPT-2's alphabet: the character that stands for each byte in tokenizer.json.
 *
 * The printable bytes 0x21-7E, A1-AC and AE-FF stand for themselves, the other 68
 * are U+0100 … U+0143 in order of the byte (space = U+0120, line feed = U+010A).
 */
#ifndef TOKENIZER_BYTEMAP_H
#define TOKENIZER_BYTEMAP_H

#include "common/mem.h"

#include <stdbool.h>
#include <stdint.h>

/* The code point of a byte. */
uint32_t bytemap_code_point(unsigned char byte);
/* Place of a byte when all are sorted by code point: 0 … 255. */
unsigned bytemap_order(unsigned char byte);
/* Appends bytes in their spelling as UTF-8. */
void bytemap_spell(struct buf *out, const char *bytes, size_t len);
/* Appends the bytes of a spelling; false if it holds a character that stands for none. */
bool bytemap_read(struct buf *out, const char *spelling, size_t len);

#endif
