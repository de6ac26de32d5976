/*
 * Delimited text files, row by row, as Python's csv module reads them, because
 * that is what flair reads benchmark files with.
 *
 * With quotes on (csv's default) a cell that begins with '"' goes on to the next
 * lone '"', over delimiters and line ends; "" inside stands for one. In files that
 * were never meant to be quoted this swallows lines: of the 3,532 lines of GermEval
 * 2018's test file, 134 disappear into their predecessors. So a caller can switch
 * quotes off and get one row a line.
 */
#ifndef EVAL_TABLE_H
#define EVAL_TABLE_H

#include "common/err.h"
#include "common/mem.h"

#include <stdbool.h>
#include <stdint.h>

#define TABLE_FILE_MAX ((size_t)1 << 30) /* bytes of a file read whole */

struct table {
    struct buf text; /* the file */
    size_t at;
    uint64_t line; /* of the next byte, counted from 1 */
    char delimiter;
    bool quotes;
    uint64_t row_line; /* line the current row begins at */
    struct buf cells;  /* the current row, each cell ends with a NUL */
    size_t *starts;    /* of cells in it; starts[count] is the end */
    size_t count, capacity;
};

int table_open(struct table *t, const char *path, char delimiter, bool quotes, struct err *e);
void table_close(struct table *t);
/* Reads the next row; false at the end. Empty lines are passed over. */
bool table_next(struct table *t);
/* Cell i of the current row; borrowed until the next call. i < t->count. */
const char *table_cell(const struct table *t, size_t i, size_t *len);

#endif
