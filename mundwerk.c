/*
 * The table of commands. `mundwerk data prepare …` and, through links in bin/,
 * `data prepare …`: the name the program was called by picks the row.
 */
#include "checkpoints/cmd_checkpoints.h"
#include "common/config.h"
#include "common/fs.h"
#include "common/threads.h"
#include "data/cmd_data.h"
#include "eval/cmd_eval.h"
#include "eval/cmd_generate.h"
#include "tokenizer/cmd_tokenizer.h"
#include "train/cmd_bench.h"
#include "train/cmd_train.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("mundwerk " MUNDWERK_VERSION);
    return 0;
}

static const struct command commands[] = {
    {"data", cmd_data, "raw web text to clean documents, with a ledger"},
    {"tokenizer", cmd_tokenizer, "learn a vocabulary; text to ids and back; pack ids for training"},
    {"checkpoints", cmd_checkpoints, "list, verify and prune the snapshots of a run"},
    {"train", cmd_train, "train a model on token shards"},
    {"eval", cmd_eval, "scores, samples and curves of snapshots"},
    {"generate", cmd_generate, "continue a text with a model"},
    {"bench", cmd_bench, "peaks of this machine, and training held against them"},
    {"version", cmd_version, "print the version"},
    {NULL, NULL, NULL},
};

static int run(int argc, char **argv)
{
    const char *called = fs_base(argv[0]);
    if (argc == 2 && !strcmp(argv[1], "--version"))
        return cmd_version(argc, argv);
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(called, c->name))
            return c->run(argc, argv);
    return command_run(commands, "mundwerk", argc, argv);
}

int main(int argc, char **argv)
{
    threads_settle(argv);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is then an error of write(), with a sentence */
    int code = run(argc, argv);
    /* A full disk or a closed pipe behind stdout must not look like success. */
    if ((fflush(stdout) || ferror(stdout)) && code == 0) {
        fprintf(stderr, "mundwerk: cannot write to standard output: %s\n", strerror(errno));
        code = 1;
    }
    return code;
}
