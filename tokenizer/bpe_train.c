/*
 * Owns learning the merges.
 *
 * First the pieces are counted, on all threads. Then each distinct piece is an
 * array of ids; a table holds how often each pair of neighbours occurs (weighted
 * by the pieces' counts), and a heap holds entries: pairs with the list of pieces
 * in which they stand. Merging a pair rewrites the pieces of its entry and makes
 * one new entry for each pair that came to be. The counts in the heap may be out of
 * date; an entry is compared with the table when it comes up and goes back if it
 * was too high. This is Hugging Face's scheme, and so are its details: "aaa" counts
 * (a, a) twice, and a merge whose result spells a known token gives that token's id.
 */
#include "tokenizer/bpe_train.h"

#include "common/log.h"
#include "common/threads.h"
#include "tokenizer/pretoken.h"
#include "tokenizer/vocab.h"
#include "tokenizer/words.h"

#include <inttypes.h>
#include <omp.h>
#include <string.h>

#define FEED_BATCH_BYTES ((size_t)8 << 20)
#define PAIR_NONE        UINT64_MAX

struct worker {
    struct splitter *splitter;
    struct words words;
    uint64_t bytes, sequences, pieces;
    char pad[64]; /* workers count on neighbouring cache lines otherwise */
};

struct sequence {
    size_t start, len; /* in the batch */
};

struct bpe_trainer {
    struct bpe_train_options options;
    const char *regex;
    struct pattern *pattern;
    struct worker *workers; /* (worker_count) */
    int worker_count;
    struct buf batch;
    struct sequence *sequences;
    size_t sequence_count, sequence_capacity;
    bool trained;
    struct bpe_train_stats stats;
};

/* --- counting --------------------------------------------------------------- */

int bpe_trainer_new(struct bpe_trainer **out, const struct bpe_train_options *o, struct err *e)
{
    const char *regex = pattern_regex(o->pattern ? o->pattern : "llama3");
    struct pattern *pattern;
    *out = NULL;
    if (!regex)
        return err_set(e, "unknown pattern \"%s\"; known are %s", o->pattern, PATTERN_NAMES);
    if (o->vocab_size < TOKEN_SPECIAL_COUNT + 256 || o->vocab_size > TOKENIZER_VOCAB_MAX)
        return err_set(e, "a vocabulary of %" PRIu32 " tokens is impossible; %d to %d are",
                       o->vocab_size, TOKEN_SPECIAL_COUNT + 256, TOKENIZER_VOCAB_MAX);
    if (pattern_compile(&pattern, regex, e))
        return -1;
    struct bpe_trainer *t = mem_zalloc(1, sizeof(*t));
    t->options = *o;
    t->regex = regex;
    t->pattern = pattern;
    t->worker_count = threads_count();
    t->workers = mem_zalloc((size_t)t->worker_count, sizeof(*t->workers));
    for (int i = 0; i < t->worker_count; i++)
        t->workers[i].splitter = splitter_new(pattern);
    *out = t;
    return 0;
}

void bpe_trainer_free(struct bpe_trainer *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->worker_count; i++) {
        splitter_free(t->workers[i].splitter);
        words_release(&t->workers[i].words);
    }
    free(t->workers);
    pattern_free(t->pattern);
    buf_release(&t->batch);
    free(t->sequences);
    free(t);
}

int bpe_trainer_count(struct bpe_trainer *t, int worker, const char *text, size_t len,
                      struct err *e)
{
    MW_ASSERT(worker >= 0 && worker < t->worker_count && !t->trained);
    struct worker *w = &t->workers[worker];
    struct piece piece;
    int more;
    splitter_start(w->splitter, text, len);
    while ((more = splitter_next(w->splitter, &piece, e)) > 0) {
        if (piece.len > UINT32_MAX)
            return err_set(e, "a piece of %zu bytes is longer than 2^32", piece.len);
        words_add(&w->words, text + piece.start, piece.len, 1);
        w->pieces++;
    }
    w->bytes += len;
    w->sequences++;
    return more;
}

