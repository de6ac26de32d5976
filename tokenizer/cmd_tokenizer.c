/* The command line of the tokenizer: train, encode, decode, pack. */
#include "tokenizer/cmd_tokenizer.h"

#include "common/config.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/threads.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/corpus.h"
#include "tokenizer/pack.h"
#include "tokenizer/pretoken.h"
#include "tokenizer/shard.h"
#include "tokenizer/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_ROW(S)                                                                             \
    CONFIG_I64(S, threads, "threads", "0", 0, 4096, "threads to use; 0 = all CPUs")

/* Reads the arguments; returns 0 to go on, else the exit code + 1. */
static int read_args(const struct config_row *rows, void *settings,
                     const struct config_usage *usage, struct config_list *rest, int argc,
                     char **argv)
{
    struct err e;
    config_init(rows, settings);
    log_name(usage->name);
    int r = config_args(rows, settings, usage, rest, argc, argv, &e);
    return r < 0 ? 1 + command_fail(usage->name, &e, 2) : r;
}

static int missing(const char *name, const char *option)
{
    struct err e;
    err_set(&e, "--%s is missing; see --help", option);
    return command_fail(name, &e, 2);
}

/* --- train -------------------------------------------------------------------- */

struct train_options {
    struct config_list in;
    char *out;
    int64_t vocab_size, min_frequency, threads;
    int pattern;
};

static const struct config_row train_rows[] = {
    CONFIG_LIST(struct train_options, in, "in", "PATH",
                "files or folders: JSON lines or text, plain, .gz or .zst"),
    CONFIG_STR(struct train_options, out, "out", NULL, "DIR", "folder to write"),
    CONFIG_I64(struct train_options, vocab_size, "vocab-size", "32000", 260, TOKENIZER_VOCAB_MAX,
               "tokens, the 4 special ones and the 256 bytes included"),
    CONFIG_ENUM(struct train_options, pattern, "pattern", "llama3", PATTERN_NAMES,
                "how text is cut into the pieces inside which pairs may merge"),
    CONFIG_I64(struct train_options, min_frequency, "min-frequency", "0", 0, INT64_MAX / 2,
               "occurrences below which a pair is not merged"),
    THREADS_ROW(struct train_options),
    CONFIG_END,
};

static const struct config_usage train_usage = {
    "mundwerk tokenizer train",
    "--in PATH... --out DIR [options]",
    "Learns a byte-level BPE vocabulary. The merges are those of Hugging Face's trainer on the\n"
    "same text, and DIR loads there. Of JSON lines each document is one sequence, of text files\n"
    "each line with its line ending.",
    "mundwerk tokenizer train --in corpus/ --out runs/tok\n"
    "mundwerk tokenizer train --in a.jsonl.zst b.txt --out tok16k --vocab-size 16000 "
    "--pattern german",
};

struct count_job {
    struct bpe_trainer *trainer;
    struct buf *stores; /* one a worker */
};

static int count_line(void *context, int worker, size_t block, const struct corpus *c,
                      const struct corpus_batch *b, struct corpus_line *line, struct err *e)
{
    struct count_job *job = context;
    const char *text;
    size_t len;
    (void)block;
    if (!corpus_text(c, b, line, &job->stores[worker], &text, &len, NULL))
        return 0;
    return bpe_trainer_count(job->trainer, worker, text, len, e);
}

static int count_corpus(struct bpe_trainer *trainer, struct corpus *c, struct err *e)
{
    int workers = threads_count();
    struct count_job context = {trainer, mem_zalloc((size_t)workers, sizeof(struct buf))};
    struct corpus_job job = {&context, count_line, NULL};
    int failed = corpus_run(c, "counting words", &job, e);
    for (int i = 0; i < workers; i++)
        buf_release(&context.stores[i]);
    free(context.stores);
    if (!failed && !c->texts)
        failed = err_set(e, "no text in %s: %" PRIu64 " bad lines", c->files.paths[0], c->bad);
    return failed;
}

static void tell_training(const struct train_options *o, const struct corpus *c,
                          const struct bpe_train_stats *s, uint32_t vocab_size)
{
    log_info("%s of text in %s sequences: %s pieces, %s different; %.1f s", log_bytes(s->bytes),
             log_count((double)s->sequences), log_count((double)s->pieces),
             log_count((double)s->distinct), s->count_seconds);
    log_info("%" PRIu32 " merges, the last of a pair seen %" PRIu64 " times; %.1f s", s->merges,
             s->last_frequency, s->merge_seconds);
    if (c->bad)
        log_warn("%" PRIu64 " bad lines were left out", c->bad);
    if (vocab_size < o->vocab_size)
        log_warn("the text gives only %" PRIu32 " tokens, not %" PRId64
                 "; more text or a smaller --min-frequency gives more",
                 vocab_size, o->vocab_size);
    log_info("wrote %s: %" PRIu32 " tokens", o->out, vocab_size);
}

