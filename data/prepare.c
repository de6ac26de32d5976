/*
 * Rounds of tasks over batches; see prepare.h for the order of things.
 */
#include "data/prepare.h"

#include "common/fs.h"
#include "common/json.h"
#include "common/log.h"
#include "common/threads.h"
#include "data/document.h"
#include "data/hash_set.h"
#include "data/output.h"
#include "data/ratio.h"
#include "data/source.h"

#include <inttypes.h>
#include <omp.h>
#include <string.h>

#define READ_BATCHES    8                    /* a file and round; the first file: 2 a thread */
#define FILES_OPEN_MAX  64                   /* small files at once */
#define SMALL_FILE      ((uint64_t)1 << 20)  /* bytes */
#define IN_FLIGHT_BYTES ((uint64_t)16 << 20) /* a thread, read and not yet deduplicated */
#define FINISH_BATCHES  16                   /* a thread and round */
#define NAMED_LINES     5                    /* of each kind of bad line */

/* A batch on its way, and what became of it. */
struct job {
    struct job *next;
    struct batch batch;
    bool read, parsed;
    uint64_t line_base; /* lines of the file before this batch */
    struct buf out;     /* the documents kept, as lines */
    uint64_t kept, emptied, words, characters, bytes;
    uint64_t fates[FATE_COUNT]; /* of paragraphs that deduplication had kept */
};

/* Jobs in canonical order. */
struct job_list {
    struct job **v;
    size_t count, capacity;
};

/* A file being read, with the jobs it was given and that were not yet deduplicated. */
struct slot {
    struct source source;
    struct job *head, *tail;
    struct job *fresh; /* first job still to be read */
};

/* One thread's memory. */
struct worker {
    struct parser parser;
    struct buf text;
};

enum task_kind { TASK_DEDUP, TASK_WRITE, TASK_READ, TASK_FINISH, TASK_PARSE, TASK_PACK };

struct task {
    enum task_kind kind;
    void *object; /* struct slot, job or output_block */
};

struct prepare {
    const struct prepare_settings *settings;
    struct selection selection;
    struct ledger *ledger;
    struct fs_list files;
    size_t next_file;
    struct slot *slots[FILES_OPEN_MAX]; /* canonical order */
    size_t slot_count;
    struct job *pool;
    size_t pool_count;
    uint64_t in_flight; /* bytes */
    struct hash_set documents, paragraphs;
    struct ratio ratio;
    bool measuring; /* the ratio's tokenizer is ready; until then jobs wait in held */
    struct ratio_supply supply;
    size_t sample_count; /* the first of held are what it learns from; 0: not yet enough */
    struct job_list held, to_dedup, to_finish;
    size_t finishing; /* the first of to_finish are done in this round */
    struct output output;
    size_t packed, to_write; /* full blocks of the output */
    struct worker *workers;
    struct task *tasks;
    size_t task_count, task_capacity;
    uint64_t named[REMOVAL_COUNT];
    uint64_t bytes_done, file_done; /* on disk: of all files, of the one being deduplicated */
    struct progress progress;
    bool failed;
    struct err error;
};

/* --- jobs ---------------------------------------------------------------- */

static struct job *job_new(struct prepare *p)
{
    struct job *j = p->pool;
    if (!j)
        return mem_zalloc(1, sizeof(*j));
    p->pool = j->next;
    p->pool_count--;
    return j;
}

static void job_free(struct job *j)
{
    batch_release(&j->batch);
    buf_release(&j->out);
    free(j);
}

/* Batches that are finished in a round, at most, and jobs that are kept for reuse. */
static size_t round_batches(void)
{
    return FINISH_BATCHES * (size_t)threads_count();
}

