/*
 * The ledger as a table for people.
 */
#include "data/ledger.h"

#include "common/log.h"
#include "data/hash_set.h"

#include <inttypes.h>
#include <string.h>

#define ERRORS_SHOWN 10

/* 1234567 as "1,234,567". */
static const char *grouped(uint64_t n, char out[32])
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);
    size_t at = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

static void row(struct buf *b, const char *name, uint64_t n, uint64_t of, const char *help)
{
    char number[32];
    buf_printf(b, "  %-22s %15s", name, grouped(n, number));
    if (of)
        buf_printf(b, " %6.2f %%", 100.0 * (double)n / (double)of);
    if (help)
        buf_printf(b, "%s  %s", of ? "" : "         ", help);
    buf_putc(b, '\n');
}

static void table_lines(const struct ledger *l, struct buf *b)
{
    uint64_t in = l->total.lines_in;
    buf_puts(b, "lines\n");
    row(b, "in", in, 0, NULL);
    row(b, "kept", l->total.kept, in, NULL);
    for (int r = REMOVAL_NONE + 1; r < REMOVAL_COUNT; r++)
        if (l->total.removed[r] || !removal_is_damage(r))
            row(b, removal_names[r], l->total.removed[r], in, removal_helps[r]);
    if (l->total.removed_other)
        row(b, "other", l->total.removed_other, in, "reasons this version does not know");
    if (l->unlabelled_language)
        row(b, "no language field", l->unlabelled_language, in, "passed that filter");
    if (l->unlabelled_bucket)
        row(b, "no bucket field", l->unlabelled_bucket, in, "passed that filter");
}

static void table_paragraphs(const struct ledger *l, struct buf *b)
{
    static const char *const helps[FATE_COUNT] = {
        NULL, "the same paragraph stood earlier", "more tokens per word than allowed",
        "the tokenizer's pattern gave up", "blank, left in a document without text"};
    uint64_t in = l->paragraphs_in;
    buf_puts(b, "paragraphs of documents that are no duplicates\n");
    row(b, "in", in, 0, NULL);
    for (int f = 0; f < FATE_COUNT; f++)
        if (l->paragraphs[f] || f <= FATE_RATIO)
            row(b, fate_names[f], l->paragraphs[f], in, helps[f]);
}

static void table_amounts(const struct ledger *l, struct buf *b)
{
    buf_puts(b, "text\n");
    row(b, "bytes read", l->bytes_read, 0, "as the files lie on disk");
    row(b, "bytes of text", l->text_bytes, 0, "in all lines that could be read");
    row(b, "bytes kept", l->kept_bytes, l->text_bytes, NULL);
    row(b, "characters kept", l->characters_kept, 0, NULL);
    row(b, "words selected", l->words_selected, 0, "of the languages and buckets");
    row(b, "words kept", l->words_kept, l->words_selected, NULL);
    row(b, "bytes written", l->written_bytes, 0, "compressed");
    buf_printf(b, "  in %zu file%s\n", l->output_count, l->output_count == 1 ? "" : "s");
}

static void table_ratio(const struct ledger_ratio *r, struct buf *b)
{
    if (!r->tokenizer || !strcmp(r->tokenizer, "off")) {
        buf_puts(b, "token-to-word ratio\n  not measured\n");
        return;
    }
    buf_printf(b, "token-to-word ratio: at most %g, measured by ", r->max);
    if (!strcmp(r->tokenizer, "bootstrap"))
        buf_printf(b, "a bootstrap tokenizer trained on the first %s of text\n",
                   log_bytes(r->trained_bytes));
    else
        buf_printf(b, "%s\n", r->tokenizer);
    row(b, "vocabulary", r->vocab_size, 0, r->pattern);
    row(b, "paragraphs counted", r->counted, 0, "the others have too few bytes to exceed it");
    if (r->sample_words)
        buf_printf(
            b, "  calibration            %15.2f            tokens per word on the first %s words\n",
            (double)r->sample_tokens / (double)r->sample_words, log_count((double)r->sample_words));
    if (r->note)
        buf_printf(b, "  note: %s\n", r->note);
}

static void table_set(const struct ledger_set *s, const char *name, struct buf *b)
{
    buf_printf(b, "  %-22s %15s            in %s, %.1g expected to be taken for another\n", name,
               log_count((double)s->count), log_bytes(s->bytes),
               hash_set_collisions((double)s->count, (unsigned)s->bits));
}

static void table_files(const struct ledger *l, struct buf *b)
{
    size_t bad = ledger_damaged_files(l), shown = 0;
    buf_printf(b, "files: %zu read, %zu of them damaged\n", l->file_count, bad);
    for (size_t i = 0; i < l->file_count && shown < ERRORS_SHOWN; i++)
        if (l->files[i].error) {
            buf_printf(b, "  %s\n", l->files[i].error);
            shown++;
        }
    if (bad > shown)
        buf_printf(b, "  and %zu more\n", bad - shown);
}

void ledger_table(const struct ledger *l, struct buf *b)
{
    table_lines(l, b);
    table_paragraphs(l, b);
    table_amounts(l, b);
    table_ratio(&l->ratio, b);
    buf_puts(b, "hashes in memory\n");
    table_set(&l->documents, "documents, 128 bits", b);
    table_set(&l->texts, "paragraphs, 64 bits", b);
    table_files(l, b);
}
