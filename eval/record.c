/*
 * The lines of summary and item files; see record.h.
 */
#include "eval/record.h"

#include "common/fs.h"
#include "common/json.h"
#include "common/stream.h"
#include "model/kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

static void put_u64(struct buf *b, const char *key, uint64_t x)
{
    buf_printf(b, "\"%s\": %llu, ", key, (unsigned long long)x);
}

static void put_f64(struct buf *b, const char *key, double x)
{
    buf_printf(b, "\"%s\": ", key);
    json_put_f64(b, x);
    buf_puts(b, ", ");
}

static void put_text(struct buf *b, const char *key, const char *text)
{
    buf_printf(b, "\"%s\": ", key);
    json_put_cstring(b, text);
    buf_puts(b, ", ");
}

static void begin(struct buf *b, const struct record_source *src)
{
    buf_clear(b);
    buf_putc(b, '{');
    put_u64(b, "step", src->step);
    put_u64(b, "tokens", src->tokens);
}

static void end(struct buf *b, const struct record_source *src)
{
    put_text(b, "checkpoint_hash", src->checkpoint_hash);
    put_text(b, "settings", src->settings);
    buf_puts(b, "\"cpu_level\": ");
    json_put_cstring(b, cpu_level_name(kernels_level()));
    buf_putc(b, '}');
}

/* --- item files ------------------------------------------------------------------- */

char *record_items_path(const char *folder, const char *task, uint64_t step, int64_t seed)
{
    unsigned long long s = (unsigned long long)step;
    if (seed < 0)
        return fs_join(folder, "items/%s/step-%07llu.jsonl", task, s);
    return fs_join(folder, "items/%s/step-%07llu-seed-%lld.jsonl", task, s, (long long)seed);
}

static int open_items(struct writer *w, const struct record_source *src, const char *task,
                      int64_t seed, struct err *e)
{
    char *folder = fs_join(src->folder, "items/%s", task);
    char *path = record_items_path(src->folder, task, src->step, seed);
    int failed = fs_mkdirs(folder, e) || writer_open(w, path, e);
    free(folder);
    free(path);
    return failed ? -1 : 0;
}

/* Writes the line in b, or gives the whole file up. */
static int put_item(struct writer *w, struct buf *b, struct err *e)
{
    buf_puts(b, "}\n");
    if (writer_write(w, b->data, b->len, e) == 0)
        return 0;
    writer_abort(w);
    return -1;
}

static int write_bpb_items(const struct record_source *src, const struct bpb_set *set,
                           const struct shard *shard, struct err *e)
{
    struct writer w;
    struct buf b = {0};
    int failed = open_items(&w, src, "bpb", -1, e);
    if (failed)
        return -1;
    for (size_t i = 0; i < set->count && !failed; i++) {
        const struct bpb_document *d = &set->docs[i];
        size_t len;
        const char *id = shard_doc_id(shard, d->doc, &len);
        begin(&b, src);
        buf_puts(&b, "\"task\": \"bpb\", \"id\": ");
        json_put_string(&b, id, len);
        buf_puts(&b, ", ");
        put_u64(&b, "scored_tokens", d->tokens);
        put_u64(&b, "bytes", d->bytes);
        buf_puts(&b, "\"nats\": ");
        json_put_f64(&b, d->nats);
        failed = put_item(&w, &b, e);
    }
    buf_release(&b);
    return failed ? -1 : writer_commit(&w, e);
}

static int write_task_items(const struct record_source *src, const struct task *t,
                            const struct task_data *d, const struct classify_result *r,
                            uint64_t seed, struct err *e)
{
    struct writer w;
    struct buf b = {0};
    double *p = mem_alloc((size_t)d->class_count * sizeof(*p));
    int failed = open_items(&w, src, t->name, (int64_t)seed, e);
    bool opened = !failed;
    for (size_t i = 0; i < r->count && !failed; i++) {
        const struct task_item *item = &d->test.items[i];
        begin(&b, src);
        put_text(&b, "task", t->name);
        put_u64(&b, "seed", seed);
        put_u64(&b, "line", item->line); /* of the test file: the item's id */
        put_text(&b, "gold", d->labels[item->label]);
        put_text(&b, "pred", d->labels[r->pred[i]]);
        buf_puts(&b, "\"scores\": {");
        head_probabilities(r->logits + i * (size_t)d->class_count, d->class_count, p);
        for (int32_t k = 0; k < d->class_count; k++) {
            json_put_cstring(&b, d->labels[k]);
            buf_printf(&b, ": %.6g%s", p[k], k + 1 < d->class_count ? ", " : "}");
        }
        failed = put_item(&w, &b, e);
    }
    free(p);
    buf_release(&b);
    return failed || !opened ? -1 : writer_commit(&w, e);
}

