/*
 * From task items to scores; see classify.h.
 */
#include "eval/classify.h"

#include "common/mem.h"
#include "eval/wordcut.h"

#include <stdlib.h>
#include <string.h>

#define BOOTSTRAP_SEED 1234

static size_t limited(size_t count, int64_t limit)
{
    return limit > 0 && (size_t)limit < count ? (size_t)limit : count;
}

static int64_t epochs_of(const struct task *t, const struct classify_options *o)
{
    return o->epochs ? o->epochs : t->epochs;
}

uint64_t classify_work(const struct task *t, const struct task_data *d,
                       const struct classify_options *o)
{
    return limited(d->train.count, o->limit) * (uint64_t)epochs_of(t, o) +
           limited(d->test.count, o->limit);
}

/* --- texts to ids --------------------------------------------------------------- */

/* Examples and the block their ids lie in. */
struct encoded {
    struct example *examples;
    size_t count;
    struct ids ids;
};

static void encoded_release(struct encoded *x)
{
    free(x->examples);
    ids_release(&x->ids);
}

/* Appends <s> and the words of one text, at most max tokens; returns whether it was cut. */
static int encode_text(struct encoder *encoder, struct wordcut *words, const struct task_item *item,
                       size_t max, struct ids *ids, struct err *e)
{
    struct buf text = {0};
    size_t begin = ids->count;
    int r = wordcut_run(words, item->text, item->len, &text, e);
    ids_add(ids, TOKEN_BOS);
    for (size_t at = 0; r == 0 && at < text.len && ids->count - begin <= max;) {
        size_t len = 1; /* a word and the blank in front of it */
        while (at + len < text.len && text.data[at + len] != ' ')
            len++;
        r = encoder_encode(encoder, text.data + at, len, ENCODE_PLAIN, ids, e);
        at += len;
    }
    buf_release(&text);
    if (r)
        return -1;
    if (ids->count - begin <= max)
        return 0;
    ids->count = begin + max;
    return 1;
}

static int encode_split(struct encoded *out, struct classify_result *r, const struct tokenizer *tok,
                        const struct task_split *split, size_t count, size_t max, struct err *e)
{
    struct wordcut *words = NULL;
    size_t *starts = mem_alloc((count + 1) * sizeof(*starts));
    int failed = wordcut_new(&words, e);
    struct encoder *encoder = encoder_new(tok);
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < count && failed >= 0; i++) {
        starts[i] = out->ids.count;
        failed = encode_text(encoder, words, &split->items[i], max, &out->ids, e);
        r->truncated += failed > 0;
    }
    encoder_free(encoder);
    wordcut_free(words);
    if (failed < 0) {
        free(starts);
        encoded_release(out);
        return err_add(e, "%s", split->path);
    }
    starts[count] = out->ids.count;
    out->count = count;
    out->examples = mem_alloc((count + 1) * sizeof(*out->examples));
    for (size_t i = 0; i < count; i++) { /* only now: the ids have stopped moving */
        size_t n = starts[i + 1] - starts[i];
        out->examples[i] = (struct example){out->ids.v + starts[i], n, split->items[i].label};
        if (n > r->tokens_max)
            r->tokens_max = n;
    }
    free(starts);
    return 0;
}

/* --- training, deciding, scoring -------------------------------------------------- */

static void score(struct classify_result *r, const struct task_data *d)
{
    int32_t *gold = mem_alloc((r->count + 1) * sizeof(*gold));
    for (size_t i = 0; i < r->count; i++) {
        gold[i] = d->test.items[i].label;
        r->pred[i] = head_decide(r->logits + i * (size_t)d->class_count, d->class_count);
    }
    r->score = metrics_classify(gold, r->pred, r->count, d->label_count);
    r->error = metrics_bootstrap(gold, r->pred, r->count, d->label_count, CLASSIFY_BOOTSTRAP,
                                 BOOTSTRAP_SEED);
    free(gold);
}

static double *weights_of(const struct encoded *train, int32_t K)
{
    uint64_t *counts = mem_zalloc((size_t)K, sizeof(*counts));
    double *weights = mem_alloc((size_t)K * sizeof(*weights));
    for (size_t i = 0; i < train->count; i++)
        counts[train->examples[i].label]++;
    class_weights(counts, K, weights);
    free(counts);
    return weights;
}

static int train_and_decide(struct classify_result *r, const struct model *m, const struct task *t,
                            const struct task_data *d, const struct classify_options *o,
                            const struct encoded *train, const struct encoded *test,
                            struct progress *p, struct err *e)
{
    const struct finetune_options fo = {
        .epochs = epochs_of(t, o),
        .batch = t->batch,
        .lr = t->lr,
        .weight_decay = t->weight_decay,
        .grad_clip = t->grad_clip,
        .warmup_share = t->warmup_share,
        .lora_rank = t->lora_rank,
        .lora_alpha = t->lora_alpha,
        .lora_dropout = t->lora_dropout,
        .seed = o->seed,
        .precision = o->precision,
    };
    struct finetune f;
    if (finetune_init(&f, m, &fo, d->class_count, (size_t)r->tokens_max, e))
        return -1;
    double *weights = weights_of(train, d->class_count);
    int failed = finetune_train(&f, train->examples, train->count, weights, p, e);
    if (!failed) {
        r->train_loss = f.epoch_loss;
        r->logits = mem_alloc((test->count + 1) * (size_t)d->class_count * sizeof(*r->logits));
        r->pred = mem_alloc((test->count + 1) * sizeof(*r->pred));
        finetune_predict(&f, test->examples, test->count, r->logits, p);
        score(r, d);
    }
    free(weights);
    finetune_release(&f);
    return failed;
}

int classify_run(struct classify_result *r, const struct model *m, const struct tokenizer *tok,
                 const struct task *t, const struct task_data *d, const struct classify_options *o,
                 struct progress *p, struct err *e)
{
    struct encoded train, test;
    int64_t longest = m->config.max_position_embeddings;
    size_t max = (size_t)(t->max_length < longest ? t->max_length : longest);
    memset(r, 0, sizeof(*r));
    r->train_count = limited(d->train.count, o->limit);
    r->count = limited(d->test.count, o->limit);
    if (encode_split(&train, r, tok, &d->train, r->train_count, max, e))
        return -1;
    if (encode_split(&test, r, tok, &d->test, r->count, max, e)) {
        encoded_release(&train);
        return -1;
    }
    int failed = train_and_decide(r, m, t, d, o, &train, &test, p, e);
    encoded_release(&train);
    encoded_release(&test);
    return failed ? err_add(e, "task %s", t->name) : 0;
}

void classify_result_release(struct classify_result *r)
{
    free(r->pred);
    free(r->logits);
    memset(r, 0, sizeof(*r));
}
