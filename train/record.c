/* Owns metrics.jsonl, data.log and the TensorBoard file of a run: writing, cutting, reading. */
#include "train/record.h"

#include "common/fs.h"
#include "common/json.h"
#include "common/log.h"
#include "common/stream.h"
#include "train/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Longest text of one window in data.log: three numbers of up to 20 digits, and punctuation. */
enum { WINDOW_TEXT_MAX = 66, LINE_TEXT_MAX = 1024 };

/* --- files that only grow -------------------------------------------------- */

static int file_open(struct record_file *f, const char *run, const char *name, uint64_t length,
                     struct err *e)
{
    struct stat st;
    f->path = fs_join(run, "%s", name);
    f->fd = open(f->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (f->fd < 0 || fstat(f->fd, &st))
        return err_set(e, "cannot open %s: %s", f->path, strerror(errno));
    f->bytes = length;
    if ((uint64_t)st.st_size < length) {
        log_warn("%s holds %" PRIu64 " bytes, the snapshot names %" PRIu64
                 ": its last lines are lost, training goes on",
                 f->path, (uint64_t)st.st_size, length);
        f->bytes = (uint64_t)st.st_size;
    }
    if (ftruncate(f->fd, (off_t)f->bytes) || lseek(f->fd, (off_t)f->bytes, SEEK_SET) < 0)
        return err_set(e, "cannot cut %s to %" PRIu64 " bytes: %s", f->path, f->bytes,
                       strerror(errno));
    return 0;
}

static void file_close(struct record_file *f)
{
    if (f->fd > 0)
        close(f->fd);
    free(f->path);
    *f = (struct record_file){0};
}

static int file_append(struct record_file *f, const struct buf *b, struct err *e)
{
    for (size_t at = 0; at < b->len;) {
        ssize_t n = write(f->fd, b->data + at, b->len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(e, "cannot write %s at byte %" PRIu64 ": %s", f->path, f->bytes,
                           n < 0 ? strerror(errno) : "nothing was written");
        at += (size_t)n;
        f->bytes += (uint64_t)n;
    }
    return 0;
}

static int file_sync(struct record_file *f, struct err *e)
{
    return fsync(f->fd) ? err_set(e, "cannot fsync %s: %s", f->path, strerror(errno)) : 0;
}

static double wall_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int write_heads(struct record *r, const struct loader *l, struct err *e)
{
    struct buf *b = &r->line;
    if (!r->data.bytes) {
        buf_clear(b);
        buf_puts(b, "{\"data\": ");
        json_put_cstring(b, l->shard->prefix);
        buf_printf(b,
                   ", \"fingerprint\": \"%016" PRIx64 "\", \"documents\": %" PRIu64
                   ", \"sequence_length\": %" PRId64 ", \"windows\": %" PRIu64
                   ", \"seed\": %" PRIu64 "}\n",
                   l->shard->fingerprint, l->shard->doc_count, l->T, l->window_count, l->seed);
        if (file_append(&r->data, b, e))
            return -1;
    }
    if (!r->events.bytes) {
        buf_clear(b);
        tensorboard_header(b, wall_time());
        return file_append(&r->events, b, e);
    }
    return 0;
}

int record_open(struct record *r, const char *run, const struct record_lengths *at,
                const struct loader *loader, int64_t sequences, struct err *e)
{
    *r = (struct record){0};
    buf_reserve(&r->line, (size_t)sequences * WINDOW_TEXT_MAX + LINE_TEXT_MAX);
    if (file_open(&r->metrics, run, "metrics.jsonl", at->metrics, e) ||
        file_open(&r->data, run, "data.log", at->data, e) ||
        file_open(&r->events, run, RECORD_EVENTS_FILE, at->events, e) ||
        write_heads(r, loader, e)) {
        record_close(r);
        return -1;
    }
    return 0;
}

void record_close(struct record *r)
{
    file_close(&r->metrics);
    file_close(&r->data);
    file_close(&r->events);
    buf_release(&r->line);
}

int record_sync(struct record *r, struct err *e)
{
    return file_sync(&r->metrics, e) || file_sync(&r->data, e) || file_sync(&r->events, e) ? -1 : 0;
}

/* --- writing ---------------------------------------------------------------- */

static void put_number(struct buf *b, const char *key, double x)
{
    buf_printf(b, ", \"%s\": ", key);
    json_put_f64(b, x);
}

static int append_metrics(struct record *r, const struct step_metrics *m, struct err *e)
{
    struct buf *b = &r->line;
    buf_clear(b);
    buf_printf(b, "{\"step\": %" PRIu64 ", \"tokens\": %" PRIu64 ", \"epoch\": %" PRIu64, m->step,
               m->tokens, m->epoch);
    if (m->step) { /* step 0 is the untrained model: nothing but its validation loss */
        put_number(b, "loss", m->loss);
        put_number(b, "lr", m->lr);
        put_number(b, "grad_norm", m->grad_norm);
    }
    if (m->skipped)
        buf_puts(b, ", \"skipped\": true");
    if (!isnan(m->valid_loss))
        put_number(b, "valid_loss", m->valid_loss);
    buf_printf(b,
               ", \"seconds\": %.3f, \"tokens_per_s\": %.1f, \"gflops\": %.2f, \"mfu\": %.4f"
               ", \"memory\": %" PRIu64,
               m->seconds, m->tokens_per_s, m->gflops, m->mfu, m->memory);
    if (m->save_seconds > 0)
        buf_printf(b, ", \"save_seconds\": %.3f, \"save_waited\": %.3f", m->save_seconds,
                   m->save_waited);
    buf_puts(b, "}\n");
    return file_append(&r->metrics, b, e);
}

static int append_events(struct record *r, const struct step_metrics *m, struct err *e)
{
    const struct {
        const char *tag;
        double value;
    } scalars[] = {
        {"train/loss", m->loss},           {"train/lr", m->lr},
        {"train/grad_norm", m->grad_norm}, {"train/tokens_per_s", m->tokens_per_s},
        {"valid/loss", m->valid_loss},
    };
    const size_t count = sizeof(scalars) / sizeof(*scalars);
    struct buf *b = &r->line;
    double now = wall_time();
    buf_clear(b);
    for (size_t i = m->step ? 0 : count - 1; i < count; i++)
        if (isfinite(scalars[i].value))
            tensorboard_scalar(b, now, m->step, scalars[i].tag, (float)scalars[i].value);
    return file_append(&r->events, b, e);
}

int record_metrics(struct record *r, const struct step_metrics *m, struct err *e)
{
    return append_metrics(r, m, e) || append_events(r, m, e) ? -1 : 0;
}

int record_data(struct record *r, uint64_t step, const struct loader *loader, uint64_t position,
                int64_t count, struct err *e)
{
    struct buf *b = &r->line;
    buf_clear(b);
    buf_printf(b, "{\"step\":%" PRIu64 ",\"epoch\":%" PRIu64 ",\"windows\":[", step,
               position / loader->window_count);
    for (int64_t i = 0; i < count; i++) {
        uint64_t first, last;
        uint64_t window = loader_window(loader, position + (uint64_t)i);
        loader_documents(loader, window, &first, &last);
        buf_printf(b, "%s[%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", i ? "," : "", window, first, last);
    }
    buf_puts(b, "]}\n");
    return file_append(&r->data, b, e);
}

/* --- reading back which documents a step saw -------------------------------- */

/* What record_show_data() knows while it walks data.log. */
struct data_reader {
    const char *path;
    uint64_t step; /* wanted */
    char *prefix;
    uint64_t fingerprint;
    struct shard shard;
};

static int read_head(struct data_reader *d, struct json *j)
{
    char key[32];
    struct buf text = {0};
    int r;
    bool named = d->prefix != NULL;
    if (json_object(j))
        return -1;
    while ((r = json_next_key(j, key, sizeof(key))) > 0) {
        if (!strcmp(key, "data") && !named) {
            if (!json_string(j, &text))
                d->prefix = mem_strndup(text.data, text.len);
        } else if (!strcmp(key, "fingerprint")) {
            if (!json_string(j, &text))
                d->fingerprint = strtoull(text.data, NULL, 16);
        } else {
            json_skip(j);
        }
    }
    buf_release(&text);
    if (!r && !d->prefix)
        return json_fail(j, "no \"data\" names the shards");
    return r;
}

static int put_window(struct data_reader *d, struct json *j, struct buf *out)
{
    uint64_t n[3];
    if (json_array(j))
        return -1;
    for (int i = 0; i < 3; i++)
        if (json_next(j) != 1 || json_u64(j, &n[i]))
            return json_fail(j, "a window is [window, first document, last document]");
    if (json_next(j) != 0)
        return json_fail(j, "a window has three numbers");
    if (n[2] >= d->shard.doc_count || n[1] > n[2])
        return json_fail(j, "a document the shards do not have");
    for (uint64_t doc = n[1]; doc <= n[2]; doc++) {
        size_t len;
        const char *id = shard_doc_id(&d->shard, doc, &len);
        buf_printf(out, "%" PRIu64 "\t%" PRIu64 "\t", n[0], doc);
        buf_add(out, id, len);
        buf_putc(out, '\n');
    }
    return 0;
}

/* 1 if the line is that of the wanted step, 0 if of another, -1 error. */
static int read_step(struct data_reader *d, struct json *j, struct buf *out)
{
    char key[32];
    uint64_t step = 0;
    int r;
    if (json_object(j))
        return -1;
    while ((r = json_next_key(j, key, sizeof(key))) > 0) {
        if (!strcmp(key, "step")) {
            if (json_u64(j, &step))
                return -1;
            if (step != d->step)
                return 0;
        } else if (!strcmp(key, "windows") && step == d->step) {
            int more;
            if (json_array(j))
                return -1;
            while ((more = json_next(j)) > 0)
                if (put_window(d, j, out))
                    return -1;
            if (more < 0)
                return -1;
        } else {
            json_skip(j);
        }
    }
    return r < 0 ? -1 : 1;
}

static int open_shard(struct data_reader *d, struct err *e)
{
    if (shard_open(&d->shard, d->prefix, e))
        return -1;
    if (d->shard.fingerprint != d->fingerprint)
        return err_set(e,
                       "%s is not the data of this run: its fingerprint is %016" PRIx64
                       ", %s names %016" PRIx64,
                       d->prefix, d->shard.fingerprint, d->path, d->fingerprint);
    return 0;
}

static int walk(struct data_reader *d, struct lines *lines, struct buf *out, struct err *e)
{
    const char *line;
    size_t len;
    enum lines_result got;
    while ((got = lines_next(lines, &line, &len, e)) == LINES_LINE) {
        struct json j;
        json_open(&j, line, len);
        int r = lines->number == 1 ? read_head(d, &j) : read_step(d, &j, out);
        if (r < 0) {
            json_report(&j, d->path, e);
            return err_add(e, "line %" PRIu64, lines->number);
        }
        if (r > 0)
            return 0;
        if (lines->number == 1 && open_shard(d, e))
            return -1;
    }
    if (got == LINES_END)
        err_set(e, "%s has no step %" PRIu64, d->path, d->step);
    return -1;
}

int record_show_data(const char *run, const char *prefix, uint64_t step, struct buf *out,
                     struct err *e)
{
    char *path = fs_join(run, "data.log");
    struct data_reader d = {.path = path, .step = step};
    struct reader reader;
    struct lines lines;
    int r = -1;
    if (prefix && *prefix)
        d.prefix = mem_strdup(prefix);
    if (!reader_open(&reader, path, e)) {
        lines_init(&lines, &reader);
        r = walk(&d, &lines, out, e);
        lines_release(&lines);
        reader_close(&reader);
    }
    if (d.shard.map)
        shard_close(&d.shard);
    free(d.prefix);
    free(path);
    return r;
}
