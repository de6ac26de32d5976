/* Owns the command line: options from a table of rows, --help, and tables of commands. */
#include "common/config.h"

#include "common/log.h"

#include <string.h>

static bool is_option_row(const struct config_row *row)
{
    return strchr(row->name, '.') == NULL;
}

static void help_rows(const struct config_row *rows, bool options)
{
    for (const struct config_row *row = rows; row->name; row++) {
        if (is_option_row(row) != options)
            continue;
        char left[160];
        const char *word = row->word ? row->word : row->type == CONFIG_TYPE_BOOL ? "" : "N";
        if (row->type == CONFIG_TYPE_F64)
            word = "X";
        snprintf(left, sizeof(left), "%s%s%s%s%s", options ? "--" : "", row->name,
                 options && *word ? " " : "", options ? word : "",
                 row->type == CONFIG_TYPE_LIST && options ? "..." : "");
        printf("  %-30s %s", left, row->help);
        if (row->type == CONFIG_TYPE_ENUM && !options)
            printf(" (%s)", row->word);
        if (row->value && *row->value && row->type != CONFIG_TYPE_BOOL)
            printf(" [%s]", row->value);
        putchar('\n');
    }
}

void config_help(const struct config_row *rows, const struct config_usage *usage)
{
    printf("usage: %s %s\n\n%s\n", usage->name, usage->synopsis, usage->about);
    printf("\noptions:\n");
    help_rows(rows, true);
    printf("  %-30s %s\n", "--help", "this text");
    bool keys = false;
    for (const struct config_row *row = rows; row->name; row++)
        keys |= !is_option_row(row);
    if (keys) {
        printf("\nconfiguration keys (a YAML file, or --set section.key=value):\n");
        help_rows(rows, false);
    }
    if (usage->examples)
        printf("\nexamples:\n%s", usage->examples);
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
    /* --set takes one assignment each time, other lists all words that follow. */
    bool many = row->type == CONFIG_TYPE_LIST && strcmp(name, "set") != 0;
    do
        if (config_set(rows, settings, key, argv[i++], where, e))
            return -1;
    while (many && i < argc && !looks_like_option(argv[i]));
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
