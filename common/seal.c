/* Owns the last line of sealed JSON files. */
#include "common/seal.h"

#include "common/hash.h"

#include <string.h>

#define SEAL_BYTES (sizeof("  \"" SEAL_KEY "\": \"0123456789abcdef\"\n}\n") - 1)

static void print_seal(struct buf *b, const char *text, size_t len)
{
    buf_printf(b, "  \"%s\": \"%016llx\"\n}\n", SEAL_KEY, (unsigned long long)hash64(text, len));
}

void seal_put(struct buf *b, size_t start)
{
    struct buf line = {0};
    print_seal(&line, b->data + start, b->len - start);
    buf_add(b, line.data, line.len);
    buf_release(&line);
}

bool seal_holds(const char *text, size_t len)
{
    struct buf line = {0};
    if (len < SEAL_BYTES)
        return false;
    print_seal(&line, text, len - SEAL_BYTES);
    MW_ASSERT(line.len == SEAL_BYTES);
    bool same = !memcmp(text + len - SEAL_BYTES, line.data, SEAL_BYTES);
    buf_release(&line);
    return same;
}
