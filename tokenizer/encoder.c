/*
 * Owns encoding: special tokens out of the text, the rest into pieces, each piece
 * into ids by its merges in order of their rank, the leftmost first.
 *
 * Short pieces merge in a small array, long ones with a heap over a linked list,
 * so that a piece of n bytes takes O(n log n) whatever it holds. Pieces seen
 * before come from a cache that only its encoder touches.
 */
#include "tokenizer/tokenizer.h"

#include "common/hash.h"
#include "tokenizer/bytemap.h"
#include "tokenizer/vocab.h"

#include <string.h>

#define PIECE_BYTES_MAX ((size_t)1 << 31)
#define SHORT_MAX       64 /* bytes; up to here the array wins over the heap */

/* One cache line: German text needs 6 bytes and 1.3 ids a piece. */
#define CACHE_KEY_MAX 28
#define CACHE_IDS_MAX 8
#define CACHE_BITS    16

struct cached {
    uint8_t key_len; /* 0: free */
    uint8_t id_count;
    char key[CACHE_KEY_MAX + 2];
    uint32_t ids[CACHE_IDS_MAX];
};

_Static_assert(sizeof(struct cached) == 64, "a cached piece should fill one cache line");

/* A byte or token of a long piece, in a doubly linked list by place. */
struct link {
    uint32_t id; /* VOCAB_NONE: merged into the one before */
    uint32_t prev, next;
};

struct encoder {
    const struct tokenizer *t;
    struct splitter *splitter;
    struct cached *cache; /* (1 << CACHE_BITS) */
    struct link *links;
    size_t links_capacity;
    uint64_t *heap; /* rank << 32 | place: the least is the next merge */
    size_t heap_count, heap_capacity;
    struct buf name;       /* spelling of a piece, for ignore_merges */
    bool added_first[256]; /* bytes an added token begins with */
    bool added_always;     /* some added token is not special */
};

struct encoder *encoder_new(const struct tokenizer *t)
{
    struct encoder *enc = mem_zalloc(1, sizeof(*enc));
    enc->t = t;
    enc->splitter = splitter_new(t->pattern);
    enc->cache = mem_zalloc((size_t)1 << CACHE_BITS, sizeof(*enc->cache));
    for (size_t i = 0; i < t->added.count; i++) {
        const struct token *added = &t->tokens[t->added.ids[i]];
        enc->added_first[(unsigned char)t->bytes.data[added->start]] = true;
        enc->added_always |= !added->special;
    }
    return enc;
}

void encoder_free(struct encoder *enc)
{
    if (!enc)
        return;
    splitter_free(enc->splitter);
    free(enc->cache);
    free(enc->links);
    free(enc->heap);
    buf_release(&enc->name);
    free(enc);
}

/* --- one piece ------------------------------------------------------------- */

static void merge_short(const struct tokenizer *t, const char *s, size_t len, struct ids *out)
{
    uint32_t ids[SHORT_MAX];
    uint32_t ranks[SHORT_MAX]; /* of the pair that begins here; count - 1 of them */
    size_t count = len;
    for (size_t i = 0; i < count; i++)
        ids[i] = t->byte_id[(unsigned char)s[i]];
    for (size_t i = 0; i + 1 < count; i++)
        ranks[i] = merges_find(&t->merges, ids[i], ids[i + 1])->rank;
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == VOCAB_NONE)
            break;
        ids[best] = merges_find(&t->merges, ids[best], ids[best + 1])->id;
        count--;
        for (size_t i = best + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            ranks[i - 1] = ranks[i];
        }
        if (best > 0)
            ranks[best - 1] = merges_find(&t->merges, ids[best - 1], ids[best])->rank;
        if (best + 1 < count)
            ranks[best] = merges_find(&t->merges, ids[best], ids[best + 1])->rank;
    }
    for (size_t i = 0; i < count; i++)
        ids_add(out, ids[i]);
}