/* Names the tokenizer in dir, if there is one: it will be replaced. */
static void tell_old_tokenizer(const char *dir)
{
    struct tokenizer *old = NULL;
    struct err e;
    char *path = fs_join(dir, "tokenizer.json");
    if (fs_exists(path) && !tokenizer_load(&old, dir, &e))
        log_info("%s holds a tokenizer of %" PRIu32 " tokens (%016" PRIx64
                 "), which will be replaced",
                 dir, tokenizer_vocab_size(old), tokenizer_hash(old));
    else if (fs_exists(path))
        log_info("%s, which cannot be read as a tokenizer, will be replaced", path);
    tokenizer_free(old);
    free(path);
}

static int train_run(const struct train_options *o, struct err *e)
{
    static const char *const names[] = {"gpt2", "llama3", "qwen2", "o200k", "german"};
    struct bpe_train_options options = {(uint32_t)o->vocab_size, (uint64_t)o->min_frequency,
                                        names[o->pattern]};
    struct corpus c;
    struct bpe_trainer *trainer = NULL;
    struct tokenizer *t = NULL;
    if (corpus_init(&c, o->in.items, o->in.count, e))
        return -1;
    tell_old_tokenizer(o->out);
    double start = log_seconds();
    int failed = bpe_trainer_new(&trainer, &options, e) || count_corpus(trainer, &c, e);
    double counted = log_seconds() - start;
    failed = failed || bpe_trainer_train(trainer, &t, e) || tokenizer_copy(t, o->out, e);
    if (!failed) {
        struct bpe_train_stats stats = *bpe_trainer_stats(trainer);
        stats.count_seconds += counted;
        tell_training(o, &c, &stats, tokenizer_vocab_size(t));
    }
    tokenizer_free(t);
    bpe_trainer_free(trainer);
    corpus_release(&c);
    return failed ? -1 : 0;
}

static int cmd_train(int argc, char **argv)
{
    struct train_options o;
    struct err e;
    int code = read_args(train_rows, &o, &train_usage, NULL, argc, argv);
    if (code) {
        code--;
    } else if (!o.in.count || !o.out || !*o.out) {
        code = missing(train_usage.name, o.in.count ? "out" : "in");
    } else {
        threads_init((int)o.threads);
        code = train_run(&o, &e) ? command_fail(train_usage.name, &e, 1) : 0;
    }
    config_release(train_rows, &o);
    return code;
}

/* --- encode ------------------------------------------------------------------- */

struct encode_options {
    char *tokenizer;
    bool bos, eos, allow_special;
    int64_t threads;
};

static const struct config_row encode_rows[] = {
    CONFIG_STR(struct encode_options, tokenizer, "tokenizer", NULL, "DIR", "tokenizer folder"),
    CONFIG_BOOL(struct encode_options, bos, "bos", "false", "put <s> in front of each line"),
    CONFIG_BOOL(struct encode_options, eos, "eos", "false", "put </s> behind each line"),
    CONFIG_BOOL(struct encode_options, allow_special, "allow-special", "false",
                "text that spells a special token becomes it (Hugging Face's default)"),
    THREADS_ROW(struct encode_options),
    CONFIG_END,
};

static const struct config_usage encode_usage = {
    "mundwerk tokenizer encode",
    "--tokenizer DIR [options] [FILE]",
    "Reads text from FILE (plain, .gz, .zst) or standard input and prints, for each line, its\n"
    "ids on a line. The newline itself is not encoded.",
    "echo 'Guten Tag' | mundwerk tokenizer encode --tokenizer runs/tok\n"
    "mundwerk tokenizer encode --tokenizer runs/tok --bos --eos text.txt > ids.txt",
};

struct encode_job {
    const struct encode_options *options;
    struct encoder **encoders; /* one a worker */
    struct ids *ids;           /* one a worker */
    struct buf *blocks;        /* (CORPUS_BLOCKS_MAX) what each block prints */
};

