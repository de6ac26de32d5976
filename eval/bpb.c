/*
 * Choosing, cutting and scoring held-out documents; see bpb.h.
 */
#include "eval/bpb.h"

#include "common/hash.h"
#include "common/mem.h"
#include "tokenizer/tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHOICE_SEED 0x6d756e64u /* of the hash that orders documents */

/* --- the documents -------------------------------------------------------------- */

/* Finds the text tokens of a document: those without <s> in front and </s> behind. */
static int find_text(struct bpb_document *d, const struct shard *s, uint64_t doc, struct err *e)
{
    uint64_t begin = s->doc_start[doc], end = s->doc_start[doc + 1];
    uint32_t first = TOKEN_UNK, last = TOKEN_UNK;
    if (begin < end &&
        (shard_tokens(s, begin, 1, &first, e) || shard_tokens(s, end - 1, 1, &last, e)))
        return -1;
    if (begin < end && first == TOKEN_BOS)
        begin++;
    if (begin < end && last == TOKEN_EOS)
        end--;
    *d = (struct bpb_document){
        .doc = doc, .from = begin, .tokens = end - begin, .bytes = shard_doc_bytes(s, doc)};
    return 0;
}

struct ranked {
    uint64_t rank, doc;
};

static int compare_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->doc < y->doc ? -1 : x->doc > y->doc;
}

static int compare_doc(const void *a, const void *b)
{
    const struct bpb_document *x = a, *y = b;
    return x->doc < y->doc ? -1 : x->doc > y->doc;
}

/* All documents in the order a limit takes them; caller frees. */
static struct ranked *rank_documents(const struct shard *s)
{
    struct ranked *ranked = mem_alloc((s->doc_count + 1) * sizeof(*ranked));
    for (uint64_t d = 0; d < s->doc_count; d++) {
        size_t len;
        const char *id = shard_doc_id(s, d, &len);
        ranked[d] = (struct ranked){hash64_seeded(id, len, CHOICE_SEED), d};
    }
    qsort(ranked, s->doc_count, sizeof(*ranked), compare_rank);
    return ranked;
}

int bpb_choose(struct bpb_set *set, const struct shard *s, uint64_t max_tokens, struct err *e)
{
    struct ranked *ranked = rank_documents(s);
    size_t capacity = 0;
    memset(set, 0, sizeof(*set));
    for (uint64_t i = 0; i < s->doc_count && !(max_tokens && set->tokens >= max_tokens); i++) {
        struct bpb_document d;
        if (find_text(&d, s, ranked[i].doc, e)) {
            free(ranked);
            bpb_set_release(set);
            return -1;
        }
        if (d.tokens == 0 || d.bytes == 0)
            continue;
        set->docs = mem_grow(set->docs, &capacity, set->count + 1, sizeof(*set->docs));
        set->docs[set->count++] = d;
        set->tokens += d.tokens;
        set->bytes += d.bytes;
    }
    if (set->count)
        qsort(set->docs, set->count, sizeof(*set->docs), compare_doc);
    free(ranked);
    return 0;
}

void bpb_set_release(struct bpb_set *set)
{
    free(set->docs);
    memset(set, 0, sizeof(*set));
}

/* --- the windows ------------------------------------------------------------------ */

struct bpb_window bpb_window(uint64_t n, size_t L, uint64_t k)
{
    uint64_t end = (k + 1) * L < n ? (k + 1) * L : n;
    uint64_t from = end > L ? end - L : 0;
    return (struct bpb_window){from, (size_t)(end - from), (size_t)(end - k * L)};
}

/* A window of a chosen document, and where its result goes. */
struct piece {
    uint32_t doc; /* number in the set */
    uint64_t k;
    struct bpb_window window;
    double nats;
};

static int compare_piece(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    if (x->window.count != y->window.count)
        return x->window.count > y->window.count ? -1 : 1;
    if (x->doc != y->doc)
        return x->doc < y->doc ? -1 : 1;
    return x->k < y->k ? -1 : x->k > y->k;
}

static int compare_place(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    if (x->doc != y->doc)
        return x->doc < y->doc ? -1 : 1;
    return x->k < y->k ? -1 : x->k > y->k;
}

static struct piece *cut(const struct bpb_set *set, size_t L, size_t *count)
{
    size_t capacity = 0;
    struct piece *pieces = NULL;
    *count = 0;
    for (size_t d = 0; d < set->count; d++) {
        uint64_t windows = (set->docs[d].tokens + L - 1) / L;
        for (uint64_t k = 0; k < windows; k++) {
            pieces = mem_grow(pieces, &capacity, *count + 1, sizeof(*pieces));
            pieces[(*count)++] = (struct piece){(uint32_t)d, k,
                                                bpb_window(set->docs[d].tokens, L, k), 0};
        }
    }
    return pieces;
}

/* --- scoring ------------------------------------------------------------------------ */

/* Scratch of one call of bpb_score(). */
struct scorer {
    const struct bpb_set *set;
    const struct shard *shard;
    const struct model *model;
    struct workspace *workspace;
    size_t longest;             /* L */
    uint32_t *inputs, *targets; /* (B, T) */
    float *losses;              /* (B, T) */
};

