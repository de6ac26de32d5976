/*
 * The command lines of `mundwerk eval`.
 */
#include "eval/cmd_eval.h"

#include "common/config.h"
#include "common/log.h"
#include "common/threads.h"
#include "eval/cmd_report.h"
#include "eval/run.h"

#include <stdio.h>

static const char name[] = "mundwerk eval run";

struct options {
    struct run_options run;
    int64_t threads;
    bool quiet;
};

static const struct config_row rows[] = {
    CONFIG_STR(struct options, run.run, "run", NULL, "RUN",
               "run folder; all its snapshots are evaluated"),
    CONFIG_STR(struct options, run.checkpoint, "checkpoint", NULL, "DIR",
               "evaluate this one checkpoint folder instead; needs --out"),
    CONFIG_STR(struct options, run.tasks, "tasks", NULL, "NAME,...",
               "bpb (bits per byte), samples, or files of eval/tasks such as offensive_lang"),
    CONFIG_STR(struct options, run.task_data, "task-data", NULL, "DIR",
               "a copy of SuperGLEBer's data/ folder"),
    CONFIG_STR(struct options, run.data, "data", NULL, "PREFIX",
               "held-out tokens PREFIX.valid.*; default: the run's data.prefix"),
    CONFIG_STR(struct options, run.out, "out", NULL, "DIR",
               "folder for the results; default: RUN/eval, or RUN/eval/trial with --max-tokens, "
               "--epochs or --limit"),
    CONFIG_I64(struct options, run.max_tokens, "max-tokens", "-1", -1, 1e15,
               "bpb: choose documents until there are so many tokens; 0 = all, -1 = the run's "
               "eval.tokens"),
    CONFIG_I64(struct options, run.batch_tokens, "batch-tokens", "4096", 1, 1 << 24,
               "bpb: tokens in a forward pass; memory, not the result, depends on it"),
    CONFIG_I64(struct options, run.sample_tokens, "sample-tokens", "64", 1, 1 << 20,
               "samples: new tokens of each"),
    CONFIG_I64(struct options, run.seed, "seed", "42", 0, 1e15,
               "of the samples and of the first fine-tuning"),
    CONFIG_I64(struct options, run.seeds, "seeds", "1", 1, 1000,
               "fine-tune so many times, with seed, seed + 1, ..."),
    CONFIG_I64(struct options, run.epochs, "epochs", "0", 0, 1000,
               "of fine-tuning; 0 = as the task says"),
    CONFIG_I64(struct options, run.limit, "limit", "0", 0, 1e9,
               "use only the first so many items of train and test, for a quick trial; 0 = all"),
    CONFIG_ENUM(struct options, run.precision, "precision", "fp32", "fp32|bf16",
                "of the operands of matrix products"),
    CONFIG_BOOL(struct options, run.force, "force", "false",
                "evaluate again what is there already"),
    CONFIG_BOOL(struct options, quiet, "quiet", "false", "no progress, only warnings and results"),
    CONFIG_I64(struct options, threads, "threads", "0", 0, 4096, "threads to use; 0 = all CPUs"),
    CONFIG_END,
};

static const struct config_usage usage = {
    name,
    "(--run RUN | --checkpoint DIR --out DIR) --tasks NAME,... [options]",
    "Evaluates the snapshots of a run and stores each score with its error bar and the items it "
    "was\n"
    "made of under RUN/eval. What is there already for the same weights and settings is not made\n"
    "again, so it can be interrupted and repeated at any time. With --max-tokens, --epochs or\n"
    "--limit the results are those of a trial: they go to RUN/eval/trial, where the report does\n"
    "not look, unless --out names another folder.",
    "mundwerk eval run --run runs/german-mini --tasks bpb,samples\n"
    "mundwerk eval run --run runs/german1b --tasks offensive_lang --task-data SuperGLEBer/data "
    "--seeds 3\n"
    "mundwerk eval run --checkpoint DIR --out results --tasks bpb --data tokens/german\n",
};

static int cmd_run(int argc, char **argv)
{
    struct options o;
    struct err e;
    struct buf table = {0};
    int code = 2;
    config_init(rows, &o);
    int parsed = config_args(rows, &o, &usage, NULL, argc, argv, &e);
    if (parsed > 0) {
        code = 0;
    } else if (parsed < 0) {
        command_fail(name, &e, code);
    } else {
        log_name(name);
        log_quiet(o.quiet);
        threads_init((int)o.threads);
        int failed = kernels_init(&e);
        if (failed)
            code = 1;
        else
            failed = run_evaluation(&o.run, &table, &code, &e);
        fwrite(table.data ? table.data : "", 1, table.len, stdout);
        code = failed ? command_fail(name, &e, code) : 0;
    }
    buf_release(&table);
    config_release(rows, &o);
    return code;
}

static const struct command commands[] = {
    {"run", cmd_run, "run tasks over the snapshots of a run"},
    {"report", cmd_eval_report, "one web page on a run: curves, scores, samples"},
    {NULL, NULL, NULL},
};

int cmd_eval(int argc, char **argv)
{
    return command_run(commands, "mundwerk eval", argc, argv);
}