static void print_ids(struct buf *out, const struct ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        char digits[12];
        int at = (int)sizeof(digits);
        uint32_t id = ids->v[i];
        do {
            digits[--at] = (char)('0' + id % 10);
            id /= 10;
        } while (id);
        if (i)
            buf_putc(out, ' ');
        buf_add(out, digits + at, sizeof(digits) - (size_t)at);
    }
    buf_putc(out, '\n');
}

static int encode_line(void *context, int worker, size_t block, const struct corpus *c,
                       const struct corpus_batch *b, struct corpus_line *line, struct err *e)
{
    struct encode_job *job = context;
    struct ids *ids = &job->ids[worker];
    const char *text = b->bytes.data + line->start;
    unsigned flags = (job->options->bos ? ENCODE_BOS : 0) | (job->options->eos ? ENCODE_EOS : 0) |
                     (job->options->allow_special ? ENCODE_ALLOW_SPECIAL : 0);
    (void)c;
    ids->count = 0;
    if (encoder_encode(job->encoders[worker], text, corpus_line_len(text, line->len), flags, ids,
                       e))
        return -1;
    print_ids(&job->blocks[block], ids);
    return 0;
}

static int print_batch(void *context, const struct corpus *c, const struct corpus_batch *b,
                       struct err *e)
{
    struct encode_job *job = context;
    (void)c;
    for (size_t i = 0; i < corpus_block_count(b); i++) {
        struct buf *out = &job->blocks[i];
        if (fwrite(out->data, 1, out->len, stdout) != out->len)
            return err_set(e, "cannot write to standard output: %s", strerror(errno));
        buf_clear(out);
    }
    return 0;
}

static int encode_run(const struct encode_options *o, const char *path, struct err *e)
{
    struct tokenizer *t;
    struct corpus c;
    int workers = threads_count();
    if (tokenizer_load(&t, o->tokenizer, e))
        return -1;
    struct encode_job context = {
        .options = o,
        .encoders = mem_alloc((size_t)workers * sizeof(struct encoder *)),
        .ids = mem_zalloc((size_t)workers, sizeof(struct ids)),
        .blocks = mem_zalloc(CORPUS_BLOCKS_MAX, sizeof(struct buf)),
    };
    struct corpus_job job = {&context, encode_line, print_batch};
    for (int i = 0; i < workers; i++)
        context.encoders[i] = encoder_new(t);
    corpus_init_lines(&c, path);
    int failed = corpus_run(&c, NULL, &job, e);
    if (!failed && c.bad)
        failed = err_set(e, "%" PRIu64 " lines were not encoded", c.bad);
    if (!failed && fflush(stdout))
        failed = err_set(e, "cannot write to standard output: %s", strerror(errno));
    corpus_release(&c);
    for (int i = 0; i < workers; i++) {
        encoder_free(context.encoders[i]);
        ids_release(&context.ids[i]);
    }
    for (size_t i = 0; i < CORPUS_BLOCKS_MAX; i++)
        buf_release(&context.blocks[i]);
    free(context.encoders);
    free(context.ids);
    free(context.blocks);
    tokenizer_free(t);
    return failed;
}

static int cmd_encode(int argc, char **argv)
{
    struct encode_options o;
    struct config_list rest = {0};
    struct err e;
    int code = read_args(encode_rows, &o, &encode_usage, &rest, argc, argv);
    if (code) {
        code--;
    } else if (!o.tokenizer || !*o.tokenizer) {
        code = missing(encode_usage.name, "tokenizer");
    } else if (rest.count > 1) {
        err_set(&e, "one FILE at most; '%s' is another", rest.items[1]);
        code = command_fail(encode_usage.name, &e, 2);
    } else {
        threads_init((int)o.threads);
        if (encode_run(&o, rest.count ? rest.items[0] : "-", &e))
            code = command_fail(encode_usage.name, &e, 1);
    }
    config_list_release(&rest);
    config_release(encode_rows, &o);
    return code;
}

/* --- decode ------------------------------------------------------------------- */

struct decode_options {
    char *tokenizer;
    bool skip_special;
    int64_t threads;
};

static const struct config_row decode_rows[] = {
    CONFIG_STR(struct decode_options, tokenizer, "tokenizer", NULL, "DIR", "tokenizer folder"),
    CONFIG_BOOL(struct decode_options, skip_special, "skip-special", "false",
                "leave out special tokens such as <s>"),
    THREADS_ROW(struct decode_options),
    CONFIG_END,
};

