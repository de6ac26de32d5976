/*
 * Adding up, and ledger.json written and read; see ledger.h. The table for people
 * is in report.c.
 */
#include "data/ledger.h"

#include "common/fs.h"
#include "common/json.h"
#include "data/hash_set.h"

#include <inttypes.h>
#include <string.h>

void ledger_release(struct ledger *l)
{
    for (size_t i = 0; i < l->file_count; i++) {
        free(l->files[i].path);
        free(l->files[i].error);
    }
    for (size_t i = 0; i < l->output_count; i++)
        free(l->outputs[i].name);
    free(l->files);
    free(l->outputs);
    free(l->ratio.tokenizer);
    free(l->ratio.pattern);
    free(l->ratio.note);
    buf_release(&l->settings);
    memset(l, 0, sizeof(*l));
}

struct ledger_file *ledger_add_file(struct ledger *l, const char *path)
{
    l->files = mem_grow(l->files, &l->file_capacity, l->file_count + 1, sizeof(*l->files));
    struct ledger_file *f = &l->files[l->file_count++];
    memset(f, 0, sizeof(*f));
    f->path = path ? mem_strdup(path) : NULL;
    return f;
}

struct ledger_output *ledger_add_output(struct ledger *l, const char *name)
{
    l->outputs = mem_grow(l->outputs, &l->output_capacity, l->output_count + 1,
                          sizeof(*l->outputs));
    struct ledger_output *o = &l->outputs[l->output_count++];
    memset(o, 0, sizeof(*o));
    o->name = name ? mem_strdup(name) : NULL;
    return o;
}

uint64_t ledger_removed(const struct ledger_counts *c)
{
    uint64_t sum = c->removed_other;
    for (int r = REMOVAL_NONE + 1; r < REMOVAL_COUNT; r++)
        sum += c->removed[r];
    return sum;
}

uint64_t ledger_damaged_lines(const struct ledger *l)
{
    uint64_t sum = 0;
    for (int r = REMOVAL_NONE + 1; r < REMOVAL_COUNT; r++)
        if (removal_is_damage(r))
            sum += l->total.removed[r];
    return sum;
}

size_t ledger_damaged_files(const struct ledger *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->file_count; i++)
        n += l->files[i].error != NULL;
    return n;
}

/* --- the balance --------------------------------------------------------- */

static int counts_check(const struct ledger_counts *c, const char *what, struct err *e)
{
    uint64_t removed = ledger_removed(c);
    if (c->lines_in == c->kept + removed)
        return 0;
    return err_set(e,
                   "%s does not balance: lines_in %" PRIu64 ", but kept %" PRIu64
                   " + removed %" PRIu64 " = %" PRIu64,
                   what, c->lines_in, c->kept, removed, c->kept + removed);
}

static int sum_check(uint64_t total, uint64_t sum, const char *what, struct err *e)
{
    if (total == sum)
        return 0;
    return err_set(e,
                   "the ledger does not balance: %s is %" PRIu64 " in all, but %" PRIu64
                   " in the files together",
                   what, total, sum);
}

static int paragraphs_check(const struct ledger *l, struct err *e)
{
    uint64_t sum = 0;
    for (int f = 0; f < FATE_COUNT; f++)
        sum += l->paragraphs[f];
    if (sum == l->paragraphs_in)
        return 0;
    return err_set(e,
                   "the ledger does not balance: %" PRIu64 " paragraphs went in, but %" PRIu64
                   " were kept or removed",
                   l->paragraphs_in, sum);
}