static void job_recycle(struct prepare *p, struct job *j)
{
    if (p->pool_count >= round_batches()) {
        job_free(j);
        return;
    }
    struct buf out = j->out;
    struct batch batch = j->batch;
    batch_clear(&batch);
    memset(j, 0, sizeof(*j));
    j->batch = batch;
    j->out = out;
    j->out.len = 0;
    if (j->out.capacity > BATCH_KEEP_BYTES)
        buf_release(&j->out);
    j->next = p->pool;
    p->pool = j;
    p->pool_count++;
}

static void list_add(struct job_list *l, struct job *j)
{
    l->v = mem_grow(l->v, &l->capacity, l->count + 1, sizeof(struct job *));
    l->v[l->count++] = j;
}

static void list_free(struct job_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        job_free(l->v[i]);
    free(l->v);
    memset(l, 0, sizeof(*l));
}

static void fail(struct prepare *p, const struct err *e)
{
#pragma omp critical(prepare_fail)
    {
        if (!p->failed)
            p->error = *e;
        p->failed = true;
    }
}

/* --- deduplication: one task, in canonical order -------------------------- */

static void name_bad_lines(struct prepare *p, const struct job *j)
{
    const char *path = p->files.paths[j->batch.file];
    for (size_t i = 0; i < j->batch.bad_count && !p->failed; i++) {
        const struct bad_line *bad = &j->batch.bad[i];
        struct err e = {{0}};
        err_set(&e, "%s:%" PRIu64 ": byte %zu: %s: %s", path, j->line_base + bad->line + 1,
                bad->byte, removal_names[bad->removal], bad->why);
        if (p->settings->strict) {
            fail(p, &e);
            return;
        }
        if (++p->named[bad->removal] <= NAMED_LINES)
            log_warn("%s; line left out%s", e.msg,
                     p->named[bad->removal] == NAMED_LINES ? " (more of this kind are only counted)"
                                                           : "");
    }
}

/* A file counts with the size that it had when it was listed, even if it grows or is damaged. */
static void count_progress(struct prepare *p, const struct batch *b)
{
    uint64_t bytes = p->ledger->files[b->file].bytes;
    uint64_t done = b->last || b->bytes_read > bytes ? bytes : b->bytes_read;
    p->bytes_done += done - p->file_done;
    p->file_done = b->last ? 0 : done;
}

static void end_of_file(struct prepare *p, struct job *j)
{
    struct ledger_file *f = &p->ledger->files[j->batch.file];
    if (!j->batch.error)
        return;
    f->error = j->batch.error;
    j->batch.error = NULL;
    if (p->settings->strict) {
        struct err e;
        err_set(&e, "%s", f->error);
        fail(p, &e);
        return;
    }
    uint64_t whole = f->counts.lines_in - f->counts.removed[REMOVAL_TRUNCATED];
    log_warn("%s; %" PRIu64 " whole lines before that were read", f->error, whole);
}

/* Enters what reading counted into the ledger. */
static void count_batch(struct prepare *p, struct job *j)
{
    const struct batch *b = &j->batch;
    struct ledger *l = p->ledger;
    struct ledger_counts *file = &l->files[b->file].counts;
    j->line_base = file->lines_in;
    file->lines_in += b->line_count;
    l->total.lines_in += b->line_count;
    for (int r = 0; r < REMOVAL_COUNT; r++) {
        file->removed[r] += b->removed[r];
        l->total.removed[r] += b->removed[r];
    }
    l->unlabelled_language += b->unlabelled_language;
    l->unlabelled_bucket += b->unlabelled_bucket;
    l->text_bytes += b->text_bytes;
    l->words_selected += b->text_words;
}

static void prefetch_document(const struct prepare *p, const struct batch *b, size_t doc)
{
    if (doc >= b->doc_count)
        return;
    const struct document *d = &b->docs[doc];
    uint64_t key[2] = {d->hash.high, d->hash.low};
    hash_set_prefetch(&p->documents, key);
    for (uint32_t i = 0; i < d->paragraph_count; i++) {
        const struct paragraph *q = &b->paragraphs[d->paragraph_at + i];
        if (q->words >= p->selection.min_words)
            hash_set_prefetch(&p->paragraphs, &q->hash);
    }
}

