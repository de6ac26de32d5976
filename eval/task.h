/*
 * Benchmark tasks: what eval/tasks/NAME.yaml says, and the items of its files.
 *
 * A task file is one YAML mapping with the keys of the table in task.c: where the
 * files lie below the task data folder, which columns hold text and label, the
 * metric, and the recipe of fine-tuning. A further task of a known head is a further
 * file and no code.
 */
#ifndef EVAL_TASK_H
#define EVAL_TASK_H

#include "common/err.h"
#include "common/mem.h"
#include "eval/metrics.h"

#include <stdbool.h>
#include <stdint.h>

enum task_head { TASK_HEAD_TEXT }; /* one text, one label */
enum task_delimiter { TASK_TAB, TASK_COMMA, TASK_SEMICOLON };

struct task {
    /* from the file */
    char *name;
    char *about;                       /* one line: what it is, licence */
    char *source;                      /* one sentence: how to get the data */
    int head;                          /* enum task_head */
    int metric;                        /* enum metric */
    char *folder;                      /* below the task data folder */
    char *train, *test;                /* file names in it */
    int delimiter;                     /* enum task_delimiter */
    bool quotes;                       /* cells may be quoted, table.h */
    bool header;                       /* the first row names the columns */
    int64_t text_column, label_column; /* from 0 */
    /* the recipe */
    int64_t epochs, batch, max_length;
    double lr, weight_decay, grad_clip, warmup_share;
    int64_t lora_rank;
    double lora_alpha, lora_dropout;
    /* of the definition */
    char *path; /* of the file */
};

/* Reads eval/tasks/NAME.yaml (beside the program, or below the working directory), or the
 * file itself if `name` ends in ".yaml". An unknown name's error lists the known ones. */
int task_read(struct task *t, const char *name, struct err *e);
void task_release(struct task *t);

struct task_item {
    char *text; /* valid UTF-8 */
    size_t len;
    int32_t label; /* number in task_data.labels */
    uint64_t line; /* of the file */
};

struct task_split {
    char *path;
    struct task_item *items;
    size_t count, capacity;
    uint64_t malformed;   /* rows left out: too few columns, no label, not UTF-8 */
    uint64_t empty;       /* rows left out: no text (flair's filter_empty_sentences) */
    struct err first_bad; /* names the first malformed row: file, line, what is wrong */
};

struct task_data {
    struct task_split train, test;
    /* The first class_count labels are those of train, by descending number of items, ties
     * by first occurrence (flair's label dictionary); labels only test knows follow. */
    char **labels;
    uint64_t *train_counts; /* (label_count) */
    int32_t class_count, label_count;
};

/* Reads both files below `root`. A missing file's error says how to get the data; a file
 * without a good row is an error. */
int task_data_read(struct task_data *d, const struct task *t, const char *root, struct err *e);
void task_data_release(struct task_data *d);

#endif
