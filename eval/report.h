/*
 * RUN/report.html: one page that needs nothing else: what the run learned and
 * when, side by side with what it says, and where its text came from.
 */
#ifndef EVAL_REPORT_H
#define EVAL_REPORT_H

#include "common/err.h"

struct report_options {
    const char *run;
    const char *data;   /* PREFIX of the token shards; NULL = data.prefix of RUN/config.yaml */
    const char *corpus; /* folder with ledger.json; NULL = found beside the shards, if at all */
    const char *out;    /* file; NULL = RUN/report.html */
};

/* Parts whose files are missing are left out with a sentence on the page; only a missing run
 * or a page that cannot be written is an error. */
int report_write(const struct report_options *o, struct err *e);

#endif
