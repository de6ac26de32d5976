/*
 * Counting tokens per paragraph, and the tokenizer that does it; see ratio.h.
 */
#include "data/ratio.h"

#include "common/log.h"
#include "common/threads.h"
#include "tokenizer/bpe_train.h"

#include <string.h>

#define BOOTSTRAP_PATTERN "gpt2" /* of the paper's measuring tokenizer */

/* German text has about 1.4 tokens a word with 32,000 entries learned on 64 MB of it. From here on
 * words are cut so small that long ones come near 8. */
#define TOKENS_PER_WORD_DOUBTFUL 2.5

#define TRAIN_WORD_BYTES_MAX 12.0 /* of a paragraph to learn from, white space included */

/* Whether a paragraph is kept and looks like running text. */
static bool is_usable(const struct paragraph *p)
{
    return p->fate == FATE_KEPT && p->len <= TRAIN_WORD_BYTES_MAX * p->words;
}

/* Calls `use` for each usable paragraph until it has given out `limit` bytes; *bytes says
 * how many. */
typedef int (*paragraph_use)(void *context, const char *text, const struct paragraph *p,
                             struct err *e);

static int each_paragraph(const struct ratio_text *t, uint64_t limit, paragraph_use use,
                          void *context, uint64_t *bytes, struct err *e)
{
    *bytes = 0;
    for (size_t i = 0; i < t->count; i++) {
        const struct batch *b = t->batches[i];
        for (size_t d = 0; d < b->doc_count; d++) {
            const struct document *doc = &b->docs[d];
            if (doc->removal)
                continue;
            for (uint32_t k = 0; k < doc->paragraph_count; k++) {
                const struct paragraph *p = &b->paragraphs[doc->paragraph_at + k];
                if (!is_usable(p))
                    continue;
                if (*bytes + p->len > limit && *bytes)
                    return 0;
                if (use(context, b->text.data + p->at, p, e))
                    return -1;
                *bytes += p->len;
            }
        }
    }
    return 0;
}

static int use_for_training(void *context, const char *text, const struct paragraph *p,
                            struct err *e)
{
    return bpe_trainer_feed(context, text, p->len, e);
}

struct calibration {
    struct ratio_worker *worker;
    uint64_t words, tokens;
};

static int use_for_calibration(void *context, const char *text, const struct paragraph *p,
                               struct err *e)
{
    struct calibration *c = context;
    c->worker->ids.count = 0;
    if (encoder_encode(c->worker->encoder, text, p->len, ENCODE_PLAIN, &c->worker->ids, e))
        return -1;
    c->words += p->words;
    c->tokens += c->worker->ids.count;
    return 0;
}

static int train(struct ratio *r, const struct ratio_options *o, const struct ratio_text *text,
                 struct ledger_ratio *facts, struct err *e)
{
    struct bpe_train_options options = {.vocab_size = o->vocab_size,
                                        .min_frequency = o->min_frequency,
                                        .pattern = BOOTSTRAP_PATTERN};
    struct bpe_trainer *trainer;
    if (bpe_trainer_new(&trainer, &options, e))
        return err_add(e, "bootstrap tokenizer");
    int failed = each_paragraph(text, o->train_bytes, use_for_training, trainer,
                                &facts->trained_bytes, e);
    if (!failed) {
        log_info("training the bootstrap tokenizer on the first %s of text",
                 log_bytes(facts->trained_bytes));
        failed = bpe_trainer_train(trainer, &r->tokenizer, e);
    }
    bpe_trainer_free(trainer);
    return failed ? err_add(e, "bootstrap tokenizer") : 0;
}

static int calibrate(struct ratio *r, const struct ratio_text *text, struct ledger_ratio *facts,
                     struct err *e)
{
    struct calibration c = {.worker = &r->workers[0]};
    uint64_t bytes;
    if (each_paragraph(text, RATIO_SAMPLE_BYTES, use_for_calibration, &c, &bytes, e))
        return err_add(e, "calibration of the token-to-word ratio");
    facts->sample_words = c.words;
    facts->sample_tokens = c.tokens;
    double mean = c.words ? (double)c.tokens / (double)c.words : 0;
    if (mean > TOKENS_PER_WORD_DOUBTFUL) {
        struct buf note = {0};
        buf_printf(&note,
                   "the measuring tokenizer needs %.2f tokens a word on this corpus, where one of "
                   "32,000 entries for its language needs about 1.4: paragraphs of long words may "
                   "be removed wrongly; "
                   "a tokenizer learned on more text can be given with --ratio-tokenizer",
                   mean);
        facts->note = note.data;
    }
    return 0;
}

void ratio_gather(struct ratio_supply *s, const struct batch *b)
{
    for (size_t i = 0; i < b->doc_count; i++) {
        const struct document *d = &b->docs[i];
        for (uint32_t k = 0; !d->removal && k < d->paragraph_count; k++) {
            const struct paragraph *p = &b->paragraphs[d->paragraph_at + k];
            s->kept += p->fate == FATE_KEPT ? p->len : 0;
            s->usable += is_usable(p) ? p->len : 0;
        }
    }
}

bool ratio_enough(const struct ratio_supply *s, const struct ratio_options *o)
{
    bool given = o->tokenizer && *o->tokenizer;
    uint64_t want = RATIO_SAMPLE_BYTES;
    if (!given && o->train_bytes > want)
        want = o->train_bytes;
    return s->usable >= want || s->kept / RATIO_SUPPLY_FACTOR >= want;
}

int ratio_init(struct ratio *r, const struct ratio_options *o, const struct ratio_text *text,
               struct ledger_ratio *facts, struct err *e)
{
    bool given = o->tokenizer && *o->tokenizer;
    memset(r, 0, sizeof(*r));
    r->max = facts->max = o->max;
    facts->tokenizer = mem_strdup(o->max <= 0 ? "off" : given ? o->tokenizer : "bootstrap");
    if (o->max <= 0)
        return 0;
    if (given ? tokenizer_load(&r->tokenizer, o->tokenizer, e) : train(r, o, text, facts, e))
        return -1;
    r->workers = mem_zalloc((size_t)threads_count(), sizeof(*r->workers));
    for (int i = 0; i < threads_count(); i++)
        r->workers[i].encoder = encoder_new(r->tokenizer);
    facts->pattern = mem_strdup(tokenizer_pattern_name(r->tokenizer));
    facts->vocab_size = tokenizer_vocab_size(r->tokenizer);
    return calibrate(r, text, facts, e);
}

void ratio_release(struct ratio *r)
{
    for (int i = 0; r->workers && i < threads_count(); i++) {
        encoder_free(r->workers[i].encoder);
        ids_release(&r->workers[i].ids);
    }
    free(r->workers);
    if (r->tokenizer)
        tokenizer_free(r->tokenizer);
    memset(r, 0, sizeof(*r));
}

enum fate ratio_judge(struct ratio *r, int worker, const char *text, size_t len, uint32_t words)
{
    double most = r->max * words;
    if (!r->tokenizer || !words || (double)len <= most)
        return FATE_KEPT;
    struct ratio_worker *w = &r->workers[worker];
    struct err e;
    w->counted++;
    int exceeds = encoder_exceeds(w->encoder, text, len, (size_t)most, &w->ids, &e);
    return exceeds < 0 ? FATE_UNMEASURED : exceeds ? FATE_RATIO : FATE_KEPT;
}

uint64_t ratio_counted(const struct ratio *r)
{
    uint64_t sum = 0;
    for (int i = 0; r->workers && i < threads_count(); i++)
        sum += r->workers[i].counted;
    return sum;
}
