/* Owns reading of corpora for training and packing. */
#include "tokenizer/corpus.h"

#include "common/json.h"
#include "common/log.h"
#include "common/threads.h"

#include <inttypes.h>
#include <omp.h>
#include <string.h>

#define BATCH_BYTES ((size_t)8 << 20)
#define BATCH_LINES ((size_t)CORPUS_BLOCKS_MAX * CORPUS_BLOCK_LINES)
#define BAD_NAMED   10 /* bad lines named one by one; the others are only counted */

int corpus_init(struct corpus *c, char *const *paths, size_t count, struct err *e)
{
    size_t kept = 0;
    memset(c, 0, sizeof(*c));
    if (fs_list_files(&c->files, paths, count, e))
        return -1;
    for (size_t i = 0; i < c->files.count; i++) {
        uint64_t bytes;
        if (!strcmp(fs_base(c->files.paths[i]), "ledger.json")) {
            free(c->files.paths[i]);
            continue;
        }
        c->files.paths[kept++] = c->files.paths[i];
        if (fs_size(c->files.paths[kept - 1], &bytes, e) == 0)
            c->file_bytes += bytes;
    }
    c->files.count = kept;
    if (!kept) {
        corpus_release(c);
        return err_set(e, "no files in %s", count ? paths[0] : "an empty list");
    }
    return 0;
}

void corpus_init_lines(struct corpus *c, const char *path)
{
    memset(c, 0, sizeof(*c));
    c->plain_only = true;
    c->files.paths = mem_grow(NULL, &c->files.capacity, 1, sizeof(*c->files.paths));
    c->files.paths[c->files.count++] = mem_strdup(path);
}

static void close_file(struct corpus *c)
{
    if (!c->open)
        return;
    c->bytes_past += c->reader.bytes_in;
    lines_release(&c->lines);
    reader_close(&c->reader);
    c->open = false;
}

void corpus_release(struct corpus *c)
{
    close_file(c);
    fs_list_release(&c->files);
}

/* --- reading ------------------------------------------------------------------ */

/* Skips a byte-order mark at the start of JSON lines: only there it is not text. */
static void see_kind(struct corpus *c, const char **line, size_t *len)
{
    static const char bom[] = "\xEF\xBB\xBF";
    const char *s = *line;
    size_t skip = *len >= 3 && !memcmp(s, bom, 3) ? 3 : 0;
    c->json = !c->plain_only && stream_holds_json(c->files.paths[c->file - 1], s, *len);
    if (c->json) {
        *line += skip;
        *len -= skip;
    }
}

static void batch_add(struct corpus *c, struct corpus_batch *b, const char *line, size_t len)
{
    b->lines = mem_grow(b->lines, &b->capacity, b->count + 1, sizeof(*b->lines));
    b->lines[b->count++] = (struct corpus_line){
        .start = b->bytes.len,
        .len = line ? len : 0,
        .number = c->lines.number,
        .file = (uint32_t)(c->file - 1),
        .json = c->json,
        .too_long = !line,
        .bad = line ? NULL : "longer than 256 MiB",
    };
    if (line)
        buf_add(&b->bytes, line, len);
}

/* Fills b with the next lines; an empty one is the end. */
static int read_batch(struct corpus *c, struct corpus_batch *b, struct err *e)
{
    buf_clear(&b->bytes);
    b->count = 0;
    while (b->bytes.len < BATCH_BYTES && b->count < BATCH_LINES) {
        const char *line;
        size_t len;
        if (!c->open) {
            if (c->file == c->files.count)
                return 0;
            if (reader_open(&c->reader, c->files.paths[c->file], e))
                return -1;
            c->file++;
            c->open = true;
            lines_init(&c->lines, &c->reader);
        }
        enum lines_result r = lines_next(&c->lines, &line, &len, e);
        if (r == LINES_ERROR)
            return -1;
        if (r == LINES_END) {
            close_file(c);
            continue;
        }
        if (c->lines.number == 1 && line)
            see_kind(c, &line, &len);
        batch_add(c, b, line, len);
    }
    return 0;
}

static void batch_release(struct corpus_batch *b)
{
    buf_release(&b->bytes);
    free(b->lines);
}

size_t corpus_block_count(const struct corpus_batch *b)
{
    return (b->count + CORPUS_BLOCK_LINES - 1) / CORPUS_BLOCK_LINES;
}

/* --- working ------------------------------------------------------------------ */

static int work_block(const struct corpus *c, const struct corpus_job *job,
                      const struct corpus_batch *b, size_t block, struct err *e)
{
    size_t end = (block + 1) * CORPUS_BLOCK_LINES;
    for (size_t i = block * CORPUS_BLOCK_LINES; i < end && i < b->count; i++) {
        struct corpus_line *line = &b->lines[i];
        if (!line->too_long && job->work(job->context, omp_get_thread_num(), block, c, b, line, e))
            return err_add(e, "%s:%" PRIu64, c->files.paths[line->file], line->number);
    }
    return 0;
}

