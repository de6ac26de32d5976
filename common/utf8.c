/* UTF-8 decoding after Unicode 15 table 3-7, and Python's idea of white space. */
#include "common/utf8.h"

#include <string.h>

/* Length of the sequence a lead byte announces, and the range its second byte must lie in;
 * 0 for a byte that cannot begin one. */
static size_t sequence_length(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF) {
        if (lead == 0xE0)
            *low = 0xA0; /* shorter forms are overlong */
        if (lead == 0xED)
            *high = 0x9F; /* the rest are surrogates */
        return 3;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        if (lead == 0xF0)
            *low = 0x90;
        if (lead == 0xF4)
            *high = 0x8F; /* beyond U+10FFFF */
        return 4;
    }
    return 0;
}

/* Bytes of s that belong to a sequence which is right as far as it goes; *need is its full length
 * (0 if even the lead byte is wrong). */
static size_t sequence_good(const unsigned char *s, size_t len, size_t *need)
{
    unsigned char low, high;
    *need = sequence_length(s[0], &low, &high);
    if (*need == 0)
        return 0;
    size_t good = 1;
    while (good < *need && good < len && s[good] >= low && s[good] <= high) {
        low = 0x80;
        high = 0xBF;
        good++;
    }
    return good;
}

size_t utf8_invalid_at(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < len) {
        uint64_t word;
        if (len - i >= 8) {
            memcpy(&word, s + i, 8);
            if (!(word & 0x8080808080808080u)) {
                i += 8;
                continue;
            }
        }
        if (s[i] < 0x80) {
            i++;
            continue;
        }
        size_t need;
        if (sequence_good(s + i, len - i, &need) != need || need == 0)
            return i;
        i += need;
    }
    return len;
}

size_t utf8_decode(const char *text, size_t len, uint32_t *cp)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t need;
    if (sequence_good(s, len, &need) != need || need == 0)
        return 0;
    static const unsigned char lead_mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t value = s[0] & lead_mask[need];
    for (size_t i = 1; i < need; i++)
        value = value << 6 | (s[i] & 0x3F);
    *cp = value;
    return need;
}

size_t utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp >= 0xD800 && cp <= 0xDFFF)
        return 0;
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    if (cp > 0x10FFFF)
        return 0;
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t utf8_complete_prefix(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t back = len < 3 ? len : 3;
    for (size_t i = 1; i <= back; i++) {
        unsigned char c = s[len - i];
        if (c < 0x80)
            return len;
        if (c >= 0xC0) {
            size_t need;
            size_t good = sequence_good(s + len - i, i, &need);
            return good == i && need > i ? len - i : len;
        }
    }
    return len;
}

bool utf8_is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x20) || cp == 0x85 || cp == 0xA0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

/* By its first byte: 1 = white space, 2 = may begin white space of several bytes, 0 = neither. */
static const unsigned char space_class[256] = {
    ['\t'] = 1, ['\n'] = 1, ['\v'] = 1, ['\f'] = 1, ['\r'] = 1, [0x1C] = 1, [0x1D] = 1,
    [0x1E] = 1, [0x1F] = 1, [' '] = 1,  [0xC2] = 2, [0xE1] = 2, [0xE2] = 2, [0xE3] = 2};

/* A byte of a word is any that is not part of white space, valid or not. */
size_t utf8_count_words(const char *s, size_t len)
{
    size_t words = 0;
    unsigned before = 1; /* the byte before was white space */
    for (size_t i = 0; i < len; i++) {
        unsigned class = space_class[(unsigned char)s[i]];
        if (class == 2) {
            uint32_t cp;
            size_t step = utf8_decode(s + i, len - i, &cp);
            class = step && utf8_is_space(cp);
            i += class ? step - 1 : 0;
        }
        words += before & (class ^ 1);
        before = class;
    }
    return words;
}
