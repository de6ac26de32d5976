/* Owns the two directions of GPT-2's byte alphabet. */
#include "tokenizer/bytemap.h"

#include "common/utf8.h"

static bool is_itself(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* How many of the bytes below this one do not stand for themselves. */
static unsigned moved_below(unsigned byte)
{
    if (byte <= 0x21)
        return byte;
    if (byte <= 0x7F)
        return 33;
    if (byte <= 0xA1)
        return 33 + byte - 0x7F;
    return byte <= 0xAD ? 67 : 68;
}

uint32_t bytemap_code_point(unsigned char byte)
{
    return is_itself(byte) ? byte : 0x100 + moved_below(byte);
}

unsigned bytemap_order(unsigned char byte)
{
    return is_itself(byte) ? byte - moved_below(byte) : 256 - 68 + moved_below(byte);
}

void bytemap_spell(struct buf *out, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c[4];
        buf_add(out, c, utf8_encode(bytemap_code_point((unsigned char)bytes[i]), c));
    }
}

static int byte_of(uint32_t cp)
{
    if (cp < 256)
        return is_itself(cp) ? (int)cp : -1;
    cp -= 0x100;
    if (cp < 33)
        return (int)cp;
    if (cp < 67)
        return (int)(cp - 33 + 0x7F);
    return cp == 67 ? 0xAD : -1;
}

bool bytemap_read(struct buf *out, const char *spelling, size_t len)
{
    for (size_t at = 0; at < len;) {
        uint32_t cp;
        size_t n = utf8_decode(spelling + at, len - at, &cp);
        int byte = n ? byte_of(cp) : -1;
        if (byte < 0)
            return false;
        buf_putc(out, (char)byte);
        at += n;
    }
    return true;
}
