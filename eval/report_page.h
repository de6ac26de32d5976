/* The style of the page, and pieces every section uses. */
#ifndef EVAL_REPORT_PAGE_H
#define EVAL_REPORT_PAGE_H

#include "common/mem.h"

void page_open(struct buf *out, const char *title);
void page_close(struct buf *out);
void page_section(struct buf *out, const char *id, const char *title);
void page_section_end(struct buf *out);

/* A number in large type with its name below. */
void page_tile(struct buf *out, const char *value, const char *name);

/* A table of two columns, name and value; numbers are grouped by thousands. */
void page_facts_open(struct buf *out);
void page_fact(struct buf *out, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void page_fact_count(struct buf *out, const char *name, unsigned long long value);
void page_facts_close(struct buf *out);

/* 1234567 as "1,234,567" into a small ring of buffers. */
const char *page_grouped(unsigned long long value);

#endif
