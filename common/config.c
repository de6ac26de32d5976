/* Owns values of settings: defaults, strict parsing from text, YAML in and out. */
#include "common/config.h"

#include "common/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <yaml.h>

static void *field(const struct config_row *row, void *settings)
{
    return (char *)settings + row->offset;
}

const struct config_row *config_find(const struct config_row *rows, const char *name)
{
    for (const struct config_row *row = rows; row->name; row++)
        if (!strcmp(row->name, name))
            return row;
    return NULL;
}

void config_list_add(struct config_list *l, const char *item)
{
    l->items = mem_grow(l->items, &l->capacity, l->count + 1, sizeof(*l->items));
    l->items[l->count++] = mem_strdup(item);
}

void config_list_release(struct config_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct config_list){0};
}

static int parse_bool(const char *text, bool *out)
{
    if (!strcmp(text, "true") || !strcmp(text, "false")) {
        *out = text[0] == 't';
        return 0;
    }
    return -1;
}

/* Digits with underscores dropped and a suffix of thousands applied: "1_000k" is 1,000,000. */
static int parse_i64(const char *text, int64_t *out)
{
    const char *p = text + (*text == '-' || *text == '+');
    int64_t value = 0;
    if (*p < '0' || *p > '9')
        return -1;
    for (; (*p >= '0' && *p <= '9') || (*p == '_' && p[1] >= '0' && p[1] <= '9'); p++)
        if (*p != '_' && (__builtin_mul_overflow(value, 10, &value) ||
                          __builtin_add_overflow(value, *p - '0', &value)))
            return -1;
    static const char suffixes[] = "kMG";
    const char *suffix = *p ? strchr(suffixes, *p) : NULL;
    if (suffix) {
        for (int i = 0; i <= (int)(suffix - suffixes); i++)
            if (__builtin_mul_overflow(value, 1000, &value))
                return -1;
        p++;
    }
    if (*p)
        return -1;
    *out = *text == '-' ? -value : value;
    return 0;
}

static int parse_f64(const char *text, double *out)
{
    /* strtod also takes blanks, hexadecimal, "nan" and "inf": allow decimal digits only. */
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text))
        return -1;
    char *end;
    *out = strtod(text, &end);
    return *end || !isfinite(*out) ? -1 : 0;
}

static int enum_index(const char *words, const char *word)
{
    size_t len = strlen(word);
    int index = 0;
    for (const char *p = words; len; index++) {
        size_t n = strcspn(p, "|");
        if (n == len && !memcmp(p, word, len))
            return index;
        if (!p[n])
            break;
        p += n + 1;
    }
    return -1;
}

/* Sets a row from text; 0, or -1 with what was expected in `wanted`. */
static int set_value(const struct config_row *row, void *settings, const char *value, char *wanted,
                     size_t wanted_size)
{
    void *f = field(row, settings);
    switch (row->type) {
    case CONFIG_TYPE_BOOL:
        snprintf(wanted, wanted_size, "true or false");
        return parse_bool(value, f);
    case CONFIG_TYPE_I64: {
        int64_t x;
        snprintf(wanted, wanted_size, "an integer from %.15g to %.15g", row->min, row->max);
        if (parse_i64(value, &x) || (double)x < row->min || (double)x > row->max)
            return -1;
        *(int64_t *)f = x;
        return 0;
    }
    case CONFIG_TYPE_F64: {
        double x;
        snprintf(wanted, wanted_size, "a number from %.15g to %.15g", row->min, row->max);
        if (parse_f64(value, &x) || x < row->min || x > row->max)
            return -1;
        *(double *)f = x;
        return 0;
    }
    case CONFIG_TYPE_ENUM: {
        int index = enum_index(row->word, value);
        snprintf(wanted, wanted_size, "one of %s", row->word);
        if (index < 0)
            return -1;
        *(int *)f = index;
        return 0;
    }
    case CONFIG_TYPE_STR:
        free(*(char **)f);
        *(char **)f = mem_strdup(value);
        return 0;
    case CONFIG_TYPE_LIST:
        config_list_add(f, value);
        return 0;
    default:
        MW_ASSERT(!"unknown type of row");
    }
    return -1;
}

void config_init(const struct config_row *rows, void *settings)
{
    for (const struct config_row *row = rows; row->name; row++) {
        char wanted[128];
        if (row->type == CONFIG_TYPE_STR)
            *(char **)field(row, settings) = NULL;
        if (row->type == CONFIG_TYPE_LIST) {
            *(struct config_list *)field(row, settings) = (struct config_list){0};
            continue;
        }
        /* A default out of its own range is a bug. */
        MW_ASSERT(!set_value(row, settings, row->value ? row->value : "", wanted, sizeof(wanted)));
    }
}

