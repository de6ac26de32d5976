/*
 * `mundwerk data prepare` and `mundwerk data report`: command line in, words and
 * exit codes out. The work is done in prepare.c and ledger.c.
 */
#include "data/cmd_data.h"

#include "common/config.h"
#include "common/fs.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/threads.h"
#include "data/ledger.h"
#include "data/prepare.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- prepare ------------------------------------------------------------- */

static const struct config_usage prepare_usage = {
    .name = "mundwerk data prepare",
    .synopsis = "--in PATH... --out DIR [options]",
    .about =
        "Turns raw web text into clean, deduplicated documents: selects language and bucket,\n"
        "removes documents and paragraphs that stood before and paragraphs that are no running\n"
        "text, and accounts for every line in DIR/ledger.json. Bad lines and files are counted\n"
        "and named, work goes on. The output is the same for any number of threads.\n"
        "Of JSON lines each is a document; a text file is one document, whatever its lines.",
    .examples = "  mundwerk data prepare --in redpajama/documents --out corpus\n"
                "  mundwerk data prepare --in a.jsonl.zst b.txt --out corpus "
                "--ratio-tokenizer tok\n"
                "  mundwerk data prepare --in raw --out corpus --set prepare.languages=all "
                "--threads 8\n",
};

static void print_summary(const struct prepare_settings *s, const struct ledger *l, double seconds)
{
    struct buf table = {0};
    ledger_table(l, &table);
    fputs(table.data, stderr);
    buf_release(&table);
    fprintf(stderr, "%s: %s of text in %s (%s/s) with %d thread%s\n", s->out,
            log_bytes(l->text_bytes), log_duration(seconds),
            log_bytes((uint64_t)((double)l->text_bytes / (seconds > 1e-3 ? seconds : 1e-3))),
            threads_count(), threads_count() == 1 ? "" : "s");
}

static void print_doubts(const struct ledger *l)
{
    if (ledger_damaged_files(l))
        log_warn("%zu of %zu files could not be read to their end; what stood before was used",
                 ledger_damaged_files(l), l->file_count);
    if (ledger_damaged_lines(l))
        log_warn("%" PRIu64 " of %" PRIu64 " lines were bad and left out; the ledger counts them "
                 "by reason",
                 ledger_damaged_lines(l), l->total.lines_in);
    if (l->ratio.note)
        log_warn("%s", l->ratio.note);
}

static int cmd_prepare(int argc, char **argv)
{
    struct prepare_settings s;
    struct ledger l = {0};
    struct err e = {{0}};
    log_name(prepare_usage.name);
    config_init(prepare_rows, &s);
    int wrong = config_args(prepare_rows, &s, &prepare_usage, NULL, argc, argv, &e);
    if (!wrong)
        wrong = prepare_settle(&s, &e);
    if (wrong) {
        config_release(prepare_rows, &s);
        return wrong > 0 ? 0 : command_fail(prepare_usage.name, &e, 2);
    }
    threads_init((int)s.threads);
    log_quiet(s.quiet);
    double start = log_seconds();
    int failed = prepare_run(&s, &l, &e);
    if (!failed && !s.quiet)
        print_summary(&s, &l, log_seconds() - start);
    if (!failed)
        print_doubts(&l);
    /* The ledger stands, but nothing can be built on this corpus: a script should stop here. */
    if (!failed && !l.total.kept)
        failed = err_set(&e, "no document was kept; %s/" LEDGER_NAME " says why", s.out);
    ledger_release(&l);
    config_release(prepare_rows, &s);
    return failed ? command_fail(prepare_usage.name, &e, 1) : 0;
}

/* --- report -------------------------------------------------------------- */

struct report_settings {
    int64_t threads;
    bool verify;
};

static const struct config_row report_rows[] = {
    CONFIG_BOOL(struct report_settings, verify, "verify", "false",
                "read the output files too and compare their hashes"),
    CONFIG_I64(struct report_settings, threads, "threads", "0", 0, 1024,
               "threads, 0 = all CPUs (reading is done by one)"),
    CONFIG_END,
};

static const struct config_usage report_usage = {
    .name = "mundwerk data report",
    .synopsis = "DIR [--verify]",
    .about = "Prints DIR/ledger.json as a table and checks that it balances: for each file and in\n"
             "all, lines in = kept + removed; and that the output files are there with their size.",
    .examples = "  mundwerk data report corpus\n"
                "  mundwerk data report corpus --verify\n",
};

/* The files of documents against what the ledger says of them. */
static int check_outputs(const struct ledger *l, const char *dir, bool verify, struct err *e)
{
    int failed = 0;
    for (size_t i = 0; i < l->output_count && !failed; i++) {
        const struct ledger_output *o = &l->outputs[i];
        char *path = fs_join(dir, "%s", o->name);
        uint64_t bytes = 0, hash = o->hash;
        failed = fs_size(path, &bytes, e);
        if (!failed && bytes != o->bytes)
            failed = err_set(e, "%s has %" PRIu64 " bytes, the ledger says %" PRIu64, path, bytes,
                             o->bytes);
        if (!failed && verify)
            failed = hash_file(path, &hash, &bytes, e);
        if (!failed && hash != o->hash)
            failed = err_set(
                e, "%s is damaged: its hash is %016" PRIx64 ", the ledger says %016" PRIx64, path,
                hash, o->hash);
        free(path);
    }
    return failed;
}

static int report(const char *dir, bool verify, struct err *e)
{
    struct ledger l = {0};
    struct buf table = {0};
    char *path = fs_join(dir, "%s", LEDGER_NAME);
    int failed = ledger_read(&l, path, e);
    if (!failed) {
        ledger_table(&l, &table);
        fputs(table.data, stdout);
        buf_release(&table);
        failed = ledger_check(&l, e) ? err_add(e, "%s", path) : 0;
    }
    if (!failed)
        failed = check_outputs(&l, dir, verify, e);
    if (!failed)
        printf("the ledger balances%s\n", verify ? ", the files' hashes are right" : "");
    free(path);
    ledger_release(&l);
    return failed;
}

static int cmd_report(int argc, char **argv)
{
    struct report_settings s;
    struct config_list dirs = {0};
    struct err e = {{0}};
    config_init(report_rows, &s);
    int code = 0;
    int wrong = config_args(report_rows, &s, &report_usage, &dirs, argc, argv, &e);
    if (!wrong && dirs.count != 1)
        wrong = err_set(&e, "name one folder; see --help");
    if (wrong < 0)
        code = command_fail(report_usage.name, &e, 2);
    else if (!wrong && report(dirs.items[0], s.verify, &e))
        code = command_fail(report_usage.name, &e, 1);
    config_list_release(&dirs);
    config_release(report_rows, &s);
    return code;
}

/* --- the table ----------------------------------------------------------- */

static const struct command commands[] = {
    {"prepare", cmd_prepare, "raw web text to clean, deduplicated documents"},
    {"report", cmd_report, "the ledger of a prepared corpus as a table, checked"},
    {NULL, NULL, NULL},
};

int cmd_data(int argc, char **argv)
{
    return command_run(commands, "mundwerk data", argc, argv);
}