/* Writes one window as row `row` of a batch of T tokens a row. */
static int fill_row(struct scorer *c, size_t row, size_t T, const struct piece *p, struct err *e)
{
    uint64_t text = c->set->docs[p->doc].from; /* s_i of bpb.h is <s> for i = 0, else text + i-1 */
    const struct bpb_window *w = &p->window;
    uint32_t *inputs = c->inputs + row * T, *targets = c->targets + row * T;
    bool first = w->from == 0;
    inputs[0] = TOKEN_BOS;
    if (shard_tokens(c->shard, text + w->from - !first, w->count - first, inputs + first, e) ||
        shard_tokens(c->shard, text + w->from, w->count, targets, e))
        return -1;
    for (size_t t = 0; t < w->count - w->scored; t++)
        targets[t] = MODEL_IGNORE;
    for (size_t t = w->count; t < T; t++) {
        inputs[t] = TOKEN_EOS;
        targets[t] = MODEL_IGNORE;
    }
    return 0;
}

/* Scores n pieces as one batch; the first is the longest. */
static int score_batch(struct scorer *c, struct piece *pieces, size_t n, struct err *e)
{
    size_t T = pieces[0].window.count;
    for (size_t i = 0; i < n; i++)
        if (fill_row(c, i, T, &pieces[i], e))
            return -1;
    model_forward(c->model, c->workspace, c->inputs, (int64_t)n, (int64_t)T, NULL);
    model_loss(c->model, c->workspace, c->targets, c->losses, NULL, 0);
    for (size_t i = 0; i < n; i++) {
        const struct bpb_window *w = &pieces[i].window;
        for (size_t t = w->count - w->scored; t < w->count; t++)
            pieces[i].nats += (double)c->losses[i * T + t];
    }
    return 0;
}

/* All pieces, longest first; c has room for `budget` rows and one sequence more. */
static int score_pieces(struct scorer *c, struct piece *pieces, size_t count, size_t budget,
                        struct progress *p, struct err *e)
{
    uint64_t done = p ? p->done : 0;
    for (size_t at = 0, n; at < count; at += n) {
        n = budget / (size_t)block_up((int64_t)pieces[at].window.count);
        n = n ? n : 1;
        n = n < count - at ? n : count - at;
        if (score_batch(c, pieces + at, n, e))
            return -1;
        for (size_t i = 0; i < n; i++)
            done += pieces[at + i].window.scored;
        if (p)
            progress_update(p, done, NULL);
    }
    return 0;
}

/* Sums the pieces of each document in the order of the text. */
static void collect(struct bpb_set *set, struct piece *pieces, size_t count)
{
    qsort(pieces, count, sizeof(*pieces), compare_place);
    for (size_t d = 0; d < set->count; d++)
        set->docs[d].nats = 0;
    for (size_t i = 0; i < count; i++)
        set->docs[pieces[i].doc].nats += pieces[i].nats;
}

int bpb_score(struct bpb_set *set, const struct shard *s, const struct model *m,
              const struct bpb_options *o, struct progress *p, struct err *e)
{
    struct scorer c = {
        .set = set, .shard = s, .model = m, .longest = (size_t)m->config.max_position_embeddings};
    size_t count, budget = (size_t)o->batch_tokens;
    struct piece *pieces = cut(set, c.longest, &count);
    if (count == 0)
        return 0;
    qsort(pieces, count, sizeof(*pieces), compare_piece);
    /* room for the longest window and for the budget; the rows of a sequence are filled up */
    int64_t T = (int64_t)pieces[0].window.count, rows = block_up(T);
    int64_t B = (int64_t)budget / rows + 1;
    struct workspace_options wo = {.B = B, .T = T, .precision = o->precision};
    int failed = workspace_init(&c.workspace, m, &wo, e);
    if (!failed) {
        c.inputs = mem_alloc((size_t)(B * rows) * sizeof(*c.inputs));
        c.targets = mem_alloc((size_t)(B * rows) * sizeof(*c.targets));
        c.losses = mem_alloc((size_t)(B * rows) * sizeof(*c.losses));
        failed = score_pieces(&c, pieces, count, budget, p, e);
        if (!failed)
            collect(set, pieces, count);
        workspace_free(c.workspace);
    }
    free(c.inputs);
    free(c.targets);
    free(c.losses);
    free(pieces);
    return failed;
}

struct stats_ratio bpb_result(const struct bpb_set *set)
{
    double *bits = mem_alloc((set->count + 1) * sizeof(*bits));
    double *bytes = mem_alloc((set->count + 1) * sizeof(*bytes));
    for (size_t d = 0; d < set->count; d++) {
        bits[d] = set->docs[d].nats / M_LN2;
        bytes[d] = (double)set->docs[d].bytes;
    }
    struct stats_ratio r = stats_ratio(bits, bytes, set->count);
    free(bits);
    free(bytes);
    return r;
}