static int dedup_paragraphs(struct prepare *p, struct batch *b, const struct document *d,
                            struct err *e)
{
    struct ledger *l = p->ledger;
    l->paragraphs_in += d->paragraph_count;
    if (!p->settings->dedup_paragraphs)
        return 0;
    for (uint32_t i = 0; i < d->paragraph_count; i++) {
        struct paragraph *q = &b->paragraphs[d->paragraph_at + i];
        if (q->words < p->selection.min_words)
            continue;
        int added = hash_set_add(&p->paragraphs, &q->hash, e);
        if (added < 0)
            return -1;
        if (!added) {
            q->fate = FATE_DUPLICATE;
            l->paragraphs[FATE_DUPLICATE]++;
        }
    }
    return 0;
}

static int dedup_batch(struct prepare *p, struct batch *b, struct err *e)
{
    struct ledger *l = p->ledger;
    prefetch_document(p, b, 0);
    for (size_t i = 0; i < b->doc_count; i++) {
        struct document *d = &b->docs[i];
        uint64_t key[2] = {d->hash.high, d->hash.low};
        prefetch_document(p, b, i + 1);
        if (p->settings->dedup_documents) {
            int added = hash_set_add(&p->documents, key, e);
            if (added < 0)
                return -1;
            if (!added) {
                d->removal = REMOVAL_DUPLICATE;
                l->files[b->file].counts.removed[REMOVAL_DUPLICATE]++;
                l->total.removed[REMOVAL_DUPLICATE]++;
                continue;
            }
        }
        if (dedup_paragraphs(p, b, d, e))
            return -1;
    }
    return 0;
}

static void task_dedup(struct prepare *p)
{
    for (size_t i = 0; i < p->to_dedup.count; i++) {
        struct job *j = p->to_dedup.v[i];
        struct err e;
        count_batch(p, j);
        count_progress(p, &j->batch);
        name_bad_lines(p, j);
        if (dedup_batch(p, &j->batch, &e)) {
            fail(p, &e);
            return;
        }
        if (j->batch.last)
            end_of_file(p, j);
    }
}

/* --- measuring and formatting: in parallel ------------------------------- */

/* "2023-06/0000/de_head.json.gz" from a path in RedPajama-V2's layout, or NULL. */
static const char *redpajama_tag(const char *path)
{
    const char *at = path + strlen(path);
    for (int slashes = 0; at > path; at--)
        if (at[-1] == '/' && ++slashes == 3)
            break;
    static const char shape[] = "dddd-dd/dddd/";
    for (size_t i = 0; shape[i]; i++)
        if (shape[i] == 'd' ? at[i] < '0' || at[i] > '9' : at[i] != shape[i])
            return NULL;
    return at;
}

static void put_id(struct buf *out, const struct job *j, const struct document *d, const char *path)
{
    const char *tag = d->is_raw_content ? redpajama_tag(path) : NULL;
    struct buf id = {0};
    uint64_t line = j->line_base + d->line;
    if (d->has_id) {
        buf_add(out, j->batch.meta.data + d->id_at, d->id_len);
        return;
    }
    if (tag)
        buf_printf(&id, "%s/%" PRIu64, tag, line);
    else if (j->batch.kind == BATCH_TEXT)
        buf_puts(&id, path);
    else
        buf_printf(&id, "%s:%" PRIu64, path, line + 1);
    json_put_string(out, id.data, id.len);
    buf_release(&id);
}

static void put_document(struct job *j, const struct document *d, const struct buf *text,
                         const char *path)
{
    struct buf *out = &j->out;
    buf_puts(out, "{\"id\":");
    put_id(out, j, d, path);
    buf_puts(out, ",\"text\":");
    json_put_string(out, text->data, text->len);
    buf_add(out, j->batch.meta.data + d->meta_at, d->meta_len);
    buf_puts(out, ",\"source\":");
    json_put_cstring(out, path);
    buf_puts(out, "}\n");
    j->kept++;
    j->bytes += text->len;
    j->characters += text_characters(text->data, text->len);
}