static const struct config_usage decode_usage = {
    "mundwerk tokenizer decode",
    "--tokenizer DIR [options] [FILE]",
    "Reads ids, separated by blanks, from FILE or standard input and prints, for each line, the\n"
    "bytes they stand for and a newline.",
    "mundwerk tokenizer encode --tokenizer runs/tok text.txt | \\\n"
    "    mundwerk tokenizer decode --tokenizer runs/tok",
};

/* The ids of one line; on failure *at is the byte of the first word that is none. */
static bool read_ids(const char *line, size_t len, struct ids *ids, size_t *at)
{
    ids->count = 0;
    for (size_t i = 0; i < len;) {
        uint64_t id = 0;
        if (line[i] == ' ' || line[i] == '\t' || line[i] == '\r' || line[i] == '\n') {
            i++;
            continue;
        }
        *at = i;
        while (i < len && line[i] >= '0' && line[i] <= '9' && id <= UINT32_MAX)
            id = id * 10 + (uint64_t)(line[i++] - '0');
        if (i == *at || id > UINT32_MAX || (i < len && !strchr(" \t\r\n", line[i])))
            return false;
        ids_add(ids, (uint32_t)id);
    }
    return true;
}

static int decode_lines(const struct tokenizer *t, struct lines *lines, bool skip_special,
                        const char *path, struct err *e)
{
    struct ids ids = {0};
    struct buf out = {0};
    const char *line;
    size_t len, at = 0;
    int failed = 0;
    enum lines_result r = LINES_END;
    while (!failed && (r = lines_next(lines, &line, &len, e)) > 0) {
        buf_clear(&out);
        if (r == LINES_TOO_LONG)
            failed = err_set(e, "%s:%" PRIu64 ": line of %zu bytes is too long", path,
                             lines->number, len);
        else if (!read_ids(line, len, &ids, &at))
            failed = err_set(e, "%s:%" PRIu64 ": byte %zu: not an id", path, lines->number, at);
        else if (tokenizer_decode(t, ids.v, ids.count, skip_special, &out, e))
            failed = err_add(e, "%s:%" PRIu64, path, lines->number);
        buf_putc(&out, '\n');
        if (!failed && fwrite(out.data, 1, out.len, stdout) != out.len)
            failed = err_set(e, "cannot write to standard output: %s", strerror(errno));
    }
    ids_release(&ids);
    buf_release(&out);
    return failed || r < 0 ? -1 : 0;
}

static int decode_run(const struct decode_options *o, const char *path, struct err *e)
{
    struct tokenizer *t;
    struct reader reader;
    struct lines lines;
    if (tokenizer_load(&t, o->tokenizer, e))
        return -1;
    if (reader_open(&reader, path, e)) {
        tokenizer_free(t);
        return -1;
    }
    lines_init(&lines, &reader);
    int failed = decode_lines(t, &lines, o->skip_special, path, e);
    if (fflush(stdout) && !failed)
        failed = err_set(e, "cannot write to standard output: %s", strerror(errno));
    lines_release(&lines);
    reader_close(&reader);
    tokenizer_free(t);
    return failed;
}

static int cmd_decode(int argc, char **argv)
{
    struct decode_options o;
    struct config_list rest = {0};
    struct err e;
    int code = read_args(decode_rows, &o, &decode_usage, &rest, argc, argv);
    if (code) {
        code--;
    } else if (!o.tokenizer || !*o.tokenizer) {
        code = missing(decode_usage.name, "tokenizer");
    } else if (rest.count > 1) {
        err_set(&e, "one FILE at most; '%s' is another", rest.items[1]);
        code = command_fail(decode_usage.name, &e, 2);
    } else {
        threads_init((int)o.threads);
        if (decode_run(&o, rest.count ? rest.items[0] : "-", &e))
            code = command_fail(decode_usage.name, &e, 1);
    }
    config_list_release(&rest);
    config_release(decode_rows, &o);
    return code;
}

/* --- pack --------------------------------------------------------------------- */

struct pack_options {
    char *tokenizer;
    struct config_list in;
    char *out;
    double valid_share;
    int64_t threads;
};

static const struct config_row pack_rows[] = {
    CONFIG_STR(struct pack_options, tokenizer, "tokenizer", NULL, "DIR", "tokenizer folder"),
    CONFIG_LIST(struct pack_options, in, "in", "PATH",
                "files or folders: JSON lines or text, plain, .gz or .zst"),
    CONFIG_STR(struct pack_options, out, "out", NULL, "PREFIX",
               "where PREFIX.bin, .idx, .ids and .json go"),
    CONFIG_F64(struct pack_options, valid_share, "valid-share", "0.01", 0, 1,
               "share of documents held out for validation, chosen by a hash of their id"),
    THREADS_ROW(struct pack_options),
    CONFIG_END,
};