void config_release(const struct config_row *rows, void *settings)
{
    for (const struct config_row *row = rows; row->name; row++) {
        if (row->type == CONFIG_TYPE_STR) {
            free(*(char **)field(row, settings));
            *(char **)field(row, settings) = NULL;
        } else if (row->type == CONFIG_TYPE_LIST) {
            config_list_release(field(row, settings));
        }
    }
}

/* Edit distance with insertions, deletions and substitutions; long words are cut. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t n = strnlen(a, LONGEST), m = strnlen(b, LONGEST);
    size_t row[LONGEST + 1];
    for (size_t i = 0; i <= m; i++)
        row[i] = i;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t k = 1; k <= m; k++) {
            size_t best = diagonal + (a[i - 1] != b[k - 1]);
            diagonal = row[k];
            if (row[k] + 1 < best)
                best = row[k] + 1;
            if (row[k - 1] + 1 < best)
                best = row[k - 1] + 1;
            row[k] = best;
        }
    }
    return row[m];
}

const char *config_nearest(const char *word, const char *const *known, size_t count)
{
    const char *nearest = NULL;
    size_t best = strlen(word) / 3 + 2; /* further away is no help */
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, known[i]);
        if (distance < best) {
            best = distance;
            nearest = known[i];
        }
    }
    return nearest;
}

static int unknown_key(const struct config_row *rows, const char *name, const char *where,
                       struct err *e)
{
    const char *known[256] = {0};
    size_t count = 0;
    bool dotted = strchr(name, '.') != NULL;
    for (const struct config_row *row = rows; row->name && count < 256; row++)
        if ((strchr(row->name, '.') != NULL) == dotted)
            known[count++] = row->name;
    const char *nearest = config_nearest(name, known, count);
    /* The right key in the wrong section is the commonest slip. */
    const char *dot = strchr(name, '.');
    for (size_t i = 0; !nearest && dot && i < count; i++)
        if (!strcmp(strchr(known[i], '.'), dot))
            nearest = known[i];
    if (nearest)
        return err_set(e, "%s: unknown key '%s'; did you mean '%s'?", where, name, nearest);
    return err_set(e, "%s: unknown key '%s'", where, name);
}

int config_set(const struct config_row *rows, void *settings, const char *name, const char *value,
               const char *where, struct err *e)
{
    char wanted[256];
    const struct config_row *row = config_find(rows, name);
    if (!row)
        return unknown_key(rows, name, where, e);
    if (set_value(row, settings, value, wanted, sizeof(wanted)))
        return err_set(e, "%s: %s is '%s', but must be %s", where, name, value, wanted);
    return 0;
}

int config_assign(const struct config_row *rows, void *settings, const char *assignment,
                  const char *where, struct err *e)
{
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return err_set(e, "%s: '%s' is not of the form section.key=value", where, assignment);
    char *name = mem_strndup(assignment, (size_t)(equals - assignment));
    int failed = strchr(name, '.') ? config_set(rows, settings, name, equals + 1, where, e)
                                   : unknown_key(rows, name, where, e);
    free(name);
    return failed;
}

/* --- YAML ------------------------------------------------------------------
 * Events of libyaml are walked by hand: the document is a mapping of sections,
 * each a mapping of keys to scalars or sequences of scalars. */
struct yaml_reader {
    yaml_parser_t parser;
    yaml_event_t event;
    const char *path;
    struct err *e;
};

static int yaml_next(struct yaml_reader *y)
{
    yaml_event_delete(&y->event);
    if (yaml_parser_parse(&y->parser, &y->event))
        return 0;
    return err_set(y->e, "%s:%zu: %s", y->path, y->parser.problem_mark.line + 1,
                   y->parser.problem ? y->parser.problem : "malformed YAML");
}

static int yaml_wrong(struct yaml_reader *y, const char *wanted)
{
    return err_set(y->e, "%s:%zu: expected %s", y->path, y->event.start_mark.line + 1, wanted);
}

static const char *yaml_scalar(const struct yaml_reader *y)
{
    return (const char *)y->event.data.scalar.value;
}

