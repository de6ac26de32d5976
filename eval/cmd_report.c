/* The command `mundwerk eval report`. */
#include "common/config.h"
#include "common/fs.h"
#include "common/log.h"
#include "eval/cmd_report.h"
#include "eval/report.h"

struct options {
    char *run;
    char *data;
    char *corpus;
    char *out;
    int64_t threads;
};

static const struct config_row rows[] = {
    CONFIG_STR(struct options, run, "run", NULL, "RUN", "run folder, e.g. runs/german-mini"),
    CONFIG_STR(struct options, data, "data", NULL, "PREFIX",
               "token shards, if they are not where RUN/config.yaml says"),
    CONFIG_STR(struct options, corpus, "corpus", NULL, "DIR",
               "folder of the prepared corpus, whose ledger.json is shown"),
    CONFIG_STR(struct options, out, "out", NULL, "FILE", "page to write [RUN/report.html]"),
    CONFIG_I64(struct options, threads, "threads", "0", 0, 4096,
               "threads; accepted as everywhere, one is used"),
    CONFIG_END,
};

static const struct config_usage usage = {
    .name = "mundwerk eval report",
    .synopsis = "--run RUN [options]",
    .about =
        "Writes one self-contained HTML page about a run: loss, bits per byte and task scores\n"
        "over training tokens, samples of every snapshot side by side, the corpus ledger,\n"
        "the tokenizer, and the settings. It shows what `train` and `eval run` have left in\n"
        "the run folder; what is missing is said on the page.",
    .examples =
        "  mundwerk eval report --run runs/german-mini\n"
        "  mundwerk eval report --run runs/german1b --corpus corpus --out /tmp/german1b.html\n",
};

int cmd_eval_report(int argc, char **argv)
{
    struct options o;
    struct err e;
    log_name(usage.name);
    config_init(rows, &o);
    int parsed = config_args(rows, &o, &usage, NULL, argc, argv, &e);
    int code = 0;
    if (parsed < 0) {
        code = command_fail(usage.name, &e, 2);
    } else if (parsed == 0 && !*o.run) {
        err_set(&e, "--run is missing: name a run folder, e.g. --run runs/german-mini");
        code = command_fail(usage.name, &e, 2);
    } else if (parsed == 0) {
        struct report_options options = {.run = o.run,
                                         .data = *o.data ? o.data : NULL,
                                         .corpus = *o.corpus ? o.corpus : NULL,
                                         .out = *o.out ? o.out : NULL};
        char *page = fs_join(o.run, "report.html");
        if (report_write(&options, &e))
            code = command_fail(usage.name, &e, 1);
        else
            log_info("wrote %s", *o.out ? o.out : page);
        free(page);
    }
    config_release(rows, &o);
    return code;
}