int ledger_check(const struct ledger *l, struct err *e)
{
    struct ledger_counts sum = {0};
    uint64_t documents = 0;
    for (size_t i = 0; i < l->file_count; i++) {
        const struct ledger_counts *c = &l->files[i].counts;
        if (counts_check(c, l->files[i].path, e))
            return -1;
        sum.lines_in += c->lines_in;
        sum.kept += c->kept;
        sum.removed_other += c->removed_other;
        for (int r = 0; r < REMOVAL_COUNT; r++)
            sum.removed[r] += c->removed[r];
    }
    if (counts_check(&l->total, "the ledger", e) ||
        sum_check(l->total.lines_in, sum.lines_in, "lines_in", e) ||
        sum_check(l->total.kept, sum.kept, "kept", e) ||
        sum_check(l->total.removed_other, sum.removed_other, "removed for other reasons", e))
        return -1;
    for (int r = REMOVAL_NONE + 1; r < REMOVAL_COUNT; r++)
        if (sum_check(l->total.removed[r], sum.removed[r], removal_names[r], e))
            return -1;
    for (size_t i = 0; i < l->output_count; i++)
        documents += l->outputs[i].documents;
    if (documents != l->total.kept)
        return err_set(e,
                       "the ledger does not balance: kept is %" PRIu64 ", but %" PRIu64
                       " documents lie in the output files",
                       l->total.kept, documents);
    return paragraphs_check(l, e);
}

/* --- writing ------------------------------------------------------------- */

static void put_u64(struct buf *b, const char *name, uint64_t value, bool first)
{
    buf_printf(b, "%s\"%s\": %" PRIu64, first ? "" : ", ", name, value);
}

/* All reasons if `zeros`, else those that occurred. */
static void put_removed(struct buf *b, const struct ledger_counts *c, bool zeros)
{
    bool first = true;
    buf_putc(b, '{');
    for (int r = REMOVAL_NONE + 1; r < REMOVAL_COUNT; r++) {
        if (!zeros && !c->removed[r])
            continue;
        put_u64(b, removal_names[r], c->removed[r], first);
        first = false;
    }
    buf_putc(b, '}');
}

static void put_file(struct buf *b, const struct ledger_file *f)
{
    buf_puts(b, "{\"path\": ");
    json_put_cstring(b, f->path);
    put_u64(b, "bytes", f->bytes, false);
    put_u64(b, "lines_in", f->counts.lines_in, false);
    put_u64(b, "kept", f->counts.kept, false);
    buf_puts(b, ", \"removed\": ");
    put_removed(b, &f->counts, false);
    buf_puts(b, ", \"error\": ");
    if (f->error)
        json_put_cstring(b, f->error);
    else
        buf_puts(b, "null");
    buf_putc(b, '}');
}

static void put_output(struct buf *b, const struct ledger_output *o)
{
    buf_puts(b, "{\"name\": ");
    json_put_cstring(b, o->name);
    put_u64(b, "documents", o->documents, false);
    put_u64(b, "bytes", o->bytes, false);
    put_u64(b, "text_bytes", o->text_bytes, false);
    buf_printf(b, ", \"xxh3\": \"%016" PRIx64 "\"}", o->hash);
}

static void put_optional(struct buf *b, const char *name, const char *text)
{
    buf_printf(b, ", \"%s\": ", name);
    if (text)
        json_put_cstring(b, text);
    else
        buf_puts(b, "null");
}

static void put_ratio(struct buf *b, const struct ledger_ratio *r)
{
    buf_puts(b, "{\"tokenizer\": ");
    json_put_cstring(b, r->tokenizer ? r->tokenizer : "off");
    put_optional(b, "pattern", r->pattern);
    buf_puts(b, ", \"max_tokens_per_word\": ");
    json_put_f64(b, r->max);
    put_u64(b, "vocab_size", r->vocab_size, false);
    put_u64(b, "trained_on_bytes", r->trained_bytes, false);
    put_u64(b, "sample_words", r->sample_words, false);
    put_u64(b, "sample_tokens", r->sample_tokens, false);
    put_u64(b, "paragraphs_counted", r->counted, false);
    put_optional(b, "note", r->note);
    buf_putc(b, '}');
}

static void put_set(struct buf *b, const char *name, const struct ledger_set *s)
{
    buf_printf(b, "\"%s\": {", name);
    put_u64(b, "hashes", s->count, true);
    put_u64(b, "bits", s->bits, false);
    put_u64(b, "bytes", s->bytes, false);
    buf_puts(b, ", \"expected_collisions\": ");
    json_put_f64(b, hash_set_collisions((double)s->count, (unsigned)s->bits));
    buf_putc(b, '}');
}

