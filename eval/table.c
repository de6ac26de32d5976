/*
 * The csv state machine of table.h.
 */
#include "eval/table.h"

#include "common/fs.h"

#include <stdlib.h>
#include <string.h>

int table_open(struct table *t, const char *path, char delimiter, bool quotes, struct err *e)
{
    memset(t, 0, sizeof(*t));
    t->delimiter = delimiter;
    t->quotes = quotes;
    t->line = 1;
    if (fs_read(&t->text, path, TABLE_FILE_MAX, e))
        return -1;
    if (t->text.len >= 3 && !memcmp(t->text.data, "\xEF\xBB\xBF", 3))
        t->at = 3;
    return 0;
}

void table_close(struct table *t)
{
    buf_release(&t->text);
    buf_release(&t->cells);
    free(t->starts);
    memset(t, 0, sizeof(*t));
}

static void end_cell(struct table *t)
{
    buf_putc(&t->cells, '\0');
    t->starts = mem_grow(t->starts, &t->capacity, t->count + 2, sizeof(*t->starts));
    t->starts[++t->count] = t->cells.len;
}

/* The next character, with \r\n and \r read as \n; counts lines. */
static char next_char(struct table *t)
{
    char c = t->text.data[t->at++];
    if (c == '\r') {
        if (t->at < t->text.len && t->text.data[t->at] == '\n')
            t->at++;
        c = '\n';
    }
    t->line += c == '\n';
    return c;
}

/* Reads the rest of a quoted cell, up to and with its closing quote. */
static void read_quoted(struct table *t)
{
    while (t->at < t->text.len) {
        char c = next_char(t);
        if (c != '"') {
            buf_putc(&t->cells, c);
        } else if (t->at < t->text.len && t->text.data[t->at] == '"') {
            t->at++;
            buf_putc(&t->cells, '"');
        } else {
            return;
        }
    }
}

static void read_row(struct table *t)
{
    bool cell_begins = true;
    while (t->at < t->text.len) {
        char c = next_char(t);
        if (c == '\n')
            break;
        if (c == '"' && t->quotes && cell_begins) {
            read_quoted(t);
            cell_begins = false; /* what follows the closing quote is added as it is */
        } else if (c == t->delimiter) {
            end_cell(t);
            cell_begins = true;
        } else {
            buf_putc(&t->cells, c);
            cell_begins = false;
        }
    }
    end_cell(t);
}

bool table_next(struct table *t)
{
    while (t->at < t->text.len) {
        size_t begin = t->at;
        t->row_line = t->line;
        t->count = 0;
        buf_clear(&t->cells);
        t->starts = mem_grow(t->starts, &t->capacity, 1, sizeof(*t->starts));
        t->starts[0] = 0;
        read_row(t);
        char first = t->text.data[begin];
        if (first != '\n' && first != '\r')
            return true;
    }
    return false;
}

const char *table_cell(const struct table *t, size_t i, size_t *len)
{
    MW_ASSERT(i < t->count);
    *len = t->starts[i + 1] - t->starts[i] - 1;
    return t->cells.data + t->starts[i];
}