/* Counts the sequences collected by bpe_trainer_feed(). */
static int count_batch(struct bpe_trainer *t, struct err *e)
{
    double start = log_seconds();
    int failed = 0;
    /* Blocks of about 64 KB: a sequence each would cost more in hand-out than in work. */
#pragma omp parallel for schedule(dynamic, 16) num_threads(t->worker_count)
    for (size_t i = 0; i < t->sequence_count; i++) {
        struct err mine;
        if (bpe_trainer_count(t, omp_get_thread_num(), t->batch.data + t->sequences[i].start,
                              t->sequences[i].len, &mine)) {
#pragma omp critical(bpe_train_failed)
            {
                *e = mine;
                failed = -1;
            }
        }
    }
    buf_clear(&t->batch);
    t->sequence_count = 0;
    t->stats.count_seconds += log_seconds() - start;
    return failed;
}

int bpe_trainer_feed(struct bpe_trainer *t, const char *text, size_t len, struct err *e)
{
    t->sequences = mem_grow(t->sequences, &t->sequence_capacity, t->sequence_count + 1,
                            sizeof(*t->sequences));
    t->sequences[t->sequence_count++] = (struct sequence){t->batch.len, len};
    buf_add(&t->batch, text, len);
    return t->batch.len >= FEED_BATCH_BYTES ? count_batch(t, e) : 0;
}

const struct bpe_train_stats *bpe_trainer_stats(const struct bpe_trainer *t)
{
    return &t->stats;
}

/* --- merging ---------------------------------------------------------------- */

/* A distinct piece as ids. */
struct run {
    uint64_t start; /* in merger.ids */
    uint32_t len;
    uint64_t count;
};

struct pair_count {
    uint64_t pair; /* left << 32 | right; PAIR_NONE = free */
    int64_t count;
    uint32_t fresh; /* entry of merger.fresh for it, if that is of this step */
};

/* A pair that came to be in this step, and in how many pieces. */
struct fresh {
    uint64_t pair;
    uint64_t count; /* of pieces, then cursor while they are listed */
    uint64_t start; /* in merger.places */
    uint32_t last;  /* piece counted last, which is not counted twice */
};

struct place {
    uint32_t fresh;
    uint32_t run;
};

/* Entry of the heap. */
struct entry {
    uint64_t count; /* of the pair when it was put in or last looked at */
    uint64_t pair;
    uint64_t start; /* its pieces: merger.places[start … + place_count) */
    uint64_t place_count;
};

struct merger {
    struct run *runs; /* (run_count) */
    uint64_t run_count;
    uint32_t *ids;
    struct pair_count *pairs; /* (pair_mask + 1) */
    uint64_t pair_mask, pair_count;
    struct fresh *fresh; /* of the step in progress */
    size_t fresh_count, fresh_capacity;
    struct place *steps; /* (fresh, piece) of the step in progress */
    size_t step_count, step_capacity;
    uint32_t *places; /* pieces of all entries; bounded by three times the bytes of all runs */
    size_t place_count, place_capacity;
    struct entry *heap;
    size_t heap_count, heap_capacity;
    struct names names;
    uint64_t *merges; /* pairs in order */
    size_t merge_count, merge_capacity;
};

static struct pair_count *find_pair(const struct merger *m, uint64_t pair)
{
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    uint64_t at = h ^ h >> 32;
    while (m->pairs[at & m->pair_mask].pair != pair &&
           m->pairs[at & m->pair_mask].pair != PAIR_NONE)
        at++;
    return &m->pairs[at & m->pair_mask];
}

static void grow_pairs(struct merger *m)
{
    struct pair_count *old = m->pairs;
    uint64_t old_slots = old ? m->pair_mask + 1 : 0;
    uint64_t slots = old ? 2 * old_slots : 1 << 16;
    m->pairs = mem_alloc(slots * sizeof(*m->pairs));
    m->pair_mask = slots - 1;
    for (uint64_t i = 0; i < slots; i++)
        m->pairs[i].pair = PAIR_NONE;
    for (uint64_t i = 0; i < old_slots; i++)
        if (old[i].pair != PAIR_NONE)
            *find_pair(m, old[i].pair) = old[i];
    free(old);
}