static void finish_document(struct prepare *p, struct job *j, struct document *d, int thread)
{
    struct batch *b = &j->batch;
    struct paragraph *q = b->paragraphs + d->paragraph_at;
    uint64_t words = 0, kept = 0;
    for (uint32_t i = 0; i < d->paragraph_count; i++) {
        if (q[i].fate != FATE_KEPT)
            continue;
        q[i].fate = ratio_judge(&p->ratio, thread, b->text.data + q[i].at, q[i].len, q[i].words);
        j->fates[q[i].fate]++;
        words += q[i].fate == FATE_KEPT ? q[i].words : 0;
        kept += q[i].fate == FATE_KEPT;
    }
    struct buf *text = &p->workers[thread].text;
    text->len = 0;
    if (!document_text(b, d, text)) {
        j->emptied++;
        j->fates[FATE_KEPT] -= kept;
        j->fates[FATE_EMPTY_DOCUMENT] += kept;
        return;
    }
    j->words += words;
    put_document(j, d, text, p->files.paths[b->file]);
}

static void task_finish(struct prepare *p, struct job *j)
{
    for (size_t i = 0; i < j->batch.doc_count; i++)
        if (!j->batch.docs[i].removal)
            finish_document(p, j, &j->batch.docs[i], omp_get_thread_num());
}

/* --- rounds -------------------------------------------------------------- */

static void task_read(struct slot *s)
{
    for (; s->fresh && !s->source.done; s->fresh = s->fresh->next) {
        source_read(&s->source, &s->fresh->batch);
        s->fresh->read = true;
    }
}

static void task_run(struct prepare *p, const struct task *t)
{
    struct err e;
    struct job *j = t->object;
    switch (t->kind) {
    case TASK_DEDUP:
        task_dedup(p);
        break;
    case TASK_WRITE:
        if (output_write(&p->output, p->to_write, &e))
            fail(p, &e);
        break;
    case TASK_READ:
        task_read(t->object);
        break;
    case TASK_FINISH:
        task_finish(p, j);
        break;
    case TASK_PARSE:
        batch_parse(&j->batch, &p->workers[omp_get_thread_num()].parser, &p->selection);
        j->parsed = true;
        break;
    case TASK_PACK:
        output_block_pack(t->object);
        break;
    }
}

static void add_task(struct prepare *p, enum task_kind kind, void *object)
{
    p->tasks = mem_grow(p->tasks, &p->task_capacity, p->task_count + 1, sizeof(*p->tasks));
    p->tasks[p->task_count++] = (struct task){kind, object};
}

static struct slot *open_slot(struct prepare *p)
{
    struct slot *s = mem_zalloc(1, sizeof(*s));
    source_init(&s->source, p->files.paths[p->next_file], p->next_file,
                p->selection.max_line_bytes);
    p->next_file++;
    p->slots[p->slot_count++] = s;
    return s;
}

static void give_jobs(struct prepare *p, struct slot *s, int count)
{
    for (int i = 0; i < count; i++) {
        struct job *j = job_new(p);
        j->next = NULL;
        if (s->tail)
            s->tail->next = j;
        else
            s->head = j;
        s->tail = j;
        if (!s->fresh)
            s->fresh = j;
    }
}

/* Reading goes on in the first file always, and in more while memory and threads last. Large
 * files count as work for a thread; of small ones many are opened. */