static void put_paragraphs(struct buf *b, const struct ledger *l)
{
    put_u64(b, "in", l->paragraphs_in, true);
    put_u64(b, "kept", l->paragraphs[FATE_KEPT], false);
    buf_puts(b, ", \"removed\": {");
    for (int f = FATE_KEPT + 1; f < FATE_COUNT; f++)
        put_u64(b, fate_names[f], l->paragraphs[f], f == FATE_KEPT + 1);
    buf_putc(b, '}');
}

static void put_amounts(struct buf *b, const struct ledger *l)
{
    buf_puts(b, "\"bytes\": {");
    put_u64(b, "files", l->bytes_read, true);
    put_u64(b, "text", l->text_bytes, false);
    put_u64(b, "kept", l->kept_bytes, false);
    put_u64(b, "written", l->written_bytes, false);
    buf_puts(b, "},\n\"words\": {");
    put_u64(b, "selected", l->words_selected, true);
    put_u64(b, "kept", l->words_kept, false);
    buf_puts(b, "},\n\"characters\": {");
    put_u64(b, "kept", l->characters_kept, true);
    buf_puts(b, "}");
}

void ledger_format(const struct ledger *l, struct buf *b)
{
    buf_puts(b, "{\n");
    put_u64(b, "lines_in", l->total.lines_in, true);
    buf_puts(b, ",\n");
    put_u64(b, "kept", l->total.kept, true);
    buf_puts(b, ",\n\"removed\": ");
    put_removed(b, &l->total, true);
    buf_puts(b, ",\n\"paragraphs\": {");
    put_paragraphs(b, l);
    buf_puts(b, "},\n\"unlabelled\": {");
    put_u64(b, "language", l->unlabelled_language, true);
    put_u64(b, "bucket", l->unlabelled_bucket, false);
    buf_puts(b, "},\n");
    put_amounts(b, l);
    buf_puts(b, ",\n\"ratio\": ");
    put_ratio(b, &l->ratio);
    buf_puts(b, ",\n\"hash_sets\": {");
    put_set(b, "documents", &l->documents);
    buf_puts(b, ", ");
    put_set(b, "paragraphs", &l->texts);
    buf_puts(b, "},\n\"settings\": {");
    buf_add(b, l->settings.data ? l->settings.data : "", l->settings.len);
    buf_puts(b, "},\n\"outputs\": [");
    for (size_t i = 0; i < l->output_count; i++) {
        buf_puts(b, i ? ",\n" : "\n");
        put_output(b, &l->outputs[i]);
    }
    buf_puts(b, "],\n\"files\": [");
    for (size_t i = 0; i < l->file_count; i++) {
        buf_puts(b, i ? ",\n" : "\n");
        put_file(b, &l->files[i]);
    }
    buf_puts(b, "]\n}\n");
}

/* --- reading ------------------------------------------------------------- */

static int read_text(struct json *j, char **out)
{
    struct buf text = {0};
    if (json_peek(j) == JSON_NULL)
        return json_null(j);
    if (json_string(j, &text)) {
        buf_release(&text);
        return -1;
    }
    free(*out);
    *out = text.data;
    return 0;
}

static int read_removed(struct json *j, struct ledger_counts *c)
{
    char key[64];
    int more;
    uint64_t n;
    if (json_object(j))
        return -1;
    while ((more = json_next_key(j, key, sizeof(key))) > 0) {
        if (json_u64(j, &n))
            return -1;
        int r = REMOVAL_NONE + 1;
        while (r < REMOVAL_COUNT && strcmp(key, removal_names[r]))
            r++;
        *(r < REMOVAL_COUNT ? &c->removed[r] : &c->removed_other) += n;
    }
    return more;
}

/* Members that totals and files share: 1 if `key` was one of them. */
static int read_counts(struct json *j, const char *key, struct ledger_counts *c)
{
    int failed = 0;
    if (!strcmp(key, "lines_in"))
        failed = json_u64(j, &c->lines_in);
    else if (!strcmp(key, "kept"))
        failed = json_u64(j, &c->kept);
    else if (!strcmp(key, "removed"))
        failed = read_removed(j, c);
    else
        return 0;
    return failed ? -1 : 1;
}

