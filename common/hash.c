/* The only file that knows xxHash; its functions are inlined here. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/hash.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct hash_state {
    XXH3_state_t state; /* wants 64-byte alignment */
};

uint64_t hash64(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

uint64_t hash64_seeded(const void *data, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, len, seed);
}

struct hash128 hash128(const void *data, size_t len)
{
    XXH128_hash_t h = XXH3_128bits(data, len);
    return (struct hash128){.high = h.high64, .low = h.low64};
}

struct hash_state *hash_new(void)
{
    struct hash_state *h = aligned_alloc(64, (sizeof(*h) + 63) / 64 * 64);
    MW_ASSERT(h);
    XXH3_64bits_reset(&h->state);
    return h;
}

void hash_add(struct hash_state *h, const void *data, size_t len)
{
    XXH3_64bits_update(&h->state, data, len);
}

uint64_t hash_end(const struct hash_state *h)
{
    return XXH3_64bits_digest(&h->state);
}

void hash_free(struct hash_state *h)
{
    free(h);
}

int hash_parse(const char *text, size_t len, uint64_t *hash)
{
    uint64_t value = 0;
    if (len != 16)
        return -1;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return -1;
        value = value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *hash = value;
    return 0;
}

int hash_file(const char *path, uint64_t *hash, uint64_t *bytes, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    enum { CHUNK = 1 << 20 };
    char *chunk = mem_alloc(CHUNK);
    struct hash_state *h = hash_new();
    ssize_t n;
    *bytes = 0;
    while ((n = read(fd, chunk, CHUNK)) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0)
            continue;
        hash_add(h, chunk, (size_t)n);
        *bytes += (uint64_t)n;
    }
    int failed = n < 0 ? errno : 0;
    *hash = hash_end(h);
    hash_free(h);
    free(chunk);
    close(fd);
    if (failed)
        return err_set(e, "cannot read %s at byte %llu: %s", path, (unsigned long long)*bytes,
                       strerror(failed));
    return 0;
}
