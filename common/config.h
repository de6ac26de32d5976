/*
 * One table per set of settings. From a row come the command-line parser, the
 * YAML reader, --help, --set, and the record of what a run used.
 *
 * A row with a dot in its name ("optimizer.lr") is a configuration key: it is
 * read from YAML (a two-level mapping), set with `--set optimizer.lr=3e-4` and
 * written by config_write(). A row without a dot ("threads") is an option of the
 * command line: `--threads 4` or `--threads=4`.
 *
 *     struct opts { char *out; int64_t vocab_size; bool bos; struct config_list in; };
 *     static const struct config_row rows[] = {
 *         CONFIG_LIST(struct opts, in, "in", "files or folders"),
 *         CONFIG_STR(struct opts, out, "out", NULL, "DIR", "folder to write"),
 *         CONFIG_I64(struct opts, vocab_size, "vocab-size", "32000", 260, 1 << 24, "tokens, ..."),
 *         CONFIG_BOOL(struct opts, bos, "bos", "false", "put <s> in front"),
 *         CONFIG_END,
 *     };
 *
 * Values are parsed strictly: "8x", "", "nan" or a number out of range is an
 * error that names the key, the value and the range. An unknown key is an error
 * with the nearest known name. Strings and lists are owned by the settings
 * struct; config_release() frees them.
 */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include "common/err.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_type {
    CONFIG_TYPE_NONE,
    CONFIG_TYPE_BOOL,
    CONFIG_TYPE_I64,
    CONFIG_TYPE_F64,
    CONFIG_TYPE_STR,
    CONFIG_TYPE_ENUM,
    CONFIG_TYPE_LIST
};

struct config_list {
    char **items;
    size_t count;
    size_t capacity;
};

struct config_row {
    const char *name;
    enum config_type type;
    size_t offset;     /* of the field in the settings struct */
    const char *value; /* default as text; NULL = empty string / list */
    double min, max;   /* range of numbers, both inclusive */
    const char *word;  /* ENUM: "a|b|c"; STR and LIST: what stands in the help, e.g. "DIR" */
    const char *help;  /* with the unit */
};

#define CONFIG_BOOL(S, field, name, value, help)                                                   \
    {                                                                                              \
        name, CONFIG_TYPE_BOOL, offsetof(S, field), value, 0, 0, NULL, help                        \
    }
#define CONFIG_I64(S, field, name, value, min, max, help)                                          \
    {                                                                                              \
        name, CONFIG_TYPE_I64, offsetof(S, field), value, min, max, NULL, help                     \
    }
#define CONFIG_F64(S, field, name, value, min, max, help)                                          \
    {                                                                                              \
        name, CONFIG_TYPE_F64, offsetof(S, field), value, min, max, NULL, help                     \
    }
#define CONFIG_STR(S, field, name, value, word, help)                                              \
    {                                                                                              \
        name, CONFIG_TYPE_STR, offsetof(S, field), value, 0, 0, word, help                         \
    }
#define CONFIG_ENUM(S, field, name, value, words, help)                                            \
    {                                                                                              \
        name, CONFIG_TYPE_ENUM, offsetof(S, field), value, 0, 0, words, help                       \
    }
#define CONFIG_LIST(S, field, name, word, help)                                                    \
    {                                                                                              \
        name, CONFIG_TYPE_LIST, offsetof(S, field), NULL, 0, 0, word, help                         \
    }
#define CONFIG_END                                                                                 \
    {                                                                                              \
        NULL, CONFIG_TYPE_NONE, 0, NULL, 0, 0, NULL, NULL                                          \
    }

/* Field types: bool, int64_t, double, char * (STR), int (ENUM: index of the word),
 * struct config_list (LIST). Integers accept 1_000_000 and suffixes k, M, G (1000s). */

void config_init(const struct config_row *rows, void *settings); /* all defaults */
void config_release(const struct config_row *rows, void *settings);
/* Sets one value from text. `where` opens the error sentence ("runs/x.yaml:3", "--set"). */
int config_set(const struct config_row *rows, void *settings, const char *name, const char *value,
               const char *where, struct err *e);
/* Applies "name=value". */
int config_assign(const struct config_row *rows, void *settings, const char *assignment,
                  const char *where, struct err *e);
/* Reads a YAML file: a mapping of sections to mappings of keys to scalars (or lists). */
int config_read(const struct config_row *rows, void *settings, const char *path, struct err *e);
/* Reads one key of such a file without knowing its other rows, e.g. "data.prefix" from a run's
 * config.yaml. Returns 1 and the scalar in value, 0 if the key is absent, -1. */
int config_peek(const char *path, const char *name, struct buf *value, struct err *e);
/* Appends all dotted rows as YAML that config_read() gives back unchanged. */
void config_write(const struct config_row *rows, const void *settings, struct buf *out);
/* The value of a row as text, for records and messages. */
void config_format(const struct config_row *row, const void *settings, struct buf *out);
const struct config_row *config_find(const struct config_row *rows, const char *name);
void config_list_add(struct config_list *l, const char *item);
void config_list_release(struct config_list *l); /* l is empty again */

/* --- the command line ---------------------------------------------------- */

/* What a command accepts: rows, and the text around them in --help. */
struct config_usage {
    const char *name;     /* "mundwerk tokenizer train" */
    const char *synopsis; /* "--in PATH... --out DIR [options]" */
    const char *about;    /* one paragraph */
    const char *examples; /* lines, each a command as typed */
};

/* Parses argv[1…] into settings. Options take `--name value` or `--name=value`; a BOOL takes
 * no value, `--no-name` clears it; a LIST takes all words up to the next option, the list
 * named `set` only those of the form section.key=value. Words that belong to no option go to
 * *rest (NULL: they are errors). Returns 0, -1 on wrong use (exit 2), 1 after --help. */
int config_args(const struct config_row *rows, void *settings, const struct config_usage *usage,
                struct config_list *rest, int argc, char **argv, struct err *e);
void config_help(const struct config_row *rows, const struct config_usage *usage);

/* --- commands ------------------------------------------------------------ */

struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit code */
    const char *help;
};

/* Runs argv[1] from a table that ends with {NULL}; prints the table for --help (exit 0),
 * no word (exit 2), or an unknown one (exit 2, with the nearest). */
int command_run(const struct command *table, const char *name, int argc, char **argv);
/* The sentence to stderr, "NAME: sentence"; returns code. */
int command_fail(const char *name, const struct err *e, int code);

/* The known word nearest to `word` by edit distance, or NULL if none is near. */
const char *config_nearest(const char *word, const char *const *known, size_t count);

#endif
