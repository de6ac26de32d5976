/*
 * Line charts as SVG inside an HTML page: tokens to the right on a logarithmic
 * axis, a value upwards. No script, no network; colours are CSS variables of the
 * page, so that light and dark themes work.
 */
#ifndef EVAL_CHART_H
#define EVAL_CHART_H

#include "common/mem.h"

#include <stdbool.h>

struct chart_point {
    double x; /* tokens; 0 stands on a place of its own at the left edge */
    double y;
    double stderr;    /* bar of ± one standard error; 0 = none */
    const char *note; /* more words for the tooltip, or NULL */
};

struct chart_series {
    const char *name;
    struct chart_point *points; /* in order of x */
    size_t count;
    bool markers; /* a dot with a tooltip at each point */
    bool faint;   /* thin and pale, e.g. the raw curve behind a smoothed one */
};

struct chart {
    const char *title;
    const char *y_label;
    const struct chart_series *series;
    size_t series_count; /* at most CHART_SERIES_MAX */
    bool y_from_zero;
};

#define CHART_SERIES_MAX 8

/* Appends a <figure>. Points whose y is not finite are left out; a chart without
 * any point becomes a sentence. */
void chart_put(struct buf *out, const struct chart *c);

/* Text for HTML: & < > " escaped, invalid UTF-8 as U+FFFD, control characters dropped. */
void html_put(struct buf *out, const char *s, size_t len);
void html_puts(struct buf *out, const char *s);

#endif