static void plan_reading(struct prepare *p)
{
    uint64_t limit = IN_FLIGHT_BYTES * (uint64_t)threads_count();
    uint64_t planned = p->in_flight;
    int large = 0;
    if (p->to_finish.count > 2 * round_batches())
        return;
    for (size_t i = 0; i < FILES_OPEN_MAX; i++) {
        if (i == p->slot_count && p->next_file == p->files.count)
            return;
        if ((i && planned >= limit) || large > threads_count())
            return;
        struct slot *s = i < p->slot_count ? p->slots[i] : open_slot(p);
        if (s->source.done)
            continue;
        uint64_t bytes = p->ledger->files[s->source.file].bytes;
        large += bytes > SMALL_FILE;
        planned += bytes < SMALL_FILE / 4 ? bytes : READ_BATCHES * SOURCE_BATCH_BYTES;
        give_jobs(p, s,
                  i || threads_count() < READ_BATCHES / 2 ? READ_BATCHES : 2 * threads_count());
        add_task(p, TASK_READ, s);
    }
}

/* Long tasks first, so that threads end together. */
static void plan_round(struct prepare *p)
{
    p->task_count = 0;
    p->to_write = p->packed;
    if (p->to_dedup.count)
        add_task(p, TASK_DEDUP, NULL);
    if (p->to_write)
        add_task(p, TASK_WRITE, NULL);
    plan_reading(p);
    p->finishing = p->to_finish.count < round_batches() ? p->to_finish.count : round_batches();
    for (size_t i = 0; i < p->finishing; i++)
        add_task(p, TASK_FINISH, p->to_finish.v[i]);
    for (size_t i = 0; i < p->slot_count; i++)
        for (struct job *j = p->slots[i]->head; j; j = j->next)
            if (j->read && !j->parsed)
                add_task(p, TASK_PARSE, j);
    for (size_t i = p->packed; i < p->output.full_count; i++)
        add_task(p, TASK_PACK, p->output.full[i]);
}

/* Jobs given to a file that ended before it came to them go back. */
static void take_back_jobs(struct prepare *p, struct slot *s)
{
    struct job *last = NULL;
    for (struct job *j = s->head; j && j->read; j = j->next)
        last = j;
    struct job *rest = last ? last->next : s->head;
    if (last)
        last->next = NULL;
    else
        s->head = NULL;
    s->tail = last;
    s->fresh = NULL;
    while (rest) {
        struct job *next = rest->next;
        job_recycle(p, rest);
        rest = next;
    }
}

static void retire_finished(struct prepare *p)
{
    struct ledger *l = p->ledger;
    for (size_t i = 0; i < p->finishing; i++) {
        struct job *j = p->to_finish.v[i];
        struct ledger_counts *file = &l->files[j->batch.file].counts;
        output_add(&p->output, j->out.data, j->out.len);
        file->kept += j->kept;
        l->total.kept += j->kept;
        file->removed[REMOVAL_EMPTY] += j->emptied;
        l->total.removed[REMOVAL_EMPTY] += j->emptied;
        l->kept_bytes += j->bytes;
        l->words_kept += j->words;
        l->characters_kept += j->characters;
        for (int f = 0; f < FATE_COUNT; f++)
            l->paragraphs[f] += j->fates[f];
        job_recycle(p, j);
    }
    p->to_finish.count -= p->finishing;
    if (!p->to_finish.count)
        return;
    memmove(p->to_finish.v, p->to_finish.v + p->finishing,
            p->to_finish.count * sizeof(struct job *));
}

/* The parsed jobs that are next in canonical order. */
static void collect_parsed(struct prepare *p)
{
    size_t done = 0;
    p->to_dedup.count = 0;
    while (done < p->slot_count) {
        struct slot *s = p->slots[done];
        bool last = false;
        while (s->head && s->head->parsed) {
            struct job *j = s->head;
            s->head = j->next;
            if (!s->head)
                s->tail = NULL;
            last = j->batch.last;
            list_add(&p->to_dedup, j);
        }
        if (!last)
            break;
        MW_ASSERT(!s->head);
        source_release(&s->source);
        free(s);
        done++;
    }
    p->slot_count -= done;
    memmove(p->slots, p->slots + done, p->slot_count * sizeof(p->slots[0]));
}