static int read_files(struct json *j, struct ledger *l)
{
    char key[64];
    int more, next;
    if (json_array(j))
        return -1;
    while ((next = json_next(j)) > 0) {
        struct ledger_file *f = ledger_add_file(l, NULL);
        if (json_object(j))
            return -1;
        while ((more = json_next_key(j, key, sizeof(key))) > 0) {
            int r = read_counts(j, key, &f->counts);
            if (!r && !strcmp(key, "path"))
                r = read_text(j, &f->path);
            else if (!r && !strcmp(key, "error"))
                r = read_text(j, &f->error);
            else if (!r && !strcmp(key, "bytes"))
                r = json_u64(j, &f->bytes);
            else if (!r)
                r = json_skip(j);
            if (r < 0)
                return -1;
        }
        if (more < 0)
            return -1;
        if (!f->path)
            return json_fail(j, "a file without a path");
    }
    return next;
}

static int read_hash(struct json *j, uint64_t *out)
{
    char *text = NULL, *end;
    if (read_text(j, &text) || !text)
        return -1;
    *out = strtoull(text, &end, 16);
    bool good = end - text == 16 && !*end;
    free(text);
    return good ? 0 : json_fail(j, "expected 16 hexadecimal digits");
}

static int read_outputs(struct json *j, struct ledger *l)
{
    char key[64];
    int more, next;
    if (json_array(j))
        return -1;
    while ((next = json_next(j)) > 0) {
        struct ledger_output *o = ledger_add_output(l, NULL);
        if (json_object(j))
            return -1;
        while ((more = json_next_key(j, key, sizeof(key))) > 0) {
            int r;
            if (!strcmp(key, "name"))
                r = read_text(j, &o->name);
            else if (!strcmp(key, "documents"))
                r = json_u64(j, &o->documents);
            else if (!strcmp(key, "bytes"))
                r = json_u64(j, &o->bytes);
            else if (!strcmp(key, "text_bytes"))
                r = json_u64(j, &o->text_bytes);
            else if (!strcmp(key, "xxh3"))
                r = read_hash(j, &o->hash);
            else
                r = json_skip(j);
            if (r)
                return -1;
        }
        if (more < 0)
            return -1;
        if (!o->name || strchr(o->name, '/'))
            return json_fail(j, "an output without a name in the folder");
    }
    return next;
}

/* A table of members that are plain numbers. */
struct number {
    const char *name;
    uint64_t *value;
};

static int read_numbers(struct json *j, const struct number *numbers, size_t count)
{
    char key[64];
    int more;
    if (json_object(j))
        return -1;
    while ((more = json_next_key(j, key, sizeof(key))) > 0) {
        size_t i = 0;
        while (i < count && strcmp(key, numbers[i].name))
            i++;
        if (i < count ? json_u64(j, numbers[i].value) : json_skip(j))
            return -1;
    }
    return more;
}

static int read_paragraphs(struct json *j, struct ledger *l)
{
    char key[64];
    int more;
    struct number fates[FATE_COUNT - 1];
    for (int f = 1; f < FATE_COUNT; f++)
        fates[f - 1] = (struct number){fate_names[f], &l->paragraphs[f]};
    if (json_object(j))
        return -1;
    while ((more = json_next_key(j, key, sizeof(key))) > 0) {
        int r;
        if (!strcmp(key, "in"))
            r = json_u64(j, &l->paragraphs_in);
        else if (!strcmp(key, "kept"))
            r = json_u64(j, &l->paragraphs[FATE_KEPT]);
        else if (!strcmp(key, "removed"))
            r = read_numbers(j, fates, FATE_COUNT - 1);
        else
            r = json_skip(j);
        if (r)
            return -1;
    }
    return more;
}

