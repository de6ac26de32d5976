/*
 * Task definitions and their data files; see task.h.
 */
#include "eval/task.h"

#include "common/config.h"
#include "common/fs.h"
#include "common/utf8.h"
#include "eval/table.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct config_row task_rows[] = {
    CONFIG_STR(struct task, name, "task.name", NULL, "NAME", "name of the task"),
    CONFIG_STR(struct task, about, "task.about", NULL, "TEXT", "what it is, in a line"),
    CONFIG_STR(struct task, source, "task.source", NULL, "TEXT", "how to get the data"),
    CONFIG_ENUM(struct task, head, "task.head", "text", "text", "kind of head"),
    CONFIG_ENUM(struct task, metric, "task.metric", "macro_f1", METRIC_WORDS, "score reported"),
    CONFIG_STR(struct task, folder, "data.folder", NULL, "DIR", "below the task data folder"),
    CONFIG_STR(struct task, train, "data.train", NULL, "FILE", "training items"),
    CONFIG_STR(struct task, test, "data.test", NULL, "FILE", "test items"),
    CONFIG_ENUM(struct task, delimiter, "data.delimiter", "tab", "tab|comma|semicolon",
                "between the columns"),
    CONFIG_BOOL(struct task, quotes, "data.quotes", "false", "cells may be quoted as in csv"),
    CONFIG_BOOL(struct task, header, "data.header", "false", "the first row names the columns"),
    CONFIG_I64(struct task, text_column, "data.text_column", "0", 0, 1000, "column, from 0"),
    CONFIG_I64(struct task, label_column, "data.label_column", "1", 0, 1000, "column, from 0"),
    CONFIG_I64(struct task, epochs, "recipe.epochs", "5", 1, 1000, "passes over train"),
    CONFIG_I64(struct task, batch, "recipe.batch", "8", 1, 1024, "items a step"),
    CONFIG_I64(struct task, max_length, "recipe.max_length", "512", 2, 1 << 20,
               "tokens of an item that are kept, with <s>"),
    CONFIG_F64(struct task, lr, "recipe.lr", "5e-5", 0, 1, "peak learning rate"),
    CONFIG_F64(struct task, weight_decay, "recipe.weight_decay", "0.01", 0, 1, "AdamW's"),
    CONFIG_F64(struct task, grad_clip, "recipe.grad_clip", "5", 0, 1e9,
               "largest norm of a step's gradient, 0 = no limit"),
    CONFIG_F64(struct task, warmup_share, "recipe.warmup_share", "0.1", 0, 1,
               "share of the steps with rising rate"),
    CONFIG_I64(struct task, lora_rank, "recipe.lora_rank", "8", 1, 1024, "rank of LoRA"),
    CONFIG_F64(struct task, lora_alpha, "recipe.lora_alpha", "32", 0, 1e6, "scale = alpha / rank"),
    CONFIG_F64(struct task, lora_dropout, "recipe.lora_dropout", "0.1", 0, 0.99,
               "on the input of A"),
    CONFIG_END,
};

/* --- where definitions lie -------------------------------------------------- */

/* Folder number i in which definitions are looked for: beside the program's folder, then
 * below the working directory. Caller frees; NULL after the last. */
static char *task_folder(int i)
{
    char self[PATH_MAX];
    if (i == 1)
        return mem_strdup("eval/tasks");
    if (i > 1)
        return NULL;
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0)
        return mem_strdup("eval/tasks");
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    *slash = '\0';
    return fs_join(self, "../eval/tasks");
}

static int unknown_task(const char *name, struct err *e)
{
    struct buf known = {0};
    for (int i = 0; known.len == 0; i++) {
        struct fs_list list = {0};
        char *folder = task_folder(i);
        if (!folder)
            break;
        if (fs_is_folder(folder) && !fs_list_folder(&list, folder, e))
            for (size_t f = 0; f < list.count; f++) {
                size_t n = strlen(list.paths[f]);
                if (n > 5 && !strcmp(list.paths[f] + n - 5, ".yaml"))
                    buf_printf(&known, "%s%.*s", known.len ? ", " : "", (int)n - 5, list.paths[f]);
            }
        fs_list_release(&list);
        free(folder);
    }
    err_set(e, "there is no task named %s; known are bpb, samples%s%s", name,
            known.len ? ", " : " (and no folder eval/tasks was found)",
            known.len ? known.data : "");
    buf_release(&known);
    return -1;
}

/* Path of the definition; caller frees. */
static char *find_definition(const char *name, struct err *e)
{
    size_t n = strlen(name);
    if (n > 5 && !strcmp(name + n - 5, ".yaml"))
        return mem_strdup(name);
    char *folder;
    for (int i = 0; !strchr(name, '/') && (folder = task_folder(i)); i++) {
        char *path = fs_join(folder, "%s.yaml", name);
        free(folder);
        if (fs_exists(path))
            return path;
        free(path);
    }
    unknown_task(name, e);
    return NULL;
}

static int check_complete(const struct task *t, struct err *e)
{
    const struct {
        const char *key, *value;
    } needed[] = {{"task.name", t->name},
                  {"data.folder", t->folder},
                  {"data.train", t->train},
                  {"data.test", t->test}};
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        if (!needed[i].value || !*needed[i].value)
            return err_set(e, "%s: %s is missing", t->path, needed[i].key);
    return 0;
}

int task_read(struct task *t, const char *name, struct err *e)
{
    memset(t, 0, sizeof(*t));
    char *path = find_definition(name, e);
    if (!path)
        return -1;
    config_init(task_rows, t);
    t->path = path;
    if (config_read(task_rows, t, path, e) || check_complete(t, e)) {
        task_release(t);
        return -1;
    }
    return 0;
}