static struct ratio_options ratio_options(const struct prepare_settings *s)
{
    return (struct ratio_options){.max = s->max_token_word_ratio,
                                  .tokenizer = s->ratio_tokenizer,
                                  .vocab_size = (uint32_t)s->bootstrap_vocab_size,
                                  .min_frequency = (uint64_t)s->bootstrap_min_frequency,
                                  .train_bytes = (uint64_t)s->bootstrap_bytes};
}

/* Until the measuring tokenizer is ready, deduplicated jobs wait, reduced to what is kept. How
 * many come in one round depends on the threads, so the sample ends at one job, not at a round. */
static void hold(struct prepare *p, struct job *j)
{
    struct ratio_options o = ratio_options(p->settings);
    batch_compact(&j->batch);
    list_add(&p->held, j);
    if (p->sample_count)
        return;
    ratio_gather(&p->supply, &j->batch);
    if (ratio_enough(&p->supply, &o))
        p->sample_count = p->held.count;
}

static int start_measuring(struct prepare *p)
{
    struct ratio_options o = ratio_options(p->settings);
    size_t count = p->sample_count ? p->sample_count : p->held.count;
    struct batch **batches = mem_alloc((count + 1) * sizeof(struct batch *));
    for (size_t i = 0; i < count; i++)
        batches[i] = &p->held.v[i]->batch;
    struct ratio_text text = {batches, count};
    int failed = ratio_init(&p->ratio, &o, &text, &p->ledger->ratio, &p->error);
    free(batches);
    if (failed) {
        p->failed = true;
        return -1;
    }
    struct job_list ready = p->held;
    p->held = p->to_finish;
    p->to_finish = ready;
    p->measuring = true;
    return 0;
}

static bool input_is_over(const struct prepare *p)
{
    return p->next_file == p->files.count && !p->slot_count;
}

/* What the round has made moves on. */
static void end_round(struct prepare *p)
{
    p->packed = p->output.full_count;
    retire_finished(p);
    for (size_t i = 0; i < p->to_dedup.count; i++) {
        struct job *j = p->to_dedup.v[i];
        if (p->measuring)
            list_add(&p->to_finish, j);
        else
            hold(p, j);
    }
    for (size_t i = 0; i < p->slot_count; i++)
        take_back_jobs(p, p->slots[i]);
    collect_parsed(p);
    p->in_flight = 0;
    for (size_t i = 0; i < p->slot_count; i++)
        for (struct job *j = p->slots[i]->head; j; j = j->next)
            p->in_flight += j->batch.text.len + j->batch.raw.len;
    if (!p->measuring && !p->failed &&
        (p->sample_count || (input_is_over(p) && !p->to_dedup.count)))
        start_measuring(p);
    if (input_is_over(p) && !p->to_dedup.count && !p->to_finish.count && p->measuring)
        output_flush(&p->output);
}

static void show_progress(struct prepare *p)
{
    struct buf note = {0};
    buf_printf(&note, "%s documents kept", log_count((double)p->ledger->total.kept));
    progress_update(&p->progress, p->bytes_done, note.data);
    buf_release(&note);
}

static void run_rounds(struct prepare *p)
{
    for (plan_round(p); p->task_count && !p->failed; plan_round(p)) {
#pragma omp parallel for schedule(dynamic, 1)
        for (size_t i = 0; i < p->task_count; i++)
            task_run(p, &p->tasks[i]);
        if (!p->failed)
            end_round(p);
        show_progress(p);
    }
}

/* --- before and after ---------------------------------------------------- */