static int read_ratio(struct json *j, struct ledger_ratio *ratio)
{
    char key[64];
    int more;
    const struct number numbers[] = {
        {"vocab_size", &ratio->vocab_size},      {"trained_on_bytes", &ratio->trained_bytes},
        {"sample_words", &ratio->sample_words},  {"sample_tokens", &ratio->sample_tokens},
        {"paragraphs_counted", &ratio->counted},
    };
    size_t count = sizeof(numbers) / sizeof(numbers[0]);
    if (json_object(j))
        return -1;
    while ((more = json_next_key(j, key, sizeof(key))) > 0) {
        size_t i = 0;
        int r;
        while (i < count && strcmp(key, numbers[i].name))
            i++;
        if (i < count)
            r = json_u64(j, numbers[i].value);
        else if (!strcmp(key, "tokenizer"))
            r = read_text(j, &ratio->tokenizer);
        else if (!strcmp(key, "pattern"))
            r = read_text(j, &ratio->pattern);
        else if (!strcmp(key, "note"))
            r = read_text(j, &ratio->note);
        else if (!strcmp(key, "max_tokens_per_word"))
            r = json_f64(j, &ratio->max);
        else
            r = json_skip(j);
        if (r)
            return -1;
    }
    return more;
}

static int read_sets(struct json *j, struct ledger *l)
{
    char key[64];
    int more;
    if (json_object(j))
        return -1;
    while ((more = json_next_key(j, key, sizeof(key))) > 0) {
        struct ledger_set *s = !strcmp(key, "documents") ? &l->documents : &l->texts;
        const struct number numbers[] = {
            {"hashes", &s->count}, {"bits", &s->bits}, {"bytes", &s->bytes}};
        if (read_numbers(j, numbers, 3))
            return -1;
    }
    return more;
}

static int read_member(struct json *j, const char *key, struct ledger *l)
{
    const struct number bytes[] = {{"files", &l->bytes_read},
                                   {"text", &l->text_bytes},
                                   {"kept", &l->kept_bytes},
                                   {"written", &l->written_bytes}};
    const struct number words[] = {{"selected", &l->words_selected}, {"kept", &l->words_kept}};
    const struct number characters[] = {{"kept", &l->characters_kept}};
    const struct number labels[] = {{"language", &l->unlabelled_language},
                                    {"bucket", &l->unlabelled_bucket}};
    if (!strcmp(key, "bytes"))
        return read_numbers(j, bytes, 4);
    if (!strcmp(key, "words"))
        return read_numbers(j, words, 2);
    if (!strcmp(key, "characters"))
        return read_numbers(j, characters, 1);
    if (!strcmp(key, "unlabelled"))
        return read_numbers(j, labels, 2);
    if (!strcmp(key, "paragraphs"))
        return read_paragraphs(j, l);
    if (!strcmp(key, "ratio"))
        return read_ratio(j, &l->ratio);
    if (!strcmp(key, "hash_sets"))
        return read_sets(j, l);
    if (!strcmp(key, "outputs"))
        return read_outputs(j, l);
    if (!strcmp(key, "files"))
        return read_files(j, l);
    return json_skip(j);
}

static int read_ledger(struct json *j, struct ledger *l)
{
    char key[64];
    int more;
    bool lines_in = false, files = false;
    if (json_object(j))
        return -1;
    while ((more = json_next_key(j, key, sizeof(key))) > 0) {
        lines_in |= !strcmp(key, "lines_in");
        files |= !strcmp(key, "files");
        int r = read_counts(j, key, &l->total);
        if (!r)
            r = read_member(j, key, l);
        if (r < 0)
            return -1;
    }
    if (more || json_end(j))
        return -1;
    return lines_in && files ? 0 : json_fail(j, "no ledger: lines_in or files is missing");
}

int ledger_read(struct ledger *l, const char *path, struct err *e)
{
    struct buf text = {0};
    struct json j;
    memset(l, 0, sizeof(*l));
    if (fs_read(&text, path, LEDGER_BYTES_MAX, e)) {
        buf_release(&text);
        return -1;
    }
    json_open(&j, text.data, text.len);
    int failed = read_ledger(&j, l);
    if (failed)
        json_report(&j, path, e);
    buf_release(&text);
    return failed ? -1 : 0;
}
