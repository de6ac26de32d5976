/* Owns the command line: options from a table of rows, --help, and tables of commands. */
#include "common/config.h"

#include "common/log.h"

#include <string.h>

static bool is_option_row(const struct config_row *row)
{
    return strchr(row->name, '.') == NULL;
}

enum { HELP_WIDTH = 80, HELP_COLUMN = 34 };

/* Words from column `at` on, broken before HELP_WIDTH; further lines begin at `indent`. A line
 * break in the text stays one only before a blank: that marks lines to be kept as they are. */
static void put_wrapped(const char *text, int at, int indent)
{
    bool first = true;
    while (*text) {
        if (*text == '\n' && text[1] == ' ') {
            at = printf("\n%.*s", (int)strcspn(text + 1, "\n"), text + 1) - 1;
            text += 1 + strcspn(text + 1, "\n");
            continue;
        }
        if (*text == ' ' || *text == '\n') {
            text++;
            continue;
        }
        int len = (int)strcspn(text, " \n");
        if (!first && at + 1 + len > HELP_WIDTH)
            at = printf("\n%*s%.*s", indent, "", len, text) - 1;
        else
            at += printf("%s%.*s", first ? "" : " ", len, text);
        first = false;
        text += len;
    }
    putchar('\n');
}

/* "--out DIR" or "model.hidden_size". */
static void name_of_row(const struct config_row *row, bool option, struct buf *out)
{
    buf_printf(out, "  %s%s", option ? "--" : "", row->name);
    if (!option || row->type == CONFIG_TYPE_BOOL)
        return;
    const char *word = row->word ? row->word : row->type == CONFIG_TYPE_F64 ? "X" : "N";
    buf_printf(out, " %s%s", word, row->type == CONFIG_TYPE_LIST ? "..." : "");
}

static void help_rows(const struct config_row *rows, bool options)
{
    struct buf name = {0}, help = {0};
    for (const struct config_row *row = rows; row->name; row++) {
        if (is_option_row(row) != options)
            continue;
        buf_clear(&name);
        buf_clear(&help);
        name_of_row(row, options, &name);
        buf_puts(&help, row->help);
        if (row->type == CONFIG_TYPE_ENUM && !options)
            buf_printf(&help, " (%s)", row->word);
        if (row->value && *row->value && row->type != CONFIG_TYPE_BOOL)
            buf_printf(&help, " [%s]", row->value);
        printf("%-*s", HELP_COLUMN, name.data);
        if (name.len + 2 > HELP_COLUMN)
            printf("\n%*s", HELP_COLUMN, "");
        put_wrapped(help.data, HELP_COLUMN, HELP_COLUMN);
    }
    buf_release(&name);
    buf_release(&help);
}

static void help_examples(const char *text)
{
    printf("\nexamples:\n");
    while (*text) {
        text += strspn(text, " \n");
        int len = (int)strcspn(text, "\n");
        if (len)
            printf("  %.*s\n", len, text);
        text += len;
    }
}

void config_help(const struct config_row *rows, const struct config_usage *usage)
{
    printf("usage: %s %s\n\n", usage->name, usage->synopsis);
    put_wrapped(usage->about, 0, 0);
    printf("\noptions:\n");
    help_rows(rows, true);
    printf("%-*s%s\n", HELP_COLUMN, "  --help", "this text");
    bool keys = false;
    for (const struct config_row *row = rows; row->name; row++)
        keys |= !is_option_row(row);
    if (keys) {
        printf("\nconfiguration keys (a YAML file, or --set section.key=value):\n");
        help_rows(rows, false);
    }
    if (usage->examples)
        help_examples(usage->examples);
}

static int unknown_option(const struct config_row *rows, const char *name, struct err *e)
{
    const char *known[128];
    size_t count = 0;
    for (const struct config_row *row = rows; row->name && count < 128; row++)
        if (is_option_row(row))
            known[count++] = row->name;
    const char *nearest = config_nearest(name, known, count);
    if (nearest)
        return err_set(e, "unknown option '--%s'; did you mean '--%s'?", name, nearest);
    return err_set(e, "unknown option '--%s'; see --help", name);
}

