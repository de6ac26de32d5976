/*
 * The settings of `data prepare`: the one table from which --help, the command line,
 * the YAML file, --set and the ledger's record come.
 */
#include "data/prepare.h"

#include "common/json.h"

#include <string.h>

#define S struct prepare_settings

const struct config_row prepare_rows[] = {
    CONFIG_LIST(S, in, "in", "PATH",
                "files or folders: RedPajama-V2 .json.gz, JSON lines (plain, .gz, .zst), text"),
    CONFIG_STR(S, out, "out", NULL, "DIR", "folder to write: documents-*.jsonl.zst, ledger.json"),
    CONFIG_STR(S, config, "config", NULL, "FILE", "YAML file with the keys below"),
    CONFIG_STR(S, ratio_tokenizer, "ratio-tokenizer", NULL, "DIR",
               "tokenizer that measures tokens per word; default: one is trained first"),
    CONFIG_I64(S, threads, "threads", "0", 0, 1024, "threads, 0 = all CPUs"),
    CONFIG_BOOL(S, force, "force", "false", "replace a finished corpus in DIR"),
    CONFIG_BOOL(S, strict, "strict", "false", "fail at the first bad line or file"),
    CONFIG_BOOL(S, quiet, "quiet", "false", "no progress and no summary, only warnings"),
    CONFIG_LIST(S, set, "set", "KEY=VALUE", "set one of the keys below"),

    CONFIG_LIST(S, languages, "prepare.languages", "LANG",
                "languages to keep, as in de,fr; all = every one [de]"),
    CONFIG_LIST(S, buckets, "prepare.buckets", "BUCKET",
                "perplexity buckets to keep; all = every one [head,middle]"),
    CONFIG_BOOL(S, dedup_documents, "prepare.dedup_documents", "true",
                "remove documents whose text stood before"),
    CONFIG_BOOL(S, dedup_paragraphs, "prepare.dedup_paragraphs", "true",
                "remove paragraphs that stood before"),
    CONFIG_I64(S, min_paragraph_words, "prepare.min_paragraph_words", "3", 1, 1000,
               "paragraphs of fewer words are never duplicates"),
    CONFIG_F64(S, max_token_word_ratio, "prepare.max_token_word_ratio", "8", 0, 1e6,
               "tokens per word above which a paragraph is removed, 0 = keep all"),
    CONFIG_I64(S, bootstrap_bytes, "prepare.bootstrap_bytes", "64M", 1, 1e10,
               "bytes of text the bootstrap tokenizer is trained on"),
    CONFIG_I64(S, bootstrap_vocab_size, "prepare.bootstrap_vocab_size", "32000", 260, 1 << 20,
               "its entries"),
    CONFIG_I64(S, bootstrap_min_frequency, "prepare.bootstrap_min_frequency", "3", 1, 1e9,
               "occurrences below which it merges no pair"),
    CONFIG_I64(S, max_line_bytes, "prepare.max_line_bytes", "16M", 64, 1 << 30,
               "bytes of a line or text file above which it is left out"),
    CONFIG_I64(S, file_bytes, "prepare.file_bytes", "1G", 1, 1e15,
               "bytes of documents, uncompressed, after which a new file is begun"),
    CONFIG_END,
};

/* "de,fr" is two items; no items mean the defaults; "all" means no limit, an empty list. */
static void settle_list(struct config_list *l, const char *defaults)
{
    struct config_list items = {0};
    bool all = false;
    if (!l->count)
        config_list_add(l, defaults);
    for (size_t i = 0; i < l->count; i++)
        for (const char *s = l->items[i]; *s;) {
            size_t len = strcspn(s, ", ");
            char *item = mem_strndup(s, len);
            all |= !strcmp(item, "all");
            if (len)
                config_list_add(&items, item);
            free(item);
            s += len + (s[len] != 0);
        }
    config_list_release(l);
    if (all)
        config_list_release(&items);
    *l = items;
}

int prepare_settle(struct prepare_settings *s, struct err *e)
{
    if (!s->in.count)
        return err_set(e, "--in PATH is missing; see --help");
    if (!s->out || !*s->out)
        return err_set(e, "--out DIR is missing; see --help");
    if (s->config && *s->config && config_read(prepare_rows, s, s->config, e))
        return -1;
    for (size_t i = 0; i < s->set.count; i++)
        if (config_assign(prepare_rows, s, s->set.items[i], "--set", e))
            return -1;
    settle_list(&s->languages, "de");
    settle_list(&s->buckets, "head,middle");
    return 0;
}

/* The settings that shape the result, as members of a JSON object. */
void prepare_record(const struct prepare_settings *s, struct buf *out)
{
    for (const struct config_row *row = prepare_rows; row->name; row++) {
        struct buf value = {0};
        if (strncmp(row->name, "prepare.", 8))
            continue;
        config_format(row, s, &value);
        if (out->len)
            buf_puts(out, ", ");
        json_put_cstring(out, row->name + 8);
        buf_puts(out, ": ");
        if (row->type == CONFIG_TYPE_BOOL || row->type == CONFIG_TYPE_I64 ||
            row->type == CONFIG_TYPE_F64)
            buf_puts(out, value.data);
        else
            json_put_string(out, value.data ? value.data : "", value.len);
        buf_release(&value);
    }
}