/* Adds to a pair's count. A pair that gains is noted as fresh, with the piece. */
static void change(struct merger *m, uint32_t left, uint32_t right, int64_t by, uint32_t run)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    if (!m->pairs || 2 * m->pair_count > m->pair_mask)
        grow_pairs(m);
    struct pair_count *p = find_pair(m, pair);
    if (p->pair == PAIR_NONE) {
        *p = (struct pair_count){.pair = pair, .fresh = UINT32_MAX};
        m->pair_count++;
    }
    p->count += by;
    if (by < 0)
        return;
    if (p->fresh >= m->fresh_count || m->fresh[p->fresh].pair != pair) {
        m->fresh = mem_grow(m->fresh, &m->fresh_capacity, m->fresh_count + 1, sizeof(*m->fresh));
        p->fresh = (uint32_t)m->fresh_count++;
        m->fresh[p->fresh] = (struct fresh){.pair = pair, .last = UINT32_MAX};
    }
    struct fresh *f = &m->fresh[p->fresh];
    if (f->last == run)
        return;
    f->last = run;
    f->count++;
    m->steps = mem_grow(m->steps, &m->step_capacity, m->step_count + 1, sizeof(*m->steps));
    m->steps[m->step_count++] = (struct place){p->fresh, run};
}

/* Whether a comes up before b: more often, or as often with smaller ids. */
static bool before(const struct entry *a, const struct entry *b)
{
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

static void heap_push(struct merger *m, const struct entry *entry)
{
    m->heap = mem_grow(m->heap, &m->heap_capacity, m->heap_count + 1, sizeof(*m->heap));
    size_t at = m->heap_count++;
    for (; at > 0 && before(entry, &m->heap[(at - 1) / 4]); at = (at - 1) / 4)
        m->heap[at] = m->heap[(at - 1) / 4];
    m->heap[at] = *entry;
}

static void sift_down(struct merger *m, size_t at, struct entry entry)
{
    struct entry *heap = m->heap;
    for (;;) {
        size_t child = 4 * at + 1, best = child;
        if (child >= m->heap_count)
            break;
        for (size_t i = child + 1; i < child + 4 && i < m->heap_count; i++)
            if (before(&heap[i], &heap[best]))
                best = i;
        if (!before(&heap[best], &entry))
            break;
        heap[at] = heap[best];
        at = best;
    }
    heap[at] = entry;
}

/* Turns what came to be in this step into entries of the heap. */
static void end_step(struct merger *m)
{
    size_t total = m->place_count + m->step_count;
    m->places = mem_grow(m->places, &m->place_capacity, total, sizeof(*m->places));
    for (size_t i = 0; i < m->fresh_count; i++) {
        m->fresh[i].start = m->place_count;
        m->place_count += m->fresh[i].count;
        m->fresh[i].count = 0;
    }
    for (size_t i = 0; i < m->step_count; i++) {
        struct fresh *f = &m->fresh[m->steps[i].fresh];
        m->places[f->start + f->count++] = m->steps[i].run;
    }
    for (size_t i = 0; i < m->fresh_count; i++) {
        const struct fresh *f = &m->fresh[i];
        int64_t count = find_pair(m, f->pair)->count;
        if (count > 0)
            heap_push(m, &(struct entry){(uint64_t)count, f->pair, f->start, f->count});
    }
    m->fresh_count = m->step_count = 0;
}

/* Replaces left, right by id throughout one piece, from left to right. */
static void merge_run(struct merger *m, uint32_t run, uint32_t left, uint32_t right, uint32_t id)
{
    struct run *r = &m->runs[run];
    uint32_t *s = m->ids + r->start;
    int64_t count = (int64_t)r->count;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->len;) {
        if (s[i] != left || i + 1 == r->len || s[i + 1] != right) {
            s[kept++] = s[i++];
            continue;
        }
        if (kept > 0) {
            change(m, s[kept - 1], left, -count, run);
            change(m, s[kept - 1], id, count, run);
        }
        i += 2;
        if (i < r->len) {
            change(m, right, s[i], -count, run);
            change(m, id, s[i], count, run);
        }
        s[kept++] = id;
    }
    r->len = kept;
}

/* The id of the token that left and right make: a new one unless the name is known. */
static uint32_t name_merge(struct merger *m, uint32_t left, uint32_t right)
{
    struct buf name = {0};
    size_t len;
    const char *part = names_get(&m->names, left, &len);
    buf_add(&name, part, len);
    part = names_get(&m->names, right, &len);
    buf_add(&name, part, len);
    uint32_t id = names_find(&m->names, name.data, name.len);
    if (id == VOCAB_NONE) {
        id = (uint32_t)m->names.count;
        names_add(&m->names, name.data, name.len, id);
    }
    buf_release(&name);
    return id;
}