/* The option row a word names; `--no-name` of a BOOL sets *negated. */
static const struct config_row *find_option(const struct config_row *rows, const char *name,
                                            bool *negated)
{
    *negated = false;
    const struct config_row *row = config_find(rows, name);
    if (row && is_option_row(row))
        return row;
    if (!strncmp(name, "no-", 3)) {
        row = config_find(rows, name + 3);
        *negated = true;
        if (row && is_option_row(row) && row->type == CONFIG_TYPE_BOOL)
            return row;
    }
    return NULL;
}

static bool looks_like_option(const char *word)
{
    return word[0] == '-' && word[1] == '-';
}

/* A list takes all words up to the next option; --set only those of the form section.key=value,
 * so that a command's own words may follow. */
static bool belongs_to_list(const struct config_row *row, const char *word)
{
    if (strcmp(row->name, "set") != 0)
        return !looks_like_option(word);
    const char *dot = strchr(word, '.'), *equals = strchr(word, '=');
    return !looks_like_option(word) && dot && equals && dot < equals;
}

/* Reads the option at argv[i] with its values; returns the index after them, or -1. */
static int read_option(const struct config_row *rows, void *settings, int i, int argc, char **argv,
                       struct err *e)
{
    char name[128];
    const char *word = argv[i] + 2;
    const char *equals = strchr(word, '=');
    snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - word) : (int)strlen(word), word);
    bool negated;
    const struct config_row *row = find_option(rows, name, &negated);
    if (!row)
        return unknown_option(rows, name, e);
    char where[160];
    snprintf(where, sizeof(where), "--%s", name);
    const char *key = row->name;
    if (row->type == CONFIG_TYPE_BOOL && !equals)
        return config_set(rows, settings, key, negated ? "false" : "true", where, e) ? -1 : i + 1;
    if (equals)
        return config_set(rows, settings, key, equals + 1, where, e) ? -1 : i + 1;
    if (i + 1 >= argc || looks_like_option(argv[i + 1]))
        return err_set(e, "--%s needs a value", name);
    i++;
    do
        if (config_set(rows, settings, key, argv[i++], where, e))
            return -1;
    while (row->type == CONFIG_TYPE_LIST && i < argc && belongs_to_list(row, argv[i]));
    return i;
}

int config_args(const struct config_row *rows, void *settings, const struct config_usage *usage,
                struct config_list *rest, int argc, char **argv, struct err *e)
{
    for (int i = 1; i < argc;) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            config_help(rows, usage);
            return 1;
        }
        if (looks_like_option(argv[i]) && argv[i][2] == '\0') {
            for (i++; i < argc && rest; i++)
                config_list_add(rest, argv[i]);
        } else if (looks_like_option(argv[i])) {
            i = read_option(rows, settings, i, argc, argv, e);
            if (i < 0)
                return -1;
        } else if (rest) {
            config_list_add(rest, argv[i++]);
        } else {
            return err_set(e, "unexpected word '%s'; see --help", argv[i]);
        }
    }
    return 0;
}

static void command_table(const struct command *table, const char *name, FILE *out)
{
    fprintf(out, "usage: %s COMMAND [options]\n\ncommands:\n", name);
    for (const struct command *c = table; c->name; c++)
        fprintf(out, "  %-12s %s\n", c->name, c->help);
    fprintf(out, "\n'%s COMMAND --help' tells more.\n", name);
}

int command_run(const struct command *table, const char *name, int argc, char **argv)
{
    if (argc < 2) {
        command_table(table, name, stderr);
        return 2;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        command_table(table, name, stdout);
        return 0;
    }
    const char *known[64];
    size_t count = 0;
    for (const struct command *c = table; c->name && count < 64; c++) {
        if (!strcmp(argv[1], c->name))
            return c->run(argc - 1, argv + 1);
        known[count++] = c->name;
    }
    const char *nearest = config_nearest(argv[1], known, count);
    if (nearest)
        fprintf(stderr, "%s: unknown command '%s'; did you mean '%s'?\n", name, argv[1], nearest);
    else
        fprintf(stderr, "%s: unknown command '%s'; see '%s --help'\n", name, argv[1], name);
    return 2;
}

int command_fail(const char *name, const struct err *e, int code)
{
    log_name(name);
    log_error("%s", e->msg);
    return code;
}