static const struct config_usage pack_usage = {
    "mundwerk tokenizer pack",
    "--tokenizer DIR --in PATH... --out PREFIX [options]",
    "Writes the ids of a corpus as Megatron's PREFIX.bin and PREFIX.idx, and the documents held\n"
    "out as PREFIX.valid.*. Each document begins with <s> and ends with </s>. Of JSON lines each\n"
    "is a document, named by its \"id\", of text files each line, named by path and number.",
    "mundwerk tokenizer pack --tokenizer runs/tok --in corpus/ --out runs/data/de",
};

static void tell_part(const char *name, const struct pack_part *p)
{
    log_info("%s: %" PRIu64 " documents, %" PRIu64 " tokens from %s of text, %.3f bytes a token",
             name, p->documents, p->tokens, log_bytes(p->bytes),
             (double)p->bytes / (double)(p->tokens - 2 * p->documents));
}

/* Adds what the shard at prefix holds; false if there is one that cannot be read. */
static bool add_shard(const char *prefix, uint64_t *documents, uint64_t *tokens)
{
    struct shard s;
    struct err e;
    if (!shard_exists(prefix))
        return true;
    if (shard_open(&s, prefix, &e))
        return false;
    *documents += s.doc_count;
    *tokens += s.token_count;
    shard_close(&s);
    return true;
}

/* Names the shards at prefix, if there are any: they will be replaced. */
static void tell_old_shards(const char *prefix)
{
    uint64_t documents = 0, tokens = 0;
    struct buf valid = {0};
    buf_printf(&valid, "%s.valid", prefix);
    if (!add_shard(prefix, &documents, &tokens) || !add_shard(valid.data, &documents, &tokens))
        log_info("the shards %s.*, which cannot be read, will be replaced", prefix);
    else if (documents)
        log_info("the shards %s.* hold %" PRIu64 " documents, %" PRIu64
                 " tokens (the held-out ones included), and will be replaced",
                 prefix, documents, tokens);
    buf_release(&valid);
}

static int pack_run(const struct pack_options *o, struct err *e)
{
    struct tokenizer *t;
    struct corpus c;
    struct pack_stats stats;
    if (tokenizer_load(&t, o->tokenizer, e))
        return -1;
    if (corpus_init(&c, o->in.items, o->in.count, e)) {
        tokenizer_free(t);
        return -1;
    }
    tell_old_shards(o->out);
    int failed = pack_corpus(t, &c, o->out, o->valid_share, &stats, e);
    if (!failed) {
        tell_part("training", &stats.train);
        if (stats.valid.documents)
            tell_part("held out", &stats.valid);
        else if (o->valid_share > 0)
            log_warn("no document was held out: %" PRIu64 " are too few for a share of %g",
                     stats.train.documents, o->valid_share);
        if (stats.empty)
            log_info("%" PRIu64 " empty documents were left out", stats.empty);
        if (c.bad)
            log_warn("%" PRIu64 " bad lines were left out", c.bad);
        log_info("wrote %s.bin, .idx, .ids and .json", o->out);
    }
    corpus_release(&c);
    tokenizer_free(t);
    return failed;
}

static int cmd_pack(int argc, char **argv)
{
    struct pack_options o;
    struct err e;
    int code = read_args(pack_rows, &o, &pack_usage, NULL, argc, argv);
    if (code) {
        code--;
    } else if (!o.tokenizer || !*o.tokenizer) {
        code = missing(pack_usage.name, "tokenizer");
    } else if (!o.in.count || !o.out || !*o.out) {
        code = missing(pack_usage.name, o.in.count ? "out" : "in");
    } else {
        threads_init((int)o.threads);
        code = pack_run(&o, &e) ? command_fail(pack_usage.name, &e, 1) : 0;
    }
    config_release(pack_rows, &o);
    return code;
}

static const struct command commands[] = {
    {"train", cmd_train, "learn a vocabulary from text"},
    {"encode", cmd_encode, "lines of text to lines of ids"},
    {"decode", cmd_decode, "lines of ids to lines of text"},
    {"pack", cmd_pack, "a corpus to token shards for training"},
    {NULL, NULL, NULL},
};

int cmd_tokenizer(int argc, char **argv)
{
    return command_run(commands, "mundwerk tokenizer", argc, argv);
}