/* Spreads the counted pieces out as ids and counts their pairs. */
static int merger_init(struct merger *m, struct words *words, struct err *e)
{
    uint32_t byte_id[256];
    size_t at = 0;
    if (words->distinct >= UINT32_MAX)
        return err_set(e, "%" PRIu64 " different pieces are more than 2^32", words->distinct);
    memset(m, 0, sizeof(*m));
    vocab_first_names(&m->names);
    vocab_byte_ids(&m->names, byte_id);
    m->runs = mem_alloc((size_t)words->distinct * sizeof(*m->runs) + 1);
    m->ids = mem_alloc(words->text.len * sizeof(*m->ids) + 1);
    for (uint64_t i = 0; words->slots && i <= words->mask; i++) {
        const struct word *w = &words->slots[i];
        if (!w->count)
            continue;
        m->runs[m->run_count++] = (struct run){at, w->len, w->count};
        for (uint32_t k = 0; k < w->len; k++)
            m->ids[at++] = byte_id[(unsigned char)words->text.data[w->start + k]];
    }
    words_release(words);
    for (uint32_t r = 0; r < m->run_count; r++)
        for (uint32_t i = 1; i < m->runs[r].len; i++) {
            const uint32_t *s = m->ids + m->runs[r].start;
            change(m, s[i - 1], s[i], (int64_t)m->runs[r].count, r);
        }
    end_step(m);
    return 0;
}

static void merger_release(struct merger *m)
{
    free(m->runs);
    free(m->ids);
    free(m->pairs);
    free(m->fresh);
    free(m->steps);
    free(m->places);
    free(m->heap);
    free(m->merges);
    names_release(&m->names);
}

static void merge_all(struct merger *m, uint32_t vocab_size, uint64_t min_frequency,
                      uint64_t *last_frequency)
{
    struct progress progress;
    progress_start(&progress, "merging", vocab_size - m->names.count, PROGRESS_COUNT);
    progress.noun = "merges";
    while (m->names.count < vocab_size && m->heap_count) {
        struct entry top = m->heap[0];
        int64_t count = find_pair(m, top.pair)->count;
        if (count < 0)
            count = 0;
        if (top.count != (uint64_t)count) {
            top.count = (uint64_t)count;
            sift_down(m, 0, top);
            continue;
        }
        if (top.count < 1 || top.count < min_frequency)
            break;
        struct entry last = m->heap[--m->heap_count];
        if (m->heap_count)
            sift_down(m, 0, last);
        uint32_t left = (uint32_t)(top.pair >> 32), right = (uint32_t)top.pair;
        uint32_t id = name_merge(m, left, right);
        m->merges = mem_grow(m->merges, &m->merge_capacity, m->merge_count + 1, sizeof(*m->merges));
        m->merges[m->merge_count++] = top.pair;
        for (uint64_t i = 0; i < top.place_count; i++)
            merge_run(m, m->places[top.start + i], left, right, id);
        end_step(m);
        *last_frequency = top.count;
        if (m->merge_count % 64 == 0)
            progress_update(&progress, m->merge_count, NULL);
    }
    progress_update(&progress, m->merge_count, NULL);
    progress_finish(&progress, NULL);
}

int bpe_trainer_train(struct bpe_trainer *t, struct tokenizer **tok, struct err *e)
{
    struct merger m;
    struct buf json = {0};
    double start = log_seconds();
    *tok = NULL;
    MW_ASSERT(!t->trained);
    if (count_batch(t, e))
        return -1;
    t->trained = true;
    for (int i = 0; i < t->worker_count; i++) {
        t->stats.bytes += t->workers[i].bytes;
        t->stats.sequences += t->workers[i].sequences;
        t->stats.pieces += t->workers[i].pieces;
        if (i > 0)
            words_join(&t->workers[0].words, &t->workers[i].words);
    }
    t->stats.distinct = t->workers[0].words.distinct;
    if (merger_init(&m, &t->workers[0].words, e))
        return -1;
    t->stats.count_seconds += log_seconds() - start;
    start = log_seconds();
    merge_all(&m, t->options.vocab_size, t->options.min_frequency, &t->stats.last_frequency);
    t->stats.merges = (uint32_t)m.merge_count;
    vocab_write_json(&json, t->regex, &m.names, m.merges, m.merge_count);
    int failed = tokenizer_parse(tok, json.data, json.len, "the new tokenizer", e);
    t->stats.merge_seconds = log_seconds() - start;
    buf_release(&json);
    merger_release(&m);
    return failed;
}