/* --- summaries -------------------------------------------------------------------- */

static int replace(struct store *store, const struct store_key *key, struct buf *line,
                   struct err *e)
{
    store_remove(store, key);
    store_add(store, line->data, line->len);
    buf_release(line);
    return store_save(store, e);
}

int record_bpb(struct store *store, const struct record_source *src, const struct bpb_set *set,
               const struct shard *shard, struct err *e)
{
    struct stats_ratio r = bpb_result(set);
    struct buf b = {0};
    double nats = 0;
    for (size_t i = 0; i < set->count; i++)
        nats += set->docs[i].nats;
    if (write_bpb_items(src, set, shard, e))
        return -1;
    begin(&b, src);
    put_f64(&b, "bits_per_byte", r.value);
    put_f64(&b, "stderr", r.error);
    put_u64(&b, "documents", set->count);
    put_u64(&b, "scored_tokens", set->tokens);
    put_u64(&b, "bytes", set->bytes);
    put_f64(&b, "nats", nats);
    end(&b, src);
    return replace(store, &(struct store_key){src->step, NULL, -1}, &b, e);
}

int record_task(struct store *store, const struct record_source *src, const struct task *t,
                const struct task_data *d, const struct classify_result *r, uint64_t seed,
                struct err *e)
{
    struct buf b = {0};
    enum metric metric = (enum metric)t->metric;
    if (write_task_items(src, t, d, r, seed, e))
        return -1;
    begin(&b, src);
    put_text(&b, "task", t->name);
    put_text(&b, "metric", metric_name(metric));
    put_f64(&b, "score", metrics_get(&r->score, metric));
    put_f64(&b, "stderr", metrics_get(&r->error, metric));
    put_u64(&b, "seed", seed);
    put_u64(&b, "n", r->count);
    put_u64(&b, "train_n", r->train_count);
    put_f64(&b, "macro_f1", r->score.macro_f1);
    put_f64(&b, "micro_f1", r->score.micro_f1);
    put_f64(&b, "accuracy", r->score.accuracy);
    put_f64(&b, "train_loss", r->train_loss);
    put_u64(&b, "malformed", d->train.malformed + d->test.malformed);
    put_u64(&b, "truncated", r->truncated);
    end(&b, src);
    return replace(store, &(struct store_key){src->step, t->name, (int64_t)seed}, &b, e);
}

int record_samples(struct store *store, const struct record_source *src,
                   const struct sample *samples, struct err *e)
{
    struct buf b = {0};
    store_remove(store, &(struct store_key){src->step, NULL, -1});
    for (int i = 0; i < SAMPLES_PROMPTS * SAMPLE_MODES; i++) {
        const struct sample *s = &samples[i];
        begin(&b, src);
        put_text(&b, "prompt", s->prompt);
        put_text(&b, "mode", sample_mode_name(s->mode));
        put_f64(&b, "temperature", sample_sampler(s->mode)->temperature);
        put_f64(&b, "top_nsigma", sample_sampler(s->mode)->top_nsigma);
        put_u64(&b, "seed", s->seed);
        buf_puts(&b, "\"text\": ");
        json_put_string(&b, s->text.data ? s->text.data : "", s->text.len);
        buf_printf(&b, ", \"ended\": %s, ", s->ended ? "true" : "false");
        put_u64(&b, "generated_tokens", s->tokens);
        end(&b, src);
        store_add(store, b.data, b.len);
    }
    buf_release(&b);
    return store_save(store, e);
}