static void heap_push(struct encoder *enc, uint64_t item)
{
    enc->heap = mem_grow(enc->heap, &enc->heap_capacity, enc->heap_count + 1, sizeof(*enc->heap));
    size_t at = enc->heap_count++;
    for (; at > 0 && enc->heap[(at - 1) / 2] > item; at = (at - 1) / 2)
        enc->heap[at] = enc->heap[(at - 1) / 2];
    enc->heap[at] = item;
}

static uint64_t heap_pop(struct encoder *enc)
{
    uint64_t *heap = enc->heap;
    uint64_t least = heap[0];
    uint64_t last = heap[--enc->heap_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < enc->heap_count; at = child) {
        if (child + 1 < enc->heap_count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return least;
}

/* The merge of the pair that begins at `at`, or NULL. */
static const struct merge *merge_at(const struct encoder *enc, uint32_t at)
{
    const struct link *left = &enc->links[at];
    if (left->id == VOCAB_NONE || left->next == VOCAB_NONE)
        return NULL;
    const struct merge *m = merges_find(&enc->t->merges, left->id, enc->links[left->next].id);
    return m->rank == VOCAB_NONE ? NULL : m;
}

static void push_merge_at(struct encoder *enc, uint32_t at)
{
    const struct merge *m = merge_at(enc, at);
    if (m)
        heap_push(enc, (uint64_t)m->rank << 32 | at);
}

static void merge_long(struct encoder *enc, const char *s, size_t len, struct ids *out)
{
    enc->links = mem_grow(enc->links, &enc->links_capacity, len, sizeof(*enc->links));
    enc->heap_count = 0;
    for (uint32_t i = 0; i < len; i++)
        enc->links[i] = (struct link){enc->t->byte_id[(unsigned char)s[i]], i - 1, i + 1};
    enc->links[0].prev = enc->links[len - 1].next = VOCAB_NONE;
    for (uint32_t i = 0; i < len; i++)
        push_merge_at(enc, i);
    while (enc->heap_count) {
        uint64_t item = heap_pop(enc);
        uint32_t at = (uint32_t)item;
        const struct merge *m = merge_at(enc, at);
        if (!m || m->rank != item >> 32)
            continue; /* one side has merged otherwise since */
        struct link *left = &enc->links[at];
        struct link *right = &enc->links[left->next];
        left->id = m->id;
        left->next = right->next;
        right->id = VOCAB_NONE;
        if (left->next != VOCAB_NONE)
            enc->links[left->next].prev = at;
        push_merge_at(enc, at);
        if (left->prev != VOCAB_NONE)
            push_merge_at(enc, left->prev);
    }
    for (uint32_t at = 0; at != VOCAB_NONE; at = enc->links[at].next)
        ids_add(out, enc->links[at].id);
}

/* Llama-3's rule: a piece that is itself a token stays whole. */
static bool whole_piece(struct encoder *enc, const char *s, size_t len, struct ids *out)
{
    if (!enc->t->ignore_merges || len > enc->t->name_len_max)
        return false;
    buf_clear(&enc->name);
    bytemap_spell(&enc->name, s, len);
    uint32_t id = names_find(&enc->t->names, enc->name.data, enc->name.len);
    if (id == VOCAB_NONE)
        return false;
    ids_add(out, id);
    return true;
}

static void encode_piece(struct encoder *enc, const char *s, size_t len, struct ids *out)
{
    struct cached *c = NULL;
    size_t before = out->count;
    if (len <= CACHE_KEY_MAX) {
        c = &enc->cache[hash64(s, len) >> (64 - CACHE_BITS)];
        if (c->key_len == len && !memcmp(c->key, s, len)) {
            for (unsigned i = 0; i < c->id_count; i++)
                ids_add(out, c->ids[i]);
            return;
        }
    }
    if (!whole_piece(enc, s, len, out)) {
        if (len <= SHORT_MAX)
            merge_short(enc->t, s, len, out);
        else
            merge_long(enc, s, len, out);
    }
    if (c && out->count - before <= CACHE_IDS_MAX) {
        c->key_len = (uint8_t)len;
        c->id_count = (uint8_t)(out->count - before);
        memcpy(c->key, s, len);
        memcpy(c->ids, &out->v[before], c->id_count * sizeof(*c->ids));
    }
}

/* --- a text ---------------------------------------------------------------- */

static int encode_plain(struct encoder *enc, const char *text, size_t len, struct ids *out,
                        struct err *e)
{
    struct piece piece;
    int more;
    splitter_start(enc->splitter, text, len);
    while ((more = splitter_next(enc->splitter, &piece, e)) > 0) {
        if (piece.len > PIECE_BYTES_MAX)
            return err_set(e, "a piece of %zu bytes is longer than 2^31", piece.len);
        encode_piece(enc, text + piece.start, piece.len, out);
    }
    return more;
}

/* The longest added token that begins at s, or VOCAB_NONE. */
static uint32_t added_at(const struct encoder *enc, const char *s, size_t len, bool special)
{
    const struct tokenizer *t = enc->t;
    if (!enc->added_first[(unsigned char)*s])
        return VOCAB_NONE;
    for (size_t i = 0; i < t->added_len_count; i++) {
        uint32_t token_len = t->added_lens[i];
        uint32_t id = token_len <= len ? names_find(&t->added, s, token_len) : VOCAB_NONE;
        if (id != VOCAB_NONE && (special || !t->tokens[id].special))
            return id;
    }
    return VOCAB_NONE;
}

/* Cuts the added tokens out; the text between them is encoded as if each part stood alone. */
static int encode_added(struct encoder *enc, const char *text, size_t len, bool special,
                        struct ids *out, struct err *e)
{
    size_t start = 0;
    for (size_t at = 0; at < len;) {
        uint32_t id = added_at(enc, text + at, len - at, special);
        if (id == VOCAB_NONE) {
            at++;
            continue;
        }
        if (encode_plain(enc, text + start, at - start, out, e))
            return -1;
        ids_add(out, id);
        at += enc->t->tokens[id].len;
        start = at;
    }
    return encode_plain(enc, text + start, len - start, out, e);
}

int encoder_encode(struct encoder *enc, const char *text, size_t len, unsigned flags,
                   struct ids *ids, struct err *e)
{
    bool special = flags & ENCODE_ALLOW_SPECIAL;
    if ((flags & (ENCODE_BOS | ENCODE_EOS)) && !tokenizer_has_specials(enc->t))
        return err_set(e, "the tokenizer does not have <unk> <s> </s> <pad> as its ids 0 to 3, so "
                          "no <s> or </s> can be added");
    if (flags & ENCODE_BOS)
        ids_add(ids, TOKEN_BOS);
    if (special || enc->added_always ? encode_added(enc, text, len, special, ids, e)
                                     : encode_plain(enc, text, len, ids, e))
        return -1;
    if (flags & ENCODE_EOS)
        ids_add(ids, TOKEN_EOS);
    return 0;
}

int encoder_exceeds(struct encoder *enc, const char *text, size_t len, size_t most, struct ids *ids,
                    struct err *e)
{
    struct piece piece;
    int more;
    ids->count = 0;
    if (enc->added_always) {
        if (encode_added(enc, text, len, false, ids, e))
            return -1;
        return ids->count > most;
    }
    if (len <= most)
        return 0;
    splitter_start(enc->splitter, text, len);
    while ((more = splitter_next(enc->splitter, &piece, e)) > 0) {
        size_t end = piece.start + piece.len;
        if (piece.len > PIECE_BYTES_MAX)
            return err_set(e, "a piece of %zu bytes is longer than 2^31", piece.len);
        encode_piece(enc, text + piece.start, piece.len, ids);
        if (ids->count > most)
            return 1;
        if (ids->count + (len - end) <= most)
            return 0;
    }
    return more;
}
