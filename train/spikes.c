/* Owns RUN/spikes.jsonl and the window of losses that decides what is a spike. */
#include "train/spikes.h"

#include "common/fs.h"
#include "common/json.h"
#include "common/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

void spikes_init(struct spikes *s, double sigma)
{
    *s = (struct spikes){.sigma = sigma};
}

static void measure_window(struct spikes *s)
{
    const uint64_t n = s->count < SPIKE_WINDOW ? s->count : SPIKE_WINDOW;
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += s->losses[i];
    s->mean = sum / (double)n;
    for (uint64_t i = 0; i < n; i++)
        squares += (s->losses[i] - s->mean) * (s->losses[i] - s->mean);
    s->deviation = sqrt(squares / (double)n);
}

bool spikes_check(struct spikes *s, double loss)
{
    bool spike = false;
    if (!isfinite(loss))
        return false;
    if (s->sigma > 0 && s->count >= SPIKE_LEAST) {
        measure_window(s);
        spike = loss > s->mean + s->sigma * s->deviation;
    }
    s->losses[s->count++ % SPIKE_WINDOW] = loss;
    return spike;
}

/* --- the file --------------------------------------------------------------- */

static void put_documents(struct buf *b, const struct loader *l, uint64_t position, int64_t count)
{
    bool first_id = true;
    for (int64_t i = 0; i < count; i++) {
        uint64_t first, last;
        loader_documents(l, loader_window(l, position + (uint64_t)i), &first, &last);
        for (uint64_t doc = first; doc <= last; doc++) {
            size_t len;
            const char *id = shard_doc_id(l->shard, doc, &len);
            buf_puts(b, first_id ? "" : ", ");
            json_put_string(b, id, len);
            first_id = false;
        }
    }
}

static int append(const char *path, const struct buf *b, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    ssize_t n = fd < 0 ? -1 : write(fd, b->data, b->len);
    int r = n == (ssize_t)b->len ? 0
                                 : err_set(e, "cannot write %s: %s", path,
                                           n < 0 ? strerror(errno) : "the disk is full");
    if (fd >= 0)
        close(fd);
    return r;
}

int spikes_write(const struct spikes *s, const char *run, uint64_t step, double loss,
                 const struct loader *loader, uint64_t position, int64_t count, struct err *e)
{
    struct buf b = {0};
    buf_printf(&b, "{\"step\": %" PRIu64 ", \"loss\": ", step);
    json_put_f64(&b, loss);
    buf_puts(&b, ", \"mean\": ");
    json_put_f64(&b, s->mean);
    buf_puts(&b, ", \"deviation\": ");
    json_put_f64(&b, s->deviation);
    buf_puts(&b, ", \"documents\": [");
    put_documents(&b, loader, position, count);
    buf_puts(&b, "]}\n");
    char *path = fs_join(run, "spikes.jsonl");
    int r = append(path, &b, e);
    free(path);
    buf_release(&b);
    return r;
}

/* --- going on --------------------------------------------------------------- */

/* Step and loss (NaN without one) of a line; -1 if it is not whole. */
static int read_line(const char *line, size_t len, uint64_t *step, double *loss)
{
    struct json j;
    char key[32];
    int r;
    *step = UINT64_MAX;
    *loss = NAN;
    json_open(&j, line, len);
    if (json_object(&j))
        return -1;
    while ((r = json_next_key(&j, key, sizeof(key))) > 0) {
        if (!strcmp(key, "step"))
            json_u64(&j, step);
        else if (!strcmp(key, "loss") && json_peek(&j) == JSON_NUMBER)
            json_f64(&j, loss);
        else
            json_skip(&j);
    }
    return r < 0 || json_end(&j) ? -1 : 0;
}

/* Walks a file up to `step` or to the first line that is not whole: losses enter s (NULL = none).
 * *bytes: of what was walked. */
static int walk(struct spikes *s, const char *path, uint64_t step, uint64_t *bytes, struct err *e)
{
    struct reader reader;
    struct lines lines;
    const char *line;
    size_t len;
    enum lines_result got;
    *bytes = 0;
    if (reader_open(&reader, path, e))
        return -1;
    lines_init(&lines, &reader);
    while ((got = lines_next(&lines, &line, &len, e)) == LINES_LINE) {
        uint64_t at;
        double loss;
        if (line[len - 1] != '\n' || read_line(line, len, &at, &loss) || at > step)
            break;
        *bytes = lines.offset + len;
        if (s)
            spikes_check(s, loss);
    }
    lines_release(&lines);
    reader_close(&reader);
    return got == LINES_ERROR ? -1 : 0;
}

static int cut(const char *path, uint64_t step, struct err *e)
{
    uint64_t bytes;
    if (!fs_exists(path))
        return 0;
    if (walk(NULL, path, step, &bytes, e))
        return -1;
    if (truncate(path, (off_t)bytes))
        return err_set(e, "cannot cut %s to %" PRIu64 " bytes: %s", path, bytes, strerror(errno));
    return 0;
}

int spikes_resume(struct spikes *s, const char *run, uint64_t step, struct err *e)
{
    char *metrics = fs_join(run, "metrics.jsonl"), *spikes = fs_join(run, "spikes.jsonl");
    uint64_t bytes;
    int r = cut(spikes, step, e);
    if (!r && step && fs_exists(metrics))
        r = walk(s, metrics, step, &bytes, e);
    free(metrics);
    free(spikes);
    return r;
}