/* Works on `now` and reads `next` meanwhile. Of several failures the first in order is told. */
static int work_batch(struct corpus *c, const struct corpus_job *job,
                      const struct corpus_batch *now, struct corpus_batch *next, struct err *e)
{
    size_t blocks = corpus_block_count(now);
    size_t failed_block = SIZE_MAX;
    /* Workers see the corpus as it is now; the reader changes it meanwhile. */
    const struct corpus frozen = *c;
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i <= blocks; i++) {
        struct err mine;
        if (i == 0 ? read_batch(c, next, &mine) : work_block(&frozen, job, now, i - 1, &mine)) {
#pragma omp critical(corpus_failed)
            {
                /* A fault of the next batch comes after all of this one. */
                size_t order = i == 0 ? SIZE_MAX - 1 : i;
                if (order < failed_block) {
                    failed_block = order;
                    *e = mine;
                }
            }
        }
    }
    return failed_block == SIZE_MAX ? 0 : -1;
}

static void count_batch(struct corpus *c, const struct corpus_batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct corpus_line *line = &b->lines[i];
        if (!line->bad) {
            c->texts++;
            continue;
        }
        if (c->bad++ < BAD_NAMED)
            log_warn("%s:%" PRIu64 ": byte %zu: %s; the line is left out",
                     c->files.paths[line->file], line->number, line->bad_at, line->bad);
        else if (c->bad == BAD_NAMED + 1)
            log_warn("more bad lines follow; they are counted only");
    }
}

int corpus_run(struct corpus *c, const char *label, const struct corpus_job *job, struct err *e)
{
    struct corpus_batch batches[2] = {0};
    struct progress progress;
    int failed, now = 0;
    if (label)
        progress_start(&progress, label, c->file_bytes, PROGRESS_BYTES);
    failed = read_batch(c, &batches[0], e);
    while (!failed && batches[now].count) {
        failed = work_batch(c, job, &batches[now], &batches[!now], e);
        if (!failed && job->finish)
            failed = job->finish(job->context, c, &batches[now], e);
        if (failed)
            break;
        count_batch(c, &batches[now]);
        if (label)
            progress_update(&progress, c->bytes_past + (c->open ? c->reader.bytes_in : 0), NULL);
        now = !now;
    }
    if (label && !failed)
        progress_finish(&progress, NULL);
    batch_release(&batches[0]);
    batch_release(&batches[1]);
    return failed ? -1 : 0;
}

/* --- one text ------------------------------------------------------------------- */

static bool is_bad(struct corpus_line *line, const char *why, size_t at)
{
    line->bad = why;
    line->bad_at = at;
    return false;
}

/* A number as id is kept as it is spelled. */
static int read_id(struct json *j, struct buf *id)
{
    enum json_type type = json_peek(j);
    size_t start = j->at;
    if (type == JSON_STRING)
        return json_string(j, id);
    if (json_skip(j))
        return -1;
    if (type == JSON_NUMBER) {
        buf_clear(id);
        buf_add(id, j->text + start, j->at - start);
    }
    return 0;
}

static bool json_text(struct json *j, struct corpus_line *line, struct buf *store, struct buf *id)
{
    enum { FIELD_TEXT, FIELD_RAW, FIELD_ID };
    char key[16];
    uint64_t seen = 0;
    int more, failed = json_object(j);
    while (!failed && (more = json_next_key(j, key, sizeof(key))) > 0) {
        bool text = !strcmp(key, "text"), raw = !strcmp(key, "raw_content");
        if ((text || raw) && json_peek(j) == JSON_STRING) {
            failed = json_seen(j, &seen, text ? FIELD_TEXT : FIELD_RAW);
            /* "text" wins over "raw_content", whichever stands first. */
            if (!failed)
                failed = raw && (seen & 1 << FIELD_TEXT) ? json_skip(j) : json_string(j, store);
        } else if (id && !strcmp(key, "id")) {
            failed = json_seen(j, &seen, FIELD_ID) || read_id(j, id);
        } else {
            failed = json_skip(j);
        }
    }
    if (failed || more < 0 || json_end(j))
        return is_bad(line, j->error ? j->error : "malformed JSON", j->error_at);
    if (!(seen & (1 << FIELD_TEXT | 1 << FIELD_RAW)))
        return is_bad(line, "no field \"text\" or \"raw_content\" with a string", 0);
    return true;
}

bool corpus_text(const struct corpus *c, const struct corpus_batch *b, struct corpus_line *line,
                 struct buf *store, const char **text, size_t *len, struct buf *id)
{
    struct json j;
    const char *s = b->bytes.data + line->start;
    if (id)
        buf_clear(id);
    if (line->json) {
        json_open(&j, s, line->len);
        if (!json_text(&j, line, store, id))
            return false;
        *text = store->data;
        *len = store->len;
    } else {
        *text = s;
        *len = line->len;
    }
    if (id && !id->len)
        buf_printf(id, "%s:%" PRIu64, c->files.paths[line->file], line->number);
    return true;
}