void task_release(struct task *t)
{
    config_release(task_rows, t);
    free(t->path);
    memset(t, 0, sizeof(*t));
}

/* --- items -------------------------------------------------------------------- */

static int32_t label_number(struct task_data *d, const char *name)
{
    for (int32_t k = 0; k < d->label_count; k++)
        if (!strcmp(d->labels[k], name))
            return k;
    size_t bytes = ((size_t)d->label_count + 1);
    d->labels = mem_realloc(d->labels, bytes * sizeof(*d->labels));
    d->train_counts = mem_realloc(d->train_counts, bytes * sizeof(*d->train_counts));
    d->labels[d->label_count] = mem_strdup(name);
    d->train_counts[d->label_count] = 0;
    return d->label_count++;
}

/* Counts a row that cannot be used; the first is described. */
static void malformed(struct task_split *s, uint64_t line, const char *why)
{
    if (s->malformed++ == 0)
        err_set(&s->first_bad, "%s:%llu: %s", s->path, (unsigned long long)line, why);
}

/* A copy with a NUL behind it; the text may hold NULs itself. */
static char *copy_text(const char *text, size_t len)
{
    char *copy = mem_alloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

static bool only_space(const char *text, size_t len)
{
    return utf8_count_words(text, len) == 0;
}

static void add_row(struct task_split *s, struct task_data *d, const struct task *t,
                    const struct table *row)
{
    size_t last = (size_t)(t->text_column > t->label_column ? t->text_column : t->label_column);
    size_t text_len, label_len;
    if (row->count <= last) {
        char why[80];
        snprintf(why, sizeof(why), "%zu columns, at least %zu are needed", row->count, last + 1);
        malformed(s, row->row_line, why);
        return;
    }
    const char *text = table_cell(row, (size_t)t->text_column, &text_len);
    const char *label = table_cell(row, (size_t)t->label_column, &label_len);
    if (utf8_invalid_at(text, text_len) < text_len ||
        utf8_invalid_at(label, label_len) < label_len) {
        malformed(s, row->row_line, "not valid UTF-8");
    } else if (label_len == 0 || strlen(label) != label_len) {
        malformed(s, row->row_line, "the label is empty or holds a NUL byte");
    } else if (only_space(text, text_len)) {
        s->empty++;
    } else {
        s->items = mem_grow(s->items, &s->capacity, s->count + 1, sizeof(*s->items));
        s->items[s->count++] = (struct task_item){.text = copy_text(text, text_len),
                                                  .len = text_len,
                                                  .label = label_number(d, label),
                                                  .line = row->row_line};
    }
}

static int split_read(struct task_split *s, struct task_data *d, const struct task *t,
                      const char *root, const char *file, struct err *e)
{
    static const char delimiters[] = {'\t', ',', ';'};
    struct table table;
    char *folder = fs_join(root, "%s", t->folder);
    s->path = fs_join(folder, "%s", file);
    free(folder);
    if (!fs_exists(s->path))
        return err_set(e, "%s is not there, so task %s cannot run; %s", s->path, t->name,
                       t->source && *t->source ? t->source : "give its data with --task-data DIR");
    if (table_open(&table, s->path, delimiters[t->delimiter], t->quotes, e))
        return -1;
    if (t->header)
        table_next(&table);
    while (table_next(&table))
        add_row(s, d, t, &table);
    table_close(&table);
    if (s->count == 0)
        return s->malformed ? err_set(e, "no usable row in %s; %s", s->path, s->first_bad.msg)
                            : err_set(e, "%s holds no item", s->path);
    return 0;
}

/* Renumbers the labels of train by descending count, ties by first occurrence. */
static void sort_labels(struct task_data *d)
{
    int32_t K = d->label_count;
    int32_t *place = mem_alloc(((size_t)K + 1) * sizeof(*place)); /* old number → new */
    char **labels = mem_alloc(((size_t)K + 1) * sizeof(*labels));
    uint64_t *counts = mem_alloc(((size_t)K + 1) * sizeof(*counts));
    for (int32_t k = 0; k < K; k++) {
        int32_t at = 0;
        for (int32_t other = 0; other < K; other++)
            at += d->train_counts[other] > d->train_counts[k] ||
                  (d->train_counts[other] == d->train_counts[k] && other < k);
        place[k] = at;
        labels[at] = d->labels[k];
        counts[at] = d->train_counts[k];
    }
    for (size_t i = 0; i < d->train.count; i++)
        d->train.items[i].label = place[d->train.items[i].label];
    free(place);
    free(d->labels);
    free(d->train_counts);
    d->labels = labels;
    d->train_counts = counts;
}

int task_data_read(struct task_data *d, const struct task *t, const char *root, struct err *e)
{
    memset(d, 0, sizeof(*d));
    if (split_read(&d->train, d, t, root, t->train, e))
        goto fail;
    for (size_t i = 0; i < d->train.count; i++)
        d->train_counts[d->train.items[i].label]++;
    sort_labels(d);
    d->class_count = d->label_count;
    if (d->class_count < 2) {
        err_set(e, "%s: only one label, %s; a classifier needs two", d->train.path, d->labels[0]);
        goto fail;
    }
    if (split_read(&d->test, d, t, root, t->test, e))
        goto fail;
    return 0;
fail:
    task_data_release(d);
    return -1;
}

static void split_release(struct task_split *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->items[i].text);
    free(s->items);
    free(s->path);
}

void task_data_release(struct task_data *d)
{
    split_release(&d->train);
    split_release(&d->test);
    for (int32_t k = 0; k < d->label_count; k++)
        free(d->labels[k]);
    free(d->labels);
    free(d->train_counts);
    memset(d, 0, sizeof(*d));
}