/* Our own ledgers in the input are no documents; our own output must not be input. */
static int list_input(struct prepare *p, struct err *e)
{
    const struct prepare_settings *s = p->settings;
    struct fs_list all = {0};
    char *out = realpath(s->out, NULL);
    size_t out_len = out ? strlen(out) : 0;
    int failed = fs_list_files(&all, s->in.items, s->in.count, e);
    for (size_t i = 0; i < all.count && !failed; i++) {
        char *real = out ? realpath(all.paths[i], NULL) : NULL;
        if (real && !strncmp(real, out, out_len) && real[out_len] == '/')
            failed = err_set(e, "%s lies in the output folder; it cannot be input too",
                             all.paths[i]);
        free(real);
        if (failed || !strcmp(fs_base(all.paths[i]), LEDGER_NAME))
            continue;
        struct ledger_file *f = ledger_add_file(p->ledger, all.paths[i]);
        failed = fs_size(f->path, &f->bytes, e);
        p->ledger->bytes_read += f->bytes;
        p->files.paths = mem_grow(p->files.paths, &p->files.capacity, p->files.count + 1,
                                  sizeof(char *));
        p->files.paths[p->files.count++] = mem_strdup(all.paths[i]);
    }
    if (!failed && !p->files.count)
        failed = err_set(e, "no files in what --in names");
    fs_list_release(&all);
    free(out);
    return failed;
}

static void record_sets(struct prepare *p)
{
    struct ledger *l = p->ledger;
    l->documents = (struct ledger_set){p->documents.count, p->documents.bytes, 128};
    l->texts = (struct ledger_set){p->paragraphs.count, p->paragraphs.bytes, 64};
    l->ratio.counted = ratio_counted(&p->ratio);
}

static int conclude(struct prepare *p, struct err *e)
{
    if (output_finish_files(&p->output, e))
        return -1;
    record_sets(p);
    if (ledger_check(p->ledger, e))
        return err_add(e, "a bug in this program");
    return output_commit(&p->output, e);
}

static void prepare_release(struct prepare *p)
{
    for (size_t i = 0; i < p->slot_count; i++) {
        struct job *next;
        for (struct job *j = p->slots[i]->head; j; j = next) {
            next = j->next;
            job_free(j);
        }
        source_release(&p->slots[i]->source);
        free(p->slots[i]);
    }
    struct job *next;
    for (struct job *j = p->pool; j; j = next) {
        next = j->next;
        job_free(j);
    }
    for (int i = 0; p->workers && i < threads_count(); i++) {
        parser_release(&p->workers[i].parser);
        buf_release(&p->workers[i].text);
    }
    list_free(&p->held);
    list_free(&p->to_finish);
    list_free(&p->to_dedup);
    free(p->workers);
    free(p->tasks);
    fs_list_release(&p->files);
    hash_set_release(&p->documents);
    hash_set_release(&p->paragraphs);
    ratio_release(&p->ratio);
    output_release(&p->output);
}

int prepare_run(const struct prepare_settings *s, struct ledger *l, struct err *e)
{
    struct prepare p = {.settings = s, .ledger = l, .output = {.lock = -1}};
    memset(l, 0, sizeof(*l));
    p.selection = (struct selection){.languages = s->languages.items,
                                     .language_count = s->languages.count,
                                     .buckets = s->buckets.items,
                                     .bucket_count = s->buckets.count,
                                     .max_line_bytes = (size_t)s->max_line_bytes,
                                     .min_words = (uint32_t)s->min_paragraph_words};
    hash_set_init(&p.documents, 2);
    hash_set_init(&p.paragraphs, 1);
    p.workers = mem_zalloc((size_t)threads_count(), sizeof(*p.workers));
    p.measuring = s->max_token_word_ratio <= 0;
    prepare_record(s, &l->settings);
    int failed = list_input(&p, e) ||
                 output_open(&p.output, s->out, s->force, (uint64_t)s->file_bytes, l, e);
    if (!failed) {
        progress_start(&p.progress, "preparing", l->bytes_read, PROGRESS_BYTES);
        run_rounds(&p);
        failed = p.failed;
        if (failed)
            *e = p.error;
        else
            progress_finish(&p.progress, NULL);
    }
    if (!failed)
        failed = conclude(&p, e);
    prepare_release(&p);
    return failed ? -1 : 0;
}