/* The value of one key; for a LIST a sequence replaces what was there. */
static int read_value(struct yaml_reader *y, const struct config_row *rows, void *settings,
                      const char *name)
{
    char where[512];
    snprintf(where, sizeof(where), "%s:%zu", y->path, y->event.start_mark.line + 1);
    const struct config_row *row = config_find(rows, name);
    if (!row)
        return unknown_key(rows, name, where, y->e);
    if (yaml_next(y))
        return -1;
    if (row->type == CONFIG_TYPE_LIST)
        config_list_release(field(row, settings));
    if (y->event.type == YAML_SCALAR_EVENT)
        return config_set(rows, settings, name, yaml_scalar(y), where, y->e);
    if (y->event.type != YAML_SEQUENCE_START_EVENT || row->type != CONFIG_TYPE_LIST)
        return yaml_wrong(y, row->type == CONFIG_TYPE_LIST ? "a list" : "a single value");
    for (;;) {
        if (yaml_next(y))
            return -1;
        if (y->event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        if (y->event.type != YAML_SCALAR_EVENT)
            return yaml_wrong(y, "a single value");
        if (config_set(rows, settings, name, yaml_scalar(y), where, y->e))
            return -1;
    }
}

static int mark_seen(struct yaml_reader *y, const struct config_row *rows, bool *seen,
                     const char *name)
{
    const struct config_row *row = config_find(rows, name);
    if (!row)
        return 0;
    if (seen[row - rows])
        return err_set(y->e, "%s:%zu: %s is given twice", y->path, y->event.start_mark.line + 1,
                       name);
    seen[row - rows] = true;
    return 0;
}

static int read_section(struct yaml_reader *y, const struct config_row *rows, void *settings,
                        const char *section, bool *seen)
{
    if (yaml_next(y))
        return -1;
    if (y->event.type != YAML_MAPPING_START_EVENT)
        return yaml_wrong(y, "a section (indented 'key: value' lines)");
    for (;;) {
        if (yaml_next(y))
            return -1;
        if (y->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        if (y->event.type != YAML_SCALAR_EVENT)
            return yaml_wrong(y, "a key");
        struct buf name = {0};
        buf_printf(&name, "%s.%s", section, yaml_scalar(y));
        int failed = mark_seen(y, rows, seen, name.data);
        if (!failed)
            failed = read_value(y, rows, settings, name.data);
        buf_release(&name);
        if (failed)
            return -1;
    }
}

static int read_document(struct yaml_reader *y, const struct config_row *rows, void *settings,
                         bool *seen)
{
    do
        if (yaml_next(y))
            return -1;
    while (y->event.type == YAML_STREAM_START_EVENT || y->event.type == YAML_DOCUMENT_START_EVENT);
    if (y->event.type == YAML_STREAM_END_EVENT)
        return 0; /* an empty file changes nothing */
    if (y->event.type != YAML_MAPPING_START_EVENT)
        return yaml_wrong(y, "sections ('model:', 'train:', ...)");
    for (;;) {
        if (yaml_next(y))
            return -1;
        if (y->event.type == YAML_MAPPING_END_EVENT)
            break;
        if (y->event.type != YAML_SCALAR_EVENT)
            return yaml_wrong(y, "the name of a section");
        char *section = mem_strdup(yaml_scalar(y));
        int failed = read_section(y, rows, settings, section, seen);
        free(section);
        if (failed)
            return -1;
    }
    /* A second document would be settings that nobody reads. */
    do
        if (yaml_next(y))
            return -1;
    while (y->event.type == YAML_DOCUMENT_END_EVENT);
    return y->event.type == YAML_STREAM_END_EVENT ? 0 : yaml_wrong(y, "the end of the file");
}

int config_read(const struct config_row *rows, void *settings, const char *path, struct err *e)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    struct yaml_reader y = {.path = path, .e = e};
    size_t count = 0;
    while (rows[count].name)
        count++;
    bool *seen = mem_zalloc(count, sizeof(*seen));
    MW_ASSERT(yaml_parser_initialize(&y.parser));
    yaml_parser_set_input_file(&y.parser, f);
    int failed = read_document(&y, rows, settings, seen);
    yaml_event_delete(&y.event);
    yaml_parser_delete(&y.parser);
    free(seen);
    fclose(f);
    return failed;
}

/* Reads to the end of the value whose first event is at hand. */
static int yaml_skip_value(struct yaml_reader *y)
{
    int depth = 0;
    for (;;) {
        yaml_event_type_t type = y->event.type;
        depth += type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT;
        depth -= type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT;
        if (depth <= 0)
            return 0;
        if (yaml_next(y))
            return -1;
    }
}

/* Walks one section; 1 if the key was found. */
static int peek_section(struct yaml_reader *y, const char *key, struct buf *value)
{
    for (;;) {
        if (yaml_next(y))
            return -1;
        if (y->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        bool wanted = y->event.type == YAML_SCALAR_EVENT && !strcmp(yaml_scalar(y), key);
        if (yaml_skip_value(y) || yaml_next(y))
            return -1;
        if (wanted && y->event.type == YAML_SCALAR_EVENT) {
            buf_clear(value);
            buf_puts(value, yaml_scalar(y));
            return 1;
        }
        if (yaml_skip_value(y))
            return -1;
    }
}

static int peek_document(struct yaml_reader *y, const char *name, struct buf *value)
{
    const char *dot = strchr(name, '.');
    MW_ASSERT(dot);
    for (;;) {
        if (yaml_next(y))
            return -1;
        if (y->event.type == YAML_STREAM_END_EVENT)
            return 0;
        if (y->event.type != YAML_SCALAR_EVENT)
            continue;
        const char *section = yaml_scalar(y);
        bool wanted = strlen(section) == (size_t)(dot - name) &&
                      !memcmp(section, name, (size_t)(dot - name));
        if (yaml_next(y))
            return -1;
        if (wanted && y->event.type == YAML_MAPPING_START_EVENT)
            return peek_section(y, dot + 1, value);
        if (yaml_skip_value(y))
            return -1;
    }
}

int config_peek(const char *path, const char *name, struct buf *value, struct err *e)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(e, "cannot open %s: %s", path, strerror(errno));
    struct yaml_reader y = {.path = path, .e = e};
    MW_ASSERT(yaml_parser_initialize(&y.parser));
    yaml_parser_set_input_file(&y.parser, f);
    int found = peek_document(&y, name, value);
    yaml_event_delete(&y.event);
    yaml_parser_delete(&y.parser);
    fclose(f);
    return found;
}

void config_format(const struct config_row *row, const void *settings, struct buf *out)
{
    const void *f = (const char *)settings + row->offset;
    switch (row->type) {
    case CONFIG_TYPE_BOOL:
        buf_puts(out, *(const bool *)f ? "true" : "false");
        return;
    case CONFIG_TYPE_I64:
        buf_printf(out, "%lld", (long long)*(const int64_t *)f);
        return;
    case CONFIG_TYPE_F64:
        json_put_f64(out, *(const double *)f);
        return;
    case CONFIG_TYPE_ENUM: {
        const char *word = row->word;
        for (int i = *(const int *)f; i > 0; i--)
            word = strchr(word, '|') + 1;
        buf_add(out, word, strcspn(word, "|"));
        return;
    }
    case CONFIG_TYPE_STR:
        buf_puts(out, *(char *const *)f ? *(char *const *)f : "");
        return;
    case CONFIG_TYPE_LIST: {
        const struct config_list *l = f;
        for (size_t i = 0; i < l->count; i++)
            buf_printf(out, "%s%s", i ? ", " : "", l->items[i]);
        return;
    }
    default:
        MW_ASSERT(!"unknown type of row");
    }
}

/* In double quotes, with YAML's escapes for what must not stand there plain. */
static void put_quoted(struct buf *out, const char *s)
{
    buf_putc(out, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            buf_printf(out, "\\x%02x", c);
        else
            buf_putc(out, (char)c);
    }
    buf_putc(out, '"');
}

void config_write(const struct config_row *rows, const void *settings, struct buf *out)
{
    char section[64] = "";
    for (const struct config_row *row = rows; row->name; row++) {
        const char *dot = strchr(row->name, '.');
        if (!dot)
            continue;
        size_t len = (size_t)(dot - row->name);
        MW_ASSERT(len < sizeof(section));
        if (strlen(section) != len || memcmp(section, row->name, len) != 0) {
            memcpy(section, row->name, len);
            section[len] = '\0';
            buf_printf(out, "%s:\n", section);
        }
        buf_printf(out, "  %s: ", dot + 1);
        const void *f = (const char *)settings + row->offset;
        if (row->type == CONFIG_TYPE_STR) {
            put_quoted(out, *(char *const *)f ? *(char *const *)f : "");
        } else if (row->type == CONFIG_TYPE_LIST) {
            const struct config_list *l = f;
            buf_putc(out, '[');
            for (size_t i = 0; i < l->count; i++) {
                buf_puts(out, i ? ", " : "");
                put_quoted(out, l->items[i]);
            }
            buf_putc(out, ']');
        } else {
            config_format(row, settings, out);
        }
        buf_putc(out, '\n');
    }
}
